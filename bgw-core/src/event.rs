//! What the postmaster has done, one entry after the other.

use crate::exit::ExitCause;
use crate::handle::WorkerHandle;
use crate::pid::Pid;
use crate::shutdown_mode::ShutdownMode;
use crate::worker::StartTime;
use std::fmt;
use std::time::{Duration, SystemTime};

/// What happened. "The worker" is that of [`Event::handle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// The postmaster has put the worker on its list. This is the first event of every handle,
    /// including the new handles that workers get after a crash reset.
    Registered,
    /// A process runs for the worker: [`Event::pid`]. [`Event::count`] is the number of restarts.
    Started,
    /// The worker's process has reported that it is ready.
    Ready,
    /// The worker was told to end, by its stop signal or by SIGQUIT.
    Told,
    /// The worker has not beaten in time, and was sent SIGABRT.
    Silent,
    /// The worker was sent SIGKILL.
    Killed,
    /// The worker's process has ended: [`Event::pid`], [`Event::cause`].
    Exited,
    /// The worker starts again after [`Event::delay`]. [`Event::count`] is how many failures it has
    /// had in a row.
    Restarting,
    /// The worker has reached a limit of its policy and is not started again. [`Event::count`] is
    /// how many failures it has had in a row.
    GivenUp,
    /// The worker has reached a limit of its [recycling](crate::Recycle), or is rolled, and its
    /// next run is to take its place.
    Recycling,
    /// The worker's next run, [`Event::pid`], which has started beside the present one, has taken
    /// its place: it is ready, or the present one has ended. Later events are about that run,
    /// except those that name the process of the former one: that it is told to end, and its end.
    HandedOver,
    /// Lines of the worker's output were lost: because a disk was full, say, or because the output
    /// collector was killed. [`Event::count`] is how many; 0 if that is not known.
    OutputLost,
    /// The worker is off the list. The last event of every handle. [`Event::count`] is the number
    /// of restarts.
    Unregistered,
    /// The cluster has reached a phase.
    Phase(StartTime),
    /// A crash has reset the cluster. Handle, pid, name and cause are those of the worker that
    /// crashed.
    Reset,
    /// A shutdown was requested.
    Shutdown(ShutdownMode),
}

/// Something that the postmaster has done. Its text names the worker and says what happened to it,
/// in one line, without number and time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// Its number. Numbers count from 0 without a gap, for as long as the postmaster lives.
    pub seq: u64,
    /// When it happened, by the wall clock, which may jump.
    pub wall: SystemTime,
    /// When it happened, by `CLOCK_MONOTONIC`, which never goes back.
    pub monotonic: Duration,
    /// What happened.
    pub kind: EventKind,
    /// The worker that the event is about, if there is one.
    pub handle: Option<WorkerHandle>,
    /// The worker's process, if it has or had one.
    pub pid: Option<Pid>,
    /// The worker's name: at most 31 bytes of it, with a `?` for each control character. Empty if
    /// the event is not about a worker.
    pub name: String,
    /// How the process ended, or why there was none.
    pub cause: Option<ExitCause>,
    /// The time until the restart.
    pub delay: Option<Duration>,
    /// A number whose meaning depends on the kind; 0 for kinds that have none.
    pub count: u32,
}

impl Event {
    /// An event of the whole cluster.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(kind: EventKind, wall: SystemTime, monotonic: Duration) -> Self {
        Self {
            seq: 0,
            wall,
            monotonic,
            kind,
            handle: None,
            pid: None,
            name: String::new(),
            cause: None,
            delay: None,
            count: 0,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            EventKind::Phase(phase) => return write!(f, "the cluster reached the phase {phase:?}"),
            EventKind::Shutdown(mode) => return write!(f, "a {mode} shutdown was requested"),
            EventKind::Reset => f.write_str("the cluster was reset: ")?,
            _ => {}
        }
        write!(f, "{:?}", self.name)?;
        if let Some(handle) = self.handle {
            write!(f, " ({handle}")?;
            self.pid.map_or(Ok(()), |pid| write!(f, ", pid {pid}"))?;
            f.write_str(")")?;
        }
        f.write_str(" ")?;
        let count = self.count;
        match self.kind {
            EventKind::Registered => f.write_str("was registered"),
            EventKind::Started if count == 0 => f.write_str("was started"),
            EventKind::Started => write!(f, "was started again, restart {count}"),
            EventKind::Ready => f.write_str("is ready"),
            EventKind::Told => f.write_str("was told to end"),
            EventKind::Silent => f.write_str("was silent for too long, and aborted"),
            EventKind::Killed => f.write_str("was killed"),
            EventKind::Exited | EventKind::Reset => match self.cause {
                Some(cause) => write!(f, "{cause}"),
                None => f.write_str("ended"),
            },
            EventKind::Restarting => {
                match self.delay.unwrap_or_default() {
                    Duration::ZERO => f.write_str("starts again at once")?,
                    delay => write!(f, "starts again in {delay:?}")?,
                }
                if count == 0 { Ok(()) } else { write!(f, ", failures in a row: {count}") }
            }
            EventKind::GivenUp => write!(f, "was given up, failures in a row: {count}"),
            EventKind::Recycling => f.write_str("makes place for its next run"),
            EventKind::HandedOver => f.write_str("took the place of the run before"),
            EventKind::OutputLost if count == 0 => f.write_str("lost lines of its output"),
            EventKind::OutputLost => write!(f, "lost lines of its output: {count}"),
            EventKind::Unregistered => f.write_str("was unregistered"),
            EventKind::Phase(_) | EventKind::Shutdown(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::ExitCause;

    /// What the event of this kind says of "imports", whose handle is 1.1@00000001 and pid is 7.
    fn said(kind: EventKind, count: u32) -> String {
        let mut event = Event::new(kind, SystemTime::UNIX_EPOCH, Duration::ZERO);
        event.name = "imports".into();
        event.handle = "1.1@00000001".parse().ok();
        event.pid = Pid::new(7);
        event.cause = Some(ExitCause::Exited(2));
        event.delay = Some(Duration::from_millis(50));
        event.count = count;
        event.to_string()
    }

    #[test]
    fn an_event_says_in_one_line_what_happened_to_whom() {
        let table = [
            (EventKind::Registered, 0, "was registered"),
            (EventKind::Started, 0, "was started"),
            (EventKind::Started, 3, "was started again, restart 3"),
            (EventKind::Ready, 0, "is ready"),
            (EventKind::Told, 0, "was told to end"),
            (EventKind::Silent, 0, "was silent for too long, and aborted"),
            (EventKind::Killed, 0, "was killed"),
            (EventKind::Exited, 0, "exited with exit code 2"),
            (EventKind::Restarting, 2, "starts again in 50ms, failures in a row: 2"),
            (EventKind::GivenUp, 4, "was given up, failures in a row: 4"),
            (EventKind::Recycling, 0, "makes place for its next run"),
            (EventKind::HandedOver, 0, "took the place of the run before"),
            (EventKind::OutputLost, 0, "lost lines of its output"),
            (EventKind::OutputLost, 9, "lost lines of its output: 9"),
            (EventKind::Unregistered, 0, "was unregistered"),
        ];
        for (kind, count, text) in table {
            let expected = format!("\"imports\" (1.1@00000001, pid 7) {text}");
            assert_eq!(said(kind, count), expected);
        }
        let reset = said(EventKind::Reset, 0);
        let cause = "\"imports\" (1.1@00000001, pid 7) exited with exit code 2";
        assert_eq!(reset, format!("the cluster was reset: {cause}"));
    }

    #[test]
    fn an_event_of_the_whole_cluster_names_no_worker() {
        let text = |kind| Event::new(kind, SystemTime::UNIX_EPOCH, Duration::ZERO).to_string();
        let phase = text(EventKind::Phase(StartTime::ConsistentState));
        assert_eq!(phase, "the cluster reached the phase ConsistentState");
        let shutdown = text(EventKind::Shutdown(ShutdownMode::Fast));
        assert_eq!(shutdown, "a fast shutdown was requested");
    }
}

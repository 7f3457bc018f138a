//! The clocks of a running worker: how long it may take to report that it is ready, and how often
//! it reports that it is alive. With their validation; pure.
//!
//! Times are whole milliseconds, as a slot holds them.

use super::caller::Caller;
use super::invalid::InvalidWorker;
use super::limits::MAX_CLOCK;
use super::policy::Ready;
use super::restarts::millis;
use std::time::Duration;

const SHORTEST_START: Duration = Duration::from_millis(1);
const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(100);
const LONGEST_ABORT_GRACE: Duration = Duration::from_secs(60);
const ABORT_GRACE: Duration = Duration::from_secs(5);

/// Which processes of a command are heard on its `NOTIFY_SOCKET`; messages of others are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum NotifyFrom {
    /// From the process that the postmaster has started.
    #[default]
    Leader,
    /// From any process of its process group, a shell's children for example. One that has ended
    /// before its message is read cannot be told from a stranger.
    ProcessGroup,
}

/// What a description says about clocks, not validated yet. `None` is "not said".
#[derive(Clone, Debug, Default)]
pub(crate) struct ClockDraft {
    pub(crate) start_timeout: Option<Duration>,
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) abort_grace: Option<Duration>,
    pub(crate) notify_from: NotifyFrom,
}

/// The same, validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clocks {
    pub(crate) start_timeout: Option<u32>,
    pub(crate) heartbeat: Option<u32>,
    /// 0 without a heartbeat.
    pub(crate) abort_grace: u32,
    pub(crate) notify_from: NotifyFrom,
}

pub(super) fn check_clocks(
    draft: &ClockDraft,
    ready: Option<Ready>,
    caller: Caller,
) -> Result<Clocks, InvalidWorker> {
    let ClockDraft { start_timeout, heartbeat, abort_grace, notify_from } = *draft;
    in_range("start_timeout", start_timeout, SHORTEST_START, MAX_CLOCK, "1ms to a day")?;
    in_range("heartbeat", heartbeat, SHORTEST_HEARTBEAT, MAX_CLOCK, "100ms to a day")?;
    in_range("abort_grace", abort_grace, Duration::ZERO, LONGEST_ABORT_GRACE, "0 to 60s")?;
    let unfit = |field, value: String, needs| Err(InvalidWorker::Unfit { field, value, needs });
    if let Some(time) = start_timeout.filter(|_| ready.is_none()) {
        let needs = "a worker that declares how it says ready";
        return unfit("start_timeout", format!("{time:?}"), needs);
    }
    let is_deaf = caller == Caller::Command && ready != Some(Ready::Notify);
    if let Some(every) = heartbeat.filter(|_| is_deaf) {
        let needs = "a function, an attached command, or one that declares ready Notify";
        return unfit("heartbeat", format!("{every:?}"), needs);
    }
    if let Some(grace) = abort_grace.filter(|_| heartbeat.is_none()) {
        return unfit("abort_grace", format!("{grace:?}"), "a worker with a heartbeat");
    }
    if notify_from != NotifyFrom::Leader && ready != Some(Ready::Notify) {
        let needs = "a command that declares ready Notify";
        return unfit("notify_from", format!("{notify_from:?}"), needs);
    }
    let abort_grace = heartbeat.map(|_| whole_millis(abort_grace.unwrap_or(ABORT_GRACE)));
    Ok(Clocks {
        start_timeout: start_timeout.map(whole_millis),
        heartbeat: heartbeat.map(whole_millis),
        abort_grace: abort_grace.unwrap_or(0),
        notify_from,
    })
}

fn in_range(
    field: &'static str,
    time: Option<Duration>,
    least: Duration,
    most: Duration,
    limit: &'static str,
) -> Result<(), InvalidWorker> {
    match time.filter(|&time| time < least || time > most) {
        Some(time) => Err(InvalidWorker::OutOfRange { field, value: format!("{time:?}"), limit }),
        None => Ok(()),
    }
}

/// At most a day, which fits.
fn whole_millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

impl Clocks {
    pub(crate) fn start_timeout(&self) -> Option<Duration> {
        self.start_timeout.map(millis)
    }

    pub(crate) fn heartbeat(&self) -> Option<Duration> {
        self.heartbeat.map(millis)
    }

    pub(crate) fn abort_grace(&self) -> Option<Duration> {
        self.heartbeat.map(|_| millis(self.abort_grace))
    }
}

//! Waiting for a worker: for its start, its readiness, its end.
//!
//! A wait looks at the slot's word, and if that does not answer it sleeps in one `futex_waitv` on
//! both halves of the word, the postmaster's liveness word and this process's interrupt counter.
//! Each of them is compared in the kernel with what was seen before the look, so nothing that
//! happens in between is lost. Any number of waiters in any number of processes may wait for one
//! worker; none of them needs to be its notify target. No descriptor is used and no thread; a
//! postmaster that changes the word makes one system call for all of them.
//!
//! Why not `ppoll` on an eventfd a waiter: it costs a descriptor and a table of waiters that the
//! postmaster would have to walk, and the wake-up itself is no faster.

use crate::error::WaitError;
use crate::handle::Handle;
use bgw_core::WorkerStatus;
use bgw_core::process;
use bgw_core::shared::{Standing, flag, standing};
use shmem_slots::futex::{self, MAX_WATCHES, Watch, Woken};
use std::time::{Duration, Instant};

/// What a wait is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    Started,
    Ready,
    Stopped,
}

impl Until {
    /// The answer, if the worker is as the wait wants it. Says what word it looked at.
    fn look(self, handle: &Handle) -> Look {
        let Some(word) = handle.family.slots().look(handle.key) else {
            return Look::Answer(WorkerStatus::Stopped(None));
        };
        let standing = standing(word);
        let wanted = match (self, standing) {
            (Self::Started, Standing::NotYetStarted) => false,
            (Self::Started, _) => true,
            (Self::Ready, Standing::Started(_)) => word.flags() & flag::READY != 0,
            (Self::Ready | Self::Stopped, Standing::Stopped) => true,
            (Self::Ready, Standing::NotYetStarted) | (Self::Stopped, _) => false,
        };
        if !wanted {
            return Look::NotYet(word);
        }
        Look::Answer(match standing {
            Standing::NotYetStarted => WorkerStatus::NotYetStarted,
            Standing::Started(pid) => WorkerStatus::Started(pid),
            Standing::Stopped => WorkerStatus::Stopped(handle.exit_report()),
        })
    }
}

enum Look {
    Answer(WorkerStatus),
    NotYet(shmem_slots::Snapshot),
}

fn after(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}

impl Handle {
    /// Waits until the postmaster has started the worker, or cannot: `Started` (a process was
    /// reported; its main may not have been reached), `Stopped` or `PostmasterDied`.
    ///
    /// # Errors
    /// [`WaitError::Interrupted`] when the caller is a worker that is told to end.
    #[doc(alias = "WaitForBackgroundWorkerStartup")]
    pub fn wait_for_startup(&self) -> Result<WorkerStatus, WaitError> {
        self.wait(Until::Started, None)
    }

    /// As [`Handle::wait_for_startup`], at most for `timeout`.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] besides.
    pub fn wait_for_startup_timeout(&self, timeout: Duration) -> Result<WorkerStatus, WaitError> {
        self.wait(Until::Started, after(timeout))
    }

    /// Waits until the worker has said that it is ready (`Started`), has ended (`Stopped`), or the
    /// postmaster has died.
    ///
    /// # Errors
    /// As [`Handle::wait_for_startup`].
    pub fn wait_for_ready(&self) -> Result<WorkerStatus, WaitError> {
        self.wait(Until::Ready, None)
    }

    /// As [`Handle::wait_for_ready`], at most for `timeout`.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] besides.
    pub fn wait_for_ready_timeout(&self, timeout: Duration) -> Result<WorkerStatus, WaitError> {
        self.wait(Until::Ready, after(timeout))
    }

    /// Waits until no process runs for this registration: `Stopped` (with the report of its last
    /// end) or `PostmasterDied`. A worker that will be restarted is stopped in between, too.
    ///
    /// # Errors
    /// As [`Handle::wait_for_startup`].
    #[doc(alias = "WaitForBackgroundWorkerShutdown")]
    pub fn wait_for_shutdown(&self) -> Result<WorkerStatus, WaitError> {
        self.wait(Until::Stopped, None)
    }

    /// As [`Handle::wait_for_shutdown`], at most for `timeout`.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] besides.
    pub fn wait_for_shutdown_timeout(&self, timeout: Duration) -> Result<WorkerStatus, WaitError> {
        self.wait(Until::Stopped, after(timeout))
    }

    fn wait(&self, until: Until, deadline: Option<Instant>) -> Result<WorkerStatus, WaitError> {
        wait_for_one(std::slice::from_ref(self), until, deadline).map(|(_, status)| status)
    }
}

/// Waits until one of the workers has stopped; says which (its place in `handles`) and how.
///
/// # Errors
/// As [`Handle::wait_for_shutdown_timeout`]; more handles than [`WAIT_ANY_LIMIT`].
pub fn wait_any(
    handles: &[Handle],
    timeout: Option<Duration>,
) -> Result<(usize, WorkerStatus), WaitError> {
    wait_for_one(handles, Until::Stopped, timeout.and_then(after))
}

/// Waits until all of the workers have stopped, and says how, in their order. If the postmaster dies
/// first, those that had not stopped say so.
///
/// # Errors
/// As [`Handle::wait_for_shutdown_timeout`]; the timeout is for all together.
pub fn wait_all(
    handles: &[Handle],
    timeout: Option<Duration>,
) -> Result<Vec<WorkerStatus>, WaitError> {
    let deadline = timeout.and_then(after);
    handles.iter().map(|handle| handle.wait(Until::Stopped, deadline)).collect()
}

/// The most handles that [`wait_any`] can watch: two futexes each, and two besides.
pub const WAIT_ANY_LIMIT: usize = (MAX_WATCHES - 2) / 2;

fn wait_for_one(
    handles: &[Handle],
    until: Until,
    deadline: Option<Instant>,
) -> Result<(usize, WorkerStatus), WaitError> {
    if handles.len() > WAIT_ANY_LIMIT {
        return Err(WaitError::TooMany { handles: handles.len(), limit: WAIT_ANY_LIMIT });
    }
    let Some(family) = handles.first().map(|handle| &handle.family) else {
        return Err(WaitError::TimedOut);
    };
    loop {
        let interrupts = process::interrupts();
        let postmaster = family.watch_postmaster();
        let mut watches: Vec<Watch<'_>> = Vec::with_capacity(handles.len() * 2 + 2);
        for (place, handle) in handles.iter().enumerate() {
            match until.look(handle) {
                Look::Answer(status) => return Ok((place, status)),
                Look::NotYet(word) => {
                    watches.extend(handle.family.slots().watches(handle.key.index, word));
                }
            }
        }
        let Some(postmaster) = postmaster else {
            family.pass_on_postmaster_death();
            return Ok((0, WorkerStatus::PostmasterDied));
        };
        if process::told_to_end() {
            return Err(WaitError::Interrupted);
        }
        watches.push(postmaster);
        watches.push(process::watch_interrupts(interrupts));
        if futex::wait_any(&watches, deadline)? == Woken::TimedOut {
            // One last look: the event may have come together with the deadline.
            for (place, handle) in handles.iter().enumerate() {
                if let Look::Answer(status) = until.look(handle) {
                    return Ok((place, status));
                }
            }
            return Err(WaitError::TimedOut);
        }
    }
}

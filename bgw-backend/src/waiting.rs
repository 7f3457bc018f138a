//! Waiting for a worker: for its start, its readiness, its shutdown, its end.
//!
//! | wait | is over when |
//! |---|---|
//! | startup | the postmaster has started the worker, or has given up |
//! | next start | a process runs for it, or none ever will |
//! | ready | the worker has reported that it is ready, or has stopped |
//! | shutdown | no process runs for it; it may be about to be restarted |
//! | end | it is unregistered: no process runs for it, and none ever will |
//!
//! A wait reads the slot's word. If that is not an answer yet, it sleeps in one `futex_waitv` on
//! both halves of the word, the postmaster's liveness word and this process's interrupt counter.
//! The kernel compares each of them with the value read before the check, so no change in between
//! is lost. Any number of waiters in any number of processes may wait for one worker, and none
//! needs to be its notify target. A wait uses no descriptor and no thread. The postmaster wakes all
//! waiters of a word with one system call.
//!
//! A waiter whose process did not register the worker holds the slot before it sleeps
//! (`shmem-slots`, `Slots::hold`): the report stays until the waiter has read it, whoever registers
//! meanwhile. The registrant's own handle keeps the slot anyway.
//!
//! One call of `futex_waitv` takes 128 futexes. A wait for more workers sleeps on the cluster's
//! count of changes instead and checks its workers at each change.
//!
//! Why not `ppoll` on an eventfd for each waiter: it costs a descriptor, and a table of waiters
//! that the postmaster would have to walk. The wake-up is no faster.

use crate::error::WaitError;
use crate::handle::Handle;
use crate::until::{Look, Until};
use bgw_core::internals::{ReportRecord, WorkerRecord, process};
use bgw_core::{Attachment, WorkerStatus};
use shmem_slots::futex::{self, MAX_WATCHES, Watch, Woken};
use shmem_slots::{Hold, Region};
use std::time::{Duration, Instant};

fn after(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}

impl Handle {
    /// Waits until the postmaster has started the worker or has given up: `Started` (it has a
    /// process, which may not have reached its main), `Stopped` or `PostmasterDied`.
    ///
    /// # Errors
    /// [`WaitError::Interrupted`].
    #[doc(alias = "WaitForBackgroundWorkerStartup")]
    pub fn wait_for_startup(&self) -> Result<WorkerStatus, WaitError> {
        self.wait(Until::Started, None)
    }

    /// Like [`Handle::wait_for_startup`], for at most `timeout`.
    ///
    /// # Errors
    /// [`WaitError::Interrupted`]; [`WaitError::TimedOut`].
    pub fn wait_for_startup_timeout(&self, timeout: Duration) -> Result<WorkerStatus, WaitError> {
        self.wait(Until::Started, after(timeout))
    }

    /// Waits until a process runs for the worker, however long its restart pauses are: `Started`.
    /// If one runs already, returns at once. `Stopped` means that the registration is over, so that
    /// no process will ever run; `PostmasterDied` that nobody is left to start one.
    ///
    /// # Errors
    /// [`WaitError::Interrupted`].
    pub fn wait_for_next_start(&self) -> Result<WorkerStatus, WaitError> {
        self.wait(Until::Running, None)
    }

    /// Like [`Handle::wait_for_next_start`], for at most `timeout`.
    ///
    /// # Errors
    /// [`WaitError::Interrupted`]; [`WaitError::TimedOut`].
    pub fn wait_for_next_start_timeout(
        &self,
        timeout: Duration,
    ) -> Result<WorkerStatus, WaitError> {
        self.wait(Until::Running, after(timeout))
    }

    /// Waits until the worker has reported that it is ready (`Started`), it has ended (`Stopped`),
    /// or the postmaster has died (`PostmasterDied`).
    ///
    /// # Errors
    /// [`WaitError::Interrupted`].
    pub fn wait_for_ready(&self) -> Result<WorkerStatus, WaitError> {
        self.wait(Until::Ready, None)
    }

    /// Like [`Handle::wait_for_ready`], for at most `timeout`.
    ///
    /// # Errors
    /// [`WaitError::Interrupted`]; [`WaitError::TimedOut`].
    pub fn wait_for_ready_timeout(&self, timeout: Duration) -> Result<WorkerStatus, WaitError> {
        self.wait(Until::Ready, after(timeout))
    }

    /// Waits until no process runs for this registration: `Stopped` (with the report of its last
    /// end) or `PostmasterDied`. A worker that will be restarted is `Stopped` in between. Who gets
    /// the report is told at [`Handle::wait_for_end`].
    ///
    /// # Errors
    /// [`WaitError::Interrupted`].
    #[doc(alias = "WaitForBackgroundWorkerShutdown")]
    pub fn wait_for_shutdown(&self) -> Result<WorkerStatus, WaitError> {
        self.wait(Until::Stopped, None)
    }

    /// Like [`Handle::wait_for_shutdown`], for at most `timeout`.
    ///
    /// # Errors
    /// [`WaitError::Interrupted`]; [`WaitError::TimedOut`].
    pub fn wait_for_shutdown_timeout(&self, timeout: Duration) -> Result<WorkerStatus, WaitError> {
        self.wait(Until::Stopped, after(timeout))
    }

    /// Waits until the registration has ended for good: `Stopped` (with the report of its last end)
    /// or `PostmasterDied`. No process of the worker is left then, and none will be started. A
    /// worker in its restart pause has not ended for good, unless it is terminated there.
    ///
    /// A crash reset ends every registration: workers that are restarted after it get a new handle.
    ///
    /// Any process may wait, by any handle. The report of an end that comes while it waits is there
    /// when it runs again, however late, and however many others register meanwhile. Three waits
    /// can miss it (`Stopped(None)`): one of an observer or of a forked child of the attached
    /// process, one beyond the 4,096 that a cluster counts at a time, and one for whose worker's
    /// class no slot is free any more, so that the oldest end gives way.
    ///
    /// # Errors
    /// [`WaitError::Interrupted`].
    pub fn wait_for_end(&self) -> Result<WorkerStatus, WaitError> {
        self.wait(Until::Ended, None)
    }

    /// Like [`Handle::wait_for_end`], for at most `timeout`.
    ///
    /// # Errors
    /// [`WaitError::Interrupted`]; [`WaitError::TimedOut`].
    pub fn wait_for_end_timeout(&self, timeout: Duration) -> Result<WorkerStatus, WaitError> {
        self.wait(Until::Ended, after(timeout))
    }

    pub(crate) fn wait(
        &self,
        until: Until,
        deadline: Option<Instant>,
    ) -> Result<WorkerStatus, WaitError> {
        wait_for_one(std::slice::from_ref(self), until, deadline).map(|(_, status)| status)
    }
}

/// Waits until one of the workers has stopped; returns its place in `handles` and its status. If a
/// postmaster dies, returns the place of its first worker, and `PostmasterDied`.
///
/// Looks at each worker once, and again after each wake-up. With more than about 60 workers, every
/// change of any worker of the cluster is a wake-up.
///
/// # Errors
/// As [`Handle::wait_for_shutdown_timeout`]; no handles; handles of more than 63 connections.
pub fn wait_any(
    handles: &[Handle],
    timeout: Option<Duration>,
) -> Result<(usize, WorkerStatus), WaitError> {
    wait_for_one(handles, Until::Stopped, timeout.and_then(after))
}

/// Like [`wait_any`], until one of the registrations has ended for good
/// (see [`Handle::wait_for_end`]).
///
/// # Errors
/// As [`wait_any`].
pub fn wait_any_end(
    handles: &[Handle],
    timeout: Option<Duration>,
) -> Result<(usize, WorkerStatus), WaitError> {
    wait_for_one(handles, Until::Ended, timeout.and_then(after))
}

/// Waits until all of the workers have stopped; returns their statuses in the order of `handles`.
/// If the postmaster dies first, the status of those that had not stopped is `PostmasterDied`.
/// Without handles it returns at once.
///
/// # Errors
/// As [`Handle::wait_for_shutdown_timeout`]; the timeout applies to all together.
pub fn wait_all(
    handles: &[Handle],
    timeout: Option<Duration>,
) -> Result<Vec<WorkerStatus>, WaitError> {
    wait_for_each(handles, Until::Stopped, timeout)
}

/// Like [`wait_all`], until all of the registrations have ended for good
/// (see [`Handle::wait_for_end`]).
///
/// # Errors
/// As [`wait_all`].
pub fn wait_all_ends(
    handles: &[Handle],
    timeout: Option<Duration>,
) -> Result<Vec<WorkerStatus>, WaitError> {
    wait_for_each(handles, Until::Ended, timeout)
}

fn wait_for_each(
    handles: &[Handle],
    until: Until,
    timeout: Option<Duration>,
) -> Result<Vec<WorkerStatus>, WaitError> {
    let deadline = timeout.and_then(after);
    // Those behind the first may end while that one is waited for.
    let _holds = holds(handles, until);
    handles.iter().map(|handle| handle.wait(until, deadline)).collect()
}

/// Holds on the workers for which a wait is not over yet.
fn holds(handles: &[Handle], until: Until) -> Vec<Hold<'_, WorkerRecord, ReportRecord, Region>> {
    let waits = |handle: &&Handle| matches!(until.look(handle), Look::NotYet(_));
    handles.iter().filter(waits).filter_map(Handle::hold).collect()
}

fn wait_for_one(
    handles: &[Handle],
    until: Until,
    deadline: Option<Instant>,
) -> Result<(usize, WorkerStatus), WaitError> {
    let attachments = Attachments::of(handles)?;
    // Two futexes for each worker, one for each postmaster, and the interrupts. Beyond that, the
    // count of changes of each cluster.
    let one_by_one = handles.len() * 2 + attachments.0.len() < MAX_WATCHES;
    let mut held = None;
    loop {
        // Everything that can end the wait is read before the check below.
        let interrupts = process::interrupts().count();
        let mut watches: Vec<Watch<'_>> = Vec::new();
        watches.push(process::interrupts().watch(interrupts));
        let died = attachments.watch(!one_by_one, &mut watches);
        for (place, handle) in handles.iter().enumerate() {
            match until.look(handle) {
                Look::Answer(status) => return Ok((place, status)),
                Look::NotYet(word) if one_by_one => {
                    watches.extend(handle.attachment.slots().watches(handle.key.index, word));
                }
                Look::NotYet(_) => {}
            }
        }
        if let Some(place) = died {
            return Ok((place, WorkerStatus::PostmasterDied));
        }
        if process::interrupts().waits_are_interrupted() {
            return Err(WaitError::Interrupted);
        }
        if held.is_none() {
            // Looks again: what is held stays only if it had not ended before.
            let holds = held.insert(holds(handles, until));
            if !holds.is_empty() {
                continue;
            }
        }
        if futex::wait_any(&watches, deadline)? == Woken::TimedOut {
            // The event may have happened together with the deadline.
            for (place, handle) in handles.iter().enumerate() {
                if let Look::Answer(status) = until.look(handle) {
                    return Ok((place, status));
                }
            }
            return Err(WaitError::TimedOut);
        }
    }
}

/// The attachments of a wait's handles, each with the place of its first handle. More than one only
/// in a program that is attached to several postmasters.
struct Attachments<'a>(Vec<(usize, &'a Attachment)>);

impl<'a> Attachments<'a> {
    fn of(handles: &'a [Handle]) -> Result<Self, WaitError> {
        let mut attachments: Vec<(usize, &Attachment)> = Vec::new();
        for (place, handle) in handles.iter().enumerate() {
            let attachment: &Attachment = &handle.attachment;
            if !attachments.iter().any(|&(_, known)| std::ptr::eq(known, attachment)) {
                attachments.push((place, attachment));
            }
        }
        match attachments.len() {
            0 => Err(WaitError::NoHandles),
            count if count * 2 >= MAX_WATCHES => {
                Err(WaitError::TooManyClusters { clusters: count, limit: (MAX_WATCHES - 1) / 2 })
            }
            _ => Ok(Self(attachments)),
        }
    }

    /// Watches each postmaster and, with `changes`, its cluster's count of changes. Returns the
    /// place of the first handle whose postmaster is dead.
    fn watch(&self, changes: bool, watches: &mut Vec<Watch<'a>>) -> Option<usize> {
        let mut died = None;
        for &(place, attachment) in &self.0 {
            match attachment.watch_postmaster() {
                Some(watch) => watches.push(watch),
                None => died = died.or(Some(place)),
            }
            if changes {
                watches.extend(attachment.cells().watch_changes());
            }
        }
        died
    }
}

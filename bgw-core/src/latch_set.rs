//! Setting the latch of a worker from another process.
//!
//! A worker that sleeps on the futex is woken by the set itself. One that sleeps in `ppoll` gets
//! SIGURG, and no other process may: the pid that a slot holds is proven before it is signalled.

use crate::attachment::Attachment;
use crate::handle::WorkerHandle;
use crate::pid::Pid;
use crate::shared::{RunState, run_state};
use crate::sys::{pidfd, proc_files};
use shmem_slots::{Key, Wake};
use std::io;
use std::os::fd::OwnedFd;

/// How often another run may take over meanwhile.
const TRIES: u32 = 8;

impl Attachment {
    /// Sets the latch of a worker, wherever it sleeps. False if the worker does not run.
    ///
    /// A worker that sleeps in `ppoll` gets SIGURG, but only if the pid in its slot is that of a
    /// child of the postmaster. No other process is ever signalled, whatever the slot says.
    ///
    /// # Errors
    /// The worker sleeps in `ppoll` and cannot be signalled: this process lacks the permission, is
    /// in another pid namespace than the postmaster, or has no `/proc`. The latch is set
    /// nevertheless, and the worker sees it at its next wake-up.
    pub fn set_latch(&self, worker: WorkerHandle) -> io::Result<bool> {
        let key = Key { index: worker.slot(), generation: worker.generation() };
        let running = || self.slots().look(key).map(run_state);
        for _ in 0..TRIES {
            let Some(RunState::Started(pid)) = running() else { return Ok(false) };
            let berth = self.cells().berth_of(key.index);
            let Some(latch) = self.cells().latch(berth) else { return Ok(false) };
            if latch.set() == Wake::Done {
                return Ok(true);
            }
            let unchanged = || running() == Some(RunState::Started(pid));
            if let Some(process) = self.polling_worker(pid, unchanged)? {
                return pidfd::send(&process, rustix::process::Signal::URG).map(|()| true);
            }
            if unchanged() {
                return Ok(false);
            }
            // Another run serves since.
        }
        Ok(false)
    }

    /// The process of a worker that the slot names as `pid`, with proof; `None` if there is none.
    ///
    /// The postmaster takes the pid out of the slot before it reaps the process. So if the slot is
    /// unchanged after the pidfd was opened, the pid had not been reused. That the slot holds what
    /// the postmaster wrote, and that the pid means the same here, is shown by the process's
    /// parent.
    fn polling_worker(
        &self,
        pid: Pid,
        unchanged: impl Fn() -> bool,
    ) -> io::Result<Option<OwnedFd>> {
        let postmaster = self.postmaster().get();
        let (process, here) = match pidfd::open(pid) {
            Ok(process) => {
                let here = proc_files::pid_of(&process)?;
                (Some(process), here == i64::from(pid.get()) || here == proc_files::ENDED)
            }
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => (None, false),
            Err(error) => return Err(error),
        };
        let is_worker = proc_files::parent_of(pid.get())? == Some(postmaster) && unchanged();
        if is_worker && here {
            return Ok(process);
        }
        let postmaster_here = proc_files::pid_of(self.postmaster_pidfd())?;
        if is_worker || ![i64::from(postmaster), proc_files::ENDED].contains(&postmaster_here) {
            return Err(io::Error::other(OtherNamespace));
        }
        Ok(None)
    }
}

/// Why a worker that polls cannot be woken.
#[derive(thiserror::Error)]
#[error(
    "this process is in another pid namespace than the postmaster, and cannot signal its workers; set the latch from a process of that namespace"
)]
struct OtherNamespace;

shmem_slots::debug_as_chain!(OtherNamespace);

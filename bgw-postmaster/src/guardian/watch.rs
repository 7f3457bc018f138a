//! The guardian's life: asleep until the postmaster is dead.

use super::remains::Remains;
use super::sessions::Sessions;
use crate::sys::descriptors;
use crate::sys::process_stat::is_own_proc;
use crate::sys::roster::Roster;
use crate::sys::title::Title;
use bgw_core::internals::{ClusterCells, WorkerSlots, pidfd};
use nix::unistd::{getsid, setsid};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// What a guardian has.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) roster: Arc<Roster>,
    pub(super) postmaster: Arc<OwnedFd>,
    /// To tell who waits for the postmaster's death.
    pub(super) slots: Arc<WorkerSlots>,
    /// Of the runtime folder. It is locked while anybody holds this open.
    pub(super) lock: Option<Arc<OwnedFd>>,
}

impl Watch {
    /// In the forked child, with all signals blocked. Returns its exit code.
    #[inline(never)]
    pub(super) fn keep(&self, title: &mut Title, text: &[&str]) -> i32 {
        i32::from(self.live(title, text).is_err())
    }

    fn live(&self, title: &mut Title, text: &[&str]) -> io::Result<()> {
        let kept = [Some(&self.postmaster), self.lock.as_ref()];
        // First of all: until then it shares the postmaster's descriptor table.
        descriptors::keep_only(kept.into_iter().flatten().map(|fd| fd.as_fd()))?;
        let postmasters = getsid(None)?.as_raw().unsigned_abs();
        setsid()?;
        title.show(text);
        pidfd::wait_for_end(&self.postmaster, None)?;
        // The kernel wakes one waiter of each liveness word, and that one may be killed, or keep
        // the news to itself.
        ClusterCells::new(&self.slots).wake_liveness_waiters();
        if !is_own_proc() {
            // No process of the cluster can be told from a stranger.
            return Ok(());
        }
        Remains::new(Sessions::new(self.roster.all(), postmasters)).end()
    }
}

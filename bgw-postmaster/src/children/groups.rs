//! Process groups: what a worker starts belongs to its group, and is stopped with it.
//!
//! Each worker leads a session and a group of its own, so the group's number is its pid. The kernel
//! does not reuse a number while a process or a zombie of the group exists. So a stop signal to the
//! group of a child that is not reaped reaches nobody else.
//!
//! When a leader ends, its children become the postmaster's, which is a subreaper. One system call
//! tells whether such a child of the group lives (`sys/wait.rs`). If so the group is kept here, after
//! its leader has been reaped, until `waitid` says that the postmaster has no child in it any more. Each
//! look, and each signal, comes before the last of these children is reaped: the number is still
//! the group's.
//!
//! A process that left the group (by `setsid`, as daemons do) is on its own. The postmaster reaps it
//! when it ends, and nothing else.

use super::table::{Child, Children, LeftGroup, signal_number};
use crate::rules::StopSignal;
use crate::sys::{signals, wait};
use bgw_core::Pid;

impl Children {
    /// True if other processes of the group live whose leader, the child of slot `index`, has ended and
    /// is not reaped.
    pub(crate) fn leaves_group(&mut self, index: u32) -> bool {
        let child = self.by_slot.get(index as usize);
        let Some(&Child { pid: leader, place, .. }) = child else { return false };
        let left = wait::group_has_children(leader);
        if left {
            self.left_groups.push(LeftGroup { leader, place });
        }
        left
    }

    /// True if what `leader` has left is kept.
    pub(super) fn has_left_group(&self, leader: Pid) -> bool {
        self.left_groups.iter().any(|group| group.leader == leader)
    }

    /// Signals what is left of a group.
    pub(crate) fn stop_group(&self, leader: Pid, stop: StopSignal) {
        if self.has_left_group(leader) && wait::group_has_children(leader) {
            signals::signal_group(leader, signal_number(stop));
        }
    }

    /// Reaps what has ended of the groups that are left. Returns the leaders of those that have ended.
    pub(crate) fn ended_groups(&mut self) -> Vec<Pid> {
        let (ended, left): (Vec<_>, _) = std::mem::take(&mut self.left_groups)
            .into_iter()
            .partition(|group| wait::reap_group(group.leader));
        self.left_groups = left;
        ended.iter().for_each(|group| self.roster.release(group.place));
        ended.iter().map(|group| group.leader).collect()
    }

    /// Reaps orphans that belong to no group of ours. The program's own children are left to it, and our
    /// children to their pidfds; `has_no_worker` knows spares and the guardian. The kernel hands out ended
    /// children in its own order: behind one of ours an orphan may wait until that one is reaped.
    pub(crate) fn reap_orphans(&mut self, has_no_worker: impl Fn(Pid) -> bool) {
        self.orphan_may_wait = false;
        while let Some(pid) = wait::peek_any() {
            let known = self.by_pid.contains_key(&pid) || self.inherited.contains(&pid);
            if known || has_no_worker(pid) || wait::reap_by_pid(pid).is_err() {
                self.orphan_may_wait = true;
                return;
            }
        }
    }

    /// True if an orphan may have waited behind the child that was reaped just now.
    pub(crate) const fn orphan_may_wait(&self) -> bool {
        self.orphan_may_wait
    }
}

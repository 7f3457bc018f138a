//! Process groups: what a worker starts belongs to its group, and is stopped with it.
//!
//! Each worker leads a session and a group of its own, so the group's number is its pid. The kernel
//! does not reuse a number while a process or a zombie of the group exists. So a stop signal to the
//! group of a child that is not reaped reaches nobody else.
//!
//! When a leader ends, its children become the postmaster's, which is a subreaper. One system call
//! tells whether such a child of the group lives (`sys/wait.rs`). If so the group is kept here,
//! after its leader has been reaped, until `waitid` says that the postmaster has no child in it any
//! more. Each look, and each signal, comes before the last of these children is reaped: the number
//! is still the group's.
//!
//! The end of such a child sends SIGCHLD, unless its worker has cloned it beside itself
//! (`CLONE_PARENT`): it is as silent as the worker then. While a group that is left has such a
//! child, all are looked for in the list of children, and the poller watches each.
//!
//! A process that left the group (by `setsid`, as daemons do) is on its own. The postmaster reaps
//! it when it ends, and nothing else.

use super::table::{Child, Children, LeftGroup, signal_of};
use crate::rules::StopLevel;
use crate::sys::{signals, wait};
use bgw_core::Pid;
use bgw_core::internals::pidfd;
use std::os::fd::OwnedFd;
use std::time::Instant;

impl Children {
    /// True if other processes of the group live whose leader, the child of berth `berth`, has
    /// ended and is not reaped.
    pub(crate) fn leaves_group(&mut self, berth: u32) -> bool {
        let child = self.by_berth.get(berth as usize);
        let Some(&Child { pid: leader, place, stop, .. }) = child else { return false };
        let left = wait::group_has_children(leader);
        if left {
            self.left_groups.push(LeftGroup { leader, place, stop });
        }
        left
    }

    /// True if `pid` is a worker's, what is left of one, or was there before the postmaster.
    pub(crate) fn knows(&self, pid: Pid) -> bool {
        self.by_pid.contains_key(&pid)
            || self.inherited.contains(&pid)
            || self.silent.iter().any(|&(silent, _)| silent == pid)
            || self.has_left_group(pid)
    }

    /// True if what `leader` has left is kept.
    pub(super) fn has_left_group(&self, leader: Pid) -> bool {
        self.left_groups.iter().any(|group| group.leader == leader)
    }

    /// Signals what is left of a group.
    pub(crate) fn stop_group(&self, leader: Pid, level: StopLevel) {
        let group = self.left_groups.iter().find(|group| group.leader == leader);
        if let Some(group) = group.filter(|_| wait::group_has_children(leader)) {
            signals::signal_group(leader, signal_of(level, group.stop));
        }
    }

    /// Reaps what has ended of the groups that are left. Returns the leaders of those that have
    /// ended.
    pub(crate) fn ended_groups(&mut self) -> Vec<Pid> {
        let (ended, left): (Vec<_>, _) = std::mem::take(&mut self.left_groups)
            .into_iter()
            .partition(|group| wait::reap_group(group.leader));
        self.left_groups = left;
        ended.iter().for_each(|group| self.roster.release(group.place));
        ended.iter().map(|group| group.leader).collect()
    }

    /// Finds the processes of groups that are left whose ends are silent, if there are any. `watch`
    /// has the end of each reported, once.
    pub(crate) fn watch_silent(&mut self, watch: impl Fn(&OwnedFd) -> std::io::Result<()>) {
        self.silent.retain(|(_, pidfd)| !has_ended(pidfd));
        let silent = |group: &&LeftGroup| wait::group_has_silent_children(group.leader);
        let groups: Vec<Pid> =
            self.left_groups.iter().filter(silent).map(|group| group.leader).collect();
        if groups.is_empty() {
            return;
        }
        for pid in wait::children_of_this_process() {
            let known = self.by_pid.contains_key(&pid)
                || self.silent.iter().any(|&(silent, _)| silent == pid);
            // Our unreaped child: the number is its own.
            if known || !wait::group_of(pid).is_some_and(|group| groups.contains(&group)) {
                continue;
            }
            match pidfd::open(pid).and_then(|pidfd| watch(&pidfd).map(|()| pidfd)) {
                Ok(pidfd) => self.silent.push((pid, pidfd)),
                Err(error) => tracing::warn!("watching process {pid} failed: {error}"),
            }
        }
    }

    /// Reaps orphans that belong to no group of ours. The program's own children are left to it,
    /// and our children to their pidfds; `has_no_worker` knows spares and the guardian. The kernel
    /// hands out ended children in its own order: behind one of ours an orphan may wait until that
    /// one is reaped.
    pub(crate) fn reap_orphans(&mut self, has_no_worker: impl Fn(Pid) -> bool) {
        self.orphan_may_wait = false;
        while let Some(pid) = wait::peek_any() {
            if self.inherited.contains(&pid) {
                return self.reap_orphans_behind_others(has_no_worker);
            }
            let known = self.by_pid.contains_key(&pid) || has_no_worker(pid);
            if known || wait::reap_by_pid(pid).is_err() {
                self.orphan_may_wait = true;
                return;
            }
        }
    }

    /// The program may never reap its child, which hides the others: looks at each child by itself.
    fn reap_orphans_behind_others(&self, has_no_worker: impl Fn(Pid) -> bool) {
        let known = |pid: &Pid| self.by_pid.contains_key(pid) || self.inherited.contains(pid);
        for pid in wait::children_of_this_process() {
            if !known(&pid) && !has_no_worker(pid) {
                // It runs: its end is told by the next signal.
                let _ = wait::reap_by_pid(pid);
            }
        }
    }

    /// True if an orphan may have waited behind the child that was reaped just now.
    pub(crate) const fn orphan_may_wait(&self) -> bool {
        self.orphan_may_wait
    }
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    pidfd::wait_for_end(pidfd, Some(Instant::now())).unwrap_or(true)
}

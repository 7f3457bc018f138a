//! The end of all workers at once, when the loop can no longer see to it.

use super::table::{Child, Children};
use crate::sys::{signals, wait};
use bgw_core::internals::pidfd;
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// How long a killed process may take to end.
const LIMIT: Duration = Duration::from_secs(5);

impl Children {
    /// Kills every worker, and what workers have started, and reaps them all. Nothing is published.
    ///
    /// `orphan_ended` waits for the end of a process that was not started here; false if none ended
    /// by the deadline. A child that cannot be reaped by then is left to its tracer, which holds
    /// its end back.
    pub(crate) fn end_all(&mut self, orphan_ended: impl Fn(Instant) -> bool) {
        let deadline = Instant::now() + LIMIT;
        let berths: Vec<u32> = self.by_berth.iter().map(|child| child.berth).collect();
        let workers: Vec<Child> =
            berths.into_iter().filter_map(|berth| self.by_berth.take(berth as usize)).collect();
        for child in &workers {
            if !signals::signal_group(child.pid, Signal::KILL) {
                // ESRCH: it has ended.
                let _ = pidfd::send(&child.pidfd, Signal::KILL);
            }
        }
        let mut leaders = Vec::with_capacity(workers.len() + self.left_groups.len());
        for group in std::mem::take(&mut self.left_groups) {
            if wait::group_has_children(group.leader) {
                signals::signal_group(group.leader, Signal::KILL);
            }
            leaders.push(group.leader);
        }
        for child in workers {
            let _ = pidfd::wait_for_end(&child.pidfd, Some(deadline));
            self.by_pid.remove(&child.pid);
            leaders.push(child.pid);
        }
        // Each in its group, and so the worker itself.
        loop {
            leaders.retain(|&leader| !wait::reap_group(leader));
            if leaders.is_empty() {
                return;
            }
            // The ends of some are silent (`groups.rs`).
            if !orphan_ended(deadline) {
                leaders.retain(|&leader| !wait::reap_group(leader));
                return;
            }
        }
    }
}

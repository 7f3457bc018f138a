//! Reload requests: each reaches the workers, but a flood of them does not.

use super::action::Action;
use super::cluster::Cluster;
use super::timers::Due;
use std::time::{Duration, Instant};

/// How soon after one reload the next one is forwarded. Requests in between are one.
pub(super) const RELOAD_PAUSE: Duration = Duration::from_millis(100);

impl Cluster {
    pub(super) fn reload_requested(&mut self, now: Instant, out: &mut Vec<Action>) {
        match self.reload_after {
            Some(after) if now < after => self.timers.add(after, Due::Reload),
            _ => self.reload_due(now, out),
        }
    }

    pub(super) fn reload_due(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.reload_after = now.checked_add(RELOAD_PAUSE);
        out.push(Action::ForwardReload);
    }
}

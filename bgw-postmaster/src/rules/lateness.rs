//! A worker that is not ready in time.
//!
//! A worker with a `start_timeout` must be ready within that time from the start of its process.
//! The clock stops when the worker reports that it is ready, is told to end, or ends. When it
//! expires, the server looks once more: the worker may have become ready, or have asked for more
//! time, up to [`MOST_TIMES`] its timeout in all. Otherwise the worker is stopped as by a terminate
//! request, and its report says, however it exits, that its start has timed out.

use super::action::{Action, Note};
use super::cluster::Cluster;
use super::lapse::{Lapse, StartClock};
use super::registry::Progress;
use super::timers::Due;
use shmem_slots::Key;
use std::time::Instant;

/// How many times its timeout a start may take at most, however often the worker asks for more
/// time.
pub(super) const MOST_TIMES: u32 = 10;

impl Cluster {
    /// A process was started for the worker.
    pub(super) fn begin_start_clock(&mut self, key: Key, now: Instant) {
        let Some(entry) = self.registry.get_mut(key) else { return };
        let Some(timeout) = entry.worker.start_timeout() else { return };
        let Some(due) = now.checked_add(timeout) else { return };
        let end = timeout.checked_mul(MOST_TIMES).and_then(|most| now.checked_add(most));
        entry.start_clock = Some(StartClock { due, end: end.unwrap_or(due) });
        self.timers.add(due, Due::Start(key.into()));
    }

    pub(super) fn end_start_clock(&mut self, key: Key) {
        let clock = self.registry.get_mut(key).and_then(|entry| entry.start_clock.take());
        if let Some(clock) = clock {
            self.timers.remove(clock.due, Due::Start(key.into()));
        }
    }

    /// The time of a start is over.
    pub(super) fn start_due(&self, key: Key, out: &mut Vec<Action>) {
        if self.registry.get(key).is_some_and(|entry| entry.start_clock.is_some()) {
            out.push(Action::LookAtStart(key));
        }
    }

    /// The worker has not said that it is ready. It has asked for time until `until`, if it has
    /// asked.
    pub(super) fn still_starts(
        &mut self,
        key: Key,
        until: Option<Instant>,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(entry) = self.registry.get_mut(key) else { return };
        let Some(clock) = &mut entry.start_clock else { return };
        let due = clock.due.max(until.unwrap_or(clock.due)).min(clock.end);
        if due > now {
            self.timers.remove(clock.due, Due::Start(key.into()));
            clock.due = due;
            self.timers.add(due, Due::Start(key.into()));
            return;
        }
        if matches!(entry.progress, Progress::Running { stop_signal: None, .. }) {
            entry.lapse = Some(Lapse::Late);
            out.push(Action::Log(Note::Late(entry.subject())));
            self.stop_unasked(key, now, out);
        }
    }
}

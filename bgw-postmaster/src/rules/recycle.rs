//! Workers that are replaced by their next run although they work.
//!
//! Each run draws its limits when it starts, so a fleet is not replaced at once. A run that has
//! reached one is told to end as by a terminate request, except that a grace of "for ever" is
//! [`REPLACE_GRACE`]. What follows its end is `verdict`'s: the next run, which is not a restart.
//!
//! Memory is looked at every [`LOOK_EVERY`] while there is a run with such a limit, a part of them
//! at a time; a run that may reach its limit before that, by how it has grown, sooner. Growth may
//! begin just after a look, so a run whose beats are looked at is looked at with them: that wakes
//! nobody.

use super::action::{Action, Note};
use super::cluster::Cluster;
use super::registry::Progress;
use super::run_limits::{FIRST_LOOK, LOOK_EVERY, MemoryLimit, RunLimits};
use super::timers::{Due, OrdKey};
use bgw_core::{AskedBy, Recycled};
use shmem_slots::Key;
use std::ops::Bound;
use std::time::{Duration, Instant};

/// How long a worker whose grace is for ever may take to make place.
pub(super) const REPLACE_GRACE: Duration = Duration::from_secs(60);

/// How many workers are looked at before other events are handled.
pub(super) const LOOKS_IN_A_ROW: usize = 64;
/// How soon the others are.
const NEXT_LOOKS: Duration = Duration::from_millis(1);

impl Cluster {
    /// A run begins.
    pub(super) fn draw_limits(&mut self, key: Key, random: u32, now: Instant) {
        let Some(entry) = self.registry.get_mut(key) else { return };
        let lifetime = entry.worker.drawn_lifetime(random);
        let rss = entry.worker.drawn_rss(random.rotate_left(16));
        let at = lifetime.and_then(|lifetime| now.checked_add(lifetime));
        let memory = rss.map(|bytes| MemoryLimit::new(bytes, now));
        entry.limits = RunLimits { lifetime: at, memory };
        entry.recycled = None;
        if let Some(at) = at {
            self.timers.add(at, Due::Recycle(key.into()));
        }
        if rss.is_some() {
            self.watched.keys.insert(key.into());
            if self.watched.all_at.is_none() {
                self.watched.all_at = now.checked_add(LOOK_EVERY);
            }
            self.look_soon(key, FIRST_LOOK, now);
        }
    }

    /// The run has ended.
    pub(super) fn forget_limits(&mut self, key: Key) {
        let Some(entry) = self.registry.get_mut(key) else { return };
        let limits = std::mem::take(&mut entry.limits);
        if let Some(at) = limits.lifetime {
            self.timers.remove(at, Due::Recycle(key.into()));
        }
        if let Some(memory) = limits.memory {
            self.watched.keys.remove(&key.into());
            if let Some(at) = memory.soon {
                self.watched.soon.remove(&(at, key.into()));
            }
            if self.watched.keys.is_empty() {
                (self.watched.all_at, self.watched.last) = (None, None);
            }
            self.plan_looks(None);
        }
    }

    pub(super) fn jobs_done(&mut self, key: Key, now: Instant, out: &mut Vec<Action>) {
        let entry = self.registry.get(key);
        if entry.and_then(|entry| entry.worker.recycle()?.jobs).is_some() {
            self.recycle(key, Recycled::Jobs, now, out);
        }
    }

    pub(super) fn lifetime_over(&mut self, key: Key, now: Instant, out: &mut Vec<Action>) {
        let entry = self.registry.get(key);
        if entry.is_some_and(|entry| entry.limits.lifetime.is_some_and(|at| at <= now)) {
            self.recycle(key, Recycled::Lifetime, now, out);
        }
    }

    pub(super) fn memory_read(
        &mut self,
        key: Key,
        bytes: u64,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(entry) = self.registry.get_mut(key) else { return };
        let Some(memory) = &mut entry.limits.memory else { return };
        if bytes >= memory.bytes {
            self.recycle(key, Recycled::Memory, now, out);
        } else if let Some(soon) = memory.seen(bytes, now) {
            self.look_soon(key, soon, now);
        }
    }

    /// Looks at a worker after `time`, unless all are looked at before.
    fn look_soon(&mut self, key: Key, time: Duration, now: Instant) {
        let Some(entry) = self.registry.get_mut(key) else { return };
        let Some(memory) = &mut entry.limits.memory else { return };
        let at = now.checked_add(time);
        let at = at.filter(|&at| self.watched.all_at.is_none_or(|all_at| at < all_at));
        let before = std::mem::replace(&mut memory.soon, at);
        if let Some(before) = before {
            self.watched.soon.remove(&(before, key.into()));
        }
        self.watched.soon.extend(at.map(|at| (at, OrdKey::from(key))));
        self.plan_looks(None);
    }

    /// The beats of these are looked at. Their memory is, too, unless there are too many of them.
    pub(super) fn look_with_beats(&self, keys: &[Key], now: Instant, out: &mut Vec<Action>) {
        if keys.len() > LOOKS_IN_A_ROW {
            return;
        }
        let limit = |&key: &Key| self.registry.get(key)?.limits.memory;
        let due = |key: &&Key| limit(key).is_some_and(|memory| memory.goes_with_beats(now));
        out.extend(keys.iter().filter(due).copied().map(Action::ReadMemory));
    }

    pub(super) fn memory_due(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.watched.due = None;
        let mut looked = Vec::new();
        while looked.len() < LOOKS_IN_A_ROW
            && self.watched.soon.first().is_some_and(|&(at, _)| at <= now)
        {
            let Some((_, key)) = self.watched.soon.pop_first() else { break };
            if let Some(entry) = self.registry.get_mut(key.into()) {
                entry.limits.memory.iter_mut().for_each(|memory| memory.soon = None);
            }
            looked.push(key);
        }
        if self.watched.all_at.is_some_and(|at| at <= now) {
            let from = self.watched.last.map_or(Bound::Unbounded, Bound::Excluded);
            let mut left = self.watched.keys.range((from, Bound::Unbounded));
            let room = LOOKS_IN_A_ROW - looked.len();
            let part = left.by_ref().take(room).copied().collect::<Vec<_>>();
            let over = left.next().is_none();
            self.watched.last = part.last().copied().or(self.watched.last).filter(|_| !over);
            if over {
                self.watched.all_at = now.checked_add(LOOK_EVERY);
            }
            looked.extend(part);
        }
        out.extend(looked.into_iter().map(|key| Action::ReadMemory(key.into())));
        // Others are served in between.
        self.plan_looks(now.checked_add(NEXT_LOOKS));
    }

    /// One deadline for all looks, not before that time.
    fn plan_looks(&mut self, not_before: Option<Instant>) {
        let next = self.watched.next().max(not_before.filter(|_| !self.watched.keys.is_empty()));
        if next != self.watched.due {
            if let Some(before) = std::mem::replace(&mut self.watched.due, next) {
                self.timers.remove(before, Due::Memory);
            }
            if let Some(at) = next {
                self.timers.add(at, Due::Memory);
            }
        }
    }

    /// A run has reached a limit.
    fn recycle(&mut self, key: Key, why: Recycled, now: Instant, out: &mut Vec<Action>) {
        if self.overlaps(key, why) {
            self.begin_overlap(key, why, out);
        } else {
            self.replace(key, why, now, out);
        }
    }

    /// Has a worker make place for its next run, unless it has been told to end before.
    pub(super) fn replace(&mut self, key: Key, why: Recycled, now: Instant, out: &mut Vec<Action>) {
        let Some(entry) = self.registry.get_mut(key) else { return };
        let runs = matches!(entry.progress, Progress::Running { stop_signal: None, .. });
        if !runs || entry.terminate {
            return;
        }
        entry.recycled = Some(why);
        entry.ask(AskedBy::Recycle);
        out.push(Action::Log(Note::Recycling(entry.subject(), why)));
        out.push(Action::TellRecycling(key));
        self.make_place(key, now, out);
    }

    /// The stop signal now, and SIGKILL after the grace.
    pub(super) fn make_place(&mut self, key: Key, now: Instant, out: &mut Vec<Action>) {
        self.terminate_running(key, now, out);
        // A grace of its own is shorter or the same.
        let grace = self.registry.get(key).and_then(|entry| self.grace_of(&entry.worker));
        self.kill_after(key, Some(grace.unwrap_or(REPLACE_GRACE)), now);
    }
}

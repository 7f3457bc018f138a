//! A worker is replaced without a gap: its next run starts beside the present one, and takes its
//! place once it is ready.
//!
//! due → berth → the next run starts → ready: it serves, and the former one is told to end → that
//! has ended: the berth is free.
//!
//! | until it is ready | then |
//! |---|---|
//! | no berth is free | the old run serves on, and waits its turn |
//! | the next run fails | the same; another one after a pause with failures of its own, without limit. Of a roll: none |
//! | it is not ready in time, which is [`START_PATIENCE`] without a `start_timeout` | it is stopped, and has failed |
//! | the old run ends, and is to be followed by another one | the next run is that: no pause, and what it does is judged as of any run |
//! | the old run ends for good, or its group stops | the next run is stopped |
//! | terminate, shutdown | both are stopped |
//! | reset | both quit, one starts |
//!
//! The limits of the next run are drawn when it takes the place.

use super::action::{Action, News, Note};
use super::cluster::{Cluster, report_stopped};
use super::ending::{Ending, Exit};
use super::lapse::StartClock;
use super::lateness::MOST_TIMES;
use super::overlap::{Beside, Cause, Overlap};
use super::recycle::REPLACE_GRACE;
use super::registry::{Entry, Progress};
use super::stop_level::StopLevel;
use super::timers::Due;
use super::verdict::Verdict;
use bgw_core::internals::brake;
use bgw_core::{Pid, Recycled};
use shmem_slots::Key;
use std::time::{Duration, Instant};

/// Failed next runs pause as if so many runs had failed before: from the first one on the brake
/// slows them.
const HEAD_START: u32 = 5;

/// How long a next run whose worker has no `start_timeout` may take to be ready: it holds a berth
/// that others wait for. A roll has a time of its own.
pub(super) const START_PATIENCE: Duration = Duration::from_secs(60);

impl Cluster {
    /// True if a worker that is to be replaced for this reason has its next run beside it.
    pub(super) fn overlaps(&self, key: Key, why: Recycled) -> bool {
        let Some(entry) = self.registry.get(key) else { return false };
        let asked = entry.worker.recycle().is_some_and(|recycle| recycle.overlap);
        self.policy.overlap > 0
            && entry.worker.ready().is_some()
            && (asked || why == Recycled::Roll)
            && !entry.held
    }

    /// The worker is to have a next run beside its present one, unless it has one already.
    pub(super) fn begin_overlap(&mut self, key: Key, why: Recycled, out: &mut Vec<Action>) {
        let Some(entry) = self.registry.get(key) else { return };
        let runs = matches!(entry.progress, Progress::Running { stop_signal: None, .. });
        if !runs || entry.terminate || entry.held {
            return;
        }
        let next = match entry.overlap {
            None => {
                out.push(Action::Log(Note::Recycling(entry.subject(), why)));
                out.push(Action::TellRecycling(key));
                self.forget_limits(key);
                Overlap::Due(Cause { why, failures: 0 })
            }
            // A roll waits for no pause, and has no second try.
            Some(Overlap::Pausing { cause, .. }) if why == Recycled::Roll => {
                Overlap::Due(Cause { why, ..cause })
            }
            Some(mut overlap) if why == Recycled::Roll => {
                if let Overlap::Due(cause)
                | Overlap::Lent(cause)
                | Overlap::Starting { cause, .. } = &mut overlap
                {
                    cause.why = why;
                }
                let has_own_time = entry.worker.start_timeout().is_some();
                if let Overlap::Starting { clock, .. } = &mut overlap {
                    *clock = clock.filter(|_| has_own_time);
                }
                if matches!(overlap, Overlap::Due(_)) {
                    // Its turn stays.
                    if let Some(entry) = self.registry.get_mut(key) {
                        entry.overlap = Some(overlap);
                    }
                    return;
                }
                overlap
            }
            Some(Overlap::Leaving { why: before, former, restarts, again }) => {
                let again = again.or(Some(why));
                Overlap::Leaving { why: before, former, restarts, again }
            }
            Some(_) => return,
        };
        self.set_overlap(key, Some(next), out);
    }

    /// The next run has started beside the present one.
    pub(super) fn forked_beside(
        &mut self,
        key: Key,
        pid: Pid,
        random: u32,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(entry) = self.registry.get(key) else { return };
        let Some(Overlap::Lent(cause)) = entry.overlap else { return };
        let patience = (cause.why != Recycled::Roll).then_some(START_PATIENCE);
        let timeout = entry.worker.start_timeout().or(patience);
        let clock = timeout.and_then(|timeout| {
            let due = now.checked_add(timeout)?;
            let end = timeout.checked_mul(MOST_TIMES).and_then(|most| now.checked_add(most));
            Some(StartClock { due, end: end.unwrap_or(due) })
        });
        let next = Beside { pid, told: None, kill_at: None };
        let overlap = Overlap::Starting { cause, next, clock, late: false, random };
        self.set_overlap(key, Some(overlap), out);
        out.push(Action::TellBesideStarted(key, pid));
    }

    /// The next run says that it is ready: it takes the place.
    pub(super) fn ready_beside(&mut self, key: Key, now: Instant, out: &mut Vec<Action>) {
        let Some(entry) = self.registry.get_mut(key) else { return };
        let Some(Overlap::Starting { cause, next, random, .. }) = entry.overlap else { return };
        let Progress::Running { pid, stop_signal } = entry.progress else { return };
        if next.told.is_some() || entry.terminate {
            return;
        }
        let (why, restarts) = (cause.why, entry.restarts);
        entry.asked_by = None;
        let kill_at = self.stop_clock(key);
        let former = Beside { pid, told: stop_signal, kill_at };
        self.set_overlap(key, Some(Overlap::Leaving { why, former, restarts, again: None }), out);
        self.serves_now(key, next.pid, random, now);
        if let Some(entry) = self.registry.get_mut(key) {
            entry.ready_at = Some(now);
            entry.streak.ready();
        }
        out.push(Action::HandOver { key, pid: next.pid, ready: true });
        self.begin_pulse(key, now);
        let notify = self.registry.get(key).and_then(|entry| entry.notify);
        out.extend(notify.map(|target| Action::Notify(target, News::Started)));
        let grace = self.registry.get(key).and_then(|entry| self.grace_of(&entry.worker));
        let grace = Some(grace.unwrap_or(REPLACE_GRACE));
        self.stop_beside(key, StopLevel::Terminate, grace, now, out);
    }

    /// Process `pid`, which started beside the former run, is the worker's from now on.
    fn serves_now(&mut self, key: Key, pid: Pid, random: u32, now: Instant) {
        self.forget_limits(key);
        self.end_start_clock(key);
        self.end_pulse(key);
        self.registry.set_progress(key, Progress::Running { pid, stop_signal: None });
        let Some(entry) = self.registry.get_mut(key) else { return };
        entry.run = entry.run.wrapping_add(1);
        entry.started_before = true;
        entry.ready_at = None;
        entry.lapse = None;
        entry.asked_by = None;
        entry.kill_at = None;
        self.draw_limits(key, random, now);
        self.changed(key);
    }

    /// True if the next run, which is not ready, follows the one that has ended so.
    pub(super) fn takes_over(&self, key: Key, verdict: Verdict) -> bool {
        let follows = matches!(verdict, Verdict::Failure | Verdict::Repeat | Verdict::Replace(_));
        let is_there = |entry: &Entry| {
            // A round stops all members first.
            entry.member.is_none()
                && matches!(entry.overlap, Some(Overlap::Starting { next, .. }) if next.told.is_none())
        };
        follows && self.accepts_workers() && self.registry.get(key).is_some_and(is_there)
    }

    /// The run has ended, and the next one, which is not ready, is what follows. False: the worker
    /// is given up.
    pub(super) fn take_over(
        &mut self,
        key: Key,
        exit: Exit,
        verdict: Verdict,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> bool {
        let failed = verdict == Verdict::Failure;
        if failed && self.count_failure(key, exit.end, now, out) {
            return false;
        }
        let Some(entry) = self.registry.get_mut(key) else { return true };
        let Some(Overlap::Starting { next, clock, random, .. }) = entry.overlap else {
            return true;
        };
        // The patience with a second process is over.
        let clock = clock.filter(|_| entry.worker.start_timeout().is_some());
        let recycled = match verdict {
            Verdict::Replace(why) => Some(why),
            _ => None,
        };
        entry.recycled = None;
        let ending = entry.ending_of_process(exit.end);
        let ending = Ending { pause: Some(Duration::ZERO), recycled, ..ending };
        report_stopped(entry, ending, out);
        entry.restarts += u32::from(recycled.is_none());
        let notify = entry.notify;
        // The ended run's berth is given back once the next one has taken its place.
        let mut freed = Vec::new();
        self.set_overlap(key, None, &mut freed);
        self.serves_now(key, next.pid, random, now);
        if let Some(entry) = self.registry.get_mut(key) {
            entry.start_clock = clock;
        }
        if let Some(clock) = clock {
            self.timers.add(clock.due, Due::Start(key.into()));
        }
        self.begin_looks(key, now);
        out.push(Action::HandOver { key, pid: next.pid, ready: false });
        out.append(&mut freed);
        out.extend(notify.map(|target| Action::Notify(target, News::Started)));
        true
    }

    /// How long after the failure of a next run another one is due.
    pub(super) fn pause_beside(entry: &Entry, failures: u32, random: u32) -> Duration {
        let delay = entry.worker.delay(failures).unwrap_or_default();
        entry.worker.spread(delay.max(brake(failures.saturating_add(HEAD_START))), random)
    }
}

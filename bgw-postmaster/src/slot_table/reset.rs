//! Makes all slots anew after a crash: every worker process has ended, and what the slots hold is
//! in doubt.
//!
//! Every slot is freed with a new generation, but for two kinds. The slots of workers that will be
//! restarted are never free in between, so that no other worker gets them. And a slot whose
//! registrant has not looked yet stays as an ended one: no number of resets loses an end. If it is
//! the slot of a worker that will be restarted, that worker gets another one, while there is a free
//! one. Retired slots are revived.
//!
//! Before a handle becomes stale, the report of its worker is set aside, with the crash that led to
//! the reset. So whoever asks by a handle from before finds the same answer until the next reset.
//! The waiters wake when the workers have their new slots: they find those, too.

use super::table::SlotTable;
use crate::fault;
use crate::rules::{Culprit, Entry, Event, Registry};
use bgw_core::internals::{ReportRecord, WorkerRecord, flag};
use bgw_core::{
    AskedBy, BackgroundWorker, CrashReset, ExitCause, ExitReport, NotStarted, Pid, Returned,
    StartTime, WorkerHandle,
};
use shmem_slots::{After, Claim, Key, Region, Snapshot, State};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

type WorkerClaim<'a> = Claim<'a, WorkerRecord, ReportRecord, Region>;

/// The report of a registration that the postmaster had not taken in, or not started yet.
fn never_started() -> ExitReport {
    ExitReport {
        cause: ExitCause::NotStarted(NotStarted::ClusterReset),
        pid: None,
        restarts: 0,
        asked_by: Some(AskedBy::Reset),
        killed: false,
        unregistered: true,
        reset: true,
        streak: 0,
        pause: None,
        given_up: None,
        recycled: None,
        ended_at: SystemTime::now(),
        ran_for: Duration::ZERO,
        user_time: Duration::ZERO,
        system_time: Duration::ZERO,
        max_rss_kib: 0,
        copied_kib: None,
        returned: Returned::NOTHING,
    }
}

impl SlotTable {
    /// Resets the slots and places the workers of `registry`. The event names their new keys; a
    /// worker whose end was requested meanwhile has none.
    ///
    /// No worker process runs now. A claim under way is revoked; its slot comes back when its owner
    /// has noticed, or here, unless the owner `is_attached`.
    pub(crate) fn reset(
        &self,
        culprit: Culprit,
        registry: &Registry,
        phase: StartTime,
        is_attached: impl Fn(Pid) -> bool,
        published: impl FnOnce(&HashMap<Key, Key>),
    ) -> Event {
        fault::point("reset:before");
        let cells = &self.cells;
        let old = cells.incarnation();
        let reset = crash_reset(culprit, old);
        // Before the claims below, which may take slots whose last report somebody may ask for.
        (0..self.slots.capacity()).for_each(|index| self.set_last_report_aside(index));
        let claims: HashMap<Key, _> =
            registry.iter().filter_map(|entry| self.claim_for(entry, &is_attached)).collect();
        let home = |key: Key| {
            let own = claims.get(&key).map_or(key, |claim: &WorkerClaim<'_>| claim.key());
            Key { generation: own.generation.saturating_add(1), ..own }
        };
        let homes: HashSet<u32> = registry.iter().map(|entry| home(entry.key).index).collect();
        let set_aside: Vec<Option<Key>> = (0..self.slots.capacity())
            .map(|index| {
                let successor = registry.at(index).map(|entry| home(entry.key));
                self.set_report_aside(index, old, &reset, successor)
            })
            .collect();
        fault::point("reset:set_aside");
        let new = next_incarnation(old);
        cells.set_incarnation(new);
        fault::point("reset:new_life");
        let mut terminated: HashSet<Key> = HashSet::new();
        let kept = self.slots.reset_each(self.postmaster.get(), |index, word| {
            let key = Key { index, generation: word.generation() };
            if word.state() == State::Published {
                if set_aside.get(index as usize) != Some(&Some(key)) {
                    // Published since.
                    self.set_aside(key, ReportRecord::encode(&never_started(), old), &reset);
                }
                if word.flags() & flag::TERMINATE != 0 {
                    terminated.insert(key);
                }
            }
            if homes.contains(&index) {
                return After::Claimed;
            }
            self.keeper(key, word, &is_attached).map_or(After::Free, After::Ended)
        });
        let kept = kept.unwrap_or_else(|error| {
            tracing::error!("resetting the slots failed: {error}");
            Vec::new()
        });
        let homes: HashMap<Key, u32> =
            registry.iter().map(|entry| (entry.key, home(entry.key).index)).collect();
        // Each slot has another word by now: nothing is given back.
        drop(claims);
        self.slots.sweep(|owner| {
            owner != self.postmaster.get() && !Pid::new(owner).is_some_and(&is_attached)
        });
        // A scribbler can retire slots. Handles of before the reset have another incarnation, which
        // also serves as a generation that is far from the last one, and from those of before.
        let generation = u64::from(cells.incarnation());
        match self.slots.revive_all(generation) {
            Ok(0) => {}
            Ok(count) => tracing::warn!("{count} slots were retired, and are in use again"),
            Err(error) => tracing::error!("reviving retired slots failed: {error}"),
        }
        fault::point("reset:freed");
        cells.set_phase(phase);
        cells.restore();
        self.restore_counters();
        let mut kept: HashMap<u32, _> =
            kept.into_iter().map(|claim| (claim.key().index, claim)).collect();
        let (mut new_keys, mut used) = (HashMap::new(), HashSet::new());
        for entry in registry.iter() {
            let own = homes.get(&entry.key).and_then(|home| kept.remove(home));
            if terminated.contains(&entry.key) {
                // The name of its successor is out already.
                if let Some(claim) = own {
                    let asked_by = Some(AskedBy::Terminate);
                    let report = ExitReport { asked_by, reset: false, ..never_started() };
                    let cause = ExitCause::NotStarted(NotStarted::Terminated);
                    let (record, _) = ReportRecord::encode(&ExitReport { cause, ..report }, new);
                    if let Err(error) = self.slots.write_report(claim.key(), &record) {
                        tracing::error!("{error}");
                    }
                }
                continue;
            }
            fault::point("reset:before_place");
            // The slot claimed for it, unless its generations are used up.
            let place = |mut claim: WorkerClaim<'_>| {
                claim.write(&WorkerRecord::encode(&entry.worker, self.postmaster)).ok()?;
                claim.publish(0).ok()
            };
            let is_used = |index| kept.contains_key(&index) || used.contains(&index);
            let another = || place(self.claim_unused(&entry.worker, is_used)?);
            if let Some(key) = own.and_then(place).or_else(another) {
                used.insert(key.index);
                let (name, now, before) =
                    (entry.worker.name(), self.handle(key), handle(entry.key, old));
                tracing::info!(
                    "background worker \"{name}\" is {now} after the reset; it was {before}"
                );
                new_keys.insert(entry.key, key);
            } else {
                let name = entry.worker.name();
                tracing::warn!("no slot available for new worker process \"{name}\"");
            }
        }
        published(&new_keys);
        self.slots.wake_all();
        cells.count_change_of_all();
        fault::point("reset:rebuilt");
        Event::SlotsReset { new_keys }
    }

    /// A free slot for a worker that may restart. None of the parallel class may, so there is none
    /// among these. A slot that another one has `is_used`, whatever it looks like.
    fn claim_unused(
        &self,
        worker: &BackgroundWorker,
        is_used: impl Fn(u32) -> bool,
    ) -> Option<WorkerClaim<'_>> {
        for _ in 0..=self.slots.capacity() {
            let ranges = self.slots_of(worker);
            let claim = self.slots.claim_in_either(ranges, self.postmaster.get()).ok()?;
            if !is_used(claim.key().index) {
                return Some(claim);
            }
            // Not given back: it would be found again.
            std::mem::forget(claim);
        }
        None
    }

    /// Who is to read how the tenant of `key` ends, or ended, of which `word` was read: its
    /// registrant, or, 0, waiters.
    fn keeper(&self, key: Key, word: Snapshot, is_attached: impl Fn(Pid) -> bool) -> Option<u32> {
        let registrant = match word.state() {
            _ if !word.is_kept() => None,
            // It may have been published without being taken in.
            State::Published => self
                .registrant(key)
                .map(|who| who.pid)
                .or_else(|| self.slots.read(key).ok()?.registered_by()),
            // A reset may have ended it before it was taken in: then only the word says who keeps
            // it.
            State::Ended => {
                self.registrant(key).map(|who| who.pid).or_else(|| Pid::new(word.pid()))
            }
            _ => None,
        };
        let registrant = registrant.filter(|&pid| is_attached(pid)).map(Pid::get);
        let waited_for = || {
            let is_there = matches!(word.state(), State::Published | State::Ended);
            (is_there && self.slots.is_held(key)).then_some(0)
        };
        registrant.or_else(waited_for)
    }

    /// Claims another slot for a worker that will be restarted, if its own is to stay for its
    /// registrant and another one is free.
    fn claim_for(
        &self,
        entry: &Entry,
        is_attached: impl Fn(Pid) -> bool,
    ) -> Option<(Key, WorkerClaim<'_>)> {
        let word = self.slots.look(entry.key)?;
        self.keeper(entry.key, word, is_attached)?;
        let ranges = self.slots_of(&entry.worker);
        let claim = self.slots.claim_free_in_either(ranges, self.postmaster.get());
        Some((entry.key, claim.ok()?))
    }

    /// Sets the report of a tenant aside that had ended before, and that somebody may ask for.
    fn set_last_report_aside(&self, index: u32) {
        let Some(word) = self.slots.snapshot(index) else { return };
        let key = Key { index, generation: word.generation() };
        if word.state() != State::Published
            && let Ok((last, annex)) = self.slots.read_report_with(key, ReportRecord::annex_len)
        {
            self.put_aside(key, &last, &annex);
        }
    }

    /// Sets the report of slot `index`'s tenant aside, if it has one. Returns whose it is.
    fn set_report_aside(
        &self,
        index: u32,
        incarnation: u32,
        reset: &CrashReset,
        successor: Option<Key>,
    ) -> Option<Key> {
        let word = self.slots.snapshot(index)?;
        if word.state() != State::Published {
            return None;
        }
        let key = Key { index, generation: word.generation() };
        let last = self.slots.read_report_with(key, ReportRecord::annex_len).ok();
        let last = last.and_then(|(record, annex)| record.decode(&annex).ok());
        let report = last.map_or_else(never_started, |last| ExitReport {
            unregistered: true,
            reset: true,
            pause: None,
            ..last
        });
        let mut reset = *reset;
        reset.successor = successor.map(|key| handle(key, next_incarnation(incarnation)));
        self.set_aside(key, ReportRecord::encode(&report, incarnation), &reset);
        Some(key)
    }

    /// Sets the last report of a registration that the reset ends aside.
    fn set_aside(&self, key: Key, (record, annex): (ReportRecord, Vec<u8>), reset: &CrashReset) {
        let next = next_incarnation(reset.culprit.incarnation());
        let record = record.with_reset(reset, next);
        // Also in the slot's own buffers: when the next reset takes the place of what was set
        // aside, no report from before this one may show again.
        if let Err(error) = self.slots.write_report_with(key, &record, &annex) {
            tracing::error!("writing the report of slot {} failed: {error}", key.index);
        }
        self.put_aside(key, &record, &annex);
    }

    fn put_aside(&self, key: Key, record: &ReportRecord, annex: &[u8]) {
        if let Err(error) = self.slots.set_report_aside_with(key, record, annex) {
            tracing::error!("setting the report of slot {} aside failed: {error}", key.index);
        }
    }

    /// What `record` says with the crash that ended its registration.
    pub(super) fn with_reset(&self, record: ReportRecord, culprit: Culprit) -> ReportRecord {
        let incarnation = self.cells.incarnation();
        let reset = crash_reset(culprit, incarnation);
        record.with_reset(&reset, next_incarnation(incarnation))
    }
}

const fn next_incarnation(incarnation: u32) -> u32 {
    incarnation.wrapping_add(2) | 1
}

const fn handle(key: Key, incarnation: u32) -> WorkerHandle {
    WorkerHandle::new(key.index, key.generation, incarnation)
}

const fn crash_reset(culprit: Culprit, incarnation: u32) -> CrashReset {
    CrashReset::new(handle(culprit.key, incarnation), culprit.pid, culprit.cause)
}

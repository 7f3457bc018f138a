//! Workers that say that they are alive, and fall silent.
//!
//! The looks at workers with the same interval are one deadline, half an interval after the last
//! look. Without such workers there is none.
//!
//! | a look finds | what follows |
//! |---|---|
//! | a new beat | nothing is missed |
//! | no new beat, and comes late by more than half an interval | the same: machine or postmaster were stopped |
//! | no new beat, once | it is missed |
//! | no new beat, twice in a row | another look: a beat saves the worker, a tracer spares it; else it is silent |
//!
//! So a worker that beats once per interval is never silent, since two looks in a row span one; and
//! one that stops is found 1 to 1.5 intervals after its last beat, and the lateness of the looks.
//! It gets SIGABRT, and SIGKILL after its `abort_grace`. Later beats save nobody.
//!
//! A worker that declares its readiness beats from then on. Until then a look asks whether it is
//! ready: it may have said so, and stopped before it could ring.

use super::action::{Action, Note};
use super::cluster::Cluster;
use super::lapse::Lapse;
use super::pulse::{Beats, Look, Pulse, Rhythm};
use super::stop_level::StopLevel;
use super::timers::Due;
use shmem_slots::Key;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

impl Cluster {
    /// A run is to beat from now on.
    pub(super) fn begin_pulse(&mut self, key: Key, now: Instant) {
        let Some(entry) = self.registry.get_mut(key) else { return };
        if entry.worker.heartbeat().is_some() {
            entry.pulse = Some(Pulse { seen: 0, missed: false, looked: now, heard: now });
            self.begin_looks(key, now);
        }
    }

    /// A run begins that is looked at: whether it beats, or, while it starts, whether it is ready.
    pub(super) fn begin_looks(&mut self, key: Key, now: Instant) {
        let Some(entry) = self.registry.get(key) else { return };
        let Some(every) = entry.worker.heartbeat() else { return };
        let Some(due) = now.checked_add(every / 2) else { return };
        let empty = || Rhythm { due, keys: BTreeSet::new() };
        let rhythm = self.rhythms.0.entry(every).or_insert_with(empty);
        rhythm.keys.insert(key.into());
        self.timers.add(rhythm.due, Due::Look(every));
    }

    /// The run is over, or was told to end.
    pub(super) fn end_pulse(&mut self, key: Key) {
        let Some(entry) = self.registry.get_mut(key) else { return };
        entry.pulse = None;
        let Some(every) = entry.worker.heartbeat() else { return };
        let Some(rhythm) = self.rhythms.0.get_mut(&every) else { return };
        rhythm.keys.remove(&key.into());
        if rhythm.keys.is_empty() {
            self.timers.remove(rhythm.due, Due::Look(every));
            self.rhythms.0.remove(&every);
        }
    }

    /// The slots are made anew: no run is left.
    pub(super) fn end_all_pulses(&mut self) {
        self.rhythms.0.clear();
    }

    pub(super) fn look_due(&mut self, every: Duration, now: Instant, out: &mut Vec<Action>) {
        let Some(rhythm) = self.rhythms.0.get_mut(&every) else { return };
        let late = now.saturating_duration_since(rhythm.due) > every / 2;
        // The clock reaches so far for as long as it reaches `now` in years.
        rhythm.due = now.checked_add(every / 2).unwrap_or(now);
        self.timers.add(rhythm.due, Due::Look(every));
        let all = rhythm.keys.iter().map(|&key| key.into());
        let beats = |key: &Key| self.registry.get(*key).is_some_and(|entry| entry.pulse.is_some());
        let (keys, starting): (Vec<Key>, Vec<Key>) = all.partition(beats);
        self.look_with_beats(&keys, now, out);
        if !keys.is_empty() {
            out.push(Action::ReadBeats { keys, look: Look::Regular { late } });
        }
        out.extend(starting.into_iter().map(Action::LookAtStart));
    }

    pub(super) fn beats_read(
        &mut self,
        look: Look,
        beats: &[Beats],
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let mut suspects = Vec::new();
        for found in beats {
            match self.judge_beats(look, found, now) {
                Judgement::Nothing => {}
                Judgement::Suspect => suspects.push(found.key),
                Judgement::Silent { silent_for } => self.silent(found.key, silent_for, now, out),
            }
        }
        if !suspects.is_empty() {
            out.push(Action::ReadBeats { keys: suspects, look: Look::Last });
        }
    }

    fn judge_beats(&mut self, look: Look, found: &Beats, now: Instant) -> Judgement {
        let Some(entry) = self.registry.get_mut(found.key) else { return Judgement::Nothing };
        let every = entry.worker.heartbeat().unwrap_or_default();
        let Some(pulse) = &mut entry.pulse else { return Judgement::Nothing };
        let new = found.count != pulse.seen;
        pulse.seen = found.count;
        match look {
            Look::First => {}
            _ if new => *pulse = Pulse { missed: false, looked: now, heard: now, ..*pulse },
            Look::Regular { late: true } => {
                *pulse = Pulse { missed: false, looked: now, ..*pulse };
            }
            // It has joined the others since their last look.
            Look::Regular { .. } if now.saturating_duration_since(pulse.looked) < every / 2 => {}
            Look::Regular { .. } if pulse.missed => return Judgement::Suspect,
            Look::Regular { .. } => *pulse = Pulse { missed: true, looked: now, ..*pulse },
            Look::Last if found.traced => {
                *pulse = Pulse { missed: false, looked: now, ..*pulse };
            }
            Look::Last => {
                let silent_for = now.saturating_duration_since(pulse.heard);
                return Judgement::Silent { silent_for };
            }
        }
        Judgement::Nothing
    }

    /// A worker that is watched says itself that it hangs.
    pub(super) fn hangs(&mut self, key: Key, now: Instant, out: &mut Vec<Action>) {
        let pulse = self.registry.get(key).and_then(|entry| entry.pulse);
        if let Some(pulse) = pulse {
            self.silent(key, now.saturating_duration_since(pulse.heard), now, out);
        }
    }

    fn silent(&mut self, key: Key, silent_for: Duration, now: Instant, out: &mut Vec<Action>) {
        let Some(entry) = self.registry.get_mut(key) else { return };
        entry.lapse = Some(Lapse::Silent { silent_for });
        out.push(Action::Log(Note::Silent(entry.subject(), silent_for)));
        let grace = entry.worker.abort_grace().unwrap_or_default();
        self.stop(key, StopLevel::Abort, out);
        self.kill_silent_after(key, grace, now);
    }
}

/// What a look at one worker leads to.
enum Judgement {
    Nothing,
    Suspect,
    Silent { silent_for: Duration },
}

//! An action is one call to one owner.
//!
//! The order of the rules is kept: the fact first, then those who wait for it. Each action costs
//! what it concerns, one slot or one process; only `ForwardReload` and `ResetSlots` walk a list.

use super::log;
use super::state::Server;
use crate::events::{Details, Events};
use crate::fault;
use crate::rules::{
    Action, Beats, Culprit, Ending, Event, Look, News, Note, NotifyTarget, StopLevel,
};
use bgw_core::{EventKind, LastWords, Pid};
use shmem_slots::Key;

impl Server {
    #[inline(never)]
    pub(super) fn perform(&mut self, action: Action) {
        match action {
            Action::ReportStarted(key, pid) => self.report_started(key, pid),
            Action::ReportUnstarted(key) => {
                let events = &mut self.events;
                let published = || events.start_lost(key);
                self.slot_table.report_unstarted(key, published, &mut self.queue);
            }
            Action::ReportStopped(key, ending) => self.report_stopped(key, &ending, false),
            Action::ReportClearing(key, ending) => self.report_stopped(key, &ending, true),
            Action::Unregister(key, ending) => self.unregister(key, &ending),
            Action::Notify(target, news) => self.notify(target, news),
            Action::Stop(key, level) => {
                self.children.stop(self.slot_table.berth(key.index), level);
                let kind = match level {
                    StopLevel::Kill => EventKind::Killed,
                    StopLevel::Abort => EventKind::Silent,
                    StopLevel::Terminate | StopLevel::Quit => EventKind::Told,
                };
                self.events.tell(key, kind, Details::default());
            }
            Action::LookAtStart(key) => self.slot_table.look_at_start(key, &mut self.queue),
            Action::ReadBeats { keys, look } => self.read_beats(&keys, look),
            Action::StopGroup(leader, signal) => self.children.stop_group(leader, signal),
            Action::ReadMemory(key) => self.read_memory(key),
            Action::TellBesideStarted(..)
            | Action::HandOver { .. }
            | Action::ReportBeside(..)
            | Action::StopBeside(..)
            | Action::LookBeside(_)
            | Action::FreeBerth(_) => self.about_beside(action),
            Action::TellRecycling(key) => {
                self.events.tell(key, EventKind::Recycling, Details::default());
            }
            Action::RollEnded(number, outcomes) => self.rolls.answer(number, outcomes),
            Action::ForwardReload => self.children.reload_all(),
            Action::ResetSlots(culprit) => self.reset_slots(culprit),
            Action::PublishPhase(phase) => {
                self.slot_table.publish_phase(phase);
                self.events.tell_of_cluster(EventKind::Phase(phase));
            }
            Action::Log(note) => self.note(&note),
        }
    }

    #[inline(never)]
    fn report_started(&mut self, key: Key, pid: Pid) {
        let count = self.cluster.registry().get(key).map_or(0, |entry| entry.restarts);
        let details = Details { pid: Some(pid), count, ..Details::default() };
        let events = &mut self.events;
        let published = || events.tell(key, EventKind::Started, details);
        self.slot_table.report_started(key, pid, published, &mut self.queue);
    }

    fn report_stopped(&mut self, key: Key, ending: &Ending, for_good: bool) {
        let events = &mut self.events;
        let published = || stopped(events, key, ending);
        self.slot_table.report_stopped(key, ending, for_good, published, &mut self.queue);
    }

    #[inline(never)]
    fn unregister(&mut self, key: Key, ending: &Ending) {
        let (children, sessions) = (&self.children, &self.sessions);
        let resolve = |pid| children.target(pid).or_else(|| sessions.target(pid));
        let events = &mut self.events;
        let published = || unregistered(events, key, ending);
        let registry = self.cluster.registry();
        let next = self.slot_table.unregister(key, ending, registry, resolve, published);
        self.queue.extend(next);
    }

    fn note(&mut self, note: &Note) {
        match note {
            Note::Registering(worker) => {
                let handle = self.slot_table.handle(worker.key);
                self.events.registered(worker.key, handle, &worker.name);
            }
            Note::Refused(worker, why) => {
                self.slot_table.why_not_started = Some((worker.key, LastWords::of_error(why)));
            }
            Note::TerminatingOthers(worker, ..) => self.events.crashed(&worker.name),
            Note::ShuttingDown(mode) => {
                self.events.tell_of_cluster(EventKind::Shutdown(*mode));
            }
            _ => {}
        }
        log::log(note, &self.slot_table);
    }

    #[cold]
    #[inline(never)]
    fn read_memory(&mut self, key: Key) {
        let bytes = self.children.memory_of(self.slot_table.berth(key.index));
        self.queue.extend(bytes.map(|bytes| Event::MemoryRead { key, bytes }));
    }

    #[cold]
    #[inline(never)]
    fn read_beats(&mut self, keys: &[Key], look: Look) {
        if look == Look::Last {
            keys.iter().for_each(|key| self.hear(self.slot_table.berth(key.index)));
        }
        let berth = |key: Key| self.slot_table.berth(key.index);
        let read = |&key: &Key| Beats {
            key,
            count: self
                .notices
                .beats(key, berth(key))
                .unwrap_or_else(|| self.slot_table.beats(key)),
            traced: look == Look::Last && self.children.is_traced(berth(key)),
        };
        let beats = keys.iter().map(read).collect();
        self.queue.push_back(Event::BeatsRead { look, beats });
    }

    #[cold]
    #[inline(never)]
    fn reset_slots(&mut self, culprit: Culprit) {
        // They may remember what lies in the slots' shared state.
        self.spares.end_used();
        self.slot_table.all_go_home();
        self.liveness.restore();
        let (registry, phase) = (self.cluster.registry(), self.cluster.phase());
        let is_attached = |pid| self.sessions.target(pid).is_some();
        let before = self.slot_table.handle(culprit.key);
        let (slot_table, events) = (&self.slot_table, &mut self.events);
        let reset = slot_table.reset(culprit, registry, phase, is_attached, |new_keys| {
            events.reset(before, culprit.pid, culprit.cause);
            for entry in registry.iter() {
                if let Some(&key) = new_keys.get(&entry.key) {
                    events.registered(key, slot_table.handle(key), entry.worker.name());
                }
            }
        });
        if let Event::SlotsReset { new_keys } = &reset {
            self.slot_table.gifts.moved(new_keys);
        }
        self.queue.push_back(reset);
    }

    fn notify(&self, target: NotifyTarget, news: News) {
        let ended = news == News::Ended;
        fault::point(if ended { "exit:before_notify" } else { "report:before_notify" });
        match target {
            NotifyTarget::Session(number) => self.sessions.notify(number),
            NotifyTarget::Child { key, pid } => self.children.notify(key, pid),
        }
        fault::point(if ended { "exit:after_notify" } else { "report:after_notify" });
    }
}

fn stopped(events: &mut Events, key: Key, ending: &Ending) {
    let details = Details { cause: Some(ending.cause), ..Details::default() };
    events.tell(key, EventKind::Exited, details);
    if ending.pause.is_some() {
        let details = Details { delay: ending.pause, count: ending.streak, ..details };
        events.tell(key, EventKind::Restarting, details);
    }
}

fn unregistered(events: &mut Events, key: Key, ending: &Ending) {
    let details = Details { cause: Some(ending.cause), ..Details::default() };
    events.tell(key, EventKind::Exited, details);
    if ending.given_up.is_some() {
        events.tell(key, EventKind::GivenUp, Details { count: ending.streak, ..details });
    }
    events.tell(key, EventKind::Unregistered, Details { count: ending.restarts, ..details });
}

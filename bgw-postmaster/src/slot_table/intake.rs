//! From a slot that a backend wrote to a registration that the postmaster trusts.
//!
//! The slot is copied once and checked, and only the copy is used. The notify target is resolved to
//! a living child or an attached program; anything else is no target.

use super::table::{Registrant, SlotTable};
use crate::fault;
use crate::rules::{Ending, Entry, Event, NotifyTarget, Progress, Registry};
use crate::sys::boxed::boxed;
use crate::sys::credentials;
use bgw_core::internals::{CorruptRecord, EntryKinds, WorkerRecord, flag, start_order};
use bgw_core::{BackgroundWorker, EntryPoint, ExitCause, LastWords, NotStarted, Output, Pid};
use shmem_slots::{Key, Offer, Snapshot, State};
use std::collections::HashSet;
use std::sync::Arc;

/// Why a description was not taken in. The registration ends with it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("its record is not a worker: {0}")]
    Corrupt(#[from] CorruptRecord),
    #[error("its worker belongs to the slots of another class")]
    WrongClass,
    #[error(
        "no slots are reserved for class \"{0}\"; reserve(class, n) of the postmaster's builder does"
    )]
    UnknownClass(String),
    #[error(
        "backends may register no {kind}; {setting}(true) of the postmaster's builder allows it"
    )]
    NotAllowed { kind: &'static str, setting: &'static str },
    #[error("it is given descriptors, which do not travel with its slot")]
    WithoutGifts,
    #[error(
        "its output is to go to the descriptor \"{0}\", which it is not given, and descriptor(name, …) of the postmaster's builder passes no such one"
    )]
    NoDescriptor(String),
    #[error("its output is to go to a file, and this postmaster has no output_dir")]
    NoOutputDir,
    #[error(
        "process {0}, which registered a command or a library, acts as another user than the postmaster and has dropped its privileges"
    )]
    OtherUser(Pid),
}

impl Refused {
    const fn not_allowed(entry: &EntryPoint) -> Self {
        let (kind, setting) = EntryKinds::setting_for(entry);
        Self::NotAllowed { kind, setting }
    }
}

/// How a registration ends that is not taken in.
const REFUSED: Ending = Ending {
    cause: ExitCause::NotStarted(NotStarted::Refused),
    restarts: 0,
    asked_by: None,
    killed: false,
    streak: 0,
    pause: None,
    given_up: None,
    recycled: None,
    reset: None,
    process: None,
};

impl SlotTable {
    /// Turns the slots that changed into events: registrations, terminate requests, and workers
    /// that are ready or have done their jobs. Calls `listed` with the slots of registered workers
    /// that have changed. Leaves alone what `is_given` to a spare, which may be about to take it.
    ///
    /// The events must reach the rules before this is called again: until then a new slot is not in
    /// `registry`.
    pub(crate) fn take_in_changes(
        &mut self,
        registry: &Registry,
        resolve: impl Fn(Pid) -> Option<NotifyTarget>,
        mut listed: impl FnMut(u32),
        mut is_given: impl FnMut(&Self, Key) -> bool,
        events: &mut impl Extend<Event>,
    ) {
        self.check_cells(registry);
        let mut changed: Vec<(u32, Snapshot)> = Vec::new();
        fault::point("intake:before_look");
        self.slots.drain_changes(|index, word| changed.push((index, word)));
        fault::point("intake:drained");
        let mut related = Vec::new();
        for &(index, word) in &changed {
            let key = Key { index, generation: word.generation() };
            let is_listed = word.state() == State::Published && registry.get(key).is_some();
            if is_listed {
                listed(index);
                self.say(key, word, events);
                continue;
            }
            if may_be_given(word) && is_given(self, key) {
                continue;
            }
            match self.slot_changed(key, word, registry, &resolve) {
                Some(new) if has_relations(&new) => related.push(new),
                event => events.extend(event),
            }
        }
        if !related.is_empty() {
            let seen = changed.iter().map(|&(index, _)| index);
            self.relate(related, seen, registry, &resolve, events);
        }
    }

    /// Registrations that have relations: in their order, which others that are not marked yet may
    /// belong to. `seen` are the slots that were marked.
    #[inline(never)]
    fn relate(
        &mut self,
        mut related: Vec<Event>,
        seen: impl Iterator<Item = u32>,
        registry: &Registry,
        resolve: &impl Fn(Pid) -> Option<NotifyTarget>,
        events: &mut impl Extend<Event>,
    ) {
        self.add_missing_targets(&mut related, seen, registry, resolve);
        events.extend(in_order(related));
    }

    /// Adds new slots that are not marked yet, if one of `related` starts after a worker that is
    /// unknown: it may have been registered just before. Looks at every slot then.
    fn add_missing_targets(
        &mut self,
        related: &mut Vec<Event>,
        seen: impl Iterator<Item = u32>,
        registry: &Registry,
        resolve: &impl Fn(Pid) -> Option<NotifyTarget>,
    ) {
        let new: HashSet<&str> = related.iter().filter_map(worker_of).map(|w| w.name()).collect();
        let known = |name: &str| new.contains(name) || registry.owner(name).is_some();
        let targets = related.iter().filter_map(worker_of).flat_map(|worker| worker.after());
        if { targets }.all(|(name, _)| known(name)) {
            return;
        }
        // Those without relations, too: they are not in the registry yet.
        let seen: HashSet<u32> = seen.collect();
        let unseen = |index: &u32| !seen.contains(index) && registry.at(*index).is_none();
        let slots = Arc::clone(&self.slots);
        for (index, word) in slots.occupied().filter(|(index, _)| unseen(index)) {
            let key = Key { index, generation: word.generation() };
            related.extend(self.slot_changed(key, word, registry, resolve));
        }
    }

    /// Registers a static worker: publishes it as a backend would.
    pub(crate) fn register_static(&self, worker: BackgroundWorker) -> Result<Event, String> {
        let record = WorkerRecord::encode(&worker, self.postmaster);
        let ranges = self.slots_of(&worker);
        let claim = self.slots.claim_in_either(ranges, self.postmaster.get());
        let mut claim = claim.map_err(|error| error.to_string())?;
        claim.write(&record).map_err(|error| error.to_string())?;
        let key = claim.publish(0).map_err(|error| error.to_string())?;
        let (worker, notify, registered_at) = (Box::new(worker), None, record.registered_at());
        Ok(Event::Registered { key, worker, notify, terminate: false, registered_at })
    }

    /// A slot whose tenant is not registered.
    pub(super) fn slot_changed(
        &mut self,
        key: Key,
        word: Snapshot,
        registry: &Registry,
        resolve: &impl Fn(Pid) -> Option<NotifyTarget>,
    ) -> Option<Event> {
        if word.state() != State::Published {
            return None;
        }
        let index = key.index;
        let word = if word.is_offered() {
            match self.slots.withdraw_offer(key) {
                Offer::Withdrawn(now) => now,
                // A spare was faster: it is taken on at the next look.
                Offer::Accepted(_) => {
                    self.passed_over = true;
                    return None;
                }
                Offer::Over => return None,
            }
        } else {
            word
        };
        let terminate = word.flags() & flag::TERMINATE != 0;
        if let Some(entry) = registry.at(index) {
            // The slot of a registered worker has another generation: something overwrote it.
            self.restore(entry);
            return None;
        }
        // It changes while it is read: its next change is a mark of its own.
        self.slots.read_into(key, &mut self.record).ok()?;
        self.note(key, resolve);
        match self.check(index) {
            Ok(worker) => {
                let notify = worker.notify().and_then(resolve);
                fault::point("intake:copied");
                let registered_at = self.record.registered_at();
                Some(Event::Registered { key, worker, notify, terminate, registered_at })
            }
            Err(refused) => self.refuse(key, &refused, registry, resolve),
        }
    }

    /// Notes who has registered the worker of the copy.
    pub(super) fn note(&mut self, key: Key, resolve: &impl Fn(Pid) -> Option<NotifyTarget>) {
        if let Some(pid) = self.record.registered_by() {
            let is_job = self.record.is_job();
            let registrant = Registrant::new(key, pid, resolve(pid), is_job);
            let ends_with_it = self.record.ends_with_submitter();
            self.note_registrant(registrant, ends_with_it);
        }
    }

    #[cold]
    #[inline(never)]
    fn refuse(
        &mut self,
        key: Key,
        refused: &Refused,
        registry: &Registry,
        resolve: &impl Fn(Pid) -> Option<NotifyTarget>,
    ) -> Option<Event> {
        self.log_refused(key.index, refused);
        self.why_not_started = Some((key, LastWords::of_error(refused)));
        self.unregister(key, &REFUSED, registry, resolve, || {})
    }

    /// Something has overwritten the word of a registered worker. The registry is the truth:
    /// whoever had the slot instead finds it gone.
    #[cold]
    #[inline(never)]
    pub(super) fn restore(&mut self, entry: &Entry) {
        self.log_corrupt(entry.key.index, "the word of a registered worker was overwritten");
        let (pid, flags) = match entry.progress {
            Progress::Unstarted => (0, 0),
            Progress::Running { pid, .. } if entry.ready_at.is_some() => {
                (pid.get(), flag::STARTED | flag::READY)
            }
            Progress::Running { pid, .. } => (pid.get(), flag::STARTED),
            Progress::Resting { .. } | Progress::Clearing { .. } => (0, flag::STOPPED),
        };
        // An error: it was not ours, as we know.
        let _ = self.slots.update(entry.key, pid, flags);
        self.cells.count_change(entry.key.index);
    }

    /// Checks the copy of the new tenant of slot `index`.
    pub(super) fn check(&self, index: u32) -> Result<Box<BackgroundWorker>, Refused> {
        let worker = self.check_worker(&self.record, self.record.registered_by())?;
        let may_have = |class| self.classes.may_have(class, index);
        if !self.classes.of(&worker).is_some_and(may_have) {
            return Err(Refused::WrongClass);
        }
        if !worker.gifts().is_empty() {
            return Err(Refused::WithoutGifts);
        }
        Ok(worker)
    }

    /// Checks a description of process `registrant`.
    pub(super) fn check_worker(
        &self,
        record: &WorkerRecord,
        registrant: Option<Pid>,
    ) -> Result<Box<BackgroundWorker>, Refused> {
        let worker = boxed(|| record.decode())?;
        if !self.registrable.permit(worker.entry()) {
            return Err(Refused::not_allowed(worker.entry()));
        }
        let to_file = matches!(worker.output(), Output::File(_));
        if to_file && !self.registrable.contains(EntryKinds::OUTPUT_FILES) {
            return Err(Refused::NoOutputDir);
        }
        if let Some(name) = self.gifts.missing_output(&worker) {
            return Err(Refused::NoDescriptor(name.to_owned()));
        }
        if let (Some(class), None) = (worker.class(), self.classes.of(&worker)) {
            return Err(Refused::UnknownClass(class.to_owned()));
        }
        // It would run with the postmaster's privileges.
        let is_function = matches!(worker.entry(), EntryPoint::Function(_));
        let registrant = registrant.filter(|_| !is_function);
        if let Some(other) = registrant.filter(|&pid| !credentials::acts_for_our_user(pid)) {
            return Err(Refused::OtherUser(other));
        }
        Ok(worker)
    }

    /// Logs at the first time, and then at each power of two, why a registration was refused.
    fn log_refused(&mut self, index: u32, refused: &Refused) {
        if let Refused::Corrupt(_) | Refused::WrongClass = refused {
            return self.log_corrupt(index, &refused.to_string());
        }
        if let Some(count) = self.refused.count() {
            let pid = self.record.registered_by().map_or(0, Pid::get);
            tracing::warn!(count, "refusing a registration of process {pid}: {refused}");
        }
    }

    /// Sees whether what all programs read first is as the postmaster has written it: with a wrong
    /// count of slots they would find none, with a wrong header not attach.
    pub(crate) fn check_cells(&mut self, registry: &Registry) {
        if !self.cells.are_intact() {
            self.restore_all(registry);
        }
    }

    /// Somebody has scribbled. Logs it once, and writes again what the postmaster knows by itself,
    /// the words of its workers, too.
    #[cold]
    #[inline(never)]
    fn restore_all(&mut self, registry: &Registry) {
        let found = self.cells.cluster().slots_of(false).end;
        self.cells.restore();
        self.restore_counters();
        let is_right = |entry: &Entry, word: Snapshot| {
            word.state() == State::Published && word.generation() == entry.key.generation
        };
        for entry in registry.iter() {
            let word = self.slots.snapshot(entry.key.index);
            if !word.is_some_and(|word| is_right(entry, word)) {
                self.restore(entry);
            }
        }
        if !self.logged_wrong_counts {
            self.logged_wrong_counts = true;
            tracing::error!(
                "inconsistent slot counts in shared memory (max_workers={}, found {found}): something overwrote them; continuing with the postmaster's own",
                self.classes.common()
            );
        }
    }
}

/// True for a word that a spare may be about to take, or has taken.
const fn may_be_given(word: Snapshot) -> bool {
    word.pid() != 0 && (word.flags() == 0 || word.flags() & flag::STARTED != 0)
}

const fn worker_of(event: &Event) -> Option<&BackgroundWorker> {
    match event {
        Event::Registered { worker, .. } => Some(worker),
        _ => None,
    }
}

/// True for a registration that matters to others, or others to it.
fn has_relations(event: &Event) -> bool {
    worker_of(event).is_some_and(|worker| {
        worker.is_unique() || worker.group().is_some() || worker.after().next().is_some()
    })
}

/// Registrations in the order in which they were made, each behind its targets.
fn in_order(mut new: Vec<Event>) -> impl Iterator<Item = Event> {
    new.sort_by_key(|event| match event {
        Event::Registered { registered_at, .. } => *registered_at,
        _ => 0,
    });
    let workers: Vec<&BackgroundWorker> = new.iter().filter_map(worker_of).collect();
    let order = start_order(&workers);
    let mut new: Vec<Option<Event>> = new.into_iter().map(Some).collect();
    order.into_iter().filter_map(move |at| new.get_mut(at)?.take())
}

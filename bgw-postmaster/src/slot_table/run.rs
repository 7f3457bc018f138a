//! What running workers say of themselves, where the rules ask.

use super::table::SlotTable;
use crate::rules::Event;
use crate::sys::clock;
use bgw_core::internals::{flag, said};
use shmem_slots::{Key, Snapshot};
use std::time::Instant;

impl SlotTable {
    /// What the word of a registered worker says, and what its serving run says in its berth.
    pub(super) fn say(&self, key: Key, word: Snapshot, events: &mut impl Extend<Event>) {
        let running_and_ready = flag::STARTED | flag::READY;
        let runs = word.flags() & flag::STARTED != 0;
        let ready = word.flags() & running_and_ready == running_and_ready;
        let said = self.cells.cluster().said(self.berth(key.index));
        // One that has begun beside another run says so there.
        let ready = ready || (runs && said & said::READY != 0);
        if ready && word.flags() & flag::READY == 0 {
            self.say_ready(key);
        }
        let terminate = word.flags() & flag::TERMINATE != 0;
        events.extend(ready.then_some(Event::Ready(key)));
        events.extend((runs && said & said::JOBS_DONE != 0).then_some(Event::JobsDone(key)));
        events.extend(terminate.then_some(Event::TerminateRequested(key)));
        // What is above is about the run before.
        let beside = self.berth_beside(key.index);
        let beside =
            beside.is_some_and(|berth| self.cells.cluster().said(berth) & said::READY != 0);
        events.extend(beside.then_some(Event::ReadyBeside(key)));
    }

    /// True if the run that serves says that it has done its jobs.
    pub(crate) fn jobs_are_done(&self, key: Key) -> bool {
        self.cells.cluster().said(self.berth(key.index)) & said::JOBS_DONE != 0
    }

    /// Looks whether a next run that starts beside the serving one has said that it is ready, or
    /// asks for more time.
    pub(crate) fn look_beside(&self, key: Key, events: &mut impl Extend<Event>) {
        if let Some(word) = self.slots.look(key) {
            self.say(key, word, events);
        }
        let berth = self.berth_beside(key.index);
        let asked = berth.map(|berth| self.cells.cluster().start_extended_until(berth));
        let more = asked.and_then(|asked| asked.checked_sub(clock::monotonic()));
        let until = more.and_then(|more| Instant::now().checked_add(more));
        events.extend([Event::BesideStillStarts { key, until }]);
    }

    /// The command of `key` is ready: waiters wake.
    pub(crate) fn say_ready(&self, key: Key) {
        // It fails for a slot that something has overwritten.
        let _ = self.slots.set_flags_and_wake(key, flag::READY);
    }

    /// How the command in berth `berth` is, in its own words.
    pub(crate) fn set_status_text(&self, berth: u32, text: &str) {
        self.cells.cluster().set_status_text(berth, text);
    }

    /// A number that differs after each beat of the worker.
    pub(crate) fn beats(&self, key: Key) -> u64 {
        self.cells.cluster().beats(self.berth(key.index))
    }

    /// Looks whether a worker that starts has said that it is ready, or asks for more time.
    pub(crate) fn look_at_start(&self, key: Key, events: &mut impl Extend<Event>) {
        if let Some(word) = self.slots.look(key) {
            self.say(key, word, events);
        }
        let asked = self.cells.cluster().start_extended_until(self.berth(key.index));
        let more = asked.checked_sub(clock::monotonic());
        let until = more.and_then(|more| Instant::now().checked_add(more));
        // The rules take the last one for nothing, if the first one is that it is ready.
        events.extend([Event::StillStarts { key, until }]);
    }
}

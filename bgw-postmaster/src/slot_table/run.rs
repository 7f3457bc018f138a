//! What running workers say of themselves, where the rules ask.

use super::intake::say;
use super::table::SlotTable;
use crate::rules::Event;
use crate::sys::clock;
use bgw_core::internals::flag;
use shmem_slots::Key;
use std::time::Instant;

impl SlotTable {
    /// The command of `key` is ready: waiters wake.
    pub(crate) fn say_ready(&self, key: Key) {
        // It fails for a slot that something has overwritten.
        let _ = self.slots.set_flags_and_wake(key, flag::READY);
    }

    /// How the command of `key` is, in its own words.
    pub(crate) fn set_status_text(&self, key: Key, text: &str) {
        self.cells.cluster().set_status_text(key.index, text);
    }

    /// A number that differs after each beat of the worker.
    pub(crate) fn beats(&self, key: Key) -> u64 {
        self.cells.cluster().beats(key.index)
    }

    /// Looks whether a worker that starts has said that it is ready, or asks for more time.
    pub(crate) fn look_at_start(&self, key: Key, events: &mut impl Extend<Event>) {
        if let Some(word) = self.slots.look(key) {
            say(key, word, events);
        }
        let asked = self.cells.cluster().start_extended_until(key.index);
        let more = asked.checked_sub(clock::monotonic());
        let until = more.and_then(|more| Instant::now().checked_add(more));
        // The rules take the last one for nothing, if the first one is that it is ready.
        events.extend([Event::StillStarts { key, until }]);
    }
}

//! No change and no free slot is lost from the hints.

use crate::{published, slots};
use loom::sync::Arc;
use loom::thread;
use shmem_slots::State;

/// Fails when a drain clears the mark after its look, or does not look again after it.
#[test]
fn a_publication_during_a_drain_is_in_this_drain_or_the_next() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let backend = Arc::clone(&slots);
        let thread = thread::spawn(move || published(&backend, 7));
        let mut seen = 0;
        slots.drain_changes(|_, word| seen += u32::from(word.state() == State::Published));
        let key = thread.join().unwrap();
        slots.drain_changes(|index, word| {
            assert_eq!((index, word.generation()), (key.index, key.generation));
            seen += 1;
        });
        assert_eq!(seen, 1);
    });
}

/// Fails when a drain does not look at the word again after it has taken the mark.
#[test]
fn a_flag_set_during_a_drain_is_seen_by_this_drain_or_the_next() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let key = published(&slots, 7);
        let backend = Arc::clone(&slots);
        let thread = thread::spawn(move || backend.set_flags(key, 1).unwrap());
        let mut flags = 0;
        slots.drain_changes(|_, word| flags |= word.flags());
        thread.join().unwrap();
        slots.drain_changes(|_, word| flags |= word.flags());
        assert_eq!(flags, 1);
    });
}

/// Two levels: one clears the bit above an empty cell while another sets a bit in it. Fails when
/// `clear` does not look at the cell again (H1).
#[test]
fn a_hint_set_while_its_neighbour_is_cleared_is_found_from_the_top() {
    loom::model(|| {
        let slots = Arc::new(slots(65));
        let one = published(&slots, 1);
        let two = published(&slots, 2);
        let (a, b) = (Arc::clone(&slots), Arc::clone(&slots));
        slots.drain_changes(|_, _| {});
        a.set_flags(one, 1).unwrap();
        let setter = thread::spawn(move || b.set_flags(two, 1).unwrap());
        let mut seen = Vec::new();
        slots.drain_changes(|index, _| seen.push(index));
        setter.join().unwrap();
        slots.drain_changes(|index, _| seen.push(index));
        seen.sort_unstable();
        assert_eq!(seen, [0, 1]);
    });
}

/// A slot that is freed while somebody finds it taken is claimed by whoever looks afterwards. Fails
/// when a freed slot gets no hint, or a stale hint is cleared without a second look, *and* the full
/// scan is left out: each of the two alone keeps the promise.
#[test]
fn a_freed_slot_is_always_found() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let key = published(&slots, 7);
        // A hint that came too early, as a killed process leaves it.
        slots.hint_free(0);
        let backend = Arc::clone(&slots);
        let thread = thread::spawn(move || backend.claim(2).is_ok());
        slots.free(key).unwrap();
        // Whether it was claimed and given back, or never: it is free now.
        thread.join().unwrap();
        assert!(slots.claim(3).is_ok());
    });
}

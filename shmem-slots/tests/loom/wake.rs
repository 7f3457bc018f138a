//! No wake-up is lost: a model in which a waiter sleeps for ever is a deadlock, and loom says so.

use crate::{Small, published, slots};
use loom::sync::Arc;
use loom::sync::atomic::Ordering;
use loom::thread;
use shmem_slots::futex::{Half, Watch};
use shmem_slots::{Key, State};

pub(crate) fn wait_until_gone(slots: &Small, key: Key) {
    while let Some(word) = slots.look(key).filter(|word| word.state() == State::Published) {
        slots.wait(key.index, word, &[], None).unwrap();
    }
}

/// Fails when `free` does not wake, wakes before it stores, or the wait does not compare.
#[test]
fn a_waiter_is_told_of_the_free() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let key = published(&slots, 7);
        let waiter = Arc::clone(&slots);
        let thread = thread::spawn(move || wait_until_gone(&waiter, key));
        slots.update(key, 42, 4).unwrap();
        slots.free(key).unwrap();
        thread.join().unwrap();
    });
}

/// The slot is used again before the waiter sleeps, with the same low bits but for the generation.
/// Fails when the wait compares nothing but flags, state and pid.
#[test]
fn a_waiter_does_not_sleep_on_the_next_tenant() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let key = published(&slots, 7);
        let waiter = Arc::clone(&slots);
        let thread = thread::spawn(move || wait_until_gone(&waiter, key));
        slots.free(key).unwrap();
        published(&slots, 9);
        thread.join().unwrap();
    });
}

/// A wait on a slot and on a cell beside it ends by either. Fails when one is left out.
#[test]
fn a_wait_ends_by_the_other_cell_too() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let key = published(&slots, 7);
        let waiter = Arc::clone(&slots);
        let thread = thread::spawn(move || {
            let cell = waiter.shared_cell(0).unwrap();
            loop {
                let seen = cell.load();
                if seen != 0 {
                    return;
                }
                let also = [Watch { cell, half: Half::Low, seen: 0 }];
                let word = waiter.look(key).unwrap();
                waiter.wait(key.index, word, &also, None).unwrap();
            }
        });
        let cell = slots.writable_cells().unwrap().shared_cell(0).unwrap();
        cell.store(1, Ordering::Release);
        shmem_slots::futex::wake_all(cell);
        thread.join().unwrap();
    });
}

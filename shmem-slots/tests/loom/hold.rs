//! Holds: an end that somebody waits for stays, and its slot is free when the last has let go.

use crate::{Small, kept, published, slots};
use loom::sync::Arc;
use loom::thread;
use shmem_slots::{Key, State};

const KEEPER: u32 = 7;
const WAITER: u32 = 8;

fn end(slots: &Small, key: Key) {
    slots.write_report(key, &[1, 1]).unwrap();
    slots.end(key, KEEPER).unwrap();
}

fn is_free(slots: &Small, key: Key) -> bool {
    slots.look(key).unwrap().state() == State::Free
}

/// A waiter that has seen the tenant run, and sleeps, keeps the report. Fails when the end frees
/// the slot without an ended word before it, or when either fence (H2) is missing.
#[test]
fn an_end_that_comes_after_the_look_of_a_waiter_is_held() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let key = published(&slots, 1);
        let waiter = Arc::clone(&slots);
        let thread = thread::spawn(move || {
            let hold = waiter.hold(key, WAITER).unwrap();
            let runs = waiter.look(key).unwrap().state() == State::Published;
            std::mem::forget(hold);
            runs
        });
        end(&slots, key);
        if thread.join().unwrap() {
            assert_eq!(slots.look(key).unwrap().state(), State::Ended);
            assert_eq!(slots.read_report(key), Ok([1, 1]));
            assert!(slots.claim_free_in(0..1, 1).is_err());
        }
        slots.sweep(|pid| pid == WAITER);
        assert!(is_free(&slots, key));
    });
}

/// The same when the keeper reads its report at once and releases the slot. Fails when `is_held`
/// has no fence (H2).
#[test]
fn an_end_that_a_waiter_holds_outlives_its_keeper() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let key = kept(&slots, 1);
        let waiter = Arc::clone(&slots);
        let waiter = thread::spawn(move || {
            let hold = waiter.hold(key, WAITER).unwrap();
            let runs = waiter.look(key).unwrap().state() == State::Published;
            std::mem::forget(hold);
            runs
        });
        let keeper = Arc::clone(&slots);
        let keeper = thread::spawn(move || {
            if keeper.look(key).unwrap().state() == State::Ended {
                keeper.release(key);
            }
        });
        end(&slots, key);
        keeper.join().unwrap();
        if waiter.join().unwrap() {
            assert_eq!(slots.look(key).unwrap().state(), State::Ended);
        }
    });
}

/// A wait that times out while the end comes. Fails when one of the two does not look after it has
/// given up, or when a fence is missing.
#[test]
fn a_hold_that_is_given_back_during_the_end_leaves_a_free_slot() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let key = published(&slots, 1);
        let waiter = Arc::clone(&slots);
        let thread = thread::spawn(move || drop(waiter.hold(key, WAITER)));
        end(&slots, key);
        thread.join().unwrap();
        assert!(is_free(&slots, key));
    });
}

/// Two waiters let go at the same time. Fails when a waiter looks for other holds before it gives
/// back its own, or without the fence in between.
#[test]
fn the_last_of_two_waiters_frees_the_slot() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let key = published(&slots, 1);
        let hold = slots.hold(key, WAITER).unwrap();
        end(&slots, key);
        let waiter = Arc::clone(&slots);
        let thread = thread::spawn(move || drop(waiter.hold(key, WAITER + 1)));
        drop(hold);
        thread.join().unwrap();
        assert!(is_free(&slots, key));
    });
}

/// The keeper releases the slot while the waiter lets go. Fails when a release does not look for
/// holds once more after it has given up.
#[test]
fn the_last_of_keeper_and_waiter_frees_the_slot() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let key = kept(&slots, 1);
        let hold = slots.hold(key, WAITER).unwrap();
        end(&slots, key);
        let keeper = Arc::clone(&slots);
        let thread = thread::spawn(move || assert!(keeper.release(key)));
        drop(hold);
        thread.join().unwrap();
        assert!(is_free(&slots, key));
    });
}

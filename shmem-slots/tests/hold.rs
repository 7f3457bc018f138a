//! The promise: whoever holds a slot when its tenant ends can read the report until it gives the
//! hold back, and a hold keeps nothing else: no slot of a dead waiter, no later tenant.
//!
//! Would catch: a held slot that is claimed while another one is free, one that is never given
//! back, a hold that is counted for another tenancy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[macro_use]
mod support;

use shmem_slots::{After, HOLDS, Key, Memory, Options, ReportError, State};
use std::mem;
use support::{Array, NOBODY, free_slots, kept, options, published};

const KEEPER: u32 = 7;
const WAITER: u32 = 8;

suite! {
    a_held_end_stays_until_the_last_waiter_has_given_it_back
    a_slot_that_is_kept_and_held_stays_for_whoever_is_last
    a_hold_that_is_given_back_before_the_end_keeps_nothing
    the_holds_of_dead_waiters_are_swept
    a_held_end_gives_way_when_no_slot_is_free
    a_held_end_stays_through_a_reset
    there_are_so_many_holds_and_each_comes_back
}

fn end<M: Memory>(slots: &Array<M>, key: Key, value: u64) {
    slots.write_report(key, &[value; 4]).unwrap();
    slots.end(key, KEEPER).unwrap();
}

/// The word of an ended slot: state and keeper.
fn word<M: Memory>(slots: &Array<M>, key: Key) -> (State, u32) {
    let word = slots.look(key).unwrap();
    (word.state(), word.pid())
}

fn a_held_end_stays_until_the_last_waiter_has_given_it_back<M: Memory>(
    make: impl Fn(&Options) -> Array<M>,
) {
    let slots = make(&options(3));
    let key = published(&slots, 1);
    let first = slots.hold(key, WAITER).unwrap();
    let last = slots.hold(key, WAITER + 1).unwrap();
    end(&slots, key, 10);
    for value in 0..20 {
        let other = published(&slots, value);
        end(&slots, other, value);
        assert_eq!(slots.look(other).unwrap().state(), State::Free, "nobody holds that one");
    }
    assert_eq!(slots.read_report(key), Ok([10; 4]));
    assert!(!slots.release(key), "it is not kept");
    drop(first);
    assert_eq!(word(&slots, key), (State::Ended, 0));
    drop(last);
    assert_eq!(word(&slots, key), (State::Free, 0));
    assert_eq!(free_slots(&slots), 3);
}

fn a_slot_that_is_kept_and_held_stays_for_whoever_is_last<M: Memory>(
    make: impl Fn(&Options) -> Array<M>,
) {
    let slots = make(&options(2));
    let key = kept(&slots, 1);
    let hold = slots.hold(key, WAITER).unwrap();
    end(&slots, key, 1);
    assert_eq!(word(&slots, key), (State::Ended, KEEPER));
    assert!(slots.release(key));
    assert_eq!(word(&slots, key), (State::Ended, 0));
    drop(hold);
    assert_eq!(word(&slots, key), (State::Free, 0));
    let key = kept(&slots, 2);
    let hold = slots.hold(key, WAITER).unwrap();
    end(&slots, key, 2);
    drop(hold);
    assert_eq!(word(&slots, key), (State::Ended, KEEPER));
    assert!(slots.release(key));
    assert_eq!(word(&slots, key), (State::Free, 0));
    // Released before the end.
    let key = kept(&slots, 3);
    let hold = slots.hold(key, WAITER).unwrap();
    assert!(slots.release(key));
    end(&slots, key, 3);
    assert_eq!(word(&slots, key), (State::Ended, 0));
    drop(hold);
    assert_eq!(free_slots(&slots), 2);
}

fn a_hold_that_is_given_back_before_the_end_keeps_nothing<M: Memory>(
    make: impl Fn(&Options) -> Array<M>,
) {
    let slots = make(&options(2));
    let key = published(&slots, 1);
    drop(slots.hold(key, WAITER).unwrap());
    assert!(!slots.is_held(key));
    let stale = Key { generation: key.generation + 1, ..key };
    let hold = slots.hold(stale, WAITER).unwrap();
    end(&slots, key, 1);
    assert_eq!(word(&slots, key), (State::Free, 0), "of another tenancy");
    drop(hold);
    assert!(slots.hold(key, 0).is_none() && slots.hold(key, shmem_slots::MAX_PID + 1).is_none());
    assert!(slots.hold(Key { index: 2, generation: 1 }, WAITER).is_none());
}

fn the_holds_of_dead_waiters_are_swept<M: Memory>(make: impl Fn(&Options) -> Array<M>) {
    let slots = make(&options(3));
    let [before, after, both] = [1, 2, 3].map(|value| kept(&slots, value));
    for key in [before, after, both] {
        mem::forget(slots.hold(key, NOBODY).unwrap());
    }
    let living = slots.hold(both, WAITER).unwrap();
    for key in [after, both] {
        end(&slots, key, 1);
        slots.release(key);
        assert_eq!(word(&slots, key), (State::Ended, 0));
    }
    assert_eq!(slots.sweep(|pid| pid == NOBODY), 1);
    assert_eq!(word(&slots, after), (State::Free, 0));
    assert_eq!(word(&slots, both), (State::Ended, 0), "another one lives");
    slots.release(before);
    end(&slots, before, 1);
    assert_eq!(word(&slots, before), (State::Free, 0), "swept before the end");
    drop(living);
    // Killed between its give-back and the look after it.
    let key = published(&slots, 4);
    let hold = slots.hold(key, NOBODY).unwrap();
    end(&slots, key, 1);
    let ended = slots.look(key).unwrap();
    drop(hold);
    assert_eq!(slots.look(key).unwrap().state(), State::Free);
    assert_eq!(ended.pid(), 0);
    assert_eq!((slots.sweep(|_| true), free_slots(&slots)), (0, 3));
}

fn a_held_end_gives_way_when_no_slot_is_free<M: Memory>(make: impl Fn(&Options) -> Array<M>) {
    let slots = make(&options(1));
    let key = published(&slots, 1);
    let hold = slots.hold(key, WAITER).unwrap();
    end(&slots, key, 1);
    assert!(slots.claim_free_in(0..1, 1).is_err());
    for value in 2..4 {
        let next = kept(&slots, value);
        assert_eq!(next.index, key.index);
        end(&slots, next, value);
    }
    assert_eq!(slots.read_report(key), Err(ReportError::Overwritten));
    let next = slots.snapshot(0).unwrap();
    drop(hold);
    assert_eq!(slots.snapshot(0).unwrap(), next, "it has nothing to do with a later tenant");
}

fn a_held_end_stays_through_a_reset<M: Memory>(make: impl Fn(&Options) -> Array<M>) {
    let slots = make(&options(2));
    let (key, other) = (published(&slots, 1), published(&slots, 2));
    let hold = slots.hold(key, WAITER).unwrap();
    let after = |key: Key| if slots.is_held(key) { After::Ended(0) } else { After::Free };
    for _ in 0..2 {
        let claims = slots.reset_each(KEEPER, |index, word| {
            if word.state() == State::Published {
                slots.write_report(key, &[5; 4]).unwrap();
            }
            after(Key { index, generation: word.generation() })
        });
        assert!(claims.unwrap().is_empty());
        assert_eq!((word(&slots, key), slots.look(other)), ((State::Ended, 0), None));
        assert_eq!(slots.read_report(key), Ok([5; 4]));
    }
    drop(hold);
    assert_eq!(free_slots(&slots), 2);
}

fn there_are_so_many_holds_and_each_comes_back<M: Memory>(make: impl Fn(&Options) -> Array<M>) {
    let slots = make(&options(1));
    let key = published(&slots, 1);
    for _ in 0..2 {
        let all: Vec<_> = (0..HOLDS).map(|_| slots.hold(key, WAITER).unwrap()).collect();
        assert!(slots.hold(key, WAITER).is_none());
        drop(all);
    }
    end(&slots, key, 1);
    assert_eq!(free_slots(&slots), 1);
}

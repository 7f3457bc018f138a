//! Who gets a slot.

use crate::{published, slots};
use loom::sync::Arc;
use loom::thread;
use shmem_slots::{ClaimError, State};

/// Fails when the swap of a claim is a plain store: both get the slot.
#[test]
fn two_claimants_of_one_slot_one_wins_and_the_other_is_told_that_it_is_full() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let other = Arc::clone(&slots);
        let thread = thread::spawn(move || match other.claim(2) {
            Ok(claim) => claim.publish(0).map(|_| 1).unwrap(),
            Err(ClaimError::Full { capacity: 1, .. }) => 0,
            Err(error) => panic!("{error}"),
        });
        let mine = match slots.claim(1) {
            Ok(claim) => claim.publish(0).map(|_| 1).unwrap(),
            Err(ClaimError::Full { capacity: 1, .. }) => 0,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(mine + thread.join().unwrap(), 1);
    });
}

/// The sweeper takes the slot of a claimer that it believes dead, while the claimer goes on. Fails
/// when the publication is a plain store: the slot is free and published at once.
#[test]
fn a_claim_against_its_sweep_ends_published_or_free_and_never_both() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let claimer = Arc::clone(&slots);
        let thread = thread::spawn(move || {
            let mut claim = claimer.claim(7).unwrap();
            let written = claim.write(&[3, 3]).is_ok();
            (written, claim.publish(0).is_ok())
        });
        let swept = slots.sweep(|owner| owner == 7);
        let (written, published) = thread.join().unwrap();
        assert!(written || !published);
        assert_eq!(swept == 1, !published, "one of the two has it, and not both");
        let state = slots.snapshot(0).unwrap().state();
        assert_eq!(state == State::Published, published);
        assert_eq!(state == State::Free, !published);
    });
}

/// A claim that nobody finishes is found, whenever the sweep comes. Fails when the mark in the
/// change hints comes after the swap, or is left out.
#[test]
fn a_claimer_that_stops_anywhere_is_swept_afterwards() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let dead = Arc::clone(&slots);
        let thread = thread::spawn(move || std::mem::forget(dead.claim(7)));
        // A sweep for somebody else in the meantime must not lose the mark; nor must a drain.
        slots.sweep(|owner| owner == 9);
        slots.drain_changes(|_, _| {});
        thread.join().unwrap();
        assert_eq!(slots.sweep(|owner| owner == 7), 1);
        let _ = published(&slots, 5);
    });
}

fn index(claim: Result<crate::SmallClaim<'_>, ClaimError>) -> Option<u32> {
    match claim {
        Ok(claim) => Some(claim.publish(0).unwrap().index),
        Err(ClaimError::Full { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

/// The last slot is for one of two. Fails when a claim of the common range looks beyond it, or when
/// one of both ranges takes a common slot while one of its own is free.
#[test]
fn a_reserved_slot_goes_to_those_alone_that_may_have_it() {
    loom::model(|| {
        let slots = Arc::new(slots(2));
        let other = Arc::clone(&slots);
        let thread =
            thread::spawn(move || [index(other.claim_in(0..1, 2)), index(other.claim_in(0..1, 2))]);
        assert_eq!(index(slots.claim_in_either([1..2, 0..1], 1)), Some(1));
        assert_eq!(thread.join().unwrap(), [Some(0), None]);
        assert_eq!(index(slots.claim_in_either([1..2, 0..1], 1)), None);
    });
}

/// Two claim at once what both may have. Fails when one gives up after the first range, or when
/// both take one slot.
#[test]
fn two_that_may_have_two_slots_have_one_each() {
    loom::model(|| {
        let slots = Arc::new(slots(2));
        let other = Arc::clone(&slots);
        let thread = thread::spawn(move || index(other.claim_in_either([1..2, 0..1], 2)));
        let mine = index(slots.claim_in_either([1..2, 0..1], 1));
        let both = [mine, thread.join().unwrap()];
        assert!(both == [Some(0), Some(1)] || both == [Some(1), Some(0)], "{both:?}");
    });
}

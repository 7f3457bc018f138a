//! The promise: after a reset no key from before it is valid, and nothing that was under way before it
//! reaches a tenant of after it.
//!
//! Would catch: a claim from before the reset that publishes, or that stores into the slot's next
//! tenant; a slot that never comes back; a report that is taken for the next tenant's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[macro_use]
mod support;

use shmem_slots::{ClaimError, Memory, Options, ReadError, ReportError, State};
use std::mem;
use support::{Array, NOBODY, drained, free_slots, options, published, request};

suite! {
    a_reset_frees_everything_and_makes_every_key_stale
    a_reset_claims_what_the_manager_keeps_and_returns_what_it_replaced
    a_claim_under_way_keeps_its_slot_through_resets_until_it_is_dropped
    a_claim_under_way_whose_owner_is_dead_is_swept_after_a_reset
    a_reset_takes_slots_that_are_kept
}

fn a_reset_frees_everything_and_makes_every_key_stale<M: Memory>(
    make: impl Fn(&Options) -> Array<M>,
) {
    let slots = make(&options(70));
    let keys: Vec<_> = (0..60).map(|value| published(&slots, value)).collect();
    slots.write_report(keys[1], &[1; 4]).unwrap();
    slots.free(keys[1]).unwrap();
    let claim = slots.claim(1).unwrap();
    let claimed = claim.key();
    slots.reset_all().unwrap();
    assert!(claim.publish(0).is_err());
    assert_eq!(slots.read_report(keys[1]), Ok([1; 4]), "reports stay");
    for key in keys.into_iter().chain([claimed]) {
        assert_eq!((slots.look(key), slots.read(key)), (None, Err(ReadError::Stale)));
    }
    assert_eq!(drained(&slots), []);
    assert_eq!(free_slots(&slots), 70);
    let again = published(&slots, 1);
    assert_eq!(drained(&slots), [again.index]);
}

/// Would fail if another process could claim a kept slot, if a kept one could not be swept after the
/// death of its owner, or if a flag that was set before the reset were lost.
fn a_reset_claims_what_the_manager_keeps_and_returns_what_it_replaced<M: Memory>(
    make: impl Fn(&Options) -> Array<M>,
) {
    let slots = make(&options(4));
    let keys: Vec<_> = (0..3).map(|value| published(&slots, value)).collect();
    slots.set_flags(keys[2], 1).unwrap();
    let mut gone = Vec::new();
    let kept =
        slots.reset_all_but(7, |index| index != 1, |key, word| gone.push((key, word.flags())));
    let kept = kept.unwrap();
    assert_eq!(gone, [(keys[0], 0), (keys[1], 0), (keys[2], 1)]);
    assert_eq!(kept.iter().map(|claim| claim.key().index).collect::<Vec<_>>(), [0, 2, 3]);
    let other = slots.claim(1).unwrap();
    assert_eq!(other.key().index, 1, "the only one that is free");
    assert!(slots.claim(1).is_err());
    let mut kept = kept.into_iter();
    let mut first = kept.next().unwrap();
    first.write(&request(5)).unwrap();
    let first = first.publish(0).unwrap();
    assert!(first.generation > keys[0].generation);
    assert_eq!(slots.read(first), Ok(request(5)));
    drop(kept.next());
    assert_eq!(slots.claim(1).unwrap().key().index, 2, "given back");
    mem::forget(kept);
    assert_eq!(slots.sweep(|owner| owner == 7), 1);
    drop(other);
    assert_eq!(free_slots(&slots), 3);
    assert!(make(&options(2)).reset_all_but(0, |_| true, |_, _| ()).unwrap().is_empty());
}

/// Would fail if a reset freed the slot of a claim: the claimer could still store into it.
fn a_claim_under_way_keeps_its_slot_through_resets_until_it_is_dropped<M: Memory>(
    make: impl Fn(&Options) -> Array<M>,
) {
    let slots = make(&options(1));
    let mut claim = slots.claim(7).unwrap();
    for _ in 0..3 {
        slots.reset_all().unwrap();
        assert_eq!(slots.claim(8).err(), Some(ClaimError::Full { capacity: 1, in_use: 1 }));
        let word = slots.snapshot(0).unwrap();
        assert_eq!((word.state(), word.pid()), (State::Revoked, 7));
    }
    assert!(claim.write(&request(1)).is_err());
    assert_eq!(slots.sweep(|owner| owner == 8), 0, "its owner may still store");
    assert!(claim.publish(0).is_err());
    let key = published(&slots, 2);
    assert!(key.generation > 4, "a generation that no key from before a reset has");
    assert_eq!(slots.read(key), Ok(request(2)));
}

fn a_claim_under_way_whose_owner_is_dead_is_swept_after_a_reset<M: Memory>(
    make: impl Fn(&Options) -> Array<M>,
) {
    let slots = make(&options(2));
    mem::forget(slots.claim(NOBODY).unwrap());
    slots.reset_all().unwrap();
    assert_eq!(slots.sweep(|owner| owner == NOBODY), 1);
    assert_eq!(free_slots(&slots), 2);
}

fn a_reset_takes_slots_that_are_kept<M: Memory>(make: impl Fn(&Options) -> Array<M>) {
    let slots = make(&options(2));
    let running = support::kept(&slots, 1);
    let ended = support::kept(&slots, 2);
    slots.write_report(ended, &[3; 4]).unwrap();
    slots.end(ended, 9).unwrap();
    slots.reset_all().unwrap();
    for key in [running, ended] {
        assert_eq!((slots.look(key), slots.release(key)), (None, false));
    }
    assert_eq!(slots.read_report(ended), Ok([3; 4]));
    assert_eq!(slots.read_report(running), Err(ReportError::Overwritten));
    assert_eq!(slots.sweep(|_| true), 0);
    assert_eq!(free_slots(&slots), 2);
}

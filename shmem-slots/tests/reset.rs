//! The promise: after a reset no earlier key is valid, and nothing that was under way before it
//! reaches a later tenant.
//!
//! Would catch: a claim from before the reset that publishes, or that stores into the slot's next
//! tenant; a slot that never comes back; a report that is taken for the next tenant's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[macro_use]
mod support;

use shmem_slots::{After, ClaimError, Memory, Options, ReadError, ReportError, State};
use std::mem;
use support::{Array, NOBODY, drained, free_slots, options, published, request};

suite! {
    a_reset_frees_everything_and_makes_every_key_stale
    a_reset_claims_what_the_manager_keeps_and_returns_what_it_replaced
    a_claim_under_way_keeps_its_slot_through_resets_until_it_is_dropped
    a_claim_under_way_whose_owner_is_dead_is_swept_after_a_reset
    a_reset_takes_slots_that_are_kept
    an_unread_end_stays_through_resets_until_it_was_read
    a_report_that_was_set_aside_outlives_the_later_tenants_of_its_slot
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

/// Would fail if another process could claim a kept slot, if a kept one could not be swept after
/// the death of its owner, or if a flag that was set before the reset were lost.
fn a_reset_claims_what_the_manager_keeps_and_returns_what_it_replaced<M: Memory>(
    make: impl Fn(&Options) -> Array<M>,
) {
    let slots = make(&options(4));
    let keys: Vec<_> = (0..3).map(|value| published(&slots, value)).collect();
    slots.set_flags(keys[2], 1).unwrap();
    let mut gone = Vec::new();
    let kept = slots.reset_each(7, |index, word| {
        gone.push((index, word.generation(), word.flags()));
        if index == 1 { After::Free } else { After::Claimed }
    });
    let kept = kept.unwrap();
    let seen = |key: usize, flags| (keys[key].index, keys[key].generation, flags);
    assert_eq!(gone, [seen(0, 0), seen(1, 0), seen(2, 1), (3, 0, 0)]);
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
    assert!(make(&options(2)).reset_each(0, |_, _| After::Claimed).unwrap().is_empty());
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

/// Would fail if later reports of the slot replaced it, or if it answered for another tenant.
fn a_report_that_was_set_aside_outlives_the_later_tenants_of_its_slot<M: Memory>(
    make: impl Fn(&Options) -> Array<M>,
) {
    let slots = make(&options(1));
    let old = published(&slots, 1);
    slots.write_report(old, &[1; 4]).unwrap();
    slots.set_report_aside(old, &[2; 4]).unwrap();
    assert_eq!(slots.read_report(old), Ok([2; 4]), "in the place of its own");
    slots.reset_all().unwrap();
    for value in 3..6 {
        let key = published(&slots, value);
        assert_eq!(slots.read_report(key), Err(ReportError::NotYet));
        slots.write_report(key, &[value; 4]).unwrap();
        slots.free(key).unwrap();
        assert_eq!(slots.read_report(key), Ok([value; 4]));
        assert_eq!(slots.read_report(old), Ok([2; 4]));
    }
    let next = published(&slots, 7);
    slots.set_report_aside(next, &[7; 4]).unwrap();
    assert_eq!(slots.read_report(next), Ok([7; 4]));
    assert_eq!(slots.read_report(old), Err(ReportError::Overwritten), "until the next reset");
}

/// Would fail if a reset freed the slot of an end that its keeper has not read, if a claim
/// preferred it to a free one, if it did not come back, or if a slot stayed that nobody keeps.
fn an_unread_end_stays_through_resets_until_it_was_read<M: Memory>(
    make: impl Fn(&Options) -> Array<M>,
) {
    let slots = make(&options(4));
    let (running, ended) = (support::kept(&slots, 1), support::kept(&slots, 2));
    let unkept = published(&slots, 3);
    let claim = slots.claim(4).unwrap();
    slots.write_report(ended, &[2; 4]).unwrap();
    slots.end(ended, 9).unwrap();
    for _ in 0..3 {
        let claims = slots.reset_each(7, |index, word| {
            if word.state() == State::Published && index == running.index {
                slots.write_report(running, &[1; 4]).unwrap();
            }
            After::Ended(9)
        });
        assert!(claims.unwrap().is_empty());
        for (key, report) in [(running, [1; 4]), (ended, [2; 4])] {
            let word = slots.look(key).unwrap();
            assert_eq!((word.state(), word.pid()), (State::Ended, 9));
            assert_eq!(slots.read_report(key), Ok(report));
            assert!(slots.set_flags(key, 1).is_err(), "no worker is behind it");
        }
        assert_eq!(slots.look(unkept), None);
        let next = published(&slots, 5);
        assert_eq!(next.index, unkept.index, "the only free one");
        assert!(slots.claim_free_in(0..4, 1).is_err(), "the others are kept, or claimed");
        slots.free(next).unwrap();
    }
    drop(claim);
    let free = slots.claim_free_in(0..4, 1).unwrap();
    let last = slots.claim_free_in(0..4, 1).unwrap();
    let oldest = slots.claim(1).unwrap();
    assert_eq!(oldest.key().index, ended.index, "it ended before the reset");
    drop((free, last, oldest));
    assert_eq!(slots.sweep(|keeper| keeper == 9), 1, "its keeper has died");
    assert_eq!(free_slots(&slots), 4);
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

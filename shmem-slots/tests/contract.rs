//! The promise: every operation does the same on each backing (heap, sealed memfd, named file). One
//! suite, run on all three.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[macro_use]
mod support;

use shmem_slots::futex::{Half, MAX_WATCHES, WaitError, Watch, Woken};
use shmem_slots::{
    ClaimError, FlagError, Key, MAX_GENERATION, MAX_PID, ManageError, Memory, Options, ReadError,
    ReportError, State,
};
use std::collections::BTreeSet;
use std::mem;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use support::{Array, NOBODY, drained, free_slots, options, published, request};

suite! {
    every_slot_is_claimed_once_and_then_the_array_is_full
    a_claim_that_is_dropped_is_given_back
    owners_that_no_word_can_hold_are_refused
    a_payload_is_read_as_it_was_written
    a_shorter_payload_shows_nothing_of_the_tenant_before
    a_reserved_slot_is_not_read
    a_freed_slot_can_be_read_until_it_is_claimed
    a_stale_key_finds_nobody_and_changes_nobody
    a_report_is_read_until_the_second_report_after_it
    an_annex_follows_its_report
    each_change_is_drained_once
    an_update_returns_the_word_before
    the_manager_writes_over_what_it_did_not_write_and_says_so
    flags_are_added_and_marked
    dead_claims_are_swept_and_living_ones_are_not
    a_slot_whose_generations_are_used_up_is_retired
    keys_outside_the_array_find_nothing
    cells_of_the_layer_above_are_apart_from_the_slots
    a_wait_ends_at_once_when_the_word_has_changed
    a_wait_ends_with_its_deadline
    too_many_watches_are_refused
}

fn every_slot_is_claimed_once_and_then_the_array_is_full<M: Memory>(
    make: impl Fn(&Options) -> Array<M>,
) {
    for capacity in [1, 8, 64, 65, 4097] {
        let slots = make(&options(capacity));
        assert_eq!((slots.capacity(), slots.in_use()), (capacity, 0));
        let claims: Vec<_> = (0..capacity).map(|_| slots.claim(1).unwrap()).collect();
        let indexes: BTreeSet<_> = claims.iter().map(|claim| claim.key().index).collect();
        assert_eq!(indexes.len(), capacity as usize);
        assert_eq!(slots.claim(1).err(), Some(ClaimError::Full { capacity, in_use: capacity }));
        assert_eq!(slots.occupied().count(), capacity as usize);
        drop(claims);
        assert_eq!(slots.in_use(), 0);
        assert_eq!(free_slots(&slots), capacity);
    }
}

fn a_claim_that_is_dropped_is_given_back<M: Memory>(make: impl Fn(&Options) -> Array<M>) {
    let slots = make(&options(1));
    let key = slots.claim(1).unwrap().key();
    assert_eq!(slots.look(key).unwrap().state(), State::Free);
    assert_eq!(drained(&slots), [], "it was never published");
    let next = published(&slots, 1);
    assert_eq!(next, Key { index: 0, generation: key.generation + 1 });
}

fn owners_that_no_word_can_hold_are_refused<M: Memory>(make: impl Fn(&Options) -> Array<M>) {
    let slots = make(&options(1));
    for owner in [0, MAX_PID + 1, u32::MAX] {
        let refused = slots.claim(owner).map(|claim| claim.key());
        assert_eq!(refused, Err(ClaimError::BadOwner { owner, limit: MAX_PID }));
    }
    assert_eq!(slots.snapshot(0).unwrap().generation(), 0, "nothing was touched");
    assert_eq!(slots.claim(MAX_PID).unwrap().key().generation, 1);
}

fn a_payload_is_read_as_it_was_written<M: Memory>(make: impl Fn(&Options) -> Array<M>) {
    let slots = make(&options(8));
    // How many words are not zero: none, one, a full head, one word of the tail, all.
    for used in [0, 1, 63, 64, 65, 95, 96] {
        let mut written = [0; 96];
        for (at, word) in written.iter_mut().enumerate().take(used) {
            *word = at as u64 + 1;
        }
        let mut claim = slots.claim(1).unwrap();
        claim.write(&request(99)).unwrap();
        claim.write(&written).unwrap();
        let key = claim.publish(0).unwrap();
        assert_eq!(slots.read(key), Ok(written), "{used} words");
        slots.free(key).unwrap();
    }
}

fn a_shorter_payload_shows_nothing_of_the_tenant_before<M: Memory>(
    make: impl Fn(&Options) -> Array<M>,
) {
    let slots = make(&options(1));
    slots.free(published(&slots, 9)).unwrap();
    let mut short = [0; 96];
    short[0] = 1;
    let mut claim = slots.claim(1).unwrap();
    claim.write(&short).unwrap();
    let key = claim.publish(0).unwrap();
    assert_eq!(slots.read(key), Ok(short));
}

fn a_reserved_slot_is_not_read<M: Memory>(make: impl Fn(&Options) -> Array<M>) {
    let slots = make(&options(1));
    let mut claim = slots.claim(1).unwrap();
    claim.write(&request(1)).unwrap();
    assert_eq!(slots.read(claim.key()), Err(ReadError::Stale));
    assert_eq!(slots.set_flags(claim.key(), 1), Err(FlagError::Stale));
    let word = slots.look(claim.key()).unwrap();
    assert_eq!((word.state(), word.pid()), (State::Reserved, 1));
}

fn a_freed_slot_can_be_read_until_it_is_claimed<M: Memory>(make: impl Fn(&Options) -> Array<M>) {
    let slots = make(&options(1));
    let key = published(&slots, 3);
    slots.write_report(key, &[4; 4]).unwrap();
    slots.free(key).unwrap();
    assert_eq!(slots.look(key).unwrap().state(), State::Free);
    assert_eq!(slots.read(key), Ok(request(3)));
    assert_eq!(slots.read_report(key), Ok([4; 4]));
    let claim = slots.claim(1).unwrap();
    assert_eq!(slots.look(key), None);
    assert_eq!(slots.read(key), Err(ReadError::Stale));
    drop(claim);
    assert_eq!(slots.look(key), None);
}

fn a_stale_key_finds_nobody_and_changes_nobody<M: Memory>(make: impl Fn(&Options) -> Array<M>) {
    let slots = make(&options(1));
    let old = published(&slots, 1);
    slots.write_report(old, &[1; 4]).unwrap();
    slots.free(old).unwrap();
    let new = published(&slots, 2);
    slots.write_report(new, &[2; 4]).unwrap();
    drained(&slots);
    assert_eq!(slots.look(old), None);
    assert_eq!(slots.read(old), Err(ReadError::Stale));
    assert_eq!(slots.read_report(old), Ok([1; 4]), "until the second report after it");
    assert_eq!(slots.set_flags(old, 15), Err(FlagError::Stale));
    assert_eq!(drained(&slots), []);
    assert_eq!(slots.look(new).unwrap().flags(), 0);
    assert_eq!(slots.read_report(new), Ok([2; 4]));
    let future = Key { generation: new.generation + 1, ..new };
    assert_eq!((slots.look(future), slots.read_report(future)), (None, Err(ReportError::Unknown)));
}

fn a_report_is_read_until_the_second_report_after_it<M: Memory>(
    make: impl Fn(&Options) -> Array<M>,
) {
    let slots = make(&options(1));
    let key = published(&slots, 1);
    assert_eq!(slots.read_report(key), Err(ReportError::NotYet));
    for number in 1..=5 {
        slots.write_report(key, &[number; 4]).unwrap();
        assert_eq!(slots.read_report(key), Ok([number; 4]));
    }
    slots.free(key).unwrap();
    let next = published(&slots, 2);
    assert_eq!(
        slots.read_report(next),
        Err(ReportError::NotYet),
        "the report is its predecessor's"
    );
    assert_eq!(slots.read_report(key), Ok([5; 4]), "and stays that");
    slots.write_report(next, &[6; 4]).unwrap();
    assert_eq!((slots.read_report(next), slots.read_report(key)), (Ok([6; 4]), Ok([5; 4])));
    slots.write_report(next, &[7; 4]).unwrap();
    assert_eq!(slots.read_report(key), Err(ReportError::Overwritten));
}

/// Would fail if the buffers of a slot shared one annex, or if a slot's annex began in another's.
fn an_annex_follows_its_report<M: Memory>(make: impl Fn(&Options) -> Array<M>) {
    let slots = make(&options(2));
    let keys = [published(&slots, 1), published(&slots, 2)];
    let len = |report: &[u64; 4]| report[0] as usize;
    for key in keys {
        slots.writable_cells().unwrap().write_own_annex(key.index, 0, &[0xff; 16]);
        slots.set_report_aside_with(key, &[16; 4], &[9; 16]).unwrap();
        let next = {
            slots.free(key).unwrap();
            published(&slots, 3)
        };
        for report in 0..=17_u8 {
            let annex: Vec<u8> = (1..=report).collect();
            slots.write_report_with(next, &[report.into(); 4], &annex).unwrap();
            let fits = annex[..annex.len().min(16)].to_vec();
            let expected = ([u64::from(report); 4], fits);
            assert_eq!(slots.read_report_with(next, len), Ok(expected));
            assert_eq!(slots.read_report(next), Ok([report.into(); 4]));
            assert_eq!(slots.read_report_with(key, len), Ok(([16; 4], vec![9; 16])));
        }
    }
    let mut own = [0; 16];
    slots.read_own_annex(keys[1].index, 0, &mut own);
    assert_eq!(own, [0xff; 16], "what a tenant has said itself is left alone");
}

fn each_change_is_drained_once<M: Memory>(make: impl Fn(&Options) -> Array<M>) {
    let slots = make(&options(130));
    let keys: Vec<_> = (0..130).map(|value| published(&slots, value)).collect();
    assert_eq!(drained(&slots), (0..130).collect::<Vec<_>>());
    assert_eq!(drained(&slots), []);
    slots.set_flags(keys[129], 1).unwrap();
    slots.set_flags(keys[4], 1).unwrap();
    assert_eq!(drained(&slots), [4, 129]);
    slots.set_flags(keys[4], 1).unwrap();
    assert_eq!(drained(&slots), [4], "flags that are set already are a change again");
    slots.mark_changed(keys[6]).unwrap();
    assert_eq!(drained(&slots), [6], "a mark is a change");
    slots.set_flags(keys[5], 1).unwrap();
    slots.free(keys[5]).unwrap();
    assert_eq!(slots.mark_changed(keys[5]), Err(FlagError::Stale));
    assert_eq!(drained(&slots), [], "a freed slot has not changed");
}

fn an_update_returns_the_word_before<M: Memory>(make: impl Fn(&Options) -> Array<M>) {
    let slots = make(&options(1));
    let key = published(&slots, 1);
    slots.set_flags(key, 2).unwrap();
    let before = slots.update(key, 42, 1).unwrap();
    assert_eq!((before.pid(), before.flags()), (0, 2));
    let now = slots.look(key).unwrap();
    assert_eq!((now.state(), now.pid(), now.flags()), (State::Published, 42, 1));
    let last = slots.free(key).unwrap();
    assert_eq!(last, now);
    let range = Err(ManageError::OutOfRange { index: 0 });
    assert_eq!(slots.update(key, MAX_PID + 1, 0), range);
    assert_eq!(slots.update(key, 0, 16), range);
    assert_eq!(slots.update(Key { generation: MAX_GENERATION + 1, ..key }, 0, 0), range);
}

fn the_manager_writes_over_what_it_did_not_write_and_says_so<M: Memory>(
    make: impl Fn(&Options) -> Array<M>,
) {
    let slots = make(&options(1));
    let key = published(&slots, 1);
    slots.free(key).unwrap();
    let found = slots.look(key).unwrap();
    assert_eq!(slots.update(key, 5, 0), Err(ManageError::Corrupt { index: 0, found }));
    assert_eq!(slots.look(key).unwrap().pid(), 5);
    slots.free(key).unwrap();
    assert_eq!(free_slots(&slots), 1);
}

fn flags_are_added_and_marked<M: Memory>(make: impl Fn(&Options) -> Array<M>) {
    let slots = make(&options(1));
    let key = slots.claim(1).unwrap().publish(1).unwrap();
    assert_eq!(slots.set_flags(key, 4).unwrap().flags(), 1);
    assert_eq!(slots.set_flags_and_wake(key, 2).unwrap().flags(), 5);
    assert_eq!(slots.look(key).unwrap().flags(), 7);
    slots.free(key).unwrap();
    assert_eq!(slots.set_flags(key, 1), Err(FlagError::Stale), "over, though not used again");
}

fn dead_claims_are_swept_and_living_ones_are_not<M: Memory>(make: impl Fn(&Options) -> Array<M>) {
    let slots = make(&options(70));
    let mut claims: Vec<_> = (0..70).map(|_| slots.claim(NOBODY).unwrap()).collect();
    let mut other = claims.pop().unwrap();
    let published = claims.pop().unwrap().publish(0).unwrap();
    drained(&slots);
    assert_eq!(slots.sweep(|_| false), 0);
    let dead = claims.pop().unwrap();
    claims.into_iter().for_each(mem::forget);
    assert_eq!(slots.sweep(|owner| owner == NOBODY), 69, "all that are not published");
    assert_eq!(slots.sweep(|_| true), 0);
    assert!(slots.look(published).is_some_and(|word| word.state() == State::Published));
    // A live process whose claim was swept is told so.
    let key = dead.key();
    assert_eq!(dead.publish(0).unwrap_err().key, key);
    assert!(other.write(&request(1)).is_err());
    drop(other);
    assert_eq!(slots.in_use(), 1);
    assert_eq!(free_slots(&slots), 69);
}

fn a_slot_whose_generations_are_used_up_is_retired<M: Memory>(make: impl Fn(&Options) -> Array<M>) {
    let last = Options { first_generation: MAX_GENERATION - 1, ..options(2) };
    let slots = make(&last);
    let key = published(&slots, 1);
    assert_eq!(key.generation, MAX_GENERATION);
    slots.write_report(key, &[7; 4]).unwrap();
    slots.free(key).unwrap();
    assert_eq!(slots.look(key).unwrap().state(), State::Retired);
    assert_eq!(slots.read_report(key), Ok([7; 4]), "its report stays");
    let other = slots.claim(1).unwrap();
    assert_ne!(other.key().index, key.index);
    let full = slots.claim(1).map(|claim| claim.key());
    assert_eq!(full, Err(ClaimError::Full { capacity: 2, in_use: 1 }));
    drop(other);
    slots.reset_all().unwrap();
    assert_eq!(slots.snapshot(key.index).unwrap().state(), State::Retired);
    assert_eq!(free_slots(&slots), 0);
    assert_eq!(slots.revive_all(MAX_GENERATION), Ok(0));
    assert_eq!(slots.revive_all(9), Ok(2));
    assert_eq!(free_slots(&slots), 2);
    assert!((10..20).contains(&published(&slots, 1).generation));
    assert_eq!(slots.revive_all(9), Ok(0), "none that is in use");
    assert_eq!(free_slots(&slots), 1);
}

fn keys_outside_the_array_find_nothing<M: Memory>(make: impl Fn(&Options) -> Array<M>) {
    let slots = make(&options(3));
    for index in [3, 64, 1 << 20, u32::MAX] {
        let key = Key { index, generation: 1 };
        let range = ManageError::OutOfRange { index };
        assert_eq!(slots.snapshot(index), None);
        assert_eq!(slots.look(key), None);
        assert_eq!(slots.read(key), Err(ReadError::Stale));
        assert_eq!(slots.read_report(key), Err(ReportError::Unknown));
        assert_eq!(slots.set_flags(key, 1), Err(FlagError::Stale));
        assert_eq!(slots.update(key, 1, 1), Err(range));
        assert_eq!((slots.free(key), slots.end(key, 1)), (Err(range), Err(range)));
        assert!(!slots.release(key));
        assert_eq!(slots.write_report(key, &[0; 4]), Err(range));
        assert_eq!(slots.slot_cell(index, 0).is_some(), index == 3, "one spare set");
        assert_eq!(slots.watches(index, shmem_slots::Snapshot::from_bits(0)).count(), 0);
    }
    assert_eq!(free_slots(&slots), 3);
}

fn cells_of_the_layer_above_are_apart_from_the_slots<M: Memory>(
    make: impl Fn(&Options) -> Array<M>,
) {
    let slots = make(&options(3));
    let cells = slots.writable_cells().unwrap();
    for number in 0..4 {
        cells.shared_cell(number).unwrap().store(u64::MAX, Ordering::Relaxed);
    }
    for index in 0..3 {
        for place in 0..32 {
            cells.slot_cell(index, place).unwrap().store(u64::MAX, Ordering::Relaxed);
        }
    }
    assert!(slots.shared_cell(4).is_none() && slots.slot_cell(0, 32).is_none());
    assert!(cells.shared_cell(4).is_none() && cells.slot_cell(0, 32).is_none());
    assert_eq!(cells.shared_cells().len(), 4);
    let key = published(&slots, 5);
    slots.write_report(key, &[6; 4]).unwrap();
    assert_eq!((slots.read(key), slots.read_report(key)), (Ok(request(5)), Ok([6; 4])));
    assert!((0..4).all(|number| slots.shared_cell(number).unwrap().load() == u64::MAX));
}

fn a_wait_ends_at_once_when_the_word_has_changed<M: Memory>(make: impl Fn(&Options) -> Array<M>) {
    let slots = make(&options(1));
    let key = published(&slots, 1);
    let seen = slots.look(key).unwrap();
    slots.free(key).unwrap();
    assert_eq!(slots.wait(0, seen, &[], None).unwrap(), Woken::Changed);
    // After 8 uses the low half is the same as before; only the high half differs.
    for _ in 0..7 {
        slots.free(published(&slots, 1)).unwrap();
    }
    let again = published(&slots, 1);
    assert_eq!(slots.look(again).unwrap().low(), seen.low());
    assert_eq!(slots.wait(0, seen, &[], None).unwrap(), Woken::Changed);
}

fn a_wait_ends_with_its_deadline<M: Memory>(make: impl Fn(&Options) -> Array<M>) {
    let slots = make(&options(1));
    let key = published(&slots, 1);
    let seen = slots.look(key).unwrap();
    let begin = Instant::now();
    for deadline in [begin, begin + Duration::from_millis(20)] {
        assert_eq!(slots.wait(0, seen, &[], Some(deadline)).unwrap(), Woken::TimedOut);
        assert!(Instant::now() >= deadline);
    }
}

fn too_many_watches_are_refused<M: Memory>(make: impl Fn(&Options) -> Array<M>) {
    let slots = make(&options(1));
    let seen = slots.snapshot(0).unwrap();
    let watch = Watch { cell: slots.shared_cell(0).unwrap(), half: Half::Low, seen: 0 };
    let past = Some(Instant::now());
    let most = [watch; MAX_WATCHES - 2];
    assert_eq!(slots.wait(0, seen, &most, past).unwrap(), Woken::TimedOut);
    let refused = slots.wait(0, seen, &[watch; MAX_WATCHES - 1], past);
    assert!(matches!(refused, Err(WaitError::Count { count }) if count == MAX_WATCHES + 1));
    let none = slots.wait(9, seen, &[], past);
    assert!(matches!(none, Err(WaitError::Count { count: 0 })));
}

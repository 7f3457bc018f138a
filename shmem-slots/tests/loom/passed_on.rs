//! A slot that is passed on: the end of one tenant is the claim for the next, who waited for it.

use crate::wake::wait_until_gone;
use crate::{kept, published, slots};
use loom::sync::Arc;
use loom::thread;
use shmem_slots::{ClaimError, Key, State};

/// The manager itself claims for who waits.
const MANAGER: u32 = 1;

fn pass_on(slots: &crate::Small, key: Key, value: u64) -> Key {
    let mut claim = slots.end_and_claim(key, MANAGER, || {}).unwrap();
    claim.write(&[value; 2]).unwrap();
    claim.publish_kept(0).unwrap()
}

/// Fails when the end and the claim are two swaps: the other process gets the slot in between.
#[test]
fn nobody_gets_a_slot_between_its_two_tenants() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let old = published(&slots, 1);
        let other = Arc::clone(&slots);
        let thread = thread::spawn(move || match other.claim(2) {
            Err(ClaimError::Full { capacity: 1, .. }) => {}
            claimed => panic!("{claimed:?}"),
        });
        let new = pass_on(&slots, old, 2);
        thread.join().unwrap();
        assert_eq!(new.generation, old.generation + 1);
        assert_eq!(slots.read(new), Ok([2, 2]));
    });
}

/// Fails when the waiters of the tenant that has ended are not woken, or are woken before the swap.
#[test]
fn a_waiter_is_told_of_an_end_that_passes_the_slot_on() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let old = published(&slots, 1);
        let waiter = Arc::clone(&slots);
        let thread = thread::spawn(move || wait_until_gone(&waiter, old));
        pass_on(&slots, old, 2);
        thread.join().unwrap();
    });
}

/// Fails when the swap is no release. The reader looks until it sees, for loom's sake: see
/// `payload.rs`.
#[test]
fn who_sees_a_slot_passed_on_reads_the_report_of_the_tenant_before() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let reader = Arc::clone(&slots);
        let thread = thread::spawn(move || {
            let old = Key { index: 0, generation: 1 };
            while reader.snapshot(0).unwrap().generation() <= old.generation {
                thread::yield_now();
            }
            assert_eq!(reader.read_report(old), Ok([1, 1]));
        });
        let old = published(&slots, 1);
        slots.write_report(old, &[1, 1]).unwrap();
        let claim = slots.end_and_claim(old, MANAGER, || {}).unwrap();
        thread.join().unwrap();
        drop(claim);
    });
}

/// Fails when the claim has no fence after its swap (W2).
#[test]
fn a_copy_never_mixes_the_tenant_that_ended_with_the_next() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let old = published(&slots, 1);
        let manager = Arc::clone(&slots);
        let thread = thread::spawn(move || pass_on(&manager, old, 2));
        if let Ok(value) = slots.read(old) {
            assert_eq!(value, [1, 1]);
        }
        let new = thread.join().unwrap();
        assert_eq!(slots.read(new), Ok([2, 2]));
    });
}

/// A waiter gives its hold back, a keeper releases the slot, and somebody sets a flag, all by the
/// key of the tenant that ends meanwhile. Fails when one of them acts on a word of another
/// generation.
#[test]
fn what_is_meant_for_the_tenant_that_ended_never_lands_on_the_next() {
    let deeds: [fn(&crate::Small, Key); 3] = [
        |slots, key| drop(slots.hold(key, 7)),
        |slots, key| {
            slots.release(key);
        },
        |slots, key| {
            let _ = slots.set_flags(key, 1);
        },
    ];
    for deed in deeds {
        loom::model(move || {
            let slots = Arc::new(slots(1));
            let old = kept(&slots, 1);
            let other = Arc::clone(&slots);
            let thread = thread::spawn(move || deed(&other, old));
            let new = pass_on(&slots, old, 2);
            thread.join().unwrap();
            let word = slots.look(new).unwrap();
            let found = (word.state(), word.is_kept(), word.flags());
            assert_eq!(found, (State::Published, true, 0));
            assert_eq!(slots.sweep(|_| false), 0);
            assert_eq!(slots.read(new), Ok([2, 2]));
        });
    }
}

/// Whoever waited has given up: the claim is dropped while another process looks for a slot. Fails
/// when the dropped claim leaves the slot reserved.
#[test]
fn a_slot_that_nobody_waits_for_any_more_is_free() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let old = published(&slots, 1);
        let other = Arc::clone(&slots);
        let thread = thread::spawn(move || other.claim(2).is_ok());
        drop(slots.end_and_claim(old, MANAGER, || {}).unwrap());
        thread.join().unwrap();
        let claim = slots.claim(3).unwrap();
        assert!(claim.key().generation > old.generation);
    });
}

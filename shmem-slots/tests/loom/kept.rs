//! Kept slots: no report is lost while a slot is free, and no slot is lost, whoever releases it.

use crate::{Small, kept, slots};
use loom::sync::Arc;
use loom::thread;
use shmem_slots::{Key, ReportError, State};

const KEEPER: u32 = 7;

fn end(slots: &Small, key: Key, value: u64) {
    slots.write_report(key, &[value; 2]).unwrap();
    slots.end(key, KEEPER).unwrap();
}

/// Fails when the end swaps without comparing (it writes `Ended` over a released word), or when a
/// release leaves an ended slot as it is.
#[test]
fn a_release_during_the_end_leaves_a_free_slot() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let key = kept(&slots, 7);
        let keeper = Arc::clone(&slots);
        let thread = thread::spawn(move || assert!(keeper.release(key)));
        end(&slots, key, 1);
        thread.join().unwrap();
        assert_eq!(slots.look(key).unwrap().state(), State::Free);
        assert!(slots.claim(2).is_ok());
    });
}

/// Fails when an update writes back the mark that it saw before its swap.
#[test]
fn an_update_never_brings_back_a_keeper_that_let_go() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let key = kept(&slots, 7);
        let keeper = Arc::clone(&slots);
        let thread = thread::spawn(move || assert!(keeper.release(key)));
        slots.update(key, 42, 4).unwrap();
        thread.join().unwrap();
        let word = slots.look(key).unwrap();
        assert_eq!((word.pid(), word.flags(), word.is_kept()), (42, 4, false));
    });
}

/// The keeper looks once, whenever it comes. Fails when the word is swapped before the report is
/// written, or when the swap is relaxed.
#[test]
fn a_keeper_that_sees_the_end_reads_the_report() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let key = kept(&slots, 7);
        let keeper = Arc::clone(&slots);
        let thread = thread::spawn(move || {
            if keeper.look(key).unwrap().state() == State::Ended {
                assert_eq!(keeper.read_report(key), Ok([1, 1]));
                assert!(keeper.release(key));
            }
        });
        end(&slots, key, 1);
        thread.join().unwrap();
    });
}

/// The only slot is ended and kept. Its keeper releases it while another process claims it: the
/// claim gets it either way. Fails when a claim looks for a free or an ended slot only once.
#[test]
fn a_claim_gets_the_last_slot_whether_it_was_released_or_not() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let key = kept(&slots, 7);
        end(&slots, key, 1);
        let keeper = Arc::clone(&slots);
        let thread = thread::spawn(move || keeper.release(key));
        let claim = slots.claim(2).unwrap();
        assert!(claim.key().generation > key.generation);
        thread.join().unwrap();
        assert_eq!(slots.look(claim.key()).unwrap().state(), State::Reserved);
    });
}

/// The keeper is dead. Its end is swept while another process claims the slot. Fails when the sweep
/// or the claim stores instead of swapping: the slot is free and claimed at once.
#[test]
fn the_end_of_a_dead_keeper_is_swept_or_claimed_and_never_both() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let key = kept(&slots, 7);
        end(&slots, key, 1);
        let other = Arc::clone(&slots);
        let thread = thread::spawn(move || {
            let claim = other.claim(2).unwrap();
            (claim.key(), claim.publish(0).is_ok())
        });
        let swept = slots.sweep(|number| number == KEEPER);
        assert!(swept <= 1);
        let (next, published) = thread.join().unwrap();
        assert!(published);
        assert_eq!(slots.look(next).unwrap().state(), State::Published);
        assert_eq!(slots.sweep(|_| true), 0);
    });
}

/// One slot is ended and kept, the other becomes free meanwhile. Fails when a claim takes an ended
/// slot that its hint, or the scan, comes to first, or when an overwritten end looks like none.
#[test]
fn an_end_is_readable_until_a_claim_has_taken_its_slot() {
    loom::model(|| {
        let slots = Arc::new(slots(2));
        let unread = kept(&slots, 7);
        end(&slots, unread, 1);
        let other = slots.claim(1).unwrap();
        let claimer = Arc::clone(&slots);
        let thread = thread::spawn(move || claimer.claim(2).unwrap().publish(0).unwrap());
        drop(other);
        let next = thread.join().unwrap();
        let report = slots.read_report(unread);
        match slots.look(unread) {
            Some(word) => {
                assert_eq!((word.state(), report), (State::Ended, Ok([1, 1])));
                assert_ne!(next.index, unread.index);
            }
            None => {
                assert_eq!((next.index, report), (unread.index, Ok([1, 1])));
                slots.write_report(next, &[2, 2]).unwrap();
                slots.write_report(next, &[3, 3]).unwrap();
                assert_eq!(slots.read_report(unread), Err(ReportError::Overwritten));
            }
        }
    });
}

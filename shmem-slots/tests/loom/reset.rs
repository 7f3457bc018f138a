//! A reset, and the tenants after it.

use crate::{kept, published, slots};
use loom::sync::Arc;
use loom::thread;
use shmem_slots::{After, ClaimError, Key, ReportError, State};

/// A claimer is overtaken by a reset, and another process takes whatever it finds. Fails when a
/// reset frees the slot of a claim instead of revoking it: the old claimer stores into the new
/// tenant's published payload.
#[test]
fn a_claimer_that_a_reset_overtook_writes_into_no_later_tenant() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let claimer = Arc::clone(&slots);
        let thread = thread::spawn(move || {
            let Ok(mut claim) = claimer.claim(1) else { return None };
            let _ = claim.write(&[7, 7]);
            claim.publish(0).ok()
        });
        slots.reset_all().unwrap();
        let mine = match slots.claim(2) {
            Ok(mut claim) => {
                claim.write(&[9, 9]).unwrap();
                let key = claim.publish(0).unwrap();
                assert_eq!(slots.read(key), Ok([9, 9]));
                Some(key)
            }
            Err(ClaimError::Full { .. }) => None,
            Err(error) => panic!("{error}"),
        };
        let other = thread.join().unwrap();
        if let Some(key) = mine {
            assert_eq!(slots.read(key), Ok([9, 9]));
        }
        if let Some(key) = other {
            // Published before the reset, and gone; or claimed after it.
            assert!(slots.read(key) == Ok([7, 7]) || slots.look(key).is_none());
        }
        // Nothing is lost: whoever was revoked has given the slot back.
        let free = other.is_none_or(|key| slots.look(key).is_none()) && mine.is_none();
        assert_eq!(slots.claim(3).is_ok(), free);
    });
}

/// Two resets and a dead claimer: the slot comes back by a sweep alone. Fails when a reset does not
/// mark the slot that it revokes.
#[test]
fn a_claimer_that_stops_anywhere_is_swept_after_a_reset() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let dead = Arc::clone(&slots);
        let thread = thread::spawn(move || std::mem::forget(dead.claim(7)));
        slots.reset_all().unwrap();
        thread.join().unwrap();
        slots.reset_all().unwrap();
        assert_eq!(slots.sweep(|owner| owner == 7), 1);
        let _ = published(&slots, 5);
    });
}

/// A reader copies a report while the slot is reset and its next tenant is reported on. Fails when
/// the count or the numbers start again at a reset, or when the generation is not compared.
#[test]
fn a_reader_never_takes_the_report_of_a_tenant_of_after_a_reset() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let old = published(&slots, 1);
        slots.write_report(old, &[1, 1]).unwrap();
        let reader = Arc::clone(&slots);
        let thread = thread::spawn(move || {
            if let Ok(report) = reader.read_report(old) {
                assert_eq!(report, [1, 1]);
            }
        });
        slots.reset_all().unwrap();
        let new = published(&slots, 2);
        slots.write_report(new, &[2, 2]).unwrap();
        thread.join().unwrap();
        assert_eq!(slots.read_report(new), Ok([2, 2]));
    });
}

/// A reset sets the report of a running tenant aside while somebody reads it: the reader gets the
/// report of before or the one set aside, whole. Fails when the number is stored before the report
/// or is no release (W4).
#[test]
fn a_reader_gets_the_report_of_before_a_reset_or_the_one_that_is_set_aside() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let key = published(&slots, 1);
        slots.write_report(key, &[1, 1]).unwrap();
        let reader = Arc::clone(&slots);
        let thread = thread::spawn(move || {
            let report = reader.read_report(key).unwrap();
            assert!(report == [1, 1] || report == [2, 2], "{report:?}");
        });
        slots.set_report_aside(key, &[2, 2]).unwrap();
        slots.reset_all().unwrap();
        thread.join().unwrap();
        assert_eq!(slots.read_report(key), Ok([2, 2]));
    });
}

/// A second reset sets the next tenant's report aside, in the place of the first tenant's, while
/// that one is read: it is read whole, or it is gone. Fails when the writer does not begin with
/// number 0 or leaves the fence after it out (W3), and when the reader does not look at the number
/// again.
#[test]
fn a_reader_never_takes_the_report_that_is_set_aside_for_a_later_tenant() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let old = published(&slots, 1);
        slots.set_report_aside(old, &[1, 1]).unwrap();
        slots.reset_all().unwrap();
        let new = published(&slots, 2);
        let reader = Arc::clone(&slots);
        let thread = thread::spawn(move || {
            if let Ok(report) = reader.read_report(old) {
                assert_eq!(report, [1, 1]);
            }
        });
        slots.set_report_aside(new, &[2, 2]).unwrap();
        thread.join().unwrap();
        assert_eq!(slots.read_report(new), Ok([2, 2]));
        assert_eq!(slots.read_report(old), Err(ReportError::Overwritten));
    });
}

/// The keeper of a running tenant reads the end and releases its slot while a reset ends it: the
/// report is there when the word says so, and the slot is free in the end. Fails when a reset
/// stores the word instead of comparing.
#[test]
fn a_keeper_that_a_reset_overtakes_reads_its_end_and_releases_the_slot() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let key = kept(&slots, 1);
        let keeper = Arc::clone(&slots);
        let thread = thread::spawn(move || {
            let word = keeper.look(key);
            if word.is_some_and(|word| word.state() == State::Ended) {
                assert_eq!(keeper.read_report(key), Ok([2, 2]));
            }
            keeper.release(key);
        });
        let claims = slots.reset_each(7, |_, word| {
            if word.state() == State::Published {
                slots.set_report_aside(key, &[2, 2]).unwrap();
            }
            After::Ended(1)
        });
        assert!(claims.unwrap().is_empty());
        thread.join().unwrap();
        let _ = published(&slots, 3);
    });
}

/// A reader copies a payload while the slot is reset and taken again: the old one, or an error.
#[test]
fn a_reader_never_takes_the_payload_of_a_tenant_of_after_a_reset() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let old: Key = published(&slots, 1);
        let reader = Arc::clone(&slots);
        let thread = thread::spawn(move || {
            if let Ok(request) = reader.read(old) {
                assert_eq!(request, [1, 1]);
            }
        });
        slots.reset_all().unwrap();
        published(&slots, 2);
        thread.join().unwrap();
    });
}

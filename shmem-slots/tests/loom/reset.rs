//! A reset, and the tenants of after it.

use crate::{published, slots};
use loom::sync::Arc;
use loom::thread;
use shmem_slots::{ClaimError, Key};

/// A claimer is overtaken by a reset, and another process takes whatever it finds. Fails when a reset
/// frees the slot of a claim instead of revoking it: the old claimer stores into the new tenant's
/// published payload.
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

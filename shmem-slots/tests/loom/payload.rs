//! What a reader gets.

use crate::{published, slots};
use loom::sync::Arc;
use loom::thread;
use shmem_slots::{Heap, Key, Options, Slots};

/// Fails when the publication is relaxed (W1), or the look of the reader is (R1). The reader looks
/// until it sees, since loom remembers only the last access to a cell and would not try the other
/// order of a single look; and it is not the thread that made the slots, since loom hands no thread
/// a value again that it saw before it yielded.
#[test]
fn who_sees_a_slot_published_reads_its_whole_payload() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let reader = Arc::clone(&slots);
        let thread = thread::spawn(move || {
            let key = Key { index: 0, generation: 1 };
            loop {
                match reader.read(key) {
                    Ok(value) => return value,
                    Err(_) => thread::yield_now(),
                }
            }
        });
        published(&slots, 7);
        assert_eq!(thread.join().unwrap(), [7, 7]);
    });
}

/// A slow reader is overtaken by free and reuse. Fails without the fence of the writer (W2) or of
/// the reader (R2).
#[test]
fn a_copy_never_mixes_two_tenants() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let key = published(&slots, 7);
        let manager = Arc::clone(&slots);
        let thread = thread::spawn(move || {
            manager.free(key).unwrap();
            published(&manager, 9);
        });
        if let Ok(value) = slots.read(key) {
            assert_eq!(value, [7, 7]);
        }
        thread.join().unwrap();
        assert!(slots.read(key).is_err());
    });
}

/// Fails without the fence of the manager (W3) or of the reader (R3), or with one buffer.
#[test]
fn a_report_is_one_of_those_written_and_whole() {
    loom::model(|| {
        let slots = Arc::new(slots(1));
        let key = published(&slots, 1);
        slots.write_report(key, &[1, 1]).unwrap();
        let manager = Arc::clone(&slots);
        let thread = thread::spawn(move || {
            manager.write_report(key, &[2, 2]).unwrap();
            manager.write_report(key, &[3, 3]).unwrap();
        });
        // Error: the reader was overtaken too often.
        if let Ok([first, second]) = slots.read_report(key) {
            assert_eq!(first, second);
        }
        thread.join().unwrap();
        assert_eq!(slots.read_report(key), Ok([3, 3]));
    });
}

/// Fails when the annex is stored before the fence of the manager (W3), or copied after that of the
/// reader (R4).
#[test]
fn a_report_and_its_annex_are_of_one_and_the_same_end() {
    loom::model(|| {
        let options = Options {
            capacity: 1,
            tag: 0,
            shared_cells: 0,
            annex_cells: 1,
            spare_sets: 0,
            first_generation: 0,
        };
        let slots: Arc<Slots<[u64; 1], [u64; 1], Heap>> = Arc::new(Slots::heap(&options).unwrap());
        let mut claim = slots.claim(1).unwrap();
        claim.write(&[7]).unwrap();
        let key = claim.publish(0).unwrap();
        slots.write_report_with(key, &[1], &[1]).unwrap();
        let manager = Arc::clone(&slots);
        let thread = thread::spawn(move || {
            manager.write_report_with(key, &[2], &[2]).unwrap();
            manager.write_report_with(key, &[3], &[3]).unwrap();
        });
        // Error: the reader was overtaken too often.
        if let Ok(([report], annex)) = slots.read_report_with(key, |_| 1) {
            assert_eq!([report], [u64::from(annex[0])]);
        }
        thread.join().unwrap();
        assert_eq!(slots.read_report_with(key, |_| 1), Ok(([3], vec![3])));
    });
}

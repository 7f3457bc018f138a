//! The ring: values come before numbers, no copy is torn, every value is read or counted, and a
//! reader that sleeps is woken.

use loom::sync::Arc;
use loom::thread;
use shmem_slots::Heap;
use shmem_slots::futex;
use shmem_slots::ring::{Ring, RingOptions};

type Pair = Ring<[u64; 2], Heap>;

fn ring(entries: u32) -> Arc<Pair> {
    Arc::new(Ring::heap(&RingOptions { entries, tag: 0 }).unwrap())
}

/// Fails when the count is stored or looked at relaxed (N4): then the entry holds an earlier
/// number, which is an error. The reader looks until it sees, as in `payload.rs`.
#[test]
fn who_sees_the_count_reads_the_value() {
    loom::model(|| {
        let ring = ring(2);
        let reader = Arc::clone(&ring);
        let thread = thread::spawn(move || {
            let mut cursor = reader.oldest();
            loop {
                match reader.next(&mut cursor).unwrap() {
                    Some(found) => break (found, cursor.missed()),
                    None => thread::yield_now(),
                }
            }
        });
        ring.append(&[7, 7]).unwrap();
        assert_eq!(thread.join().unwrap(), ((0, [7, 7]), 0));
    });
}

/// A slow reader of a ring of one entry is overtaken. Fails without the fence of the writer (N2) or
/// of the reader (N5), and without the 0 of an entry that is written. It does not fail when the
/// entry's number is stored or looked at relaxed (N3): the count orders as much (N4).
#[test]
fn a_copy_never_mixes_two_values() {
    loom::model(|| {
        let ring = ring(1);
        ring.append(&[1, 1]).unwrap();
        let writer = Arc::clone(&ring);
        let thread = thread::spawn(move || {
            writer.append(&[2, 2]).unwrap();
        });
        let mut cursor = ring.oldest();
        if let Some((number, value)) = ring.next(&mut cursor).unwrap() {
            assert_eq!(value, [number + 1; 2]);
        }
        thread.join().unwrap();
    });
}

/// Fails when a value that is overwritten during its copy, or between two reads, is not counted.
/// One value is there before the writer's thread begins: loom would not try both orders of a look
/// at the first.
#[test]
fn every_value_is_read_or_counted_as_missed() {
    loom::model(|| {
        let ring = ring(1);
        ring.append(&[1; 2]).unwrap();
        let writer = Arc::clone(&ring);
        let thread = thread::spawn(move || {
            for value in 2..=3 {
                writer.append(&[value; 2]).unwrap();
            }
        });
        let mut cursor = ring.cursor_at(0).unwrap();
        let mut read = 0;
        let mut take_one = |cursor: &mut _| {
            ring.next(cursor).unwrap().inspect(|&(number, value)| {
                assert_eq!(value, [number + 1; 2]);
                read += 1;
            })
        };
        take_one(&mut cursor);
        thread.join().unwrap();
        while take_one(&mut cursor).is_some() {}
        assert_eq!(read + cursor.missed(), 3);
        assert_eq!(cursor.position(), 3);
    });
}

/// Fails when the writer wakes before it stores the count, or does not wake; when a reader watches
/// another value than its cursor.
#[test]
fn a_sleeping_reader_is_told_of_a_value() {
    loom::model(|| {
        let ring = ring(2);
        let reader = Arc::clone(&ring);
        let thread = thread::spawn(move || {
            let mut cursor = reader.oldest();
            loop {
                match reader.next(&mut cursor).unwrap() {
                    Some((_, value)) => break value,
                    None => drop(futex::wait_any(&reader.watches(&cursor), None).unwrap()),
                };
            }
        });
        ring.append(&[7, 7]).unwrap();
        ring.wake();
        assert_eq!(thread.join().unwrap(), [7, 7]);
    });
}

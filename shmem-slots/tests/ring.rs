//! The promise: a ring's readers get its values whole and in order, or the exact number of those
//! that they missed; nobody but the writer can change it; whatever it holds, a reader gets a value
//! or an error.
//!
//! It would catch: a copy torn by a fast writer, a value counted twice or not at all, a lost
//! wake-up, a descriptor that can be written through, a number from the ring used as an index.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use nix::fcntl::{FallocateFlags, fallocate};
use process_test::{fork_child, tests, wait_until_asleep};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use shmem_slots::ring::{Cursor, MAX_ENTRIES, Ring, RingError, RingOptions};
use shmem_slots::{AttachError, CreateError, Heap, Memory, futex};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::sync::atomic::Ordering;
use std::time::Instant;
use support::{LIMIT, TAG};

/// Long enough to be torn if a copy went wrong.
type Value = [u64; 64];

/// Cells of the header, which a reader reads once, when it attaches.
const HEADER: usize = 16;

fn main() -> std::process::ExitCode {
    process_test::main(tests![
        a_reader_gets_each_value_once_and_in_order,
        a_slow_reader_learns_the_exact_number_missed,
        readers_of_a_fast_writer_read_or_count_every_value_and_none_is_torn,
        a_reader_that_sleeps_is_woken_and_a_killed_one_concerns_nobody,
        a_cursor_begins_at_the_oldest_the_newest_or_a_number,
        nobody_but_the_writer_can_write_whatever_he_opens,
        a_child_does_not_get_the_writers_mapping,
        sizes_out_of_range_and_other_rings_are_refused,
        any_words_in_the_ring_give_a_value_or_an_error,
        any_words_in_the_header_are_refused_or_fit,
        a_writer_that_scribbles_without_pause_hangs_no_reader,
    ])
}

fn ring(entries: u32) -> Ring<Value> {
    Ring::create(&RingOptions { entries, tag: TAG }).unwrap()
}

fn descriptor(ring: &Ring<Value>) -> OwnedFd {
    ring.region().as_fd().try_clone_to_owned().unwrap()
}

fn attached(ring: &Ring<Value>) -> Ring<Value> {
    Ring::attach(descriptor(ring), TAG).unwrap()
}

/// Value number `number`.
fn value(number: u64) -> Value {
    std::array::from_fn(|at| number.wrapping_mul(31).wrapping_add(at as u64))
}

fn append(ring: &Ring<Value>, count: u64) {
    for _ in 0..count {
        let number = ring.append(&value(ring.count())).unwrap();
        assert_eq!(ring.count(), number + 1);
    }
    ring.wake();
}

fn sleep_until_more(ring: &Ring<Value>, cursor: &Cursor) {
    let woken = futex::wait_any(&ring.watches(cursor), Some(Instant::now() + LIMIT)).unwrap();
    assert_ne!(woken, futex::Woken::TimedOut);
}

fn a_reader_gets_each_value_once_and_in_order() {
    let ring = ring(8);
    let reader = attached(&ring);
    let mut cursor = reader.oldest();
    for number in 0..50 {
        assert_eq!(reader.next(&mut cursor), Ok(None));
        append(&ring, 1);
        assert_eq!(reader.next(&mut cursor), Ok(Some((number, value(number)))));
    }
    assert_eq!(cursor.missed(), 0);
}

/// Would fail if one were counted twice, or a value that is still there were skipped.
fn a_slow_reader_learns_the_exact_number_missed() {
    for entries in [1, 2, 7, 8] {
        for appended in 0..30_u64 {
            let ring = ring(entries);
            let mut cursor = ring.newest();
            append(&ring, appended);
            let kept = appended.min(u64::from(entries));
            for number in appended - kept..appended {
                assert_eq!(ring.next(&mut cursor), Ok(Some((number, value(number)))));
                assert_eq!(cursor.missed(), appended - kept);
            }
            assert_eq!(ring.next(&mut cursor), Ok(None));
            assert_eq!((cursor.position(), cursor.missed()), (appended, appended - kept));
        }
    }
}

/// Would fail if the number of an entry were not compared again after the copy.
fn readers_of_a_fast_writer_read_or_count_every_value_and_none_is_torn() {
    const COUNT: u64 = 300_000;
    let ring = ring(4);
    let read_all = || {
        let ring = attached(&ring);
        // Not the oldest: the writer may have overwritten some before this process attached.
        let (mut cursor, mut read, mut last) = (ring.cursor_at(0).unwrap(), 0, None);
        while cursor.position() < COUNT {
            let Some((number, found)) = ring.next(&mut cursor).unwrap() else {
                sleep_until_more(&ring, &cursor);
                continue;
            };
            assert!(last < Some(number), "{number} after {last:?}");
            last = Some(number);
            read += 1;
            assert!(found == value(number), "value {number} is torn");
        }
        assert_eq!(read + cursor.missed(), COUNT);
    };
    let mut readers = [fork_child(read_all), fork_child(read_all)];
    append(&ring, COUNT / 2);
    for _ in 0..COUNT / 2 {
        append(&ring, 1);
    }
    assert!(readers.iter_mut().all(|reader| reader.wait().code() == Some(0)));
}

fn a_reader_that_sleeps_is_woken_and_a_killed_one_concerns_nobody() {
    let ring = ring(8);
    let read_two = || {
        let ring = attached(&ring);
        let mut cursor = ring.oldest();
        for number in 0..2 {
            while ring.next(&mut cursor).unwrap().map(|(number, _)| number) != Some(number) {
                sleep_until_more(&ring, &cursor);
            }
        }
    };
    let mut readers = [fork_child(read_two), fork_child(read_two)];
    let killed = fork_child(read_two);
    readers.iter().chain([&killed]).for_each(|reader| wait_until_asleep(reader.pid()));
    append(&ring, 1);
    readers.iter().for_each(|reader| wait_until_asleep(reader.pid()));
    drop(killed);
    append(&ring, 1);
    assert!(readers.iter_mut().all(|reader| reader.wait().code() == Some(0)));
}

fn a_cursor_begins_at_the_oldest_the_newest_or_a_number() {
    let ring = ring(4);
    append(&ring, 6);
    assert_eq!((ring.oldest().position(), ring.newest().position()), (2, 6));
    let mut cursor = ring.cursor_at(1).unwrap();
    assert_eq!(ring.next(&mut cursor), Ok(Some((2, value(2)))));
    assert_eq!(cursor.missed(), 1);
    assert_eq!(ring.cursor_at(6).unwrap(), ring.newest());
    let error = ring.cursor_at(7).unwrap_err();
    assert_eq!((error.number, error.next), (7, 6));
}

/// Tries every way to change the ring that a descriptor gives. Would fail without the seal against
/// future writes: the same user may open the file again.
fn nobody_but_the_writer_can_write_whatever_he_opens() {
    let ring = ring(8);
    append(&ring, 3);
    let mode = File::from(descriptor(&ring)).metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "not for another user to open");
    let mut reader = fork_child(|| {
        let file = File::from(descriptor(&ring));
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        for mut file in [
            file.try_clone().unwrap(),
            OpenOptions::new().read(true).write(true).open(&path).unwrap(),
            OpenOptions::new().append(true).open(&path).unwrap(),
        ] {
            assert!(file.write_all(b"x").is_err());
            assert!(file.write_at(b"x", 128).is_err());
            assert!(file.set_len(0).is_err() && file.set_len(1 << 20).is_err());
            let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            assert!(fallocate(&file, punch, 0, 4096).is_err());
            assert!(
                nix::fcntl::fcntl(
                    &file,
                    nix::fcntl::FcntlArg::F_ADD_SEALS(nix::fcntl::SealFlag::F_SEAL_WRITE)
                )
                .is_err()
            );
        }
        let file = File::options().read(true).write(true).open(&path).unwrap();
        assert!(memmap2::MmapOptions::new().map_raw(&file).is_err(), "mapped for writing");
        let ring = attached(&ring);
        assert!(ring.memory().writable_cells().is_err());
        assert!(ring.append(&value(3)).is_err());
        // A read-only mapping cannot be made writable, either.
        let mapped = memmap2::MmapOptions::new().map_raw_read_only(&file).unwrap();
        assert!(!may_become_writable(mapped.as_ptr().addr()));
    });
    assert_eq!(reader.wait().code(), Some(0));
    let mut cursor = ring.oldest();
    for number in 0..3 {
        assert_eq!(ring.next(&mut cursor), Ok(Some((number, value(number)))));
    }
}

/// True if the kernel would let the mapping at `start` be made writable (`mw`).
fn may_become_writable(start: usize) -> bool {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mapping = smaps.split_once(&format!("{start:x}-")).unwrap().1;
    let flags = mapping.lines().find(|line| line.starts_with("VmFlags:")).unwrap();
    flags.split_whitespace().any(|flag| flag == "mw" || flag == "wr")
}

fn a_child_does_not_get_the_writers_mapping() {
    let ring = ring(8);
    append(&ring, 1);
    let rings = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().filter(|line| line.contains(shmem_slots::MEMFD_NAME)).count()
    };
    assert_eq!(rings(), 1);
    let mut child = fork_child(|| {
        assert_eq!(rings(), 0);
        let ring = Ring::<Value>::attach(descriptor(&ring), TAG).unwrap();
        assert_eq!(ring.next(&mut ring.oldest()), Ok(Some((0, value(0)))));
    });
    assert_eq!(child.wait().code(), Some(0));
}

fn sizes_out_of_range_and_other_rings_are_refused() {
    for entries in [0, MAX_ENTRIES + 1] {
        let error = Ring::<Value>::create(&RingOptions { entries, tag: TAG }).unwrap_err();
        assert!(matches!(error, CreateError::RingSize { entries: found, .. } if found == entries));
        assert!(Ring::<Value, Heap>::heap(&RingOptions { entries, tag: TAG }).is_none());
    }
    assert!(Ring::<[[u64; 4096]; 3]>::create(&RingOptions { entries: 1, tag: TAG }).is_err());
    let ring = ring(8);
    for (error, named) in [
        (Ring::<Value>::attach(descriptor(&ring), TAG + 1).unwrap_err(), "tag"),
        (Ring::<[u64; 48]>::attach(descriptor(&ring), TAG).unwrap_err(), "value size in words"),
    ] {
        assert!(matches!(error, AttachError::Header { field, .. } if field == named), "{error}");
    }
    let slots = support::in_memfd(&support::options(8));
    let slots = slots.region().as_fd().try_clone_to_owned().unwrap();
    assert!(Ring::<Value>::attach(slots, TAG).is_err());
    let unsealed = File::open("/proc/self/exe").unwrap().into();
    assert!(matches!(Ring::<Value>::attach(unsealed, TAG), Err(AttachError::Unsealed)));
}

/// A word that somebody might write, with or without knowledge of the layout.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        2 => Just(0),
        2 => Just(u64::MAX),
        2 => any::<u64>(),
        6 => 0..40u64,
        1 => (0..64u32).prop_map(|bit| 1 << bit),
    ]
}

fn run<S: Strategy>(strategy: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = Config { failure_persistence: None, ..Config::default() };
    if let Err(error) = TestRunner::new(config).run(strategy, test) {
        panic!("{error}");
    }
}

/// Would fail if a count or a number were used before it is checked, or a read looped over them.
fn any_words_in_the_ring_give_a_value_or_an_error() {
    let change = proptest::collection::vec((any::<proptest::sample::Index>(), word()), 0..6);
    let steps = proptest::collection::vec((any::<bool>(), change), 1..40);
    run(&(1..9u32, steps), |(entries, steps)| {
        let ring = ring(entries);
        let reader = attached(&ring);
        let cells = &ring.memory().writable_cells().unwrap()[HEADER..];
        let (mut cursor, mut seen) = (reader.oldest(), 0);
        for (write, changes) in steps {
            for (at, word) in changes {
                at.get(cells).store(word, Ordering::Relaxed);
            }
            if write {
                let _ = ring.append(&value(1));
            }
            if let Ok(Some((number, _))) = reader.next(&mut cursor) {
                prop_assert!(number >= seen && cursor.position() > number);
                seen = number;
            }
            let _ = (reader.oldest(), reader.newest(), reader.cursor_at(seen));
            prop_assert!(cursor.missed() <= cursor.position());
        }
        Ok(())
    });
}

fn any_words_in_the_header_are_refused_or_fit() {
    run(&proptest::collection::vec((0..HEADER, word()), 1..4), |changes| {
        let ring = ring(8);
        let header = &ring.memory().writable_cells().unwrap()[..HEADER];
        let read = || header[..7].iter().map(|cell| cell.load(Ordering::Relaxed));
        let good: Vec<u64> = read().collect();
        for (at, word) in changes {
            header[at].store(word, Ordering::Relaxed);
        }
        let same = read().eq(good);
        prop_assert_eq!(Ring::<Value>::attach(descriptor(&ring), TAG).is_ok(), same);
        Ok(())
    });
}

/// The writer itself misbehaves. Would fail if a changing count kept a read going.
fn a_writer_that_scribbles_without_pause_hangs_no_reader() {
    let ring = ring(4);
    let mut reader = fork_child(|| {
        let ring = attached(&ring);
        let (mut cursor, mut errors) = (ring.oldest(), 0_u32);
        let mut reads = 0;
        // The writer may take its time to begin.
        while reads < 200_000 || errors == 0 {
            reads += 1;
            match ring.next(&mut cursor) {
                Ok(_) => {}
                Err(RingError::Count { .. } | RingError::Entry { .. }) => {
                    errors += 1;
                    cursor = ring.oldest();
                }
                Err(error) => panic!("{error}"),
            }
        }
    });
    let mut noise = 0x2545_f491_4f6c_dd1d_u64;
    let cells = &ring.memory().writable_cells().unwrap()[HEADER..];
    while process_test::alive(reader.pid()) {
        for cell in cells {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            cell.store(if noise % 3 == 0 { noise } else { noise % 8 }, Ordering::Relaxed);
        }
    }
    assert_eq!(reader.wait().code(), Some(0));
}

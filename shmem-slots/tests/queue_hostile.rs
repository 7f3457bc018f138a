//! The promise: whatever the cells of a queue hold, each operation of either side returns a value
//! or an error: no panic, no access out of bounds, no message beyond the limit, no
//! wait beyond its deadline.
//!
//! Two ways: arbitrary words in all cells, between any two operations (proptest; a failing case is
//! printed and shrunk), and a process that scribbles into them without pause. A hang is found by
//! the watchdog.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use process_test::{fork_child, tests};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use shmem_slots::Memory;
use shmem_slots::queue::{Queue, QueueOptions, ReceiveError, Receiver, SendError, Sender, Side};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::TAG;

const LIMIT: usize = 200;
/// Cells of the header, which a side reads once, when it attaches.
const HEADER: usize = 16;

fn main() -> std::process::ExitCode {
    process_test::main(tests![
        any_words_in_the_cells_give_a_value_or_an_error,
        any_words_in_the_header_are_refused_or_fit,
        a_position_or_length_that_cannot_be_is_named,
        a_process_that_scribbles_without_pause_hangs_nobody,
    ])
}

fn queue(buffer: usize) -> Queue {
    Queue::create(&QueueOptions { buffer, max_message: LIMIT, tag: TAG }).unwrap()
}

/// A word that somebody might write, with or without knowledge of the layout.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => Just(0),
        2 => Just(u64::MAX),
        3 => any::<u64>(),
        2 => (0..64u32).prop_map(|bit| 1 << bit),
        // Plausible positions, lengths and owners.
        6 => 0..50u64,
        // A state, detached.
        1 => (1..9u64).prop_map(|owner| 1 << 32 | owner),
    ]
}

fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_micros(50))
}

/// One operation of either side. It may fail by errors of the protocol only.
fn step(what: u8, sender: &mut Sender<'_>, receiver: &mut Receiver<'_>, got: &mut Vec<u8>) {
    let message = [what; LIMIT];
    let message = &message[..usize::from(what) % (LIMIT + 1)];
    match what % 4 {
        0 => drop(sender.try_send(message)),
        1 => drop(sender.send(message, &[], soon())),
        2 => drop(receiver.try_receive(got)),
        _ => drop(receiver.receive(got, &[], soon())),
    }
    assert!(got.len() <= LIMIT, "a message of {} bytes", got.len());
}

fn run<S: Strategy>(strategy: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = Config { failure_persistence: None, ..Config::default() };
    if let Err(error) = TestRunner::new(config).run(strategy, test) {
        panic!("{error}");
    }
}

/// Would fail if a position or a length from the cells were used before it is checked.
fn any_words_in_the_cells_give_a_value_or_an_error() {
    let change = proptest::collection::vec((any::<proptest::sample::Index>(), word()), 0..6);
    let steps = proptest::collection::vec((any::<u8>(), change), 1..40);
    run(&(1..90usize, steps), |(buffer, steps)| {
        let queue = queue(buffer);
        let cells =
            &queue.memory().writable_cells().unwrap()[HEADER..HEADER + 32 + buffer.div_ceil(8)];
        let (mut sender, mut receiver) = (queue.sender(1).unwrap(), queue.receiver(2).unwrap());
        let mut got = Vec::new();
        for (what, changes) in steps {
            for (at, word) in changes {
                at.get(cells).store(word, Ordering::Relaxed);
            }
            step(what, &mut sender, &mut receiver, &mut got);
            let _ = (queue.side_state(Side::Sender), queue.side_state(Side::Receiver));
        }
        assert!(queue.sweep(|owner| owner % 2 == 0) <= 2);
        let _ = (queue.sender(3), queue.receiver(u32::MAX));
        Ok(())
    });
}

/// Would fail if a field were neither checked nor part of the hash.
fn any_words_in_the_header_are_refused_or_fit() {
    run(&proptest::collection::vec((0..HEADER, word()), 1..4), |changes| {
        let queue = queue(64);
        let header = &queue.memory().writable_cells().unwrap()[..HEADER];
        let read = || header[..7].iter().map(|cell| cell.load(Ordering::Relaxed));
        let good: Vec<u64> = read().collect();
        for (at, word) in changes {
            header[at].store(word, Ordering::Relaxed);
        }
        let same = read().eq(good);
        let attached = Queue::attach(queue.region().as_fd().try_clone_to_owned().unwrap(), TAG);
        prop_assert_eq!(attached.is_ok(), same);
        Ok(())
    });
}

/// Would fail if a spoilt queue gave a wrong reason, or went on from a wrong position.
fn a_position_or_length_that_cannot_be_is_named() {
    let queue = queue(64);
    let (mut sender, mut receiver) = (queue.sender(1).unwrap(), queue.receiver(2).unwrap());
    let cell = |at: usize| -> &AtomicU64 { &queue.memory().writable_cells().unwrap()[at] };
    let (written, read, buffer) = (cell(16), cell(32), cell(48));
    let mut got = Vec::new();
    for position in [9, u64::MAX] {
        written.store(position, Ordering::Relaxed);
        let end = receiver.try_receive(&mut got);
        assert!(
            matches!(end, Err(ReceiveError::Corrupt { written, read: 0 }) if written == position)
        );
        // A wait does not sleep over it, either.
        let end = receiver.receive(&mut got, &[], None);
        assert!(matches!(end, Err(ReceiveError::Corrupt { .. })), "{end:?}");
    }
    written.store(1, Ordering::Relaxed);
    for len in [LIMIT as u64 + 1, u64::MAX] {
        buffer.store(len, Ordering::Relaxed);
        let end = receiver.receive(&mut got, &[], None);
        assert!(
            matches!(end, Err(ReceiveError::BadLength { len: found, limit: LIMIT }) if found == len)
        );
    }
    read.store(1, Ordering::Relaxed);
    let end = sender.send(&[1; LIMIT], &[], None);
    assert!(matches!(end, Err(SendError::Corrupt { read: 1, written: 0 })), "{end:?}");
    // Once the cell is repaired, both sides go on.
    for cell in [written, read, buffer] {
        cell.store(0, Ordering::Relaxed);
    }
    sender.try_send(b"whole").unwrap();
    receiver.try_receive(&mut got).unwrap();
    assert_eq!(got, b"whole");
}

/// Would fail if a changed announcement or position made a wait spin past its deadline, or if a
/// check and a use of one word were two loads.
fn a_process_that_scribbles_without_pause_hangs_nobody() {
    for buffer in [8, 64, 4096] {
        let queue = queue(buffer);
        let (mut sender, mut receiver) = (queue.sender(1).unwrap(), queue.receiver(2).unwrap());
        let scribbler = fork_child(|| {
            let mut noise = 0x2545_f491_4f6c_dd1d_u64;
            loop {
                for cell in &queue.memory().writable_cells().unwrap()[HEADER..HEADER + 40] {
                    noise ^= noise << 13;
                    noise ^= noise >> 7;
                    noise ^= noise << 17;
                    // Many small values: those that are likely to mean something.
                    cell.store(if noise % 3 == 0 { noise } else { noise % 8 }, Ordering::Relaxed);
                }
            }
        });
        let mut got = Vec::new();
        for round in 0..20_000_u64 {
            step((round.wrapping_mul(167) >> 3) as u8, &mut sender, &mut receiver, &mut got);
        }
        drop(scribbler);
    }
}

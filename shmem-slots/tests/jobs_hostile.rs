//! The promise: whatever the cells of a job queue hold, each operation returns a value or an error:
//! no panic, no access out of bounds, no output beyond a room, no wait beyond its deadline.
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
use shmem_slots::futex;
use shmem_slots::jobs::{JobKey, Jobs, JobsOptions};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::TAG;

/// Cells of the header, which is read once, at attach.
const HEADER: usize = 16;

fn main() -> std::process::ExitCode {
    process_test::main(tests![
        any_words_in_the_cells_give_a_value_or_an_error,
        any_words_in_the_header_are_refused_or_fit,
        a_process_that_scribbles_without_pause_hangs_nobody,
    ])
}

fn queue(jobs: u32) -> Jobs {
    let options = JobsOptions {
        classes: 2,
        jobs,
        room: 64,
        takers: 3,
        submitters: 2,
        shared_cells: 3,
        tag: TAG,
    };
    Jobs::create(&options).unwrap()
}

/// A word that somebody might write, with or without knowledge of the layout.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => Just(0),
        2 => Just(u64::MAX),
        3 => any::<u64>(),
        2 => (0..64u32).prop_map(|bit| 1 << bit),
        // Plausible positions and lengths.
        4 => 0..70u64,
        // Plausible words of jobs: generation, party, flags and state.
        4 => (0..3u64, 0..3u64, 0..4u64, 0..7u64)
            .prop_map(|(round, party, flags, state)| round << 32 | party << 12 | flags << 4 | state),
        // Plausible places: round, generation, and a cell.
        4 => (0..3u64, 0..3u64, 0..12u64)
            .prop_map(|(round, generation, cell)| round << 32 | 1 << 31 | generation << 20 | cell),
    ]
}

fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_micros(50))
}

/// One operation. It may fail by errors of the protocol only.
fn step(jobs: &Jobs, what: u8, keys: &mut Vec<JobKey>) {
    let (class, party) = (u32::from(what >> 4) % 3, u32::from(what >> 6) % 4);
    let mut bytes = Vec::new();
    let key = keys.get(usize::from(what) % keys.len().max(1)).copied();
    let key = key.unwrap_or(JobKey { index: u32::from(what), generation: 0 });
    match what % 12 {
        0 | 1 => {
            keys.extend(jobs.submit(class, party, u32::from(what), &[what; 40], &[1, 2]).ok());
        }
        2 => keys.extend(jobs.take(class, party, |_| false).ok().flatten()),
        3 => keys.extend(jobs.take(class, party, |gone| gone % 2 == 0).ok().flatten()),
        4 => {
            let _ = jobs.end(key, party, 1, &[what; 64]);
        }
        5 => {
            let _ = jobs.close(key, party, 1, &[what; 64]);
        }
        6 => {
            let _ = jobs.collect(key, &mut bytes);
        }
        7 => {
            let _ = (jobs.cancel(key), jobs.look(key), jobs.queued(class));
        }
        8 => {
            jobs.detach(key);
            jobs.abandon(key);
        }
        9 => {
            let _ = jobs.wait_for_job(&[class, 0, 1], party, &[], soon());
        }
        10 => {
            if let Some(watches) = jobs.watches(key) {
                let _ = futex::wait_any(&watches, soon());
            }
        }
        _ => {
            let _ = (jobs.sweep(party), jobs.taken_by(party).count());
        }
    }
    jobs.read(key, &mut bytes);
    assert!(bytes.len() <= jobs.room(), "{} bytes", bytes.len());
    keys.truncate(20);
}

fn run<S: Strategy>(strategy: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = Config { failure_persistence: None, ..Config::default() };
    if let Err(error) = TestRunner::new(config).run(strategy, test) {
        panic!("{error}");
    }
}

/// Would fail if a position, a cell or a length from the cells were used before it is checked, or
/// if a loop ended only when the cells say so.
fn any_words_in_the_cells_give_a_value_or_an_error() {
    let change = proptest::collection::vec((any::<proptest::sample::Index>(), word()), 0..6);
    let steps = proptest::collection::vec((any::<u8>(), change), 1..40);
    run(&(1..9u32, steps), |(size, steps)| {
        let jobs = queue(size);
        let cells = &jobs.memory().writable_cells().unwrap()[HEADER..];
        let mut keys = Vec::new();
        for (what, changes) in steps {
            for (at, word) in changes {
                at.get(cells).store(word, Ordering::Relaxed);
            }
            step(&jobs, what, &mut keys);
        }
        Ok(())
    });
}

/// Would fail if a field were neither checked nor part of the hash.
fn any_words_in_the_header_are_refused_or_fit() {
    run(&proptest::collection::vec((0..HEADER, word()), 1..4), |changes| {
        let jobs = queue(3);
        let header = &jobs.memory().writable_cells().unwrap()[..HEADER];
        let read = || header[..11].iter().map(|cell| cell.load(Ordering::Relaxed));
        let good: Vec<u64> = read().collect();
        for (at, word) in changes {
            header[at].store(word, Ordering::Relaxed);
        }
        let same = read().eq(good);
        let attached = Jobs::attach(jobs.region().as_fd().try_clone_to_owned().unwrap(), TAG);
        prop_assert_eq!(attached.is_ok(), same);
        Ok(())
    });
}

/// Would fail if a changed word made a wait or a search spin, or if a check and a use of one word
/// were two loads.
fn a_process_that_scribbles_without_pause_hangs_nobody() {
    for size in [1, 8, 64] {
        let jobs = queue(size);
        let scribbler = fork_child(|| {
            let mut noise = 0x2545_f491_4f6c_dd1d_u64;
            let cells: &[AtomicU64] = &jobs.memory().writable_cells().unwrap()[HEADER..];
            loop {
                for cell in &cells[..cells.len().min(2_000)] {
                    noise ^= noise << 13;
                    noise ^= noise >> 7;
                    noise ^= noise << 17;
                    // Many small values: those that are likely to mean something.
                    cell.store(if noise % 3 == 0 { noise } else { noise % 8 }, Ordering::Relaxed);
                }
            }
        });
        let mut keys = Vec::new();
        for round in 0..3_000_u64 {
            step(&jobs, (round.wrapping_mul(167) >> 3) as u8, &mut keys);
        }
        drop(scribbler);
    }
}

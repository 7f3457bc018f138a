//! The promise: whatever the region holds, every operation returns a value or an error:
//! no panic, no access out of bounds, no endless loop. And a reset brings order again.
//!
//! Two ways: arbitrary words in every cell before each round (proptest; a failing case is printed
//! and shrunk), and a process that scribbles into all cells without pause meanwhile. A hang is
//! found by the watchdog.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use process_test::{fork_child, tests};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use shmem_slots::futex::{Half, Watch};
use shmem_slots::{Access, Key, MAX_GENERATION, MAX_PID, Memory, Slots, State};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use support::{Array, Report, Request, TAG, drained, in_memfd, options, request};

fn main() -> std::process::ExitCode {
    process_test::main(tests![
        any_words_in_the_region_give_a_value_or_an_error,
        any_words_in_the_header_are_refused_or_fit,
        a_process_that_scribbles_without_pause_hangs_nobody,
        a_reset_after_a_scribbler_gives_every_slot_back,
        a_drain_of_spoilt_hints_visits_each_slot_once,
    ])
}

/// Every public operation that takes a slot: on slots inside and outside the array, with valid and
/// invalid keys.
fn everything(slots: &Array, generation: u64) {
    let _ = (slots.in_use(), slots.occupied().count());
    let mut told = 0;
    slots.drain_changes(|index, word| {
        assert!(index < slots.capacity());
        let _ = format!("{word:?}");
        told += 1;
    });
    assert!(told <= slots.capacity(), "a drain visits a slot once at most");
    assert!(slots.sweep(|owner| owner % 2 == 0) <= slots.capacity() as usize);
    for index in [0, 1, slots.capacity() / 2, slots.capacity() - 1, slots.capacity(), u32::MAX] {
        let now = slots.snapshot(index).map_or(generation, |word| word.generation());
        for generation in [now, generation, MAX_GENERATION, u64::MAX] {
            let key = Key { index, generation };
            let _ = (slots.look(key), slots.read(key), slots.read_report(key));
            let _ = slots.read_report_with(key, |report| report[0] as usize);
            slots.read_own_annex(index, generation as usize, &mut [0; 24]);
            let _ = (slots.set_flags(key, 255), slots.set_flags_and_wake(key, 1));
            let _ = (slots.end(key, index), slots.end(key, 7), slots.release(key));
            let _ = slots.write_report_with(key, &[generation; 4], &[7; 24]);
            let _ = (slots.update(key, MAX_PID, 15), slots.update(key, u32::MAX, 255));
            if generation % 2 == 0 {
                let _ = slots.free(key);
            }
        }
        if let Some(seen) = slots.snapshot(index) {
            let watch = Watch { cell: slots.shared_cell(0).unwrap(), half: Half::High, seen: 0 };
            let soon = Some(Instant::now() + Duration::from_micros(1));
            slots.wait(index, seen, &[watch], soon).unwrap();
        }
    }
    for _ in 0..3 {
        if let Ok(mut claim) = slots.claim(MAX_PID) {
            let _ = claim.write(&request(generation));
            match generation % 3 {
                0 => drop(claim.publish(255)),
                1 => drop(claim.publish_kept(1)),
                _ => {}
            }
        }
    }
}

/// All slots but the retired ones pass through a whole life.
fn works_normally(slots: &Array) {
    let state = |index| slots.snapshot(index).unwrap().state();
    let retired = (0..slots.capacity()).filter(|&at| state(at) == State::Retired).count();
    let mut keys = Vec::new();
    while let Ok(mut claim) = slots.claim(7) {
        claim.write(&request(5)).unwrap();
        keys.push(claim.publish_kept(1).unwrap());
    }
    assert_eq!(keys.len() + retired, slots.capacity() as usize);
    assert_eq!(drained(slots).len(), keys.len());
    for &key in &keys {
        assert_eq!(slots.read(key), Ok(request(5)));
        slots.write_report(key, &[6; 4]).unwrap();
        slots.end(key, 7).unwrap();
    }
    for key in keys {
        assert_eq!(slots.read_report(key), Ok([6; 4]));
        assert!(slots.release(key));
    }
    assert_eq!((slots.in_use(), drained(slots).len()), (0, 0));
}

/// A word that somebody might write, with or without knowledge of the layout.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => Just(0),
        2 => Just(u64::MAX),
        3 => any::<u64>(),
        2 => (0..64u32).prop_map(|bit| 1 << bit),
        // Small numbers: lengths, counts, free slots with a pid.
        2 => 0..1000u64,
        // The last generations, in any state.
        2 => (0..1u64 << 28).prop_map(|low| MAX_GENERATION << 28 | low),
    ]
}

fn any_words_in_the_region_give_a_value_or_an_error() {
    let arrays = [in_memfd(&options(3)), in_memfd(&options(70))];
    // Each case is two walks over everything, some 20 ms here: half as many as usual leave the
    // watchdog room on a loaded machine, and `cargo xtask fuzz` does the same for longer.
    let config = Config { cases: 128, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let strategy = (0..2usize, proptest::collection::vec(word(), 1..512), any::<u64>());
    let done = runner.run(&strategy, |(which, words, generation)| {
        let slots = &arrays[which];
        for (cell, &word) in
            slots.memory().writable_cells().unwrap().iter().zip(words.iter().cycle())
        {
            cell.store(word, Ordering::Relaxed);
        }
        everything(slots, generation);
        slots.reset_all().unwrap();
        slots.sweep(|_| true);
        works_normally(slots);
        everything(slots, generation);
        Ok(())
    });
    if let Err(error) = done {
        panic!("{error}");
    }
}

fn any_words_in_the_header_are_refused_or_fit() {
    let slots = in_memfd(&options(70));
    let good: Vec<u64> = slots.memory().writable_cells().unwrap()[..16]
        .iter()
        .map(|cell| cell.load(Ordering::Relaxed))
        .collect();
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let strategy = proptest::collection::vec((0..16usize, word()), 1..4);
    let done = runner.run(&strategy, |changes| {
        let header = &slots.memory().writable_cells().unwrap()[..16];
        for (cell, &word) in header.iter().zip(&good) {
            cell.store(word, Ordering::Relaxed);
        }
        for &(at, word) in &changes {
            header[at].store(word, Ordering::Relaxed);
        }
        let file = slots.region().as_fd().try_clone_to_owned().unwrap();
        let attached = Slots::<Request, Report>::attach(file, TAG, Access::ReadWrite);
        let same = header
            .iter()
            .zip(&good)
            .take(11)
            .all(|(cell, &word)| cell.load(Ordering::Relaxed) == word);
        prop_assert_eq!(attached.is_ok(), same);
        Ok(())
    });
    if let Err(error) = done {
        panic!("{error}");
    }
}

/// Writes noise into every cell until it is killed.
fn scribble(slots: &Array) {
    let mut noise = 0x2545_f491_4f6c_dd1d_u64;
    loop {
        for cell in slots.memory().writable_cells().unwrap() {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            // Many small values: those that are likely to mean something.
            cell.store(if noise % 3 == 0 { noise } else { noise % 8 }, Ordering::Relaxed);
        }
    }
}

fn a_process_that_scribbles_without_pause_hangs_nobody() {
    for capacity in [3, 70] {
        let slots = in_memfd(&options(capacity));
        let scribbler = fork_child(|| scribble(&slots));
        for round in 0..2000 {
            everything(&slots, round);
            if round % 100 == 0 {
                slots.reset_all().unwrap();
            }
        }
        drop(scribbler);
    }
}

fn a_reset_after_a_scribbler_gives_every_slot_back() {
    let slots = in_memfd(&options(70));
    let scribbler = fork_child(|| scribble(&slots));
    for round in 0..200 {
        everything(&slots, round);
    }
    drop(scribbler);
    slots.reset_all().unwrap();
    slots.sweep(|_| true);
    slots.revive_all(1 << 32).unwrap();
    let mut states = (0..70).map(|index| slots.snapshot(index).unwrap().state());
    assert!(states.all(|state| state == State::Free));
    assert_eq!(drained(&slots), []);
    assert_eq!(support::free_slots(&slots), 70);
}

fn a_drain_of_spoilt_hints_visits_each_slot_once() {
    for capacity in [1, 64, 65, 4097] {
        let slots = in_memfd(&options(capacity));
        for _ in 0..capacity {
            support::published(&slots, 1);
        }
        let word = slots.snapshot(0).unwrap().bits();
        // All cells except the words: every hint is set, even those of slots that do not exist.
        for cell in slots.memory().writable_cells().unwrap() {
            if cell.load(Ordering::Relaxed) != word {
                cell.store(u64::MAX, Ordering::Relaxed);
            }
        }
        assert_eq!(drained(&slots), (0..capacity).collect::<Vec<_>>());
    }
}

//! The promise: processes that share an array lose nothing, get nothing twice, read nothing torn,
//! and are woken; whoever is killed meanwhile.
//!
//! It would catch: a private futex, a wake before the fact, a lost hint, a payload mixed of two
//! tenants. What a few million steps do not meet, the loom models do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use process_test::{Child, Signal, alive, fork_child, tests};
use shmem_slots::futex::{self, Half, Watch};
use shmem_slots::{ClaimError, Key, State};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Instant;
use support::{Array, LIMIT, drained, free_slots, in_memfd, options, published, request};

fn main() -> std::process::ExitCode {
    process_test::main(tests![
        requests_of_four_processes_arrive_once_each_and_whole,
        every_waiter_in_every_process_is_told_of_the_end,
        a_waiter_is_told_of_an_update_by_a_process_that_attached,
        a_killed_waiter_takes_no_wake_up_with_it,
        copies_are_whole_while_slots_are_used_again,
        deaths_at_random_lose_no_slot,
    ])
}

/// The bell of these tests: a cell beside the slots.
fn ring(slots: &Array) {
    let bell = support::bell(slots, 0);
    bell.fetch_add(1, Ordering::AcqRel);
    futex::wake_all(bell);
}

/// Sleeps until the bell has rung since its value was `heard`.
fn listen(slots: &Array, heard: u64) {
    let watch = Watch { cell: slots.shared_cell(0).unwrap(), half: Half::Low, seen: heard as u32 };
    futex::wait_any(&[watch], Some(Instant::now() + LIMIT)).unwrap();
}

/// Waits until the tenancy of `key` is over.
fn wait_until_free(slots: &Array, key: Key) {
    let deadline = Instant::now() + LIMIT;
    while let Some(seen) = slots.look(key).filter(|word| word.state() == State::Published) {
        let woken = slots.wait(key.index, seen, &[], Some(deadline)).unwrap();
        assert_ne!(woken, futex::Woken::TimedOut, "nobody told of the end of {key:?}");
    }
}

fn requests_of_four_processes_arrive_once_each_and_whole() {
    const PROCESSES: u64 = 4;
    const REQUESTS: u64 = 5000;
    let slots = in_memfd(&options(64));
    let backend = |process: u64| {
        for number in 0..REQUESTS {
            let mut claim = loop {
                let heard = slots.shared_cell(1).unwrap().load();
                match slots.claim(process as u32 + 1) {
                    Ok(claim) => break claim,
                    Err(ClaimError::Full { .. }) => {
                        // Until the manager has freed one.
                        let cell = slots.shared_cell(1).unwrap();
                        let watch = Watch { cell, half: Half::Low, seen: heard as u32 };
                        futex::wait_any(&[watch], Some(Instant::now() + LIMIT)).unwrap();
                    }
                    Err(error) => panic!("{error}"),
                }
            };
            claim.write(&request(process << 32 | number)).unwrap();
            let key = claim.publish(0).unwrap();
            ring(&slots);
            if number % 8 == 0 {
                wait_until_free(&slots, key);
                if let Ok(report) = slots.read_report(key) {
                    assert_eq!(report, [process << 32 | number; 4], "another's report");
                }
            }
        }
    };
    let mut backends: Vec<Child> =
        (0..PROCESSES).map(|process| fork_child(|| backend(process))).collect();
    let mut arrived: BTreeMap<u64, u32> = BTreeMap::new();
    while arrived.len() < (PROCESSES * REQUESTS) as usize {
        let heard = slots.shared_cell(0).unwrap().load();
        let mut changed = Vec::new();
        slots.drain_changes(|index, word| {
            changed.push(Key { index, generation: word.generation() });
        });
        if changed.is_empty() {
            listen(&slots, heard);
        }
        for key in changed {
            let [first, rest @ ..] = slots.read(key).unwrap();
            assert!(rest.iter().all(|&word| word == first), "torn");
            *arrived.entry(first).or_default() += 1;
            slots.write_report(key, &[first; 4]).unwrap();
            slots.free(key).unwrap();
            support::bell(&slots, 1).fetch_add(1, Ordering::AcqRel);
            futex::wake_all(slots.shared_cell(1).unwrap());
        }
    }
    assert!(arrived.values().all(|&times| times == 1));
    assert!(backends.iter_mut().all(|child| child.wait().code() == Some(0)));
    assert_eq!(drained(&slots), []);
    assert_eq!(free_slots(&slots), 64);
}

fn every_waiter_in_every_process_is_told_of_the_end() {
    let slots = in_memfd(&options(8));
    for _ in 0..20 {
        let key = published(&slots, 1);
        let mut waiters: Vec<Child> =
            (0..5).map(|_| fork_child(|| wait_until_free(&slots, key))).collect();
        for waiter in &waiters {
            process_test::wait_until_asleep(waiter.pid());
        }
        slots.free(key).unwrap();
        assert!(waiters.iter_mut().all(|waiter| waiter.wait().code() == Some(0)));
    }
}

fn a_waiter_is_told_of_an_update_by_a_process_that_attached() {
    use std::os::fd::AsFd;
    let slots = in_memfd(&options(8));
    let key = published(&slots, 1);
    let seen = slots.look(key).unwrap();
    let file = slots.region().as_fd().try_clone_to_owned().unwrap();
    let mut waiter = fork_child(|| {
        // Another mapping, at another address.
        let own = Array::attach(file, support::TAG, shmem_slots::Access::ReadWrite).unwrap();
        while own.look(key) == Some(seen) {
            let woken = own.wait(key.index, seen, &[], Some(Instant::now() + LIMIT)).unwrap();
            assert_ne!(woken, futex::Woken::TimedOut);
        }
        assert_eq!(own.look(key).unwrap().pid(), 77);
    });
    process_test::wait_until_asleep(waiter.pid());
    slots.update(key, 77, 1).unwrap();
    assert_eq!(waiter.wait().code(), Some(0));
}

fn a_killed_waiter_takes_no_wake_up_with_it() {
    let slots = in_memfd(&options(8));
    let key = published(&slots, 1);
    let mut waiters: Vec<Child> =
        (0..4).map(|_| fork_child(|| wait_until_free(&slots, key))).collect();
    for waiter in &waiters {
        process_test::wait_until_asleep(waiter.pid());
    }
    for waiter in waiters.drain(..2) {
        waiter.kill(Signal::SIGKILL);
    }
    slots.free(key).unwrap();
    assert!(waiters.iter_mut().all(|waiter| waiter.wait().code() == Some(0)));
}

fn copies_are_whole_while_slots_are_used_again() {
    let slots = in_memfd(&options(1));
    // One process uses the only slot again and again, as manager and backend in one.
    let user = fork_child(|| {
        for value in 1.. {
            let key = published(&slots, value);
            slots.write_report(key, &[value; 4]).unwrap();
            slots.write_report(key, &[value; 4]).unwrap();
            slots.free(key).unwrap();
        }
    });
    let (mut copies, mut reports, mut overtaken) = (0, 0, 0);
    let mut tries = 0_u64;
    while copies < 20_000 || reports < 20_000 {
        tries += 1;
        assert!(tries < 100_000_000, "{copies} copies, {reports} reports, {overtaken} overtaken");
        let generation = slots.snapshot(0).unwrap().generation();
        let key = Key { index: 0, generation };
        match slots.read(key) {
            Ok(copy) => {
                assert_eq!(copy, [generation; 96], "the payload of tenancy {generation}");
                copies += 1;
            }
            Err(_) => overtaken += 1,
        }
        if let Ok(report) = slots.read_report(key) {
            assert_eq!(report, [generation; 4], "the report of tenancy {generation}");
            reports += 1;
        }
    }
    drop(user);
}

fn deaths_at_random_lose_no_slot() {
    let slots = in_memfd(&options(16));
    let work = || loop {
        // A full array is no failure: published slots wait for the manager.
        if let Ok(mut claim) = slots.claim(std::process::id()) {
            claim.write(&request(5)).unwrap();
            if std::process::id() % 3 == 0 {
                drop(claim);
            } else {
                let key = claim.publish(0).unwrap();
                let _ = slots.set_flags(key, 1);
            }
        }
    };
    let mut workers: Vec<Child> = (0..3).map(|_| fork_child(work)).collect();
    // A fixed sequence, so that a failure can be reproduced.
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..300 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        for _ in 0..random % 64 {
            slots.drain_changes(|index, word| {
                let key = Key { index, generation: word.generation() };
                assert_eq!(slots.read(key), Ok(request(5)));
                slots.free(key).unwrap();
            });
        }
        let at = (random >> 32) as usize % workers.len();
        drop(workers.remove(at)); // Killed and reaped, wherever it is.
        let dead = |owner: u32| !alive(nix::unistd::Pid::from_raw(owner as i32));
        slots.sweep(dead);
        for (_, word) in slots.occupied() {
            let reserved = word.state() == State::Reserved;
            assert!(!reserved || !dead(word.pid()), "round {round}: not swept: {word:?}");
        }
        workers.push(fork_child(work));
    }
    drop(workers);
    slots.sweep(|_| true);
    for index in drained(&slots) {
        let generation = slots.snapshot(index).unwrap().generation();
        slots.free(Key { index, generation }).unwrap();
    }
    assert_eq!(slots.in_use(), 0);
    assert_eq!(free_slots(&slots), 16);
}

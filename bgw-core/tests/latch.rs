//! The promise: a latch that any process sets ends the wait of its owner, whether it was set before
//! the wait, during it, from a signal handler, or between any two steps of it; and whoever dies,
//! the others go on.
//!
//! Would catch: a private futex, a count that comes too late or stays, a set that is lost between
//! the reset and the look. What thousands of rounds do not meet, the loom models do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bgw_core::internals::WorkerSlots;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use process_test::{Child, fork_child, tests};
use shmem_slots::futex::Woken;
use shmem_slots::{Latch, Wake};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use support::{SLEEPERS, cell, cells_of, deadline, shared_slots, wait_until_asleep};
use support::{wait_for_count, wait_for_no_count};

fn main() -> std::process::ExitCode {
    process_test::main(tests![
        a_latch_set_by_a_process_that_is_gone_ends_the_wait_at_once,
        a_set_wakes_an_owner_that_sleeps_on_the_futex,
        a_signal_handler_sets_the_latch_of_another_process,
        a_killed_owner_leaves_nothing_that_its_successor_or_a_setter_minds,
        no_wake_up_is_lost_in_20000_rounds_on_the_futex,
        no_set_is_lost_between_the_reset_and_the_look,
    ])
}

/// Sleeps until the latch is set, and resets it. A test that waits for longer than it may has lost
/// a wake-up.
fn sleep_on(latch: &Latch<'_>) {
    let seen = latch.seen();
    while !latch.is_set(seen) {
        let woken = latch.wait(seen, &[], deadline()).unwrap();
        assert_ne!(woken, Woken::TimedOut, "a lost wake-up");
    }
    latch.reset();
}

/// Fails when a set wakes sleepers only.
fn a_latch_set_by_a_process_that_is_gone_ends_the_wait_at_once() {
    let slots = shared_slots();
    let latch = Latch::new(cell(&slots, 0));
    latch.adopt();
    let mut setter = fork_child(|| {
        assert_eq!(Latch::new(cell(&slots, 0)).set(), Wake::Done);
        assert_eq!(Latch::new(cell(&slots, 0)).set(), Wake::Done, "twice is once");
    });
    assert_eq!(setter.wait().code(), Some(0));
    let seen = latch.seen();
    assert_eq!(latch.wait(seen, &[], None).unwrap(), Woken::Changed);
    assert!(latch.is_set(seen), "until it is reset");
    assert!(!latch.is_set(latch.reset()));
}

/// Fails with a private futex, and when the setter does not see that the owner sleeps.
fn a_set_wakes_an_owner_that_sleeps_on_the_futex() {
    let slots = shared_slots();
    let cell = cell(&slots, 0);
    let mut owner = fork_child(|| {
        let latch = Latch::new(cell);
        latch.adopt();
        for _ in 0..20 {
            sleep_on(&latch);
        }
    });
    for _ in 0..20 {
        wait_for_count(cell, SLEEPERS);
        wait_until_asleep(owner.pid());
        assert_eq!(Latch::new(cell).set(), Wake::Done);
        // It is about to sleep again, or has ended.
        wait_for_no_count(cell, SLEEPERS);
    }
    assert_eq!(owner.wait().code(), Some(0));
}

static HANDLER_SETS: OnceLock<Arc<WorkerSlots>> = OnceLock::new();

extern "C" fn set_from_handler(_: libc::c_int) {
    if let Some(slots) = HANDLER_SETS.get() {
        let _ = Latch::new(cell(slots, 0)).set();
    }
}

/// A process that is interrupted anywhere sets the latch of another one from its handler.
fn a_signal_handler_sets_the_latch_of_another_process() {
    let slots = shared_slots();
    HANDLER_SETS.set(Arc::clone(&slots)).unwrap();
    let action =
        SigAction::new(SigHandler::Handler(set_from_handler), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does what a latch may do there: one atomic operation, one system call.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
    let busy = fork_child(|| {
        loop {
            std::hint::black_box(vec![0u8; 4096]);
        }
    });
    let latch = Latch::new(cell(&slots, 0));
    latch.adopt();
    for _ in 0..200 {
        busy.kill(Signal::SIGUSR1);
        sleep_on(&latch);
    }
    assert!(process_test::alive(busy.pid()));
}

/// Killed while it sleeps: its count stays until the next owner comes.
fn a_killed_owner_leaves_nothing_that_its_successor_or_a_setter_minds() {
    let slots = shared_slots();
    let word = cell(&slots, 0);
    let latch = Latch::new(word);
    for polls in [false, true] {
        let mut owner = fork_child(|| {
            latch.adopt();
            let seen = latch.reset();
            if polls {
                assert!(latch.begin_poll(seen));
                std::thread::park();
            }
            sleep_on(&latch);
        });
        wait_for_count(word, if polls { support::POLLERS } else { SLEEPERS });
        wait_until_asleep(owner.pid());
        owner.kill(Signal::SIGKILL);
        owner.wait();
        assert_eq!(latch.set(), if polls { Wake::Signal } else { Wake::Done });
        let mut next = fork_child(|| {
            latch.adopt();
            assert_eq!(word.load(Ordering::Acquire), 0, "nothing is left of the one before");
            sleep_on(&latch);
        });
        wait_for_count(word, SLEEPERS);
        wait_until_asleep(next.pid());
        assert_eq!(latch.set(), Wake::Done);
        assert_eq!(next.wait().code(), Some(0));
    }
}

/// Two processes wake each other in turn. Fails when one wake-up of 40,000 is lost.
fn no_wake_up_is_lost_in_20000_rounds_on_the_futex() {
    const ROUNDS: u64 = 20_000;
    let slots = shared_slots();
    // Cell 2 counts the turns taken so far; the even ones are the first player's.
    let play = |number: u64| {
        let latches = [0, 1].map(|at| Latch::new(cell(&slots, at)));
        let (mine, theirs) = (latches[number as usize], latches[1 - number as usize]);
        let turns = cell(&slots, 2);
        for round in 0..ROUNDS {
            loop {
                let seen = mine.reset();
                if turns.load(Ordering::Relaxed) == 2 * round + number {
                    break;
                }
                let woken = mine.wait(seen, &[], deadline()).unwrap();
                assert_ne!(woken, Woken::TimedOut, "round {round}");
            }
            turns.store(2 * round + number + 1, Ordering::Relaxed);
            let _ = theirs.set();
        }
    };
    let mut other = fork_child(|| play(1));
    play(0);
    assert_eq!(other.wait().code(), Some(0));
    assert_eq!(cell(&slots, 2).load(Ordering::Acquire), 2 * ROUNDS);
}

/// Three setters, one owner: reset, look, wait. The counters are plain stores, so the latch alone
/// makes them visible. An owner that resets after its look, or a set that is a plain load when the
/// latch is set already, sleeps over the last one.
fn no_set_is_lost_between_the_reset_and_the_look() {
    const EACH: u64 = 20_000;
    let slots = shared_slots();
    let latch = Latch::new(cell(&slots, 3));
    latch.adopt();
    let counter = |number: u32| -> &AtomicU64 { cells_of(&slots).slot_cell(number, 7).unwrap() };
    let set = |number: u32| {
        for count in 1..=EACH {
            counter(number).store(count, Ordering::Relaxed);
            let _ = latch.set();
        }
    };
    let mut setters: Vec<Child> = (0..3).map(|number| fork_child(move || set(number))).collect();
    loop {
        let seen = latch.reset();
        let total = (0..3).map(|at| counter(at).load(Ordering::Relaxed)).sum::<u64>();
        if total == 3 * EACH {
            break;
        }
        let woken = latch.wait(seen, &[], deadline()).unwrap();
        assert_ne!(woken, Woken::TimedOut, "lost at {total}");
    }
    assert!(setters.iter_mut().all(|child| child.wait().code() == Some(0)));
}

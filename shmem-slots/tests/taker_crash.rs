//! The promise: an offered slot is started once or left to the manager, whatever process is killed
//! or stopped at any point of its way to a taker; and what a stopped process does later starts
//! nothing a second time.
//!
//! The points are not chosen here: every name in `fault::TAKER_POINTS` is armed, for a process
//! that comes to it, and a point that is never reached fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use process_test::{Child, Signal, fork_child, tests};
use shmem_slots::taker::{TakerCell, TakerWord, Taking};
use shmem_slots::{Key, Offer, Options, Region, Slots, State, fault};
use std::sync::atomic::AtomicU64;
use support::{TAG, wait_for_state};

fn main() -> std::process::ExitCode {
    process_test::main(tests![
        who_is_killed_anywhere_leaves_a_slot_that_runs_or_is_the_manager_s,
        who_is_stopped_anywhere_starts_nothing_once_the_manager_has_looked,
    ])
}

type Array = Slots<[u64; 2], [u64; 2], Region>;

const TAKER: u32 = 77;
const STARTED: u8 = 4;
/// Shared cells: in a cluster the second one is in no region.
const CELL: u32 = 0;
const WORD: u32 = 1;

fn slots() -> Array {
    let options = Options {
        capacity: 2,
        tag: TAG,
        shared_cells: 2,
        annex_cells: 0,
        spare_sets: 0,
        first_generation: 0,
    };
    Array::create(&options).unwrap()
}

fn shared(slots: &Array, number: u32) -> &AtomicU64 {
    slots.writable_cells().unwrap().shared_cell(number).unwrap()
}

fn cell(slots: &Array) -> TakerCell<'_> {
    TakerCell::new(shared(slots, CELL))
}

fn word(slots: &Array) -> TakerWord<'_> {
    TakerWord::new(shared(slots, WORD))
}

fn offer(slots: &Array) -> Key {
    let mut claim = slots.claim(1).unwrap();
    claim.write(&[7; 2]).unwrap();
    claim.offer(false).unwrap()
}

/// The taker wakes. True: it runs.
fn wake_up(slots: &Array) -> bool {
    let Some(key) = cell(slots).given() else { return false };
    if !word(slots).begin(key) {
        return false;
    }
    let accepted = slots.accept_offer(key, TAKER, STARTED, || {}).unwrap();
    if accepted {
        word(slots).run(key)
    } else {
        word(slots).step_back(key)
    }
    accepted
}

/// The manager looks after the slot. True: it runs in the taker.
fn look_after(slots: &Array) -> bool {
    let begun = word(slots).close();
    let given = cell(slots).close();
    let mut marked = None;
    slots.drain_changes(|index, word| {
        marked = Some(Key { index, generation: word.generation() });
    });
    let key = begun.key().or(given).or(marked).expect("nobody loses an offered slot");
    match slots.withdraw_offer(key) {
        Offer::Withdrawn(now) => {
            assert_eq!((now.state(), now.pid(), now.flags()), (State::Published, 0, 0));
            assert!(!slots.accept_offer(key, TAKER + 1, STARTED, || {}).unwrap());
            false
        }
        Offer::Accepted(now) => {
            assert_eq!((now.pid(), now.flags()), (TAKER, STARTED));
            assert!(matches!(begun, Taking::Begun(begun) | Taking::Runs(begun) if begun == key));
            true
        }
        Offer::Over => panic!("nobody ends it"),
    }
}

/// A process that comes to `point`. Its exit code says whether it has begun to run.
fn begin(slots: &Array, point: &str, action: &str) -> Child {
    cell(slots).open();
    word(slots).open();
    let role = point.split(':').next().unwrap();
    if role != "give" {
        let key = offer(slots);
        assert!(cell(slots).give(key));
    }
    let armed = fork_child(|| {
        fault::arm(&format!("{point}={action}"));
        match role {
            "give" => drop(cell(slots).give(offer(slots))),
            "accept" => std::process::exit(i32::from(wake_up(slots))),
            "withdraw" => drop(look_after(slots)),
            _ => panic!("{point}"),
        }
    });
    wait_for_state(armed.pid(), if action == "kill" { 'Z' } else { 'T' });
    armed
}

/// Would fail if a step were two writes, or if the slot did not stay marked.
fn who_is_killed_anywhere_leaves_a_slot_that_runs_or_is_the_manager_s() {
    for &point in fault::TAKER_POINTS {
        println!("killed at {point}");
        let slots = slots();
        let mut child = begin(&slots, point, "kill");
        assert_eq!(child.wait().signal(), Some(Signal::SIGKILL), "{point}: was not reached");
        let runs = if point == "withdraw:before_swap" {
            // The manager itself; nobody follows it in a cluster. What it left is as before.
            cell(&slots).open();
            word(&slots).open();
            let key = Key { index: 0, generation: 1 };
            assert!(slots.look(key).unwrap().is_offered() && cell(&slots).give(key));
            assert!(wake_up(&slots));
            look_after(&slots)
        } else {
            look_after(&slots)
        };
        let accepted = ["accept:after_swap", "accept:before_wake", "withdraw:before_swap"];
        assert_eq!(runs, accepted.contains(&point), "{point}");
    }
}

/// Would fail if a process that goes on after a stop acted on what it saw before.
fn who_is_stopped_anywhere_starts_nothing_once_the_manager_has_looked() {
    for &point in fault::TAKER_POINTS {
        println!("stopped at {point}");
        let slots = slots();
        let mut child = begin(&slots, point, "stop");
        let runs = match point {
            // The taker is faster than the manager, which has closed its word already.
            "withdraw:before_swap" => wake_up(&slots),
            _ => look_after(&slots),
        };
        child.kill(Signal::SIGCONT);
        let ran = child.wait().code();
        assert_eq!(ran, Some(i32::from(runs && point.starts_with("accept"))), "{point}");
        if point.starts_with("give") {
            // What it gives, it gives to nobody: the manager has closed the cell.
            assert_eq!((cell(&slots).given(), wake_up(&slots)), (None, false), "{point}");
        }
    }
}

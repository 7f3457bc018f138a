//! The promise: a process killed at any point of any operation leaves nothing behind that a sweep,
//! a drain and a claim do not find. One stopped there hinders no other process, and may continue at
//! any time, even after a reset: it harms no slot that another process has got meanwhile.
//!
//! The points are not chosen here: every name in `fault::POINTS` is armed, and a point that is
//! never reached fails the test. Points are read from the environment once in a process, so each
//! process that reaches them is forked from one that has not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use process_test::{Child, Signal, alive, fork_child, tests};
use shmem_slots::{ClaimError, Options, State, fault};
use std::mem;
use support::{Array, NOBODY, drained, free_slots, in_memfd, kept, options, published, request};

const CAPACITY: u32 = 65;

fn main() -> std::process::ExitCode {
    process_test::main(tests![
        killed_at_any_point_a_process_leaves_no_slot_behind,
        stopped_at_any_point_a_process_hinders_nobody_and_continues,
        continued_after_a_reset_a_process_harms_no_later_tenant,
        a_manager_killed_in_a_report_leaves_the_report_before,
        a_claim_killed_before_its_hints_are_right_is_found_by_the_next_ones,
    ])
}

/// Passes every point: all that a backend does, and all that a manager does.
fn everything(slots: &Array) {
    let key = published(slots, 5);
    drop(slots.claim(std::process::id()).unwrap());
    slots.set_flags(key, 1).unwrap();
    slots.update(key, 9, 0).unwrap();
    slots.write_report(key, &[1; 4]).unwrap();
    slots.write_report(key, &[2; 4]).unwrap();
    slots.free(key).unwrap();
    let read = kept(slots, 5);
    slots.end(read, std::process::id()).unwrap();
    slots.release(read);
    let waited_for = published(slots, 5);
    let hold = slots.hold(waited_for, std::process::id()).unwrap();
    slots.end(waited_for, 0).unwrap();
    drop(hold);
    let unread = kept(slots, 5);
    slots.end(unread, NOBODY).unwrap();
    mem::forget(slots.claim(NOBODY).unwrap());
    // Others sweep, too, while this process is stopped.
    slots.sweep(|owner| owner == NOBODY);
    assert_eq!(slots.sweep(|owner| owner == NOBODY), 0);
}

/// What a backend does. A reset may make any step fail; the rest is then left out.
fn backend(slots: &Array) {
    let me = std::process::id();
    let filled = |value| -> Option<_> {
        let mut claim = slots.claim(me).ok()?;
        claim.write(&request(value)).ok()?;
        Some(claim)
    };
    let kept = filled(5).and_then(|claim| claim.publish_kept(0).ok());
    drop(filled(5));
    if let Some(key) = filled(5).and_then(|claim| claim.publish(0).ok()) {
        let _ = slots.set_flags(key, 1);
    }
    if let Some(key) = kept {
        drop(slots.hold(key, me));
        slots.release(key);
    }
}

/// A child that works on the slots and does `action` at `point`.
fn armed(slots: &Array, point: &str, action: &str, work: impl FnOnce(&Array)) -> Child {
    fork_child(|| {
        fault::arm(&format!("{point}={action}"));
        work(slots);
    })
}

fn is_dead(owner: u32) -> bool {
    owner == NOBODY || !alive(nix::unistd::Pid::from_raw(owner as i32))
}

/// What a manager does after a death. Afterwards every slot must be free.
fn all_is_found(slots: &Array, point: &str) {
    slots.sweep(is_dead);
    let told = drained(slots);
    for (index, word) in slots.occupied().collect::<Vec<_>>() {
        assert_eq!(word.state(), State::Published, "{point}: a claim was not swept");
        // The mark is cleared before the word changes; only a manager can die in between.
        assert!(told.contains(&index) || point == "free:before_swap", "{point}: not drained");
        let key = shmem_slots::Key { index, generation: word.generation() };
        assert_eq!(slots.read(key), Ok(request(5)), "killed at {point}");
        slots.free(key).unwrap();
    }
    assert_eq!(free_slots(slots), CAPACITY, "{point}");
    assert_eq!(slots.sweep(|_| true), 0);
}

fn killed_at_any_point_a_process_leaves_no_slot_behind() {
    for point in fault::POINTS {
        let slots = in_memfd(&options(CAPACITY));
        let mut child = armed(&slots, point, "kill", everything);
        assert_eq!(child.wait().signal(), Some(Signal::SIGKILL), "{point} was not reached");
        let mut check = fork_child(|| all_is_found(&slots, point));
        assert_eq!(check.wait().code(), Some(0), "{point}");
    }
}

fn stopped_at_any_point_a_process_hinders_nobody_and_continues() {
    for point in fault::POINTS {
        let slots = in_memfd(&options(CAPACITY));
        let mut child = armed(&slots, point, "stop", everything);
        support::wait_for_state(child.pid(), 'T');
        // The others go on: they claim what is free, and are told when nothing is left.
        let mut others = fork_child(|| {
            let mut claims = Vec::new();
            let full = loop {
                match slots.claim(std::process::id()) {
                    Ok(claim) => claims.push(claim),
                    Err(ClaimError::Full { capacity, in_use }) => break (capacity, in_use),
                    Err(error) => panic!("{error}"),
                }
            };
            assert_eq!(full, (CAPACITY, CAPACITY), "{point}");
            // The stopped process has two slots at most: one published, one claimed.
            assert!(claims.len() as u32 >= CAPACITY - 2, "{point}: {}", claims.len());
            drop(claims);
            assert!(slots.sweep(|owner| owner == NOBODY) <= 2);
        });
        assert_eq!(others.wait().code(), Some(0), "stopped at {point}");
        child.kill(Signal::SIGCONT);
        assert_eq!(child.wait().code(), Some(0), "continued at {point}");
        let mut check = fork_child(|| all_is_found(&slots, point));
        assert_eq!(check.wait().code(), Some(0), "{point}");
    }
}

/// Would fail if a reset freed the slot of a stopped claimer: its stores would land in the payload
/// of the next tenant.
fn continued_after_a_reset_a_process_harms_no_later_tenant() {
    let of_backends =
        ["claim:", "publish:", "abandon:", "set_flags:", "hold:", "release:", "vacate:"];
    let points = fault::POINTS
        .iter()
        .filter(|point| of_backends.iter().any(|operation| point.starts_with(operation)));
    for point in points {
        let slots = in_memfd(&options(4));
        let mut child = armed(&slots, point, "stop", backend);
        support::wait_for_state(child.pid(), 'T');
        let mut others = fork_child(|| {
            slots.reset_all().unwrap();
            let mut keys = Vec::new();
            while let Ok(mut claim) = slots.claim(std::process::id()) {
                claim.write(&request(9)).unwrap();
                keys.push(claim.publish(0).unwrap());
            }
            assert!(keys.len() >= 3, "{point}: the stopped process has one claim at most");
            // Frees one slot, so that the steps after the point have one to work on.
            slots.free(keys.pop().unwrap()).unwrap();
        });
        assert_eq!(others.wait().code(), Some(0), "stopped at {point}");
        // Looking passes no point.
        let tenants: Vec<_> = slots.occupied().filter(|(_, word)| word.pid() == 0).collect();
        assert!(tenants.len() >= 2, "{point}");
        child.kill(Signal::SIGCONT);
        assert_eq!(child.wait().code(), Some(0), "continued at {point}");
        for (index, word) in tenants {
            let key = shmem_slots::Key { index, generation: word.generation() };
            assert_eq!((slots.look(key), slots.read(key)), (Some(word), Ok(request(9))), "{point}");
        }
        let mut check = fork_child(|| {
            for (index, word) in slots.occupied().collect::<Vec<_>>() {
                slots.free(shmem_slots::Key { index, generation: word.generation() }).unwrap();
            }
            assert_eq!(slots.sweep(is_dead), 0, "{point}: it has given back what it had");
            assert_eq!(free_slots(&slots), 4, "{point}");
        });
        assert_eq!(check.wait().code(), Some(0), "{point}");
    }
}

fn a_manager_killed_in_a_report_leaves_the_report_before() {
    for (point, times) in [("report:half_written", 3), ("report:before_number", 2)] {
        let slots = in_memfd(&Options { annex_cells: 4, ..options(1) });
        let mut child = armed(&slots, point, &format!("kill@{times}"), |slots| {
            let key = published(slots, 5);
            for number in 1..=times {
                slots.write_report_with(key, &[number; 4], &[number as u8; 32]).unwrap();
            }
        });
        assert_eq!(child.wait().signal(), Some(Signal::SIGKILL));
        let key = shmem_slots::Key { index: 0, generation: 1 };
        let mut check = fork_child(|| {
            let before = ([times - 1; 4], vec![times as u8 - 1; 32]);
            assert_eq!(slots.read_report_with(key, |_| 32), Ok(before), "{point}");
        });
        assert_eq!(check.wait().code(), Some(0));
    }
}

fn a_claim_killed_before_its_hints_are_right_is_found_by_the_next_ones() {
    // One death after the other on the same array.
    let points = fault::POINTS.iter().filter(|point| {
        ["claim:", "publish:", "abandon:", "vacate:"]
            .iter()
            .any(|operation| point.starts_with(operation))
    });
    let slots = in_memfd(&options(CAPACITY));
    for point in points.cycle().take(3 * CAPACITY as usize) {
        let mut child = armed(&slots, point, "kill", everything);
        assert_eq!(child.wait().signal(), Some(Signal::SIGKILL), "{point}");
        // Late, so that deaths pile up.
        if slots.occupied().count() > CAPACITY as usize / 2 {
            let mut check = fork_child(|| all_is_found(&slots, "many points"));
            assert_eq!(check.wait().code(), Some(0), "{point}");
        }
    }
    let mut check = fork_child(|| all_is_found(&slots, "the end"));
    assert_eq!(check.wait().code(), Some(0));
}

//! The promise: a side of a queue that is killed at any point of any operation, or stopped there,
//! leaves the other side with whole messages and then `Detached`, once somebody has told of the
//! death; never with half a message, a message twice, or a sleep that the telling does not end.
//!
//! The points are not chosen here: every name in `fault::QUEUE_POINTS` is armed for each side that
//! comes to it, and a point that is never reached fails the test. Points are read from the
//! environment once in a process, so each process that meets them is forked from one that has not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use process_test::{Child, Signal, fork_child, tests};
use shmem_slots::fault;
use shmem_slots::queue::{Queue, QueueOptions, ReceiveError, SendError, Side, SideState};
use std::time::{Duration, Instant};
use support::{TAG, wait_for_state};

fn main() -> std::process::ExitCode {
    let slow = |name, run| process_test::Test::new(name, run).watchdog(Duration::from_secs(120));
    let mut all = tests![every_point_has_a_case];
    all.push(slow("a_side_killed_anywhere_leaves_whole_messages_and_then_detached", killed));
    all.push(slow("a_side_stopped_anywhere_loses_nothing", stopped));
    process_test::main(all)
}

const MESSAGES: u8 = 40;

fn queue() -> Queue {
    Queue::create(&QueueOptions { buffer: 64, max_message: 1000, tag: TAG }).unwrap()
}

/// Lengths from 0 to three times the buffer.
fn message(number: u8) -> Vec<u8> {
    vec![number; usize::from(number) * 5]
}

/// No deadline, so that the watchdog finds a lost wake-up: a wait with a deadline looks once more
/// at its end.
const NEVER: Option<Instant> = None;

/// Sends up to so many messages, and detaches. Returns how many it sent before the receiver was
/// gone.
fn send(queue: &Queue, count: u8) -> u8 {
    let mut sender = queue.sender(std::process::id()).unwrap();
    for number in 0..count {
        match sender.send(&message(number), &[], NEVER) {
            Ok(()) => {}
            Err(SendError::Detached) => return number,
            Err(error) => panic!("message {number}: {error}"),
        }
    }
    count
}

/// Receives up to so many messages, and detaches. Each must be whole and the next in order. Returns
/// how many it received.
fn receive(queue: &Queue, count: u8) -> u8 {
    let mut receiver = queue.receiver(std::process::id()).unwrap();
    let mut got = Vec::new();
    for number in 0..count {
        match receiver.receive(&mut got, &[], NEVER) {
            Ok(()) => assert_eq!(got, message(number), "message {number}"),
            Err(ReceiveError::Detached) => return number,
            Err(error) => panic!("message {number}: {error}"),
        }
    }
    count
}

fn work(queue: &Queue, side: Side, count: u8) -> u8 {
    match side {
        Side::Sender => send(queue, count),
        Side::Receiver => receive(queue, count),
    }
}

/// How a process is led to a point for certain.
struct Case {
    point: &'static str,
    side: Side,
    /// At which pass through the point it acts.
    time: u32,
    /// How many messages it passes before it detaches.
    count: u8,
    /// Whether the other side is asleep before it begins; else it comes afterwards.
    other_first: bool,
}

/// Every point, for each side that reaches it.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for &point in fault::QUEUE_POINTS {
        for (side, prefix) in [(Side::Sender, "send:"), (Side::Receiver, "receive:")] {
            // The other side sleeps, because there is no message or no room. Only then does a
            // detach wake it; and a side that finds what it waits for announces nothing.
            let (times, count, other_first): (&[u32], _, _) = match point.split_once(':').unwrap() {
                ("queue", _) => (&[1], MESSAGES, true),
                ("detach", _) => (&[1], 0, true),
                (_, "announced") if point.starts_with(prefix) => (&[1], MESSAGES, false),
                (_, "before_wake") if point.starts_with(prefix) => (&[1], MESSAGES, true),
                _ if point.starts_with(prefix) => (&[1, 7, 20], MESSAGES, true),
                _ => continue,
            };
            let case = |&time| Case { point, side, time, count, other_first };
            cases.extend(times.iter().map(case));
        }
    }
    cases
}

impl Case {
    /// A child that does `action` at the point, and another one on the other side.
    fn begin(&self, queue: &Queue, action: &str) -> (Child, Child) {
        let other_side = if self.side == Side::Sender { Side::Receiver } else { Side::Sender };
        let other = || {
            let child = fork_child(|| {
                let passed = work(queue, other_side, MESSAGES);
                // Whatever the other side has completed was completed here, too.
                assert!(action == "kill" || passed >= self.count);
            });
            process_test::wait_until_asleep(child.pid());
            child
        };
        let armed = || {
            fork_child(|| {
                shmem_slots::fault::arm(&format!("{}={action}@{}", self.point, self.time));
                assert_eq!(work(queue, self.side, self.count), self.count);
            })
        };
        let reach = |child: &Child| {
            let state = if action == "kill" { 'Z' } else { 'T' };
            wait_for_state(child.pid(), state);
        };
        if self.other_first {
            let other = other();
            let child = armed();
            reach(&child);
            (child, other)
        } else {
            let child = armed();
            reach(&child);
            let other = other();
            (child, other)
        }
    }
}

/// Would fail if a position were stored before its bytes, if the announcement of a dead side kept
/// the other one from going on, or if nobody could report the death any more, because the dead side
/// had already taken back an announcement.
fn killed() {
    for case in cases() {
        let queue = queue();
        let what = format!("{} killed at {}, time {}", case.side, case.point, case.time);
        println!("{what}");
        let (mut child, mut other) = case.begin(&queue, "kill");
        assert_eq!(child.wait().signal(), Some(Signal::SIGKILL), "{what}: was not reached");
        let dead = child.pid().as_raw() as u32;
        let mut teller = fork_child(|| {
            // None when it was killed after it had detached.
            let told = queue.sweep(|owner| owner == dead);
            assert_eq!(told == 0, case.point == "detach:before_wake", "{what}");
        });
        assert_eq!(teller.wait().code(), Some(0), "{what}");
        assert_eq!(queue.side_state(case.side), SideState::Detached);
        assert_eq!(other.wait().code(), Some(0), "{what}");
    }
}

/// Would fail if the other side acted on a step that a stopped side has only half done.
fn stopped() {
    for case in cases() {
        let queue = queue();
        let what = format!("{} stopped at {}, time {}", case.side, case.point, case.time);
        println!("{what}");
        let (mut child, mut other) = case.begin(&queue, "stop");
        child.kill(Signal::SIGCONT);
        assert_eq!(child.wait().code(), Some(0), "{what}");
        assert_eq!(other.wait().code(), Some(0), "{what}");
    }
}

/// Would fail if a point were added that no case reaches.
fn every_point_has_a_case() {
    for point in fault::QUEUE_POINTS {
        assert!(cases().iter().any(|case| case.point == *point), "{point}");
    }
}

//! The promise: a process that is killed or stopped at any point of any operation on a job queue
//! holds up nobody else, and nothing of it is left once it was swept: no cell, no place in the
//! order, no job that runs twice.
//!
//! The points are not chosen here: every name in `fault::JOB_POINTS` is armed, for a process that
//! comes to it, and a point that is never reached fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use process_test::{Child, Signal, fork_child, tests};
use shmem_slots::fault;
use shmem_slots::futex::{self, Half, Watch};
use shmem_slots::jobs::{JobKey, Jobs, JobsOptions, SubmitError};
use std::time::Duration;
use support::{TAG, wait_for_state};

fn main() -> std::process::ExitCode {
    let slow = |name, run| process_test::Test::new(name, run).watchdog(Duration::from_secs(120));
    let mut all = tests![
        a_taker_that_was_woken_and_stopped_leaves_the_job_to_another,
        a_taker_that_died_in_its_sleep_takes_no_wake_up_from_another,
    ];
    all.push(slow("who_is_killed_anywhere_holds_up_nobody_and_leaves_nothing", killed));
    all.push(slow("who_is_stopped_anywhere_holds_up_nobody_and_goes_on", stopped));
    process_test::main(all)
}

const JOBS: u32 = 6;
/// Parties of the process that is killed or stopped, and of the one that is not.
const VICTIM: u32 = 0;
const OTHER: u32 = 1;
const INPUT: [u8; 24] = [7; 24];

fn queue() -> Jobs {
    let options = JobsOptions {
        classes: 1,
        jobs: JOBS,
        room: 64,
        takers: 2,
        submitters: 2,
        shared_cells: 0,
        tag: TAG,
    };
    Jobs::create(&options).unwrap()
}

fn submit(jobs: &Jobs, submitter: u32) -> JobKey {
    jobs.submit(0, submitter, 0, &INPUT, &[]).unwrap()
}

fn take(jobs: &Jobs, taker: u32) -> JobKey {
    jobs.take(0, taker, |_| false).unwrap().expect("a job waits")
}

fn input(jobs: &Jobs, key: JobKey) {
    let mut input = Vec::new();
    jobs.read(key, &mut input);
    assert_eq!(input, INPUT);
}

/// Comes to every point, if what `prepared` returned was done before.
fn work(jobs: &Jobs, point: &str, prepared: Option<JobKey>) {
    match (point.split(':').next().unwrap(), prepared) {
        ("submit", _) => {
            for _ in 0..3 {
                submit(jobs, VICTIM);
            }
        }
        ("sleep", _) => {
            // A word that has changed already: it sleeps on no clock.
            let cell = (&jobs.taker_cells(VICTIM).unwrap()[0]).into();
            let changed = Watch { cell, half: Half::Low, seen: 1 };
            jobs.wait_for_job(&[0], VICTIM, &[changed], None).unwrap();
        }
        ("take" | "end", _) => {
            // One may have been taken by the other meanwhile.
            while let Some(key) = jobs.take(0, VICTIM, |_| false).unwrap() {
                input(jobs, key);
                jobs.end(key, VICTIM, 1, &[1; 8]).unwrap();
            }
        }
        ("close", Some(key)) => assert!(jobs.close(key, VICTIM, 2, &[2; 8]).is_ok()),
        ("collect", Some(key)) => assert_eq!(jobs.collect(key, &mut Vec::new()), Some(1)),
        ("sweep", _) => assert_eq!(jobs.sweep(VICTIM), 0),
        other => panic!("{other:?}"),
    }
}

/// What is there before the victim begins.
fn prepare(jobs: &Jobs, point: &str) -> Option<JobKey> {
    match point.split(':').next().unwrap() {
        "take" | "end" => {
            submit(jobs, OTHER);
            submit(jobs, OTHER);
            None
        }
        "close" => {
            submit(jobs, OTHER);
            Some(take(jobs, VICTIM))
        }
        "collect" => {
            let key = submit(jobs, VICTIM);
            let taken = take(jobs, OTHER);
            jobs.end(taken, OTHER, 1, &[]).unwrap();
            Some(key)
        }
        _ => None,
    }
}

fn begin(jobs: &Jobs, point: &str, action: &str) -> Child {
    let prepared = prepare(jobs, point);
    let armed = fork_child(|| {
        fault::arm(&format!("{point}={action}"));
        work(jobs, point, prepared);
    });
    wait_for_state(armed.pid(), if action == "kill" { 'Z' } else { 'T' });
    armed
}

/// One process submits and takes, past whatever the victim has left.
fn go_on(jobs: &Jobs, what: &str) {
    for round in 0..40 {
        let key = submit(jobs, OTHER);
        loop {
            let taken = take(jobs, OTHER);
            input(jobs, taken);
            assert!(jobs.end(taken, OTHER, 1, &[3; 8]).unwrap().wanted, "{what}, round {round}");
            if taken == key {
                break;
            }
            // Another's, or one of those that were prepared.
            if jobs.submitter_of(taken) == OTHER {
                assert!(jobs.collect(taken, &mut Vec::new()).is_some());
            }
        }
        let mut output = Vec::new();
        assert_eq!(jobs.collect(key, &mut output), Some(1), "{what}, round {round}");
        assert_eq!(output, [3; 8]);
    }
}

/// Would fail if a step were done by its process alone, or if a state did not name its party.
fn killed() {
    for &point in fault::JOB_POINTS {
        println!("killed at {point}");
        let jobs = queue();
        let sleeper = sleeper_for(&jobs, point);
        let mut child = begin(&jobs, point, "kill");
        assert_eq!(child.wait().signal(), Some(Signal::SIGKILL), "{point}: was not reached");
        drop(sleeper);
        jobs.is_awake(OTHER);
        go_on(&jobs, point);
        let taken: Vec<_> = jobs.taken_by(VICTIM).collect();
        for key in taken {
            assert!(jobs.close(key, VICTIM, 2, &[]).is_ok());
        }
        jobs.is_awake(VICTIM);
        assert!(jobs.nobody_sleeps());
        jobs.sweep(VICTIM);
        jobs.sweep(OTHER);
        nothing_is_left(&jobs, point);
    }
}

/// A taker that sleeps, for those points that are passed only then.
fn sleeper_for(jobs: &Jobs, point: &str) -> Option<Child> {
    ["submit:before_wake", "submit:woken"].contains(&point).then(|| {
        let child = fork_child(|| drop(jobs.wait_for_job(&[0], OTHER, &[], None)));
        process_test::wait_until_asleep(child.pid());
        child
    })
}

fn nothing_is_left(jobs: &Jobs, what: &str) {
    assert_eq!(jobs.take(0, OTHER, |_| false), Ok(None), "{what}");
    for number in 0..JOBS {
        let submitted = jobs.submit(0, OTHER, 0, &INPUT, &[]);
        assert!(submitted.is_ok(), "{what}: job {number}: {submitted:?}");
    }
    let one_more = jobs.submit(0, OTHER, 0, &INPUT, &[]);
    assert_eq!(one_more, Err(SubmitError::Full { class: 0 }), "{what}");
    for _ in 0..JOBS {
        let key = take(jobs, OTHER);
        input(jobs, key);
    }
    assert_eq!(jobs.take(0, OTHER, |_| false), Ok(None), "{what}");
}

/// Would fail if a process that goes on after a stop acted on what it saw before.
fn stopped() {
    for &point in fault::JOB_POINTS {
        println!("stopped at {point}");
        let jobs = queue();
        let sleeper = sleeper_for(&jobs, point);
        let mut child = begin(&jobs, point, "stop");
        drop(sleeper);
        jobs.is_awake(OTHER);
        go_on(&jobs, point);
        child.kill(Signal::SIGCONT);
        assert_eq!(child.wait().code(), Some(0), "{point}");
        while let Some(key) = jobs.take(0, OTHER, |_| false).unwrap() {
            input(&jobs, key);
            jobs.end(key, OTHER, 1, &[]).unwrap();
        }
        assert_eq!(jobs.taken_by(VICTIM).count(), 0, "{point}");
        jobs.sweep(VICTIM);
        jobs.sweep(OTHER);
        nothing_is_left(&jobs, point);
    }
}

/// Two takers sleep, one is woken and stopped before it takes. Would fail if the submitter could
/// not wake the other one.
fn a_taker_that_was_woken_and_stopped_leaves_the_job_to_another() {
    let jobs = queue();
    let taker = |number: u32, faults: &'static str| {
        let jobs = &jobs;
        let child = fork_child(move || {
            fault::arm(faults);
            let key = loop {
                match jobs.take(0, number, |_| false).unwrap() {
                    Some(key) => break key,
                    None => drop(jobs.wait_for_job(&[0], number, &[], None).unwrap()),
                }
            };
            jobs.end(key, number, number, &[]).unwrap();
        });
        process_test::wait_until_asleep(child.pid());
        child
    };
    // The first one is woken.
    let stopped = taker(VICTIM, "take:before_swap=stop");
    let mut other = taker(OTHER, "");
    let key = submit(&jobs, OTHER);
    wait_for_state(stopped.pid(), 'T');
    assert!(jobs.look(key).is_some());
    jobs.wake_all_takers(0);
    assert_eq!(other.wait().code(), Some(0));
    assert_eq!(jobs.collect(key, &mut Vec::new()), Some(OTHER));
}

/// Would fail if a wake-up that reached nobody counted as one.
fn a_taker_that_died_in_its_sleep_takes_no_wake_up_from_another() {
    let jobs = queue();
    let taker = |number: u32| {
        let jobs = &jobs;
        let child = fork_child(move || {
            for _ in 0..2 {
                let key = loop {
                    match jobs.take(0, number, |_| false).unwrap() {
                        Some(key) => break key,
                        None => drop(jobs.wait_for_job(&[0], number, &[], None).unwrap()),
                    }
                };
                jobs.end(key, number, number, &[]).unwrap();
            }
        });
        process_test::wait_until_asleep(child.pid());
        child
    };
    let mut dead = taker(VICTIM);
    dead.kill(Signal::SIGKILL);
    assert_eq!(dead.wait().signal(), Some(Signal::SIGKILL));
    let mut other = taker(OTHER);
    assert_eq!(jobs.sleeping(), 2);
    for _ in 0..2 {
        let key = submit(&jobs, OTHER);
        while let Some(watches) = jobs.watches(key) {
            futex::wait_any(&watches, None).unwrap();
        }
        assert_eq!(jobs.collect(key, &mut Vec::new()), Some(OTHER));
    }
    assert_eq!(other.wait().code(), Some(0));
}

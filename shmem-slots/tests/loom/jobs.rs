//! The job queue: what was written comes with the word, each job is taken once, nobody's wake-up is
//! lost, and a step that another process has begun is done by whoever comes next.

use loom::sync::Arc;
use loom::thread;
use shmem_slots::Heap;
use shmem_slots::futex;
use shmem_slots::jobs::{Cancel, JobKey, JobState, Jobs, JobsOptions, SubmitError};

type Queue = Jobs<Heap>;

fn queue(jobs: u32) -> Arc<Queue> {
    let options = JobsOptions {
        classes: 1,
        jobs,
        room: 8,
        takers: 2,
        submitters: 2,
        shared_cells: 0,
        tag: 0,
    };
    Arc::new(Jobs::heap(&options).unwrap())
}

fn submit(queue: &Queue, submitter: u32, input: u8) -> JobKey {
    queue.submit(0, submitter, submitter, &[input; 8], &[]).unwrap()
}

fn take(queue: &Queue, taker: u32) -> Option<(JobKey, u8)> {
    let key = queue.take(0, taker, |_| false).unwrap()?;
    let mut input = Vec::new();
    queue.read(key, &mut input);
    assert!(input.iter().all(|&byte| byte == input[0]) && input.len() == 8, "{input:?}");
    Some((key, input[0]))
}

fn collect(queue: &Queue, key: JobKey) -> Option<(u32, Vec<u8>)> {
    let mut output = Vec::new();
    queue.collect(key, &mut output).map(|code| (code, output))
}

/// Nobody sleeps. Fails when the swap to queued, that to ended, or the looks at them, are relaxed:
/// then the input or the output is old.
#[test]
fn who_sees_a_job_reads_its_input_and_who_sees_its_end_its_output() {
    loom::model(|| {
        let queue = queue(1);
        let taker = Arc::clone(&queue);
        let thread = thread::spawn(move || {
            loop {
                if let Some((key, input)) = take(&taker, 1) {
                    assert_eq!(input, 7);
                    assert!(taker.end(key, 1, 3, &[9; 8]).unwrap().wanted);
                    return;
                }
                thread::yield_now();
            }
        });
        let key = submit(&queue, 0, 7);
        loop {
            if let Some(end) = collect(&queue, key) {
                assert_eq!(end, (3, vec![9; 8]));
                break;
            }
            thread::yield_now();
        }
        thread.join().unwrap();
        assert_eq!(queue.look(key), None);
    });
}

/// Fails when a taker stores its word without a comparison, and when the place at the head is
/// emptied before the job is had.
#[test]
fn a_job_is_taken_by_one() {
    loom::model(|| {
        let queue = queue(2);
        submit(&queue, 0, 1);
        submit(&queue, 1, 2);
        let other = Arc::clone(&queue);
        let thread = thread::spawn(move || take(&other, 1).unwrap().1);
        let mine = take(&queue, 0).unwrap().1;
        let theirs = thread.join().unwrap();
        assert!(mine != theirs, "{mine} twice");
        assert_eq!(take(&queue, 0), None);
    });
}

/// Fails when the tail is not stepped on for others, or stepped on by more than one place.
#[test]
fn two_jobs_that_come_at_once_are_both_there() {
    loom::model(|| {
        let queue = queue(2);
        let other = Arc::clone(&queue);
        let thread = thread::spawn(move || submit(&other, 1, 2));
        submit(&queue, 0, 1);
        thread.join().unwrap();
        let mut got = [take(&queue, 0).unwrap().1, take(&queue, 0).unwrap().1];
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
        assert_eq!(take(&queue, 0), None);
    });
}

/// The order has gone round nearly once, so that the next two jobs lie in the last place and in the
/// first. Fails when an emptied place does not say which round comes next.
#[test]
fn a_place_of_an_earlier_round_is_never_taken_for_one_of_this() {
    loom::model(|| {
        let queue = queue(1);
        for input in 0..3 {
            let key = submit(&queue, 0, input);
            let (taken, _) = take(&queue, 0).unwrap();
            queue.end(taken, 0, 0, &[]).unwrap();
            assert!(collect(&queue, key).is_some());
        }
        let taker = Arc::clone(&queue);
        let thread = thread::spawn(move || {
            let taken = take(&taker, 1);
            if let Some((key, input)) = taken {
                assert_eq!(input, 3);
                taker.end(key, 1, 0, &[]).unwrap();
            }
            taken.is_some()
        });
        let key = submit(&queue, 0, 3);
        if !thread.join().unwrap() {
            assert_eq!(queue.cancel(key), Cancel::Cancelled);
        } else {
            assert!(collect(&queue, key).is_some());
        }
        submit(&queue, 0, 4);
        assert_eq!(take(&queue, 0).unwrap().1, 4);
    });
}

/// Fails without the fence of the submitter before its look for sleepers (T5), without that of the
/// taker after its announcement (T4), when the taker does not look again after it, when it is rung
/// after the wake, or not at all.
#[test]
fn a_sleeping_taker_is_told_of_a_job() {
    loom::model(|| {
        let queue = queue(1);
        let taker = Arc::clone(&queue);
        let thread = thread::spawn(move || {
            loop {
                if let Some((_, input)) = take(&taker, 1) {
                    return input;
                }
                taker.wait_for_job(&[0], 1, &[], None).unwrap();
            }
        });
        submit(&queue, 0, 7);
        assert_eq!(thread.join().unwrap(), 7);
    });
}

/// The second job comes while the taker sleeps, is about to, or was woken for the first. Fails when
/// a taker that has looked since it was woken still counts as woken.
#[test]
fn a_taker_that_was_woken_finds_every_job_that_came_since() {
    loom::model(|| {
        let queue = queue(2);
        let taker = Arc::clone(&queue);
        let thread = thread::spawn(move || {
            let mut left = 2;
            while left > 0 {
                if take(&taker, 1).is_some() {
                    left -= 1;
                } else {
                    taker.wait_for_job(&[0], 1, &[], None).unwrap();
                }
            }
        });
        submit(&queue, 0, 7);
        submit(&queue, 1, 8);
        thread.join().unwrap();
    });
}

/// Fails when the end does not look for a sleeper in the very word that it swaps, or wakes before
/// the swap.
#[test]
fn a_sleeping_submitter_is_told_of_the_end() {
    loom::model(|| {
        let queue = queue(1);
        let key = submit(&queue, 0, 7);
        let (taken, _) = take(&queue, 1).unwrap();
        let taker = Arc::clone(&queue);
        let thread = thread::spawn(move || taker.end(taken, 1, 3, &[9; 8]).unwrap());
        let end = loop {
            if let Some(end) = collect(&queue, key) {
                break end;
            }
            if let Some(watches) = queue.watches(key) {
                futex::wait_any(&watches, None).unwrap();
            }
        };
        assert_eq!(end, (3, vec![9; 8]));
        assert!(thread.join().unwrap().wanted);
    });
}

/// Fails when a cancel or a take looks and then stores.
#[test]
fn a_job_is_cancelled_or_taken() {
    loom::model(|| {
        let queue = queue(1);
        let key = submit(&queue, 0, 7);
        let taker = Arc::clone(&queue);
        let thread = thread::spawn(move || take(&taker, 1).is_some());
        let cancelled = queue.cancel(key);
        let taken = thread.join().unwrap();
        assert_eq!(cancelled == Cancel::Cancelled, !taken, "{cancelled:?}");
        assert_eq!(queue.look(key).is_some(), taken);
        if taken {
            assert_eq!(cancelled, Cancel::Taken { taker: 1 });
        }
    });
}

/// Fails when the end, or the word that nobody wants to know, is stored without a comparison.
#[test]
fn a_job_that_nobody_wants_to_know_of_is_freed_once_it_is_over() {
    loom::model(|| {
        let queue = queue(1);
        let key = submit(&queue, 0, 7);
        let (taken, _) = take(&queue, 1).unwrap();
        let taker = Arc::clone(&queue);
        let thread = thread::spawn(move || taker.end(taken, 1, 0, &[]).unwrap());
        queue.detach(key);
        thread.join().unwrap();
        assert_eq!(queue.look(key), None);
        submit(&queue, 0, 8);
    });
}

/// A submitter is swept while its job is taken. Fails when the sweep looks and then stores.
#[test]
fn a_job_of_a_dead_submitter_is_given_up_or_runs_and_frees_its_cell() {
    loom::model(|| {
        let queue = queue(1);
        let key = submit(&queue, 0, 7);
        let taker = Arc::clone(&queue);
        let thread = thread::spawn(move || {
            let taken = take(&taker, 1);
            if let Some((key, _)) = taken {
                taker.end(key, 1, 0, &[]).unwrap();
            }
            taken.is_some()
        });
        let given_up = queue.sweep(0);
        let taken = thread.join().unwrap();
        assert_eq!(given_up == 1, !taken);
        assert_eq!(queue.look(key), None);
        submit(&queue, 1, 8);
    });
}

/// The successor of a dead taker writes down the end while the submitter, which has seen the death,
/// gives its cell up. Fails when either stores without a comparison.
#[test]
fn the_job_of_a_dead_taker_is_closed_or_abandoned() {
    loom::model(|| {
        let queue = queue(1);
        let key = submit(&queue, 0, 7);
        take(&queue, 1).unwrap();
        let successor = Arc::clone(&queue);
        let thread = thread::spawn(move || successor.close(key, 1, 5, &[1; 8]).is_ok());
        queue.abandon(key);
        thread.join().unwrap();
        assert_eq!(queue.look(key), None);
        submit(&queue, 0, 8);
    });
}

/// Fails when a cell is claimed without a comparison.
#[test]
fn a_cell_is_claimed_by_one() {
    loom::model(|| {
        let queue = queue(1);
        let other = Arc::clone(&queue);
        let thread = thread::spawn(move || other.submit(0, 1, 0, &[2; 8], &[]).is_ok());
        let mine = queue.submit(0, 0, 0, &[1; 8], &[]);
        assert!(mine.is_ok() != thread.join().unwrap());
        assert!(mine.is_ok() || mine == Err(SubmitError::Full { class: 0 }));
        let (key, _) = take(&queue, 0).unwrap();
        assert_eq!(queue.look(key).unwrap().state(), JobState::Taken);
    });
}

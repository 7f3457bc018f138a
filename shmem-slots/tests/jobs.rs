//! The promise: jobs of several processes are each taken once, in the order in which they came, and
//! answered once, whoever sleeps meanwhile; what is full, too long or unknown is refused by name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use process_test::{Child, fork_child, tests};
use shmem_slots::futex;
use shmem_slots::jobs::{Cancel, End, EndError, JobKey, JobState, Jobs, JobsOptions, SubmitError};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use support::TAG;

fn main() -> std::process::ExitCode {
    process_test::main(tests![
        jobs_are_taken_first_come_first_served_in_each_class,
        what_is_full_too_long_or_unknown_is_refused,
        a_cancelled_job_never_runs_and_its_cell_is_free_at_once,
        cancelled_jobs_behind_one_that_waits_do_not_fill_the_queue_for_good,
        a_job_that_nobody_wants_runs_and_frees_its_cell,
        notes_and_cells_are_there_for_the_layer_above,
        four_processes_submit_and_four_take_and_every_job_is_answered_once,
    ])
}

fn options(jobs: u32) -> JobsOptions {
    JobsOptions { classes: 2, jobs, room: 64, takers: 4, submitters: 4, shared_cells: 8, tag: TAG }
}

fn submit(jobs: &Jobs, class: u32, input: u64) -> JobKey {
    jobs.submit(class, 0, 0, &input.to_le_bytes(), &[]).unwrap()
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap())
}

fn take(jobs: &Jobs, class: u32) -> Option<(JobKey, u64)> {
    let key = jobs.take(class, 0, |_| false).unwrap()?;
    let mut input = Vec::new();
    jobs.read(key, &mut input);
    Some((key, number(&input)))
}

/// Would fail if a free cell's number had a part in the order.
fn jobs_are_taken_first_come_first_served_in_each_class() {
    let jobs = Jobs::create(&options(5)).unwrap();
    let mut submitted = 0;
    let mut taken = 0;
    for round in 0..50_u64 {
        let mut open = Vec::new();
        for _ in 0..=round % 5 {
            open.push(submit(&jobs, 1, submitted));
            submitted += 1;
        }
        submit(&jobs, 0, 1_000 + round);
        assert_eq!(u64::from(jobs.queued(1)), submitted - taken);
        while let Some((key, input)) = take(&jobs, 1) {
            assert_eq!((jobs.class_of(key), input), (1, taken));
            taken += 1;
            jobs.end(key, 0, 0, &[]).unwrap();
        }
        assert_eq!(take(&jobs, 0).unwrap().1, 1_000 + round);
        for key in open.into_iter().rev() {
            assert_eq!(jobs.collect(key, &mut Vec::new()), Some(0));
        }
        jobs.sweep(0);
        // The one of class 0 runs on.
        jobs.taken_by(0).for_each(|key| jobs.abandon(key));
    }
}

fn what_is_full_too_long_or_unknown_is_refused() {
    let jobs = Jobs::create(&options(2)).unwrap();
    let try_submit = |class, submitter, len| jobs.submit(class, submitter, 9, &vec![0; len], &[]);
    assert_eq!(try_submit(0, 0, 65), Err(SubmitError::TooLong { len: 65, limit: 64 }));
    assert_eq!(try_submit(2, 0, 0), Err(SubmitError::Unknown { class: 2, submitter: 0 }));
    assert_eq!(try_submit(0, 4, 0), Err(SubmitError::Unknown { class: 0, submitter: 4 }));
    assert!(jobs.take(2, 0, |_| false).is_err() && jobs.take(0, 4, |_| false).is_err());
    try_submit(0, 0, 64).unwrap();
    let key = try_submit(0, 0, 64).unwrap();
    assert_eq!(try_submit(0, 0, 0), Err(SubmitError::Full { class: 0 }));
    try_submit(1, 0, 0).unwrap(); // one class does not fill another
    let (taken, _) = jobs.take(0, 3, |_| false).unwrap().map(|key| (key, ())).unwrap();
    assert_eq!(jobs.end(taken, 2, 0, &[]), Err(EndError::NotTaken));
    assert_eq!(jobs.end(taken, 3, 0, &[0; 65]), Err(EndError::TooLong { len: 65, limit: 64 }));
    assert_eq!(jobs.cancel(taken), Cancel::Taken { taker: 3 });
    let end = End { wanted: true, cancelled: true };
    assert_eq!(jobs.end(taken, 3, 0, &[0; 64]), Ok(end));
    assert_eq!(jobs.end(taken, 3, 0, &[]), Err(EndError::NotTaken));
    assert_eq!(jobs.look(key).unwrap().state(), JobState::Queued);
    let other = Jobs::attach(jobs.region().as_fd().try_clone_to_owned().unwrap(), TAG).unwrap();
    assert_eq!(other.options(), jobs.options());
    assert!(Jobs::attach(jobs.region().as_fd().try_clone_to_owned().unwrap(), TAG + 1).is_err());
}

fn a_cancelled_job_never_runs_and_its_cell_is_free_at_once() {
    let jobs = Jobs::create(&options(2)).unwrap();
    let (first, second) = (submit(&jobs, 0, 1), submit(&jobs, 0, 2));
    assert_eq!(jobs.cancel(first), Cancel::Cancelled);
    assert_eq!(jobs.cancel(first), Cancel::Over);
    submit(&jobs, 0, 3);
    assert_eq!(take(&jobs, 0).unwrap(), (second, 2));
    assert_eq!(jobs.cancel(second), Cancel::Taken { taker: 0 });
    assert_eq!(take(&jobs, 0).unwrap().1, 3);
    assert_eq!(take(&jobs, 0), None);
}

/// The places of the cancelled jobs are passed once the first was taken.
fn cancelled_jobs_behind_one_that_waits_do_not_fill_the_queue_for_good() {
    let jobs = Jobs::create(&options(2)).unwrap();
    submit(&jobs, 0, 1);
    let full = (0..100).find_map(|number| {
        let key = jobs.submit(0, 0, 0, &[number; 8], &[]);
        key.map(|key| assert_eq!(jobs.cancel(key), Cancel::Cancelled)).err()
    });
    assert_eq!(full, Some(SubmitError::Full { class: 0 }));
    let (key, _) = take(&jobs, 0).unwrap();
    jobs.end(key, 0, 0, &[]).unwrap();
    for number in 0..100 {
        let key = submit(&jobs, 0, number);
        assert_eq!(jobs.cancel(key), Cancel::Cancelled);
    }
    assert_eq!(take(&jobs, 0), None);
}

fn a_job_that_nobody_wants_runs_and_frees_its_cell() {
    let jobs = Jobs::create(&options(1)).unwrap();
    for _ in 0..3 {
        let key = submit(&jobs, 0, 7);
        jobs.detach(key);
        let (taken, input) = take(&jobs, 0).unwrap();
        assert_eq!((taken, input), (key, 7));
        let end = End { wanted: false, cancelled: false };
        assert_eq!(jobs.end(taken, 0, 0, b"unread"), Ok(end));
        assert_eq!(jobs.look(key), None);
    }
}

fn notes_and_cells_are_there_for_the_layer_above() {
    let jobs = Jobs::create(&options(2)).unwrap();
    let key = jobs.submit(0, 3, 1, &[], &[11, 12]).unwrap();
    let note = |number| jobs.note(key, number).map(|cell| cell.load(Ordering::Relaxed));
    assert_eq!([note(0), note(1), note(5)], [Some(11), Some(12), None]);
    assert_eq!((key.index, jobs.submitter_of(key)), (1, 3));
    assert_eq!(jobs.shared_cells().len(), 8);
    assert_eq!(jobs.taker_cells(3).map(<[_]>::len), Some(8));
    assert!(jobs.taker_cells(4).is_none() && jobs.submitter_cells(4).is_none());
    for number in 0..4 {
        jobs.taker_cells(number).unwrap()[0].store(1, Ordering::Relaxed);
        jobs.submitter_cells(number).unwrap()[7].store(1, Ordering::Relaxed);
    }
    assert_eq!(jobs.collect(key, &mut Vec::new()), None);
}

/// Would fail if a job were lost, taken twice or answered with another's output, or if a wake-up
/// were lost: nobody has a deadline.
fn four_processes_submit_and_four_take_and_every_job_is_answered_once() {
    const EACH: u64 = 20_000;
    // More than can be open: a cell may be freed behind one who looks for it.
    let jobs = Jobs::create(&options(32)).unwrap();
    let takers: Vec<Child> = (0..4)
        .map(|me| {
            fork_child(|| {
                let mut input = Vec::new();
                loop {
                    let Some(key) = jobs.take(0, me, |_| false).unwrap() else {
                        jobs.wait_for_job(&[0], me, &[], None).unwrap();
                        continue;
                    };
                    jobs.read(key, &mut input);
                    let output = number(&input).wrapping_mul(3).to_le_bytes();
                    assert!(jobs.end(key, me, me, &output).unwrap().wanted);
                    jobs.shared_cells()[me as usize].fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut submitters: Vec<Child> = (0..4)
        .map(|me| {
            fork_child(|| {
                let (mut open, mut output) = (std::collections::VecDeque::new(), Vec::new());
                let mut finish = |(key, value): (JobKey, u64)| {
                    while jobs.collect(key, &mut output).is_none() {
                        if let Some(watches) = jobs.watches(key) {
                            futex::wait_any(&watches, None).unwrap();
                        }
                    }
                    assert_eq!(number(&output), value.wrapping_mul(3));
                };
                for count in 0..EACH {
                    let value = u64::from(me) << 32 | count;
                    // One at a time now and then, so that everybody sleeps.
                    let most = if count % 100 < 10 { 1 } else { 4 };
                    while open.len() >= most {
                        finish(open.pop_front().unwrap());
                    }
                    open.push_back((
                        jobs.submit(0, me, count as u32, &value.to_le_bytes(), &[]).unwrap(),
                        value,
                    ));
                }
                open.into_iter().for_each(finish);
            })
        })
        .collect();
    for submitter in &mut submitters {
        assert_eq!(submitter.wait().code(), Some(0));
    }
    let taken: u64 = jobs.shared_cells()[..4].iter().map(|cell| cell.load(Ordering::Relaxed)).sum();
    assert!((4 * EACH - 4..=4 * EACH).contains(&taken), "{taken}");
    drop(takers);
}

//! The promise: of a pool, a killed worker costs its own job, a killed submitter its own jobs; what
//! cannot run is told to those who wait, and nobody hangs.
//!
//! Would catch: a job that runs twice or is lost, a death that nobody learns of, a pool that forks
//! for ever, a hostile member that hangs others.

use crate::pools::{
    Texts, cluster, cluster_with, outcome, output, pid_in, pool, pool_with, submit,
};
use crate::support::{PATIENCE, connect, kill, note_path, read_note, write_note};
use bgw_backend::{
    Backend, ExitCause, Grace, NotStarted, Outcome, PoolJob, PoolOptions, SubmitError, WaitError,
};
use process_test::{Signal, Test, fork_child, tests};
use std::collections::HashSet;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_killed_worker_costs_its_own_job_alone => [J01, J25],
        while_workers_are_killed_each_job_runs_at_most_once_and_is_answered_once => [J01, J02, J25],
        the_queued_jobs_of_a_dead_submitter_never_run => [J20],
        a_cancelled_job_that_goes_on_is_killed_after_the_grace => [J03, J21],
        workers_that_die_at_their_start_are_given_up_and_told => [J26],
        a_member_that_scribbles_into_a_pool_hangs_nobody,
    ]
}

/// Would fail if the job were given to another worker, or if others waited for ever.
fn a_killed_worker_costs_its_own_job_alone() {
    let cluster = cluster();
    let pool = pool(&cluster.backend, 1);
    for round in 0..3 {
        let victim = submit(&pool, &format!("wait {round}"));
        let others: Vec<_> = (0..5).map(|number| submit(&pool, &format!("ok {number}"))).collect();
        let pid = pid_in(&format!("{round}-began"));
        assert!(matches!(victim.wait_timeout(Duration::ZERO), Err(WaitError::TimedOut)));
        kill(pid, Signal::SIGKILL);
        let died = outcome(&victim);
        let Outcome::Died(report) = &died else { panic!("{died}") };
        assert_eq!((report.pid, died.runs()), (Some(pid), Some(round + 1)), "{died}");
        assert!(matches!(report.cause, ExitCause::Signaled { signal: 9, .. }), "{died}");
        for (number, job) in others.iter().enumerate() {
            assert_eq!(output(job), number.to_string());
        }
    }
    // Whoever looks after another run has begun finds what that one has written down.
    let victim = submit(&pool, "wait late");
    let pid = pid_in("late-began");
    kill(pid, Signal::SIGKILL);
    assert_ne!(output(&submit(&pool, "pid")), pid.to_string());
    let died = outcome(&victim);
    let Outcome::Died(report) = &died else { panic!("{died}") };
    assert_eq!(report.pid, Some(pid), "{died}");
    cluster.end();
}

/// Would time out if a job that does not look whether it is to stop held up its submitter for ever.
fn a_cancelled_job_that_goes_on_is_killed_after_the_grace() {
    let brief = Duration::from_millis(50);
    let of_pool = |options: PoolOptions| options.grace(Grace::After(brief));
    for (in_cluster, in_pool) in [(None, true), (Some(brief), false)] {
        let cluster = cluster_with(|builder| match in_cluster {
            Some(grace) => builder.terminate_grace(grace),
            None => builder,
        });
        let more = |options| if in_pool { of_pool(options) } else { options };
        let pool = pool_with(&cluster.backend, 1, more);
        let job = submit(&pool, "wait deaf");
        let pid = pid_in("deaf-began");
        let behind = submit(&pool, "pid");
        let cancelled = job.wait_or_cancel(Duration::from_millis(1)).unwrap();
        let Outcome::Cancelled(report) = &cancelled else { panic!("{cancelled}") };
        assert!(matches!(report.cause, ExitCause::Signaled { signal: 9, .. }), "{cancelled}");
        assert_eq!(report.pid, Some(pid));
        assert_ne!(output(&behind), pid.to_string());
        cluster.end();
        let _ = std::fs::remove_file(note_path("deaf-began"));
    }
}

/// Two processes submit while a third kills. Would fail if a job were lost, doubled or answered
/// with another's value.
fn while_workers_are_killed_each_job_runs_at_most_once_and_is_answered_once() {
    let cluster = cluster();
    let pool = pool(&cluster.backend, 2);
    let (folder, handle) = (cluster.folder.clone(), pool.handle());
    let work = |backend: &Backend, name: u32| {
        let pool: Texts = backend.open_pool(handle).unwrap();
        let (mut open, mut died) = (std::collections::VecDeque::new(), 0);
        let mut finish = |(job, text): (PoolJob<String>, String)| match outcome(&job) {
            Outcome::Output { value, .. } => assert_eq!(value, text),
            Outcome::Died(_) => died += 1,
            other => panic!("{other}"),
        };
        for number in 0..4_000 {
            let text = format!("{name}-{number}");
            open.push_back((submit(&pool, &format!("ok {text}")), text));
            if open.len() > 8 {
                finish(open.pop_front().unwrap());
            }
        }
        open.into_iter().for_each(&mut finish);
        died
    };
    let mut other = fork_child(|| {
        work(&connect(&folder), 1);
    });
    let killer = fork_child(|| {
        let backend = connect(&folder);
        loop {
            for worker in backend.workers() {
                // One that is killed before it is ready fails to start, and is slowed down.
                let worker = backend.handle(worker.handle);
                if let Some(pid) = worker.pid().filter(|_| worker.is_ready()) {
                    // It may have ended since.
                    let pid = nix::unistd::Pid::from_raw(pid.as_raw());
                    let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    work(&cluster.backend, 0);
    assert_eq!(other.wait().code(), Some(0));
    drop(killer);
    cluster.end();
}

fn the_queued_jobs_of_a_dead_submitter_never_run() {
    let cluster = cluster();
    let pool = pool_with(&cluster.backend, 1, |options| options.queue(8));
    let running = submit(&pool, "wait go");
    read_note("go-began");
    let (folder, handle) = (cluster.folder.clone(), pool.handle());
    let mut submitter = fork_child(|| {
        let pool: Texts = connect(&folder).open_pool(handle).unwrap();
        let _jobs: Vec<_> = (0..7).map(|_| submit(&pool, "note dead")).collect();
        write_note("submitted", "").unwrap();
        read_note("never");
    });
    read_note("submitted");
    assert!(matches!(pool.submit(&"ok 1".to_owned()), Err(SubmitError::Full { .. })));
    submitter.kill(Signal::SIGKILL);
    submitter.wait();
    // Their room is free at once, for others.
    let others: Vec<_> = (0..7).map(|number| submit(&pool, &format!("ok {number}"))).collect();
    write_note("go", "").unwrap();
    output(&running);
    for (number, job) in others.iter().enumerate() {
        assert_eq!(output(job), number.to_string());
    }
    assert!(!note_path("dead").exists(), "a dead submitter's job has run");
    assert_eq!(pool.stats().given_up, 7);
    // One that dies while others wait behind it.
    let running = submit(&pool, "wait on");
    read_note("on-began");
    let mut submitter = fork_child(|| {
        let pool: Texts = connect(&folder).open_pool(handle).unwrap();
        let _job = submit(&pool, "note dead");
        write_note("submitted again", "").unwrap();
        read_note("never");
    });
    read_note("submitted again");
    let behind = submit(&pool, "ok behind");
    submitter.kill(Signal::SIGKILL);
    submitter.wait();
    write_note("on", "").unwrap();
    assert_eq!((output(&running), output(&behind)), (String::new(), "behind".to_owned()));
    assert!(!note_path("dead").exists());
    cluster.end();
}

/// Would time out if those who wait were not told, and never end if a worker were tried for ever.
fn workers_that_die_at_their_start_are_given_up_and_told() {
    let cluster = cluster();
    let options = PoolOptions::new("never").workers(2..=2).start_attempts(3);
    let pool: Texts = cluster.backend.create_pool(&options).unwrap();
    let job = submit(&pool, "ok");
    let never = job.wait_timeout(PATIENCE).unwrap();
    let Outcome::NotStarted { reason: NotStarted::GroupGivenUp, report } = &never else {
        panic!("{never}")
    };
    assert!(report.given_up.is_some(), "{never}");
    assert_eq!(
        report.last_words().map(|words| words.to_string()).as_deref(),
        Some("there is no model")
    );
    assert_eq!(pool.stats().not_started, 1);
    let runs = report.restarts + 1;
    assert_eq!(runs, 3);
    let refused = pool.submit(&String::new()).map(drop);
    assert!(matches!(refused, Err(SubmitError::GivenUp { .. })), "{refused:?}");
    cluster.end();
}

/// Would hang or panic if the pool believed what lies in its region.
fn a_member_that_scribbles_into_a_pool_hangs_nobody() {
    let cluster = cluster();
    let pool = pool(&cluster.backend, 2);
    output(&submit(&pool, "ok 1"));
    let (folder, handle) = (cluster.folder.clone(), pool.handle());
    let scribbler = fork_child(|| {
        let segment = connect(&folder).segment(handle).unwrap();
        let memory =
            shmem_slots::Segment::attach(segment.as_fd().try_clone_to_owned().unwrap()).unwrap();
        let mut noise = 0x2545_f491_4f6c_dd1d_u64;
        write_note("scribbles", "").unwrap();
        loop {
            for cell in &memory.cells()[16..] {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                cell.store(
                    if noise.is_multiple_of(3) { noise } else { noise % 8 },
                    Ordering::Relaxed,
                );
            }
        }
    });
    read_note("scribbles");
    let mut kinds = HashSet::new();
    for number in 0..200 {
        let text = format!("ok {number}");
        match pool.submit_to(0, &text, Some(Duration::from_millis(1))) {
            Ok(job) => {
                let end = job.wait_timeout(Duration::from_millis(5));
                kinds.insert(format!("{end:?}").chars().take(12).collect::<String>());
                let _ = job.cancel();
            }
            Err(error) => drop(kinds.insert(error.to_string())),
        }
        let _ = pool.stats();
    }
    println!("{kinds:?}");
    let _ = pool.drain(Some(Duration::from_millis(50)));
    drop(scribbler);
    drop(pool);
    for worker in cluster.backend.workers() {
        cluster.backend.handle(worker.handle).terminate().unwrap();
    }
    assert!(cluster.backend.ping().is_ok(), "the postmaster has no part in it");
    cluster.end();
}

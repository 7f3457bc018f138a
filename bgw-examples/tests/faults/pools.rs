//! The promise: whoever dies or stops at whatever step of a pooled job, the job has one outcome and
//! runs once at most, and the jobs of others are answered.
//!
//! The tests arm every point in the list, and one that is never reached fails them.

use crate::support::fault::cluster_with;
use crate::support::{
    Cluster, PATIENCE, alive, connect, kill, read_note, wait_for_state, write_note,
};
use bgw_backend::fault::POOL_POINTS;
use bgw_backend::{
    ExitCause, Outcome, Pid, Pool, PoolJob, PoolOptions, Worker, WorkerError, WorkerStatus,
};
use process_test::{Signal, Test, fork_child, tests, wait_until};
use std::io::Write;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_pool_worker_killed_at_each_step_costs_one_job_at_most => [J01, J02, J25],
        a_pool_worker_stopped_at_each_step_holds_up_one_job_at_most => [J25],
        a_submitter_killed_at_each_step_of_its_job_holds_nobody_up => [J01, J20],
        a_submitter_stopped_at_each_step_of_its_job_holds_nobody_up => [J01],
        whoever_gets_the_number_of_a_dead_submitter_keeps_its_jobs => [J01, J20],
    ]
}

type Numbers = Pool<u64, u64>;

/// Writes down that it runs, since a job runs once at most.
fn next(_: &mut Worker, number: u64) -> Result<u64, WorkerError> {
    let path = std::env::temp_dir().join("runs");
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
    // One write: another worker may append, too.
    file.write_all(format!("{number}\n").as_bytes())?;
    Ok(number + 1)
}

fn runs_of(number: u64) -> usize {
    let all = std::fs::read_to_string(std::env::temp_dir().join("runs")).unwrap_or_default();
    all.lines().filter(|line| **line == number.to_string()).count()
}

/// A pool of so many workers; its postmaster and its workers meet `faults`.
fn pool(faults: &str, workers: std::ops::RangeInclusive<u32>) -> (Cluster, Numbers) {
    let _ = std::fs::remove_file(std::env::temp_dir().join("runs"));
    let cluster = cluster_with(faults, |builder| {
        builder.segment_bytes(8 << 20).call("next", bgw_backend::pooled(next))
    });
    let options =
        PoolOptions::new("next").workers(workers).launch_interval(Duration::from_millis(1));
    let pool = cluster.backend.create_pool(&options).unwrap();
    (cluster, pool)
}

fn points(party: &str) -> Vec<&'static str> {
    let found: Vec<_> =
        POOL_POINTS.iter().copied().filter(|point| point.starts_with(party)).collect();
    assert!(!found.is_empty());
    found
}

#[track_caller]
fn outcome(job: &PoolJob<u64>, point: &str) -> Outcome<u64> {
    let outcome = job.wait_timeout(PATIENCE).unwrap_or_else(|error| panic!("{point}: {error}"));
    assert_eq!(job.outcome().unwrap().as_ref(), Some(&outcome), "{point}: each look");
    outcome
}

/// Submits the jobs of these numbers.
fn submit(pool: &Numbers, numbers: std::ops::Range<u64>) -> Vec<(u64, PoolJob<u64>)> {
    numbers.map(|number| (number, pool.submit(&number).unwrap())).collect()
}

/// Each job has its answer, and has run once.
#[track_caller]
fn are_answered(jobs: &[(u64, PoolJob<u64>)], point: &str) {
    for (number, job) in jobs {
        let outcome = outcome(job, point);
        let Outcome::Output { value, .. } = outcome else { panic!("{point}: {outcome}") };
        assert_eq!((value, runs_of(*number)), (number + 1, 1), "{point}");
    }
}

/// Would fail if a job were given to a second worker, or to none; or if nobody took the place of
/// the dead.
fn a_pool_worker_killed_at_each_step_costs_one_job_at_most() {
    for point in points("pool:") {
        let (cluster, pool) = pool(&format!("{point}=kill"), 1..=2);
        let events = cluster.backend.events(bgw_backend::EventsFrom::Oldest).unwrap();
        let jobs = submit(&pool, 0..6);
        let (mut died, mut answered) = (0, 0);
        for (number, job) in &jobs {
            match outcome(job, point) {
                Outcome::Output { value, .. } => {
                    assert_eq!(value, number + 1, "{point}");
                    answered += 1;
                }
                Outcome::Died(report) => {
                    let signal = matches!(report.cause, ExitCause::Signaled { signal: 9, .. });
                    assert!(signal, "{point}: {report}");
                    died += 1;
                }
                other => panic!("{point}: {other}"),
            }
            assert!(runs_of(*number) <= 1, "{point}: job {number} has run again");
        }
        let has_a_job = matches!(point, "pool:taken" | "pool:begun" | "pool:answered");
        assert_eq!((died, answered), if has_a_job { (1, 5) } else { (0, 6) }, "{point}");
        pool.drain(Some(PATIENCE)).unwrap();
        was_killed(events, point);
        drop(pool);
        cluster.end();
    }
}

/// The point was reached: a worker has been killed there.
#[track_caller]
fn was_killed(mut events: bgw_backend::Events, point: &str) {
    let killed = |cause| matches!(cause, Some(ExitCause::Signaled { signal: 9, .. }));
    loop {
        let next = events.next_timeout(PATIENCE).unwrap_or_else(|error| panic!("{point}: {error}"));
        let next = next.unwrap_or_else(|| panic!("{point} is not reached"));
        if killed(next.cause) {
            return;
        }
    }
}

/// Would fail if other jobs waited for the one that is stopped, or if that one were lost.
fn a_pool_worker_stopped_at_each_step_holds_up_one_job_at_most() {
    for point in points("pool:").into_iter().filter(|&point| point != "pool:leaving") {
        let (cluster, pool) = pool(&format!("{point}=stop"), 2..=2);
        let jobs = submit(&pool, 0..6);
        let over = |job: &PoolJob<u64>| job.outcome().unwrap().is_some();
        wait_until(&format!("all but one are answered: {point}"), PATIENCE, || {
            jobs.iter().filter(|(_, job)| !over(job)).count() <= 1
        });
        wait_until(&format!("a worker is stopped: {point}"), PATIENCE, || {
            workers(&cluster).into_iter().any(is_stopped)
        });
        for pid in workers(&cluster).into_iter().filter(|&pid| is_stopped(pid)) {
            kill(pid, Signal::SIGCONT);
        }
        are_answered(&jobs, point);
        drop(pool);
        cluster.end();
    }
}

fn workers(cluster: &Cluster) -> Vec<Pid> {
    let all = cluster.backend.workers().into_iter();
    all.filter_map(|worker| match worker.status {
        WorkerStatus::Started(pid) => Some(pid),
        _ => None,
    })
    .collect()
}

fn is_stopped(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
}

/// Another process, which submits one job and waits for it, and meets `action` at `point`.
fn submitter(
    cluster: &Cluster,
    pool: &Numbers,
    point: &'static str,
    action: &str,
) -> process_test::Child {
    let _ = std::fs::remove_file(crate::support::note_path("answer"));
    let (folder, handle) = (cluster.folder.clone(), pool.handle());
    let fault = format!("{point}={action}");
    fork_child(move || {
        let pool: Numbers = connect(&folder).open_pool(handle).unwrap();
        shmem_slots::fault::arm(&fault);
        let job = pool.submit(&100).unwrap();
        let outcome = job.wait_timeout(PATIENCE).unwrap();
        write_note("answer", &outcome.into_output().unwrap().to_string()).unwrap();
    })
}

/// Would fail if a place in the queue, or that of a worker, were kept for the dead.
fn a_submitter_killed_at_each_step_of_its_job_holds_nobody_up() {
    for (point, most) in points("order:").into_iter().flat_map(|point| [(point, 1), (point, 2)]) {
        let (cluster, pool) = pool("", 0..=most);
        let mut submitter = submitter(&cluster, &pool, point, "kill");
        assert_eq!(submitter.wait().signal(), Some(Signal::SIGKILL), "{point} is not reached");
        let jobs = submit(&pool, 0..6);
        are_answered(&jobs, point);
        assert!(runs_of(100) <= 1, "{point}");
        drop(jobs);
        drop(pool);
        cluster.end();
    }
}

/// Would fail if others waited for the one that is stopped, or if it lost its job for that.
fn a_submitter_stopped_at_each_step_of_its_job_holds_nobody_up() {
    // Where there is one place for a worker, the one that is stopped may have it.
    for (point, most) in points("order:").into_iter().flat_map(|point| [(point, 1), (point, 2)]) {
        let (cluster, pool) = pool("", 0..=most);
        let mut submitter = submitter(&cluster, &pool, point, "stop");
        let pid = Pid::new(submitter.pid().as_raw() as u32).unwrap();
        wait_for_state(pid, 'T', point);
        let jobs = submit(&pool, 0..6);
        are_answered(&jobs, point);
        kill(pid, Signal::SIGCONT);
        assert_eq!(read_note("answer"), "101", "{point}");
        assert_eq!((submitter.wait().code(), runs_of(100)), (Some(0), 1), "{point}");
        assert!(!alive(pid));
        drop(jobs);
        drop(pool);
        cluster.end();
    }
}

/// Would fail if a process that gives up what a dead submitter has left, and is slow at it, gave up
/// the jobs of the next one with that number.
fn whoever_gets_the_number_of_a_dead_submitter_keeps_its_jobs() {
    let (cluster, _) = pool("", 0..=1);
    let options = PoolOptions::new("next").workers(1..=1).queue(2).class(0, 1).class(0, 1);
    let pool: Numbers = cluster.backend.create_pool(&options).unwrap();
    wait_until("its worker runs", PATIENCE, || workers(&cluster).len() == 1);
    let worker = workers(&cluster)[0];
    kill(worker, Signal::SIGSTOP);
    wait_for_state(worker, 'T', "so that nobody takes a job");
    let opens = |name: &'static str, then: fn(Numbers)| {
        let (folder, handle) = (cluster.folder.clone(), pool.handle());
        let child = fork_child(move || {
            let pool = connect(&folder).open_pool(handle).unwrap();
            write_note(&format!("{name}-open"), "").unwrap();
            read_note(&format!("{name}-goes-on"));
            then(pool);
        });
        read_note(&format!("{name}-open"));
        child
    };
    // Finds no room in its class, so it gives up what the dead have left.
    let mut slow = opens("slow", |pool| {
        shmem_slots::fault::arm("sweep:swept=stop");
        while pool.submit_to(1, &100, None).is_ok() {}
    });
    let mut dead = opens("dead", drop);
    kill(Pid::new(dead.pid().as_raw().unsigned_abs()).unwrap(), Signal::SIGKILL);
    dead.wait();
    write_note("slow-goes-on", "").unwrap();
    let slow_pid = Pid::new(slow.pid().as_raw().unsigned_abs()).unwrap();
    wait_for_state(slow_pid, 'T', "it has looked at one cell of the dead submitter");
    let next: Numbers = cluster.backend.open_pool(pool.handle()).unwrap();
    let jobs = submit(&next, 0..2);
    kill(slow_pid, Signal::SIGCONT);
    assert_eq!(slow.wait().code(), Some(0));
    kill(worker, Signal::SIGCONT);
    are_answered(&jobs, "sweep:swept");
    drop(jobs);
    drop((pool, next));
    cluster.end();
}

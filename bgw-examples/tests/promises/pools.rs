//! The promise: a job of a pool has exactly one outcome, whatever dies; a killed worker costs its
//! own job, a killed submitter its own jobs, and what cannot be is told to those who wait.
//!
//! Would catch: an answer that is another job's, a job that runs twice or is lost, a death that
//! nobody learns of, a pool that forks for ever, a hostile member that hangs others.

use crate::support::{
    Cluster, PATIENCE, connect, kill, note_path, read_note, ready, wait_for_state, write_note,
};
use bgw_backend::{
    Backend, CallError, ExitCause, Outcome, Pool, PoolError, PoolJob, PoolOptions, SubmitError,
    WaitError, Worker, WorkerError, pooled, pooled_with,
};
use bgw_postmaster::PostmasterBuilder;
use process_test::{Signal, Test, fork_child, tests, wait_until};
use std::fs;
use std::time::{Duration, Instant};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_pooled_job_gives_back_its_value_its_error_or_its_panic => [J01, J06],
        values_of_any_size_go_through_a_pool => [J13],
        a_pool_of_other_types_is_refused => [J14],
        a_full_pool_refuses_or_waits_until_a_deadline => [J18],
        jobs_of_several_processes_run_first_come_first_served => [J19],
        a_class_with_a_reserve_is_not_held_up_by_a_flood => [J19],
        a_queued_job_is_cancelled_at_once_and_a_running_one_is_terminated => [J21],
        a_drained_pool_takes_no_more_and_ends_with_its_last_job => [J23],
        a_dropped_pool_ends_what_it_submitted_and_no_other_process_s_jobs => [J23],
        a_pool_grows_while_jobs_wait_and_shrinks_when_idle => [J17],
        a_pool_grows_though_its_workers_wake_late => [J17],
        a_pool_counts_its_jobs_and_their_times => [J24],
        a_worker_that_has_left_runs_nothing_in_the_statistics => [J24],
    ]
}

/// What a job does: `ok N`, `fail`, `panic`, `exit`, `pid`, `note NAME`, `wait NAME`, `sleep`.
fn job(worker: &mut Worker, order: String) -> Result<String, WorkerError> {
    let (what, name) = order.split_once(' ').unwrap_or((&order, ""));
    match what {
        "fail" => Err(std::io::Error::from_raw_os_error(libc::ENOSPC).into()),
        "panic" => panic!("it panics"),
        "exit" => std::process::exit(0),
        "pid" => Ok(std::process::id().to_string()),
        "note" => {
            write_note(name, &std::process::id().to_string())?;
            Ok(String::new())
        }
        "wait" => {
            write_note(&format!("{name}-began"), &std::process::id().to_string())?;
            Ok(read_note(name))
        }
        "sleep" => {
            write_note(&format!("{name}-sleeps"), &std::process::id().to_string())?;
            loop {
                worker.sleep(None)?;
            }
        }
        "append" => {
            let mut path = std::env::temp_dir();
            path.push("order");
            let mut all = fs::read_to_string(&path).unwrap_or_default();
            all.push_str(name);
            fs::write(path, all)?;
            Ok(String::new())
        }
        _ => Ok(name.to_owned()),
    }
}

pub(crate) type Texts = Pool<String, String>;

pub(crate) fn cluster() -> Cluster {
    cluster_with(|builder| builder)
}

pub(crate) fn cluster_with(more: impl FnOnce(PostmasterBuilder) -> PostmasterBuilder) -> Cluster {
    Cluster::with(|builder: PostmasterBuilder| {
        more(builder)
            .max_workers(24)
            .segment_bytes(8 << 20)
            .call("job", pooled(job))
            .call(
                "twice",
                pooled(|_: &mut Worker, bytes: Vec<u8>| {
                    Ok::<_, WorkerError>([&bytes[..], &bytes].concat())
                }),
            )
            .call(
                "never",
                pooled_with(
                    |_: &mut Worker| {
                        Err::<(), _>(WorkerError::from("there is no model".to_owned()))
                    },
                    |(), _: &mut Worker, text: String| Ok::<String, WorkerError>(text),
                ),
            )
    })
}

pub(crate) fn pool_with(
    backend: &Backend,
    workers: u32,
    more: impl Fn(PoolOptions) -> PoolOptions,
) -> Texts {
    backend.create_pool(&more(PoolOptions::new("job").workers(workers..=workers))).unwrap()
}

pub(crate) fn pool(backend: &Backend, workers: u32) -> Texts {
    pool_with(backend, workers, |options| options)
}

#[track_caller]
pub(crate) fn submit(pool: &Texts, order: &str) -> PoolJob<String> {
    pool.submit(&order.to_owned()).unwrap()
}

#[track_caller]
pub(crate) fn outcome(job: &PoolJob<String>) -> Outcome<String> {
    let outcome = job.wait_timeout(PATIENCE).unwrap();
    assert_eq!(job.outcome().unwrap().as_ref(), Some(&outcome), "each look gives the same");
    outcome
}

#[track_caller]
pub(crate) fn output(job: &PoolJob<String>) -> String {
    outcome(job).into_output().unwrap()
}

/// The process that a note names.
pub(crate) fn pid_in(note: &str) -> bgw_backend::Pid {
    bgw_backend::Pid::new(read_note(note).parse().unwrap()).unwrap()
}

/// Would fail if an answer were another job's, or came without its cause.
fn a_pooled_job_gives_back_its_value_its_error_or_its_panic() {
    let cluster = cluster();
    let pool = pool(&cluster.backend, 2);
    let jobs: Vec<_> = (0..50).map(|number| submit(&pool, &format!("ok {number}"))).collect();
    for (number, job) in jobs.iter().enumerate().rev() {
        assert_eq!(output(job), number.to_string());
    }
    let failed = outcome(&submit(&pool, "fail"));
    let Outcome::Failed { text, report, .. } = &failed else { panic!("{failed}") };
    assert!(text.contains("No space left"), "{failed}");
    assert!(report.pid.is_some() && report.cause == ExitCause::Exited(1));
    let panicked = outcome(&submit(&pool, "panic"));
    let Outcome::Panicked { message, place, .. } = &panicked else { panic!("{panicked}") };
    assert!(message == "it panics" && place.contains("pools.rs"), "{panicked}");
    let ended = outcome(&submit(&pool, "exit"));
    assert!(matches!(ended, Outcome::Died(_)), "a value without a good end is none: {ended}");
    assert_eq!(output(&submit(&pool, "ok on")), "on");
    cluster.end();
}

/// Would fail if a worker that has left in the middle of a job counted until another one takes its
/// place.
fn a_worker_that_has_left_runs_nothing_in_the_statistics() {
    let cluster = cluster();
    let pool = pool(&cluster.backend, 1);
    // Nobody looks at the job, so nobody finds that its worker has gone.
    let _leaves = submit(&pool, "exit");
    wait_until("nobody runs and nobody is left", PATIENCE, || {
        let stats = pool.stats();
        (stats.running, stats.workers, stats.queued) == (0, 0, 0)
    });
    cluster.end();
}

/// Would fail if a value were cut where it moves from its cell into a segment, or if its segment
/// stayed.
fn values_of_any_size_go_through_a_pool() {
    let cluster = cluster();
    let options = PoolOptions::new("twice").workers(2..=2);
    let pool = cluster.backend.create_pool::<Vec<u8>, Vec<u8>>(&options).unwrap();
    for size in [0, 1, 600, 607, 608, 1_213, 1_214, 1_215, 5_000, 100_000] {
        let bytes: Vec<u8> = (0..size).map(|at| at as u8).collect();
        let job = pool.submit(&bytes).unwrap();
        let got = job.wait_timeout(PATIENCE).unwrap().into_output().unwrap();
        assert!(got == [&bytes[..], &bytes].concat(), "{size}");
    }
    // More than the budget holds at a time, one after the other.
    for _ in 0..8 {
        let job = pool.submit(&vec![7; 1 << 20]).unwrap();
        assert_eq!(job.wait_timeout(PATIENCE).unwrap().into_output().unwrap().len(), 2 << 20);
    }
    cluster.end();
}

fn a_pool_of_other_types_is_refused() {
    let cluster = cluster();
    let options = PoolOptions::new("job");
    let refused = cluster.backend.create_pool::<u32, String>(&options).map(drop);
    assert!(matches!(refused, Err(PoolError::Call(CallError::Register(_)))), "{refused:?}");
    let refused = cluster.backend.create_pool::<u32, String>(&PoolOptions::new("sleep")).map(drop);
    assert!(matches!(refused, Err(PoolError::Call(CallError::Register(_)))), "{refused:?}");
    let called = cluster.backend.call::<String, String>("job", &String::new()).map(drop);
    assert!(matches!(called, Err(CallError::Register(_))), "{called:?}");
    let pool = pool(&cluster.backend, 1);
    let other = cluster.backend.open_pool::<u32, String>(pool.handle()).map(drop);
    assert!(matches!(other, Err(PoolError::Segment(_))), "{other:?}");
    let same: Texts = cluster.backend.open_pool(pool.handle()).unwrap();
    assert_eq!(output(&submit(&same, "ok here")), "here");
    let segment = cluster.backend.create_segment(1 << 20).unwrap();
    assert!(cluster.backend.open_pool::<String, String>(segment.handle()).is_err());
    cluster.end();
}

fn a_full_pool_refuses_or_waits_until_a_deadline() {
    let cluster = cluster();
    let pool = pool_with(&cluster.backend, 1, |options| options.queue(3));
    let running = submit(&pool, "wait go");
    read_note("go-began");
    let _queued = [submit(&pool, "ok 1"), submit(&pool, "ok 2")];
    let text = "ok 3".to_owned();
    let refused = pool.submit(&text).map(drop);
    assert!(matches!(refused, Err(SubmitError::Full { class: 0 })), "{refused:?}");
    let begin = Instant::now();
    let late = pool.submit_to(0, &text, Some(Duration::from_millis(50))).map(drop);
    assert!(matches!(late, Err(SubmitError::Full { class: 0 })), "{late:?}");
    assert!(begin.elapsed() >= Duration::from_millis(50));
    let unknown = pool.submit_to(1, &text, None).map(drop);
    assert!(matches!(unknown, Err(SubmitError::UnknownClass { class: 1 })), "{unknown:?}");
    // Whoever waits gets the room of a job that is over, and looked at.
    let waits = {
        let pool = pool.clone();
        std::thread::spawn(move || output(&pool.submit_to(0, &text, Some(PATIENCE)).unwrap()))
    };
    write_note("go", "gone").unwrap();
    assert_eq!(output(&running), "gone");
    assert_eq!(waits.join().unwrap(), "3");
    cluster.end();
}

fn jobs_of_several_processes_run_first_come_first_served() {
    let cluster = cluster();
    let pool = pool(&cluster.backend, 1);
    let first = submit(&pool, "wait go");
    read_note("go-began");
    let (folder, handle) = (cluster.folder.clone(), pool.handle());
    let other = fork_child(|| {
        let pool: Texts = connect(&folder).open_pool(handle).unwrap();
        let mut jobs = Vec::new();
        for turn in ["b", "d"] {
            read_note(turn);
            jobs.push(submit(&pool, &format!("append {turn}")));
            write_note(&format!("{turn}-submitted"), "").unwrap();
        }
        jobs.iter().for_each(|job| drop(output(job)));
        read_note("end");
    });
    let mut jobs = Vec::new();
    for (mine, theirs) in [("a", "b"), ("c", "d")] {
        jobs.push(submit(&pool, &format!("append {mine}")));
        write_note(theirs, "").unwrap();
        read_note(&format!("{theirs}-submitted"));
    }
    jobs.push(submit(&pool, "append e"));
    write_note("go", "").unwrap();
    output(&first);
    jobs.iter().for_each(|job| drop(output(job)));
    assert_eq!(fs::read_to_string(std::env::temp_dir().join("order")).unwrap(), "abcde");
    drop(other);
    cluster.end();
}

/// Two workers, one of them reserved. Would time out if it took jobs of the flood.
fn a_class_with_a_reserve_is_not_held_up_by_a_flood() {
    let cluster = cluster();
    let pool = pool_with(&cluster.backend, 2, |options| options.class(0, 1).class(1, 1));
    let flood: Vec<_> = (0..20).map(|number| submit(&pool, &format!("wait {number}"))).collect();
    read_note("0-began");
    for number in 0..10 {
        let job = pool.submit_to(1, &format!("ok {number}"), None).unwrap();
        assert_eq!(output(&job), number.to_string());
    }
    for number in 0..20 {
        write_note(&number.to_string(), "").unwrap();
    }
    flood.iter().for_each(|job| drop(output(job)));
    cluster.end();
}

fn a_queued_job_is_cancelled_at_once_and_a_running_one_is_terminated() {
    let cluster = cluster();
    let pool = pool(&cluster.backend, 1);
    for round in 0..3 {
        let running = submit(&pool, &format!("sleep {round}"));
        let pid = pid_in(&format!("{round}-sleeps"));
        let queued = submit(&pool, "note never");
        let behind = submit(&pool, "pid");
        queued.cancel().unwrap();
        let cancelled = queued.outcome().unwrap().unwrap();
        assert!(matches!(cancelled, Outcome::Cancelled(_)), "{cancelled}");
        assert_eq!(cancelled.runs(), Some(0));
        assert!(matches!(running.outcome(), Ok(None)));
        let cancelled = running.wait_or_cancel(Duration::from_millis(1)).unwrap();
        assert!(matches!(cancelled, Outcome::Cancelled(_)), "{cancelled}");
        // Another worker takes its place, and the job behind it is not hit.
        assert_ne!(output(&behind), pid.to_string());
    }
    assert!(!note_path("never").exists());
    cluster.end();
}

fn a_drained_pool_takes_no_more_and_ends_with_its_last_job() {
    let cluster = cluster();
    let pool = pool(&cluster.backend, 2);
    let running = submit(&pool, "wait go");
    let queued: Vec<_> = (0..20).map(|number| submit(&pool, &format!("ok {number}"))).collect();
    read_note("go-began");
    assert!(matches!(pool.drain(Some(Duration::from_millis(10))), Err(WaitError::TimedOut)));
    let refused = pool.submit(&"ok".to_owned()).map(drop);
    assert!(matches!(refused, Err(SubmitError::Draining)), "{refused:?}");
    write_note("go", "gone").unwrap();
    pool.drain(Some(PATIENCE)).unwrap();
    assert_eq!(output(&running), "gone");
    for (number, job) in queued.iter().enumerate() {
        assert_eq!(output(job), number.to_string());
    }
    wait_until("all workers have ended", PATIENCE, || pool.stats().workers == 0);
    cluster.end();
}

fn a_dropped_pool_ends_what_it_submitted_and_no_other_process_s_jobs() {
    let cluster = cluster();
    let pool = pool_with(&cluster.backend, 1, |options| options.idle(Duration::from_millis(20)));
    let (folder, handle) = (cluster.folder.clone(), pool.handle());
    let mut other = fork_child(|| {
        let pool: Texts = connect(&folder).open_pool(handle).unwrap();
        let job = submit(&pool, "wait go");
        write_note("opened", "").unwrap();
        assert_eq!(output(&job), "gone");
        assert_eq!(output(&submit(&pool, "ok still")), "still");
        // Leaves without a word: nobody has the pool open then.
        nix::sys::signal::raise(Signal::SIGKILL).unwrap();
    });
    read_note("opened");
    read_note("go-began");
    let mine = submit(&pool, "note mine");
    drop((pool, mine));
    write_note("go", "gone").unwrap();
    assert_eq!(other.wait().signal(), Some(Signal::SIGKILL));
    // Its job was dropped, not its pool alone: it would have run in its turn.
    wait_until("the workers have ended", PATIENCE, || cluster.backend.workers().is_empty());
    assert!(!note_path("mine").exists());
    assert!(cluster.backend.open_pool::<String, String>(handle).is_err());
    cluster.end();
}

fn a_pool_grows_while_jobs_wait_and_shrinks_when_idle() {
    let cluster = cluster();
    let options = PoolOptions::new("job")
        .workers(1..=3)
        .idle(Duration::from_millis(50))
        .launch_interval(Duration::from_millis(1));
    let pool: Texts = cluster.backend.create_pool(&options).unwrap();
    assert_eq!(output(&submit(&pool, "ok warm")), "warm");
    let jobs: Vec<_> = (0..4).map(|number| submit(&pool, &format!("wait {number}"))).collect();
    // Whoever waits starts what is needed, too.
    let waits = std::thread::spawn(move || jobs.iter().map(output).collect::<Vec<_>>());
    for number in 0..3 {
        read_note(&format!("{number}-began"));
    }
    assert_eq!(pool.stats().workers, 3, "no more than the most");
    for number in 0..4 {
        write_note(&number.to_string(), &number.to_string()).unwrap();
    }
    assert_eq!(waits.join().unwrap(), ["0", "1", "2", "3"]);
    wait_until("those above the least have ended", PATIENCE, || {
        pool.stats().workers == 1 && cluster.backend.workers().len() == 1
    });
    assert_eq!(output(&submit(&pool, "ok again")), "again");
    cluster.end();
}

/// Would time out if whoever waits looked no more while a worker that was woken seems to sleep:
/// that takes one job and leaves the other, and all are busy.
fn a_pool_grows_though_its_workers_wake_late() {
    let cluster = cluster();
    let options = PoolOptions::new("job").workers(2..=3).launch_interval(Duration::from_millis(1));
    let pool: Texts = cluster.backend.create_pool(&options).unwrap();
    wait_until("the least workers are there", PATIENCE, || cluster.backend.workers().len() == 2);
    let workers = cluster.backend.workers();
    let workers: Vec<_> =
        workers.iter().map(|worker| ready(&cluster.backend.handle(worker.handle))).collect();
    for &worker in &workers {
        wait_for_state(worker, 'S', "nothing is to be done");
        kill(worker, Signal::SIGSTOP);
        wait_for_state(worker, 'T', "it was told so");
    }
    let jobs = ["0", "1", "2"].map(|name| submit(&pool, &format!("wait {name}")));
    let waits = std::thread::spawn(move || jobs.each_ref().map(output));
    for (worker, number) in workers.iter().zip(0..) {
        // Longer than whoever waits looks.
        std::thread::sleep(Duration::from_millis(50));
        kill(*worker, Signal::SIGCONT);
        read_note(&format!("{number}-began"));
    }
    read_note("2-began");
    for name in ["0", "1", "2"] {
        write_note(name, name).unwrap();
    }
    assert_eq!(waits.join().unwrap(), ["0", "1", "2"]);
    cluster.end();
}

fn a_pool_counts_its_jobs_and_their_times() {
    let cluster = cluster();
    let pool = pool(&cluster.backend, 1);
    for _ in 0..5 {
        output(&submit(&pool, "ok 1"));
    }
    outcome(&submit(&pool, "fail"));
    outcome(&submit(&pool, "panic"));
    let running = submit(&pool, "wait go");
    read_note("go-began");
    let queued = submit(&pool, "ok 1");
    let stats = pool.stats();
    let counts = (stats.queued, stats.running, stats.workers, stats.outputs, stats.failed);
    assert_eq!((counts, stats.died), ((1, 1, 1, 5, 1), 1));
    queued.cancel().unwrap();
    std::thread::sleep(Duration::from_millis(5));
    write_note("go", "").unwrap();
    output(&running);
    wait_until("it is counted", PATIENCE, || pool.stats().outputs == 6);
    let stats = pool.stats();
    assert_eq!((stats.cancelled, stats.ran.count(), stats.waited.count()), (1, 7, 7));
    assert!(stats.ran.quantile(1.0) > Some(Duration::from_millis(5)), "{stats:?}");
    assert!(stats.ran.quantile(0.1) <= stats.ran.quantile(1.0));
    cluster.end();
}

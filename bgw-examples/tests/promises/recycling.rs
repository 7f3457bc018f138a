//! The promise: a worker that has reached a limit makes place for its next run, in order, under the
//! same handle, and nothing is held against it.
//!
//! Would catch: a limit that nobody sees, a fleet that goes at once, a worker that is lost, given
//! up or made to pause because it was recycled.

use crate::support::{
    Cluster, PATIENCE, note_path, read_note, ready, stopped, wait_for_spares, worker, write_note,
};
use bgw_backend::{
    AskedBy, BackgroundWorker, BackgroundWorkerBuilder, EventKind, EventsFrom, ExitCause,
    ExitReport, Handle, Pid, Recycle, Recycled, RestartPolicy, Worker, WorkerError, WorkerFlags,
    WorkerStatus, entry,
};
use process_test::{Test, tests, wait_until};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_worker_that_has_done_its_jobs_is_told_by_then => [P42],
        the_limits_of_a_fleet_differ => [P42],
        a_recycled_run_counts_as_no_restart_and_follows_no_pause => [P43],
        a_worker_that_has_lived_long_enough_makes_place => [P42],
        a_worker_that_leaks_makes_place_and_one_that_does_not_stays => [P42],
        a_worker_that_returns_once_its_jobs_are_done_is_not_lost => [P43],
        a_command_that_leaks_is_recycled_with_what_it_has_started,
    ]
}

type Done = Result<(), WorkerError>;

const HOUR: RestartPolicy = RestartPolicy::Fixed(Duration::from_secs(3600));

/// Does as many jobs as its argument says, says that it is ready, and waits for its stop signal.
fn do_jobs(worker: &mut Worker) -> Done {
    worker.handle_terminate();
    worker.unblock_signals()?;
    for _ in 0..worker.main_arg() {
        worker.job_done();
    }
    worker.ready();
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    Ok(())
}

/// Registers a worker and waits until a run of it is there.
fn start(cluster: &Cluster, description: BackgroundWorkerBuilder) -> (Handle, Pid) {
    let handle = cluster.backend.register(&description.build().unwrap()).unwrap();
    let run = running(&handle);
    (handle, run)
}

/// Waits until a run is there. A worker that is recycled at once may be between two runs whenever
/// one looks, so a single look does not do.
fn running(handle: &Handle) -> Pid {
    let mut run = None;
    wait_until("a run is there", PATIENCE, || {
        run = handle.pid();
        run.is_some()
    });
    run.unwrap()
}

/// The report of an end after `before` was there, and the process that follows it.
fn replaced(handle: &Handle, before: Pid) -> (ExitReport, Pid) {
    let mut next = None;
    wait_until("the next run is there", PATIENCE, || {
        next = handle.pid().filter(|&pid| pid != before);
        next.is_some()
    });
    (handle.exit_report().unwrap(), next.unwrap())
}

fn end(cluster: Cluster, handle: &Handle) {
    handle.terminate().unwrap();
    handle.wait_for_end_timeout(PATIENCE).unwrap();
    cluster.end();
}

/// Would time out if a worker that does no job more than its limit were not told.
fn a_worker_that_has_done_its_jobs_is_told_by_then() {
    for spares in [0, 2] {
        let cluster = Cluster::with(|b| b.warm_spares(spares).function("jobs", entry(do_jobs)));
        for jobs in [1, 2, 1_000] {
            wait_for_spares(&cluster, spares);
            let recycle = Recycle::new().jobs(jobs).jitter(0.5);
            let description = worker("jobs").main_arg(jobs.into()).restart(HOUR).recycle(recycle);
            let (handle, first) = start(&cluster, description);
            let (report, second) = replaced(&handle, first);
            assert_eq!(report.recycled, Some(Recycled::Jobs), "{report}");
            let (again, _) = replaced(&handle, second);
            assert_eq!(again.recycled, Some(Recycled::Jobs), "its count began anew");
            handle.terminate().unwrap();
            handle.wait_for_end_timeout(PATIENCE).unwrap();
        }
        // One job less is too few, at whatever jitter; and without a limit none is enough.
        let few = worker("jobs").main_arg(499).restart(HOUR);
        let limited = Recycle::new().jobs(1_000).jitter(0.5);
        let (few, _) = cluster.start(&few.recycle(limited).build().unwrap());
        let (free, _) = cluster.start(&worker("jobs").main_arg(100_000).build().unwrap());
        for handle in [&few, &free] {
            ready(handle);
        }
        cluster.backend.ping().unwrap();
        for handle in [few, free] {
            assert_eq!(handle.exit_report(), None);
            handle.terminate().unwrap();
            stopped(&handle);
        }
        cluster.end();
        std::fs::remove_dir_all(std::env::temp_dir().join("cluster")).unwrap();
    }
}

/// Does jobs until it is told to stop, and notes how many that were.
fn count_jobs(worker: &mut Worker) -> Done {
    worker.handle_terminate();
    worker.unblock_signals()?;
    let mut jobs = 0;
    while !worker.should_stop() {
        worker.job_done();
        jobs += 1;
        worker.sleep(Some(Duration::from_millis(1)))?;
    }
    write_note(&format!("jobs-{}", std::process::id()), &jobs.to_string())?;
    Ok(())
}

/// Would fail if all of a fleet drew one limit: 20 numbers of 500 are hardly ever one.
fn the_limits_of_a_fleet_differ() {
    let cluster = Cluster::with(|builder| builder.function("count", entry(count_jobs)));
    let recycle = Recycle::new().jobs(1_000).jitter(0.5);
    let description = worker("count").restart(HOUR).recycle(recycle);
    let fleet: Vec<(Handle, Pid)> = (0..4).map(|_| start(&cluster, description.clone())).collect();
    let mut counts: Vec<u32> = Vec::new();
    for (handle, first) in &fleet {
        let mut pid = *first;
        for _ in 0..5 {
            let next = replaced(handle, pid).1;
            counts.push(read_note(&format!("jobs-{pid}")).parse().unwrap());
            pid = next;
        }
    }
    assert!(counts.iter().all(|&count| count > 500), "{counts:?}");
    assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() > 20, "{counts:?}");
    for (handle, _) in &fleet {
        handle.terminate().unwrap();
        stopped(handle);
    }
    cluster.end();
}

/// Fails in its first run, and does a job in the others.
fn fail_then_work(worker: &mut Worker) -> Done {
    if worker.restarts() == 0 {
        return Err("not the first time".into());
    }
    do_jobs(worker)
}

/// Would time out if a recycled worker paused, and fail if it looked restarted.
fn a_recycled_run_counts_as_no_restart_and_follows_no_pause() {
    let cluster = Cluster::with(|builder| builder.function("fail-once", entry(fail_then_work)));
    let mut events = cluster.backend.events(EventsFrom::Oldest).unwrap();
    let description = worker("fail-once").main_arg(1).restart(HOUR);
    let description = description.recycle(Recycle::new().jobs(1)).give_up(1, 2 * hour());
    let handle = cluster.backend.register(&description.build().unwrap()).unwrap();
    let failed = stopped(&handle);
    assert_eq!((failed.streak, failed.recycled, failed.pause), (1, None, Some(hour())));
    handle.restart_now().unwrap();
    let mut pid = running(&handle);
    for _ in 0..5 {
        let (report, next) = replaced(&handle, pid);
        assert_eq!(report.cause, ExitCause::Exited(0));
        assert_eq!((report.restarts, report.streak), (1, 0), "{report}");
        assert_eq!((report.pause, report.given_up), (Some(Duration::ZERO), None));
        assert_eq!(report.asked_by, Some(AskedBy::Recycle));
        assert!(!report.killed && !report.unregistered, "{report}");
        let text = "exited with exit code 0, as requested by its recycling: it had done its jobs";
        assert_eq!(report.to_string(), format!("{text}, and its next run takes its place"));
        pid = next;
    }
    handle.terminate().unwrap();
    handle.wait_for_end_timeout(PATIENCE).unwrap();
    let report = handle.exit_report().unwrap();
    assert!(report.unregistered, "{report}");
    let kinds = std::iter::from_fn(|| events.try_next().unwrap()).map(|event| event.kind);
    // A run is ready when it likes.
    let kinds: Vec<EventKind> = kinds.filter(|&kind| kind != EventKind::Ready).collect();
    let at = kinds.iter().position(|&kind| kind == EventKind::Recycling).unwrap();
    let expected = [
        EventKind::Recycling,
        EventKind::Told,
        EventKind::Exited,
        EventKind::Restarting,
        EventKind::Started,
    ];
    assert_eq!(kinds[at..at + 5], expected);
    cluster.end();
}

const fn hour() -> Duration {
    Duration::from_secs(3600)
}

fn a_worker_that_has_lived_long_enough_makes_place() {
    let cluster = Cluster::new();
    let second = Duration::from_secs(1);
    let recycle = Recycle::new().lifetime(second).jitter(0.5);
    let (handle, first) = start(&cluster, worker("sleep").restart(HOUR).recycle(recycle));
    let (report, second_run) = replaced(&handle, first);
    assert_eq!(report.recycled, Some(Recycled::Lifetime), "{report}");
    assert!(report.ran_for >= second / 2, "{report:?}");
    replaced(&handle, second_run);
    end(cluster, &handle);
}

/// Fills as many MiB as its argument says, and keeps them.
fn leak(worker: &mut Worker) -> Done {
    worker.handle_terminate();
    worker.unblock_signals()?;
    let filled = vec![1u8; usize::try_from(worker.main_arg()).unwrap() << 20];
    worker.ready();
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    std::hint::black_box(filled);
    Ok(())
}

/// Would time out if nobody looked, and fail if what is not the worker's own counted.
fn a_worker_that_leaks_makes_place_and_one_that_does_not_stays() {
    let cluster = Cluster::with(|builder| builder.function("leak", entry(leak)));
    let description = |mib| {
        let worker = worker("leak").main_arg(mib).restart(HOUR).flags(WorkerFlags::SHMEM_ACCESS);
        worker.recycle(Recycle::new().rss(64 << 20))
    };
    let (modest, modest_pid) = start(&cluster, description(8));
    let (leaky, leaky_pid) = start(&cluster, description(96));
    let (report, _) = replaced(&leaky, leaky_pid);
    assert_eq!(report.recycled, Some(Recycled::Memory), "{report}");
    assert_eq!(modest.status(), WorkerStatus::Started(modest_pid));
    modest.terminate().unwrap();
    stopped(&modest);
    end(cluster, &leaky);
}

/// Does its jobs and returns, whether it is told to stop or not.
fn do_jobs_and_return(worker: &mut Worker) -> Done {
    worker.handle_terminate();
    worker.unblock_signals()?;
    for _ in 0..worker.main_arg() {
        worker.job_done();
    }
    write_note(&format!("ran-{}", std::process::id()), "")?;
    Ok(())
}

/// Would fail if an end that overtakes the stop signal were a worker's that is done for good.
fn a_worker_that_returns_once_its_jobs_are_done_is_not_lost() {
    let cluster = Cluster::with(|b| b.function("return", entry(do_jobs_and_return)));
    let recycle = Recycle::new().jobs(3);
    let description = worker("return").main_arg(3).restart(HOUR).recycle(recycle);
    let handle = cluster.backend.register(&description.build().unwrap()).unwrap();
    let runs = || {
        let notes = std::fs::read_dir(std::env::temp_dir()).unwrap();
        notes
            .filter(|note| note.as_ref().unwrap().path().to_string_lossy().contains("ran-"))
            .count()
    };
    wait_until("it has run thirty times", PATIENCE, || runs() >= 30);
    let report = handle.exit_report().unwrap();
    assert_eq!((report.cause, report.restarts), (ExitCause::Exited(0), 0));
    assert_eq!(report.recycled, Some(Recycled::Jobs));
    end(cluster, &handle);
}

/// Would fail if the memory of a program were not looked at, or if its next run started beside a
/// process that the last one has left behind.
fn a_command_that_leaks_is_recycled_with_what_it_has_started() {
    let cluster = Cluster::new();
    let note = note_path("pids").display().to_string();
    // A shell keeps what it reads in memory of its own.
    let script = format!(
        "trap 'exit 0' TERM; sleep 1000 & echo $$ $! >> {note}; \
         filled=$(head -c 20000000 /dev/zero | tr '\\0' x); while :; do sleep 0.1; done"
    );
    let description = BackgroundWorker::builder("shell").command("/bin/sh", ["-c", &script]);
    let description = description.restart(HOUR).recycle(Recycle::new().rss(8 << 20));
    let (handle, first) = start(&cluster, description);
    let (report, _) = replaced(&handle, first);
    assert_eq!(report.recycled, Some(Recycled::Memory), "{report}");
    let pids = read_note("pids");
    let sleeper = pids.split_whitespace().nth(1).unwrap().parse().unwrap();
    let sleeper = Pid::new(sleeper).unwrap();
    assert!(!crate::support::alive(sleeper), "the first run's sleep has ended with it");
    end(cluster, &handle);
}

//! The promise: with warm spares every worker starts, ends and is reported as without them, only
//! sooner.
//!
//! Would catch: a worker that runs twice or never because its spare died, a spare that keeps
//! something of the postmaster or of another spare, spares that outlive a shutdown.

use crate::support::{
    Cluster, PATIENCE, alive, kill, raw, read_note, ready, restarting, shared, simple, spares,
    started, stopped, title, wait_for_spares, worker, write_note,
};
use bgw_backend::{
    BackgroundWorker, ExitCause, Pid, RestartPolicy, ShutdownMode, Worker, WorkerError,
    WorkerStatus, entry,
};
use process_test::{Signal, Test, tests, wait_until};
use std::time::{Duration, Instant};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_worker_starts_in_a_waiting_spare,
        a_spare_gets_the_whole_description,
        a_burst_larger_than_the_spares_starts_completely,
        a_worker_never_notices_a_spare_that_died_asleep,
        a_spare_that_dies_before_it_takes_its_job_is_replaced,
        a_spare_has_no_descriptor_or_page_of_others,
        spares_end_with_every_shutdown_and_with_the_postmaster,
        a_spare_that_dies_in_a_shutdown_is_not_replaced,
        restarts_and_resets_use_spares,
    ]
}

const SPARES: usize = 3;

fn cluster() -> Cluster {
    let cluster = Cluster::with(|builder| {
        builder.max_workers(64).warm_spares(SPARES).function("list", entry(list))
    });
    wait_for_spares(&cluster, SPARES);
    cluster
}

/// Would fail if workers were forked all the same, and time out if a used spare were not replaced.
fn a_worker_starts_in_a_waiting_spare() {
    let cluster = cluster();
    for _ in 0..5 {
        let before = spares(&cluster);
        let (handle, pid) = cluster.start(&simple("sleep"));
        assert!(before.contains(&pid), "{pid} was none of {before:?}");
        ready(&handle);
        assert_eq!(title(pid), "bgworker: sleep");
        handle.terminate().unwrap();
        assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
        wait_for_spares(&cluster, SPARES);
    }
    let command = BackgroundWorker::builder("c").command("sleep", ["1000"]).build().unwrap();
    let before = spares(&cluster);
    let (_, pid) = cluster.start(&command);
    assert!(!before.contains(&pid), "a command is forked");
    cluster.end();
}

/// Would fail if a field of the description were lost on the page of a spare.
fn a_spare_gets_the_whole_description() {
    let cluster = cluster();
    let extra: Vec<u8> = (0..128).collect();
    let description = worker("describe").worker_type("kind").main_arg(u64::MAX).extra(&extra);
    let handle = cluster.backend.register(&description.build().unwrap()).unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    let expected = format!("describe|kind|{}|{extra:?}|{handle}", u64::MAX);
    assert_eq!(read_note("describe"), expected);
    for (function, cause) in [("fail", 1), ("panic", 1), ("quick", 0)] {
        let handle = cluster.backend.register(&simple(function)).unwrap();
        assert_eq!(stopped(&handle).cause, ExitCause::Exited(cause), "{function}");
    }
    let handle = cluster.backend.register(&simple("default")).unwrap();
    ready(&handle);
    handle.terminate().unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(1), "its handlers are installed");
    cluster.end();
}

/// Would time out if a start waited for the next spare.
fn a_burst_larger_than_the_spares_starts_completely() {
    let cluster = cluster();
    let handles: Vec<_> =
        (0..60).map(|_| cluster.backend.register(&simple("sleep")).unwrap()).collect();
    let mut pids: Vec<Pid> = handles.iter().map(started).collect();
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 60);
    wait_for_spares(&cluster, SPARES);
    cluster.end();
}

/// Would time out if a dead spare got a job.
fn a_worker_never_notices_a_spare_that_died_asleep() {
    let cluster = cluster();
    // Stopped, the postmaster cannot notice the deaths before it has to start the worker.
    kill(cluster.launched.pid(), Signal::SIGSTOP);
    for pid in spares(&cluster) {
        kill(pid, Signal::SIGKILL);
    }
    let handle = cluster.backend.register(&simple("sleep")).unwrap();
    kill(cluster.launched.pid(), Signal::SIGCONT);
    let pid = ready(&handle);
    assert!(alive(pid));
    handle.terminate().unwrap();
    assert_eq!(stopped(&handle).restarts, 0);
    wait_for_spares(&cluster, SPARES);
    cluster.end();
}

/// A stopped spare gets a job, does not take it, and is killed. Would fail if that were reported as
/// the worker's end, or counted as a restart.
fn a_spare_that_dies_before_it_takes_its_job_is_replaced() {
    let cluster = cluster();
    let asleep = spares(&cluster);
    for &pid in &asleep {
        kill(pid, Signal::SIGSTOP);
    }
    let (handle, first) = cluster.start(&shared("sleep", RestartPolicy::Never));
    assert!(asleep.contains(&first));
    kill(first, Signal::SIGKILL);
    wait_until(
        "it runs in another process",
        PATIENCE,
        || matches!(handle.status(), WorkerStatus::Started(pid) if pid != first),
    );
    for &pid in asleep.iter().filter(|&&pid| pid != first) {
        kill(pid, Signal::SIGCONT);
    }
    ready(&handle);
    handle.terminate().unwrap();
    let report = stopped(&handle);
    assert_eq!((report.cause, report.restarts), (ExitCause::Exited(0), 0));
    cluster.end();
}

fn list(_: &mut Worker) -> Result<(), WorkerError> {
    let mut found = String::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let target = std::fs::read_link(entry?.path()).unwrap_or_default();
        found.push_str(&format!("{}\n", target.display()));
    }
    found.push_str(&std::fs::read_to_string("/proc/self/maps")?);
    write_note("list", &found)?;
    Ok(())
}

/// Would fail if a spare kept the page of another spare mapped, or its descriptors open.
fn a_spare_has_no_descriptor_or_page_of_others() {
    let cluster = cluster();
    stopped(&cluster.backend.register(&simple("list")).unwrap());
    let found = read_note("list");
    let count = |what: &str| found.lines().filter(|line| line.contains(what)).count();
    assert_eq!(count("pidfd"), 1, "the postmaster's alone: {found}");
    assert_eq!(count("eventpoll") + count("signalfd") + count("socket:"), 0, "{found}");
    assert_eq!(count("/dev/zero"), 1, "no page of another spare: {found}");
    cluster.end();
}

/// Would fail if a spare were still alive after the shutdown, and time out if it outlived a killed
/// postmaster.
fn spares_end_with_every_shutdown_and_with_the_postmaster() {
    for mode in [ShutdownMode::Smart, ShutdownMode::Fast, ShutdownMode::Immediate] {
        let cluster = cluster();
        let asleep = spares(&cluster);
        cluster.launched.shutdown(mode).unwrap();
        let Cluster { launched, backend, folder } = cluster;
        drop(backend);
        assert_eq!(launched.wait().unwrap(), ExitCause::Exited(0));
        assert!(asleep.iter().all(|&pid| !alive(pid)), "{mode}");
        std::fs::remove_dir_all(folder).unwrap();
    }
    let cluster = cluster();
    let asleep = spares(&cluster);
    kill(cluster.launched.pid(), Signal::SIGKILL);
    cluster.launched.wait().unwrap();
    for pid in asleep {
        wait_until("the spare has ended", PATIENCE, || !alive(pid));
    }
}

/// Would fail if the fork of its successor, which never comes, stayed due: the postmaster then
/// waits for nothing, again and again, until the last worker has ended.
fn a_spare_that_dies_in_a_shutdown_is_not_replaced() {
    let cluster = cluster();
    let (handle, worker) = cluster.start(&simple("stubborn"));
    ready(&handle);
    wait_for_spares(&cluster, SPARES);
    let victim = spares(&cluster)[0];
    cluster.backend.shutdown(ShutdownMode::Fast).unwrap();
    kill(victim, Signal::SIGKILL);
    let (died, postmaster) = (Instant::now(), raw(cluster.launched.pid()));
    // A successor would be due one second after the death.
    wait_until("the postmaster sleeps on", PATIENCE, || {
        died.elapsed() > Duration::from_millis(1200) && process_test::asleep(postmaster)
    });
    assert!(!alive(victim));
    kill(worker, Signal::SIGKILL);
    assert_eq!(cluster.launched.wait().unwrap(), ExitCause::Exited(0));
}

/// Would fail if a spare used the incarnation or the number of restarts of the time when it was
/// forked.
fn restarts_and_resets_use_spares() {
    let cluster = cluster();
    let (handle, first) = cluster.start(&restarting("sleep", Duration::ZERO));
    ready(&handle);
    kill(first, Signal::SIGKILL);
    wait_until("it runs again", PATIENCE, || {
        matches!(handle.status(), WorkerStatus::Started(pid) if pid != first) && handle.is_ready()
    });
    handle.terminate().unwrap();
    assert_eq!(stopped(&handle).restarts, 1);
    let (old, victim) = cluster.start(&shared("sleep", RestartPolicy::after_secs(60)));
    ready(&old);
    kill(victim, Signal::SIGABRT);
    wait_until("it runs after the reset", PATIENCE, || {
        let workers = cluster.backend.workers();
        workers.len() == 1 && workers[0].ready && workers[0].handle != old.id()
    });
    let description = worker("describe").build().unwrap();
    let handle = cluster.backend.register(&description).unwrap();
    stopped(&handle);
    assert!(
        read_note("describe").ends_with(&handle.to_string()),
        "its own handle has the new incarnation"
    );
    cluster.end();
}

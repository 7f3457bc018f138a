//! The promise: in a process that serves one worker after another each is a worker of its own, and
//! nothing that is meant for one reaches another.
//!
//! Would catch: an end without a report of its own, a signal for one worker that reaches the next,
//! a process that sleeps on after its cluster has ended.

use crate::support::reuse::{cluster_of, run_and_rest};
use crate::support::{
    Cluster, PATIENCE, alive, kill, raw, read_note, ready, simple, spares, started, stopped,
    wait_until_asleep, worker,
};
use bgw_backend::{
    ExitCause, ExitReport, Handle, RestartOn, RestartPolicy, ShutdownMode, WorkerStatus,
};
use bgw_postmaster::Reuse;
use process_test::{Signal, Test, tests, wait_until};
use std::collections::HashSet;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        each_life_has_its_own_handle_report_and_times => [J31, J33],
        a_signal_for_one_life_never_reaches_the_next => [J32],
        what_a_life_has_registered_concerns_the_next_one_no_more => [J32],
        former_workers_end_with_every_shutdown_and_with_the_postmaster,
        more_former_workers_than_spares_are_not_kept,
    ]
}

/// Would fail if a life had the handle, the restarts or the CPU time of another one, or if a pid
/// were shown of a worker whose process has gone on.
fn each_life_has_its_own_handle_report_and_times() {
    let cluster = cluster_of(1, Reuse::new());
    let long = worker("compute").main_arg(200).build().unwrap();
    let first = cluster.backend.register(&long).unwrap();
    let one = stopped(&first);
    let pid = one.pid.unwrap();
    wait_until("it rests", PATIENCE, || spares(&cluster).contains(&pid));
    let second = cluster.backend.register(&simple("until")).unwrap();
    assert_eq!(started(&second), pid);
    second.terminate().unwrap();
    assert!(first.id() != second.id());
    assert_eq!(first.status(), WorkerStatus::Stopped(Some(one.clone())), "not its pid's worker");
    let two = stopped(&second);
    assert_eq!((two.pid, two.restarts, two.requested()), (Some(pid), 0, true));
    let cpu = |report: &ExitReport| report.user_time + report.system_time;
    assert!(cpu(&one) > Duration::from_millis(190), "{one:?}");
    assert!(cpu(&two) < cpu(&one) / 2, "{one:?} {two:?}");
    assert!(one.ran_for >= Duration::from_millis(200), "{one:?}");
    assert!(two.max_rss_kib >= one.max_rss_kib, "since the process began");
    // A restart is a life, too, and has its number.
    let at_once = RestartPolicy::Fixed(Duration::ZERO);
    let run = worker("again").restart(at_once).restart_on(RestartOn::Always);
    let handle = cluster.backend.register(&run.build().unwrap()).unwrap();
    wait_until("it has come back twice", PATIENCE, || {
        handle.exit_report().is_some_and(|report| report.restarts >= 2)
    });
    assert_eq!(handle.exit_report().unwrap().pid, Some(pid), "in the same process");
    handle.terminate().unwrap();
    handle.wait_for_end_timeout(PATIENCE).unwrap();
    cluster.end();
}

/// Life after life, each of which is terminated, killed, or has its latch set while it ends. Would
/// fail if a single one of these reached the life after it.
fn a_signal_for_one_life_never_reaches_the_next() {
    let cluster = cluster_of(1, Reuse::new().lives(u32::MAX));
    let mut reused = 0;
    let mut pids = HashSet::new();
    for round in 0..300 {
        let handle = cluster.backend.register(&simple("again")).unwrap();
        if round % 4 != 0 {
            handle.wait_for_startup_timeout(PATIENCE).unwrap();
        }
        match round % 3 {
            0 => handle.terminate().unwrap(),
            1 => drop(handle.set_latch()),
            _ if round % 30 == 2 => handle.kill().unwrap(),
            _ => {
                handle.terminate().unwrap();
                drop(handle.set_latch());
            }
        }
        let next = worker("wait").main_arg(2).build().unwrap();
        let next = cluster.backend.register(&next).unwrap();
        let (one, two) = (stopped(&handle), stopped(&next));
        assert_eq!(two.cause, ExitCause::Exited(0), "round {round}: {one:?} {two:?}");
        assert!(!two.requested() && !two.killed, "round {round}: {two:?}");
        pids.extend(one.pid);
        reused += u32::from(two.pid.is_some_and(|pid| !pids.insert(pid)));
    }
    assert!(reused > 10, "only {reused} lives were in a process that had another one");
    cluster.end();
}

/// Would fail if the postmaster took a process for the worker that it was before.
fn what_a_life_has_registered_concerns_the_next_one_no_more() {
    let cluster = cluster_of(1, Reuse::new());
    let pid = run_and_rest(&cluster, "register", 0);
    let inner: Handle = cluster.backend.handle(read_note("inner").parse().unwrap());
    assert!(inner.is_ready());
    let next = cluster.backend.register(&simple("listen")).unwrap();
    assert_eq!(ready(&next), pid);
    inner.terminate().unwrap();
    stopped(&inner);
    assert_eq!(stopped(&next).cause, ExitCause::Exited(0));
    assert_eq!(read_note("heard"), "false");
    cluster.end();
}

/// Would fail if a former worker were still alive after the shutdown, and time out if it outlived a
/// killed postmaster.
fn former_workers_end_with_every_shutdown_and_with_the_postmaster() {
    for mode in [ShutdownMode::Smart, ShutdownMode::Fast, ShutdownMode::Immediate] {
        let cluster = cluster_of(1, Reuse::new());
        let former = run_and_rest(&cluster, "again", 0);
        cluster.launched.shutdown(mode).unwrap();
        let Cluster { launched, backend, folder } = cluster;
        drop(backend);
        assert_eq!(launched.wait().unwrap(), ExitCause::Exited(0));
        assert!(!alive(former), "{mode}");
        std::fs::remove_dir_all(folder).unwrap();
    }
    let cluster = cluster_of(1, Reuse::new());
    let former = run_and_rest(&cluster, "again", 0);
    kill(cluster.launched.pid(), Signal::SIGKILL);
    cluster.launched.wait().unwrap();
    wait_until("the former worker has ended", PATIENCE, || !alive(former));
}

/// Would fail if each burst left more sleeping processes behind, or if one that died in its sleep
/// got a worker.
fn more_former_workers_than_spares_are_not_kept() {
    let cluster = cluster_of(2, Reuse::new());
    for _ in 0..3 {
        let description = worker("wait").main_arg(50).build().unwrap();
        let handles: Vec<_> =
            (0..8).map(|_| cluster.backend.register(&description).unwrap()).collect();
        for handle in &handles {
            assert_eq!(stopped(handle).cause, ExitCause::Exited(0));
        }
        wait_until("as many as spares are kept", PATIENCE, || spares(&cluster).len() == 4);
    }
    // Stopped, the postmaster cannot notice the deaths before it has to start the worker.
    let former = run_and_rest(&cluster, "again", 0);
    kill(cluster.launched.pid(), Signal::SIGSTOP);
    for pid in spares(&cluster) {
        kill(pid, Signal::SIGKILL);
    }
    let handle = cluster.backend.register(&simple("again")).unwrap();
    kill(cluster.launched.pid(), Signal::SIGCONT);
    let report = stopped(&handle);
    assert!(report.cause == ExitCause::Exited(0) && report.pid != Some(former));
    wait_until_asleep(cluster.launched.pid());
    assert!(process_test::zombies_of(raw(cluster.launched.pid())).is_empty());
    cluster.end();
}

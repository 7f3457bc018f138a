//! The promise: what follows an end depends on how the worker ended and on its policy, on nothing
//! else.
//!
//! Would catch: a worker that comes back after exit 0, comes back too early, or does not come back.

use crate::support::{
    Cluster, PATIENCE, read_note, restarting, simple, started, stopped, worker, write_note,
};
use bgw_backend::{ExitCause, RestartPolicy, Worker, WorkerError, WorkerStatus, entry};
use process_test::{Test, tests, wait_until};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        exit_0_is_final_whatever_the_policy => [B30, R10, P03],
        exit_1_is_restarted_after_its_interval_and_not_before => [B31, P03],
        an_interval_of_0_restarts_at_once => [B32],
        a_never_restart_worker_is_unregistered_by_exit_1 => [B33, B12, P03],
    ]
}

/// Would fail if exit 0 were treated as exit 1.
fn exit_0_is_final_whatever_the_policy() {
    let cluster = Cluster::with(|builder| builder.max_workers(1));
    let policies = [
        RestartPolicy::Never,
        RestartPolicy::Fixed(Duration::ZERO),
        RestartPolicy::Fixed(Duration::from_millis(1)),
    ];
    for policy in policies {
        let description = worker("quick").restart(policy).build().unwrap();
        let handle = cluster.backend.register(&description).unwrap();
        let report = stopped(&handle);
        assert_eq!((report.cause, report.restarts), (ExitCause::Exited(0), 0), "{policy:?}");
        assert!(report.unregistered, "{policy:?}");
        // The only slot is free, so nothing is left that could come back.
        let next = cluster.backend.register(&simple("sleep")).unwrap();
        started(&next);
        next.terminate().unwrap();
        stopped(&next);
    }
    cluster.end();
}

fn now() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    u64::try_from(now.tv_sec()).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap()
}

/// Notes when its run began and ended, and fails.
fn note_and_fail(worker: &mut Worker) -> Result<(), WorkerError> {
    let began = now();
    let life = worker.restarts();
    if life < 3 {
        write_note(&format!("life-{life}"), &format!("{began} {}", now()))?;
    }
    Err("again, please".into())
}

fn life(number: u32) -> (u64, u64) {
    let note = read_note(&format!("life-{number}"));
    let (began, ended) = note.split_once(' ').unwrap();
    (began.parse().unwrap(), ended.parse().unwrap())
}

/// Would fail if the interval were ignored, or counted from the start of the run.
fn exit_1_is_restarted_after_its_interval_and_not_before() {
    let interval = Duration::from_millis(300);
    let cluster = Cluster::with(|builder| builder.function("note", entry(note_and_fail)));
    let handle = cluster.backend.register(&restarting("note", interval)).unwrap();
    for number in 1..3 {
        let between = life(number).0 - life(number - 1).1;
        assert!(u128::from(between) >= interval.as_nanos(), "{between} ns");
    }
    handle.terminate().unwrap();
    wait_until("it is unregistered", PATIENCE, || cluster.backend.workers().is_empty());
    cluster.end();
}

/// Would hang if a worker with interval 0 waited for a timer that nobody sets.
fn an_interval_of_0_restarts_at_once() {
    let cluster = Cluster::with(|builder| builder.function("note", entry(note_and_fail)));
    let handle = cluster.backend.register(&restarting("note", Duration::ZERO)).unwrap();
    life(2);
    handle.terminate().unwrap();
    wait_until("it is unregistered", PATIENCE, || cluster.backend.workers().is_empty());
    cluster.end();
}

/// Would fail if the slot stayed taken for a restart that never comes.
fn a_never_restart_worker_is_unregistered_by_exit_1() {
    let cluster = Cluster::with(|builder| builder.max_workers(1));
    let handle = cluster.backend.register(&simple("fail")).unwrap();
    let report = stopped(&handle);
    assert!(report.cause == ExitCause::Exited(1) && report.unregistered, "{report:?}");
    assert!(matches!(handle.status(), WorkerStatus::Stopped(Some(_))), "for good");
    assert!(cluster.backend.workers().is_empty());
    started(&cluster.backend.register(&simple("sleep")).unwrap());
    cluster.end();
}

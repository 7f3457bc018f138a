//! The promise: each end of a worker is reported, once and truly, to whoever asks for it.
//!
//! Would catch: a restart pause that passes for the end, a cause that is not the true one.

use crate::support::{Cluster, PATIENCE, alive, ready, restarting, simple, stopped};
use bgw_backend::{ExitCause, ExitReport, Handle, WaitError, WorkerStatus, wait_any_end};
use process_test::{Test, tests};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_wait_for_the_end_outlasts_the_restart_pause => [D02],
        at_the_end_no_process_of_the_worker_is_left => [D02],
    ]
}

/// Waits for the end; there must be a report.
#[track_caller]
fn ended(handle: &Handle) -> ExitReport {
    match handle.wait_for_end_timeout(PATIENCE).unwrap() {
        WorkerStatus::Stopped(Some(report)) => report,
        other => panic!("worker {handle} should have ended, and is: {other}"),
    }
}

/// Would fail if the pause before the restart counted as the end: with `wait_for_shutdown` it does.
fn a_wait_for_the_end_outlasts_the_restart_pause() {
    let cluster = Cluster::with(|builder| builder.max_workers(2));
    let hour = Duration::from_secs(3600);
    let handle = cluster.backend.register(&restarting("fail", hour)).unwrap();
    assert!(!stopped(&handle).unregistered, "it rests until its restart");
    let early = handle.wait_for_end_timeout(Duration::from_millis(20));
    assert!(matches!(early, Err(WaitError::TimedOut)), "{early:?}");
    handle.terminate().unwrap();
    let report = ended(&handle);
    assert!(report.unregistered && report.requested, "{report}");
    assert_eq!(report.cause, ExitCause::Exited(1), "how it ended last is kept");
    cluster.backend.register(&simple("quick")).unwrap();
    cluster.end();
}

/// Would fail if the end were reported while a process of the worker runs, or starts once more.
fn at_the_end_no_process_of_the_worker_is_left() {
    let cluster = Cluster::with(|builder| builder.max_workers(2));
    let handle = cluster.backend.register(&restarting("default", Duration::ZERO)).unwrap();
    let other = cluster.backend.register(&restarting("sleep", Duration::ZERO)).unwrap();
    let pid = ready(&handle);
    handle.terminate().unwrap();
    let handles = [other.clone(), handle.clone()];
    let (place, status) = wait_any_end(&handles, Some(PATIENCE)).unwrap();
    let WorkerStatus::Stopped(Some(report)) = status else { panic!("{status}") };
    assert_eq!((place, report.pid, report.unregistered), (1, Some(pid), true));
    process_test::wait_until("its process is reaped", PATIENCE, || !alive(pid));
    assert!(cluster.backend.find("default").is_empty());
    assert_eq!(cluster.backend.find("sleep"), [other]);
    cluster.end();
}

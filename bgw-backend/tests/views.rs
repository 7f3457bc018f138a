//! The promise: a view shows each registered worker as it is, and finds workers by name.
//!
//! Would catch: a worker that a dead postmaster's view still calls started, a name that finds one
//! of several workers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bgw_backend::{BackgroundWorker, WorkerStatus};
use support::{cluster, report, worker};

fn named(name: &str) -> BackgroundWorker {
    BackgroundWorker::builder(name).function("f").build().unwrap()
}

#[test]
fn a_name_finds_every_worker_that_has_it_and_no_other() {
    let (straw, backend) = cluster(4);
    assert_eq!(backend.find("a"), []);
    let first = backend.register(&named("a")).unwrap();
    let other = backend.register(&named("ab")).unwrap();
    let second = backend.register(&named("a")).unwrap();
    assert_eq!(backend.find("a"), [first.clone(), second.clone()]);
    assert_eq!(backend.find("ab"), [other]);
    straw.end(&first, &report(0));
    assert_eq!(backend.find("a"), [second], "the other one has ended");
}

/// Would fail if the view read the slots alone, which nobody corrects any more.
#[test]
fn nothing_is_started_under_a_dead_postmaster() {
    let (straw, backend) = cluster(4);
    let started = backend.register(&worker()).unwrap();
    let resting = backend.register(&worker()).unwrap();
    backend.register(&worker()).unwrap();
    straw.start(&started, 42);
    straw.rest(&resting, &report(1));
    let statuses =
        || -> Vec<WorkerStatus> { backend.workers().into_iter().map(|info| info.status).collect() };
    let stopped = WorkerStatus::Stopped(Some(report(1)));
    let pid = bgw_backend::Pid::new(42).unwrap();
    assert_eq!(
        statuses(),
        [WorkerStatus::Started(pid), stopped.clone(), WorkerStatus::NotYetStarted]
    );
    straw.die();
    let died = WorkerStatus::PostmasterDied;
    assert_eq!(statuses(), [died.clone(), stopped, died]);
    assert!(backend.workers().iter().all(|info| info.started_at.is_none()));
}

//! The promise: a handle answers for its own worker only, for ever.
//!
//! Would catch: a status that mixes two tenants of a slot, a stale handle that ends the next
//! tenant.

use crate::support::{
    Cluster, PATIENCE, alive, connect, kill, raw, restarting, simple, started, stopped,
};
use bgw_backend::{
    AskError, ExitCause, NotWritable, RegisterError, StartTime, TerminateError, WorkerHandle,
    WorkerStatus,
};
use process_test::{Signal, Test, fork_child, tests, wait_until};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_handle_goes_from_not_yet_started_to_started_to_stopped => [B05, B10, B11, B12, B16],
        a_stale_handle_neither_answers_for_nor_ends_the_next_worker => [B15, B28, R17],
        a_failed_worker_stops_and_starts_again_with_another_pid => [B13, X03],
        a_handle_travels_as_text_to_another_process,
        a_forked_child_cannot_use_its_parents_backend,
    ]
}

/// Would fail if a status ran ahead of or behind its worker, or named another process.
fn a_handle_goes_from_not_yet_started_to_started_to_stopped() {
    let cluster = Cluster::with(|builder| builder.initial_phase(StartTime::PostmasterStart));
    let handle = cluster.backend.register(&simple("sleep")).unwrap();
    cluster.backend.ping().unwrap();
    assert_eq!((handle.status(), handle.pid()), (WorkerStatus::NotYetStarted, None));
    cluster.backend.advance(StartTime::RecoveryFinished).unwrap();
    let pid = started(&handle);
    assert_eq!((handle.status(), handle.pid()), (WorkerStatus::Started(pid), Some(pid)));
    assert!(alive(pid));
    handle.terminate().unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    assert_eq!(handle.pid(), None);
    assert!(matches!(handle.status(), WorkerStatus::Stopped(Some(_))));
    cluster.end();
}

/// Would fail if `look` or `set_flags` did not compare the generation.
fn a_stale_handle_neither_answers_for_nor_ends_the_next_worker() {
    let cluster = Cluster::with(|builder| builder.max_workers(1));
    let (old, _) = cluster.start(&simple("sleep"));
    old.terminate().unwrap();
    let report = stopped(&old);
    let (new, pid) = cluster.start(&simple("sleep"));
    assert_eq!(old.id().slot(), new.id().slot(), "one slot, so it is reused");
    assert_eq!(old.status(), WorkerStatus::Stopped(Some(report.clone())), "its own report");
    assert_eq!(old.pid(), None, "not that of the slot's next worker");
    assert_eq!(old.wait_for_shutdown().unwrap(), WorkerStatus::Stopped(Some(report)));
    old.terminate().unwrap();
    cluster.backend.ping().unwrap();
    assert_eq!(new.status(), WorkerStatus::Started(pid), "the next worker goes on");
    assert!(!cluster.backend.workers()[0].terminating, "and nobody asked it to end");
    assert!(alive(pid));
    cluster.end();
}

/// Would fail if the slot kept the old pid, or if a restart were not counted.
fn a_failed_worker_stops_and_starts_again_with_another_pid() {
    let cluster = Cluster::new();
    let (handle, first) = cluster.start(&restarting("sleep", Duration::from_millis(100)));
    kill(first, Signal::SIGKILL);
    let report = stopped(&handle);
    assert_eq!(report.cause, ExitCause::Signaled { signal: 9, core_dumped: false });
    assert!(!report.unregistered && !report.requested());
    wait_until(
        "it runs again",
        PATIENCE,
        || matches!(handle.status(), WorkerStatus::Started(pid) if pid != first),
    );
    handle.terminate().unwrap();
    let report = stopped(&handle);
    assert_eq!(report.restarts, 1);
    assert!(report.unregistered && report.requested());
    cluster.end();
}

/// Would fail if the text of a handle lost a part of it, or if only the registering process could
/// use it.
fn a_handle_travels_as_text_to_another_process() {
    let cluster = Cluster::new();
    let (handle, pid) = cluster.start(&simple("sleep"));
    let text = handle.to_string();
    let folder = cluster.folder.clone();
    let mut child = fork_child(move || {
        let id: WorkerHandle = text.parse().unwrap();
        let handle = connect(&folder).handle(id);
        assert_eq!(handle.status(), WorkerStatus::Started(pid));
        handle.terminate().unwrap();
        stopped(&handle);
    });
    assert_eq!(child.wait().code(), Some(0));
    assert!(stopped(&handle).requested());
    cluster.end();
}

/// Would fail if a forked child could act on behalf of its parent, or read an answer from its
/// connection.
fn a_forked_child_cannot_use_its_parents_backend() {
    let cluster = Cluster::new();
    let backend = cluster.backend.clone();
    let (handle, _) = cluster.start(&simple("sleep"));
    let theirs = handle.clone();
    let mut child = fork_child(move || {
        let refused = backend.register(&simple("quick")).unwrap_err();
        let RegisterError::NotWritable(NotWritable::ForkedChild { .. }) = refused else {
            panic!("{refused}");
        };
        let refused = theirs.terminate().unwrap_err();
        let TerminateError::NotWritable(NotWritable::ForkedChild { .. }) = refused else {
            panic!("{refused}");
        };
        let refused = backend.ping().unwrap_err();
        assert!(matches!(refused, AskError::ForkedChild { .. }), "{refused}");
    });
    assert_eq!(child.wait().code(), Some(0));
    cluster.backend.ping().unwrap();
    assert!(matches!(handle.status(), WorkerStatus::Started(_)), "{}", handle.status());
    assert!(process_test::alive(raw(cluster.launched.pid())));
    cluster.end();
}

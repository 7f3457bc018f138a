//! The promise: the process that registered a worker gets SIGUSR1 when it starts and when it ends,
//! after the fact, and nobody else ever does.
//!
//! Would catch: a notification before the slot says so, a slot that is still taken when its end is
//! told, a signal to a process that never asked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bgw_backend::{RegisterError, WorkerStatus};
use process_test::{Test, fork_child, tests};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use support::{Cluster, PATIENCE, connect, raw, simple, started, stopped, worker};

fn main() -> ExitCode {
    let mut tests = tests![
        the_target_is_told_of_the_start_and_of_the_end => [B21, B22],
        without_a_target_nobody_is_signalled => [B23],
        a_target_that_has_gone_is_not_missed => [B09, B25],
    ];
    tests.push(
        Test::new("the_slot_is_free_before_its_end_is_told", free_before_told)
            .proves(&["R09"])
            .watchdog(Duration::from_secs(120)),
    );
    process_test::main(tests)
}

/// Would fail if one of the two signals were not sent, or sent before the fact.
fn the_target_is_told_of_the_start_and_of_the_end() {
    let cluster = Cluster::new();
    cluster.backend.enable_notifications().unwrap();
    let description = worker("sleep").notify(cluster.backend.pid()).build().unwrap();
    let handle = cluster.backend.register(&description).unwrap();
    assert!(cluster.backend.wait_for_notification(Some(PATIENCE)).unwrap());
    assert!(matches!(handle.status(), WorkerStatus::Started(_)), "the fact comes first");
    handle.terminate().unwrap();
    assert!(cluster.backend.wait_for_notification(Some(PATIENCE)).unwrap());
    assert!(matches!(handle.status(), WorkerStatus::Stopped(Some(_))), "the fact comes first");
    cluster.end();
}

static SIGNALS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

fn count_signals() {
    // SAFETY: the handler touches an atomic only.
    let before = unsafe { libc::signal(libc::SIGUSR1, count as *const () as libc::sighandler_t) };
    assert_ne!(before, libc::SIG_ERR);
}

/// Would fail if the registering process were told by default.
fn without_a_target_nobody_is_signalled() {
    let cluster = Cluster::new();
    count_signals();
    for _ in 0..20 {
        let (handle, _) = cluster.start(&simple("sleep"));
        handle.terminate().unwrap();
        stopped(&handle);
    }
    cluster.backend.ping().unwrap();
    assert_eq!(SIGNALS.load(Ordering::Relaxed), 0);
    cluster.end();
}

/// Would fail if the worker ended with its handle, or the signal to nobody ended the postmaster.
fn a_target_that_has_gone_is_not_missed() {
    let cluster = Cluster::new();
    let folder = cluster.folder.clone();
    let mut child = fork_child(move || {
        let backend = connect(&folder);
        backend.enable_notifications().unwrap();
        let description = worker("sleep").notify(backend.pid()).build().unwrap();
        started(&backend.register(&description).unwrap());
    });
    assert_eq!(child.wait().code(), Some(0));
    let workers = cluster.backend.workers();
    assert_eq!(workers.len(), 1, "the worker goes on without who registered it");
    let handle = cluster.backend.handle(workers[0].handle);
    handle.terminate().unwrap();
    stopped(&handle);
    assert!(process_test::alive(raw(cluster.launched.pid())));
    cluster.end();
}

/// One slot, registered anew from each wake-up, thousands of times: never refused.
fn free_before_told() {
    const ROUNDS: u32 = 10_000;
    let cluster = Cluster::with(|builder| builder.max_workers(1));
    cluster.backend.enable_notifications().unwrap();
    let description = worker("quick").notify(cluster.backend.pid()).build().unwrap();
    for round in 0..ROUNDS {
        let handle = match cluster.backend.register(&description) {
            Ok(handle) => handle,
            Err(error @ RegisterError::NoFreeSlot { .. }) => panic!("round {round}: {error}"),
            Err(error) => panic!("{error}"),
        };
        while !matches!(handle.status(), WorkerStatus::Stopped(_)) {
            assert!(cluster.backend.wait_for_notification(Some(PATIENCE)).unwrap());
        }
    }
    cluster.end();
}

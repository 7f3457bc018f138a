//! The promise: when the postmaster dies, by whatever means, every wait of every process says so,
//! and no worker lives on.
//!
//! Would catch: a waiter that only looks at the slot, a wake-up that one waiter keeps for itself, a
//! worker that waits for something else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bgw_backend::{RegisterError, WaitEvents, WorkerStatus};
use process_test::{Signal, Test, alive, fork_child, tests, wait_until};
use std::process::ExitCode;
use support::{
    Cluster, PATIENCE, connect, kill, raw, read_note, ready, simple, started, write_note,
};

fn main() -> ExitCode {
    let mut tests = tests![
        three_backends_that_wait_are_told_and_no_worker_lives_on => [B19],
        every_kind_of_worker_ends_with_its_postmaster => [B70, R13],
        a_wait_that_begins_after_the_death_ends_at_once,
        registering_with_a_dead_postmaster_is_an_error,
        one_of_two_waiters_on_one_word_dies_with_the_postmaster,
    ];
    tests.push(Test::new("a_worker_that_hears_nothing_is_killed_by_the_kernel", deaf_worker));
    process_test::main(tests)
}

fn kill_postmaster(cluster: &Cluster) {
    kill(cluster.launched.pid(), Signal::SIGKILL);
}

/// Would hang if the death were not in the wait, or told one waiter only.
fn three_backends_that_wait_are_told_and_no_worker_lives_on() {
    let cluster = Cluster::new();
    let (handle, pid) = cluster.start(&simple("sleep"));
    let id = handle.id();
    let mut children: Vec<_> = (0..3)
        .map(|number| {
            let folder = cluster.folder.clone();
            fork_child(move || {
                let handle = connect(&folder).handle(id);
                write_note(&number.to_string(), "waiting").unwrap();
                assert_eq!(handle.wait_for_shutdown().unwrap(), WorkerStatus::PostmasterDied);
            })
        })
        .collect();
    for number in 0..3 {
        read_note(&number.to_string());
    }
    kill_postmaster(&cluster);
    for child in &mut children {
        assert_eq!(child.wait().code(), Some(0));
    }
    wait_until("the worker has ended", PATIENCE, || !alive(raw(pid)));
    cluster.launched.wait().unwrap();
}

/// Would fail if one of these waits or loops did not see the death.
fn every_kind_of_worker_ends_with_its_postmaster() {
    let cluster = Cluster::new();
    let mut pids = Vec::new();
    for function in ["sleep", "socket", "busy", "default", "stubborn"] {
        let handle = cluster.backend.register(&simple(function)).unwrap();
        pids.push((function, ready(&handle)));
    }
    kill_postmaster(&cluster);
    for (function, pid) in pids {
        wait_until(&format!("\"{function}\" has ended"), PATIENCE, || !alive(raw(pid)));
    }
    cluster.launched.wait().unwrap();
}

fn deaf_worker() {
    let cluster = Cluster::new();
    let handle = cluster.backend.register(&simple("deaf")).unwrap();
    let pid = ready(&handle);
    kill_postmaster(&cluster);
    wait_until("its timer has killed it", PATIENCE, || !alive(raw(pid)));
    cluster.launched.wait().unwrap();
}

fn a_wait_that_begins_after_the_death_ends_at_once() {
    let cluster = Cluster::new();
    let (handle, pid) = cluster.start(&simple("sleep"));
    kill_postmaster(&cluster);
    cluster.launched.wait().unwrap();
    assert_eq!(handle.wait_for_shutdown().unwrap(), WorkerStatus::PostmasterDied);
    assert_eq!(handle.wait_for_startup().unwrap(), WorkerStatus::Started(pid), "the word answers");
    assert!(!cluster.backend.postmaster_is_alive());
    wait_until("the worker has ended", PATIENCE, || !alive(raw(pid)));
}

fn registering_with_a_dead_postmaster_is_an_error() {
    let cluster = Cluster::new();
    kill_postmaster(&cluster);
    cluster.launched.wait().unwrap();
    let refused = cluster.backend.register(&simple("sleep")).unwrap_err();
    assert!(matches!(refused, RegisterError::PostmasterDied { .. }), "{refused}");
}

/// The kernel wakes one waiter of a liveness word. The one that it wakes may be killed before it
/// passes that on: each session has a word of its own, so nobody depends on it.
fn one_of_two_waiters_on_one_word_dies_with_the_postmaster() {
    let cluster = Cluster::new();
    let (handle, pid) = cluster.start(&simple("sleep"));
    let id = handle.id();
    let waiter = |name: &'static str| {
        let folder = cluster.folder.clone();
        fork_child(move || {
            let handle = connect(&folder).handle(id);
            write_note(name, "waiting").unwrap();
            assert_eq!(handle.wait_for_shutdown().unwrap(), WorkerStatus::PostmasterDied);
        })
    };
    let first = waiter("first");
    let mut second = waiter("second");
    read_note("first");
    read_note("second");
    // Stopped, the first one can be woken but passes nothing on.
    first.kill(Signal::SIGSTOP);
    kill_postmaster(&cluster);
    assert_eq!(second.wait().code(), Some(0));
    drop(first);
    wait_until("the worker has ended", PATIENCE, || !alive(raw(pid)));
    cluster.launched.wait().unwrap();
    let _ = (WaitEvents::all(), started);
}

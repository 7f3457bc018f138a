//! The promise: when the postmaster is killed, every waiter learns of it and every worker ends. Its
//! folder stays locked until the last worker has ended.
//!
//! Would catch: a wait that does not watch the postmaster, a worker that lives on, a second postmaster
//! beside the children of the first.

use crate::support::{
    Cluster, PATIENCE, alive, connect, kill, note_path, read_note, ready, simple, started, worker,
    write_note,
};
use bgw_backend::{
    RegisterError, SocketInterest, WaitEvents, Worker, WorkerError, WorkerStatus, entry,
};
use process_test::{Signal, Test, fork_child, tests, wait_until};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        the_death_wakes_the_waiters_of_three_programs => [B19],
        a_stopped_waiter_does_not_hide_the_death_from_another,
        every_kind_of_worker_ends_with_its_postmaster => [B70, R13],
        a_worker_that_blocks_every_signal_is_killed,
        a_wait_that_exits_on_the_death_does_not_return => [B65],
        a_wait_that_begins_after_the_death_ends_at_once,
        registering_with_a_dead_postmaster_is_an_error,
        a_second_postmaster_is_refused_while_the_first_lives => [B79],
        surviving_children_keep_the_folder_locked => [B79],
    ]
}

fn kill_postmaster(cluster: &Cluster) {
    kill(cluster.launched.pid(), Signal::SIGKILL);
}

/// Would hang if the death were not in the wait, or told one waiter only.
fn the_death_wakes_the_waiters_of_three_programs() {
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
    wait_until("the worker has ended", PATIENCE, || !alive(pid));
    cluster.launched.wait().unwrap();
}

/// The kernel wakes one waiter of a liveness word. The one that it wakes may be killed before it
/// passes that on: each session has a word of its own, so nobody depends on it.
fn a_stopped_waiter_does_not_hide_the_death_from_another() {
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
    wait_until("the worker has ended", PATIENCE, || !alive(pid));
    cluster.launched.wait().unwrap();
    let _ = (WaitEvents::all(), started);
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
        wait_until(&format!("\"{function}\" has ended"), PATIENCE, || !alive(pid));
    }
    cluster.launched.wait().unwrap();
}

fn a_worker_that_blocks_every_signal_is_killed() {
    let cluster = Cluster::new();
    let handle = cluster.backend.register(&simple("deaf")).unwrap();
    let pid = ready(&handle);
    kill_postmaster(&cluster);
    wait_until("its timer has killed it", PATIENCE, || !alive(pid));
    cluster.launched.wait().unwrap();
}

/// Says so if its wait comes back from the postmaster's death.
fn exits_in_its_wait(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.unblock_signals()?;
    let (ours, _theirs) = UnixStream::pair()?;
    worker.ready();
    let by_futex = worker.main_arg() == 0;
    loop {
        let events = WaitEvents::LATCH_SET | WaitEvents::EXIT_ON_POSTMASTER_DEATH;
        let mut sockets = [SocketInterest::readable(ours.as_fd())];
        let sockets = if by_futex { &mut sockets[..0] } else { &mut sockets[..] };
        let _ = worker.wait(events, sockets, None);
        if worker.should_stop() {
            write_note("returned", "")?;
        }
    }
}

/// Would fail if the wait came back, as the one with `POSTMASTER_DEATH` does.
fn a_wait_that_exits_on_the_death_does_not_return() {
    let cluster = Cluster::with(|builder| builder.function("exits", entry(exits_in_its_wait)));
    let mut pids = Vec::new();
    for way in 0..2 {
        let description = worker("exits").main_arg(way).build().unwrap();
        pids.push(ready(&cluster.backend.register(&description).unwrap()));
    }
    kill(cluster.launched.pid(), Signal::SIGKILL);
    cluster.launched.wait().unwrap();
    for pid in pids {
        wait_until("the worker has ended", PATIENCE, || !alive(pid));
    }
    assert!(!note_path("returned").exists());
}

fn a_wait_that_begins_after_the_death_ends_at_once() {
    let cluster = Cluster::new();
    let (handle, pid) = cluster.start(&simple("sleep"));
    kill_postmaster(&cluster);
    cluster.launched.wait().unwrap();
    assert_eq!(handle.wait_for_shutdown().unwrap(), WorkerStatus::PostmasterDied);
    assert_eq!(handle.wait_for_startup().unwrap(), WorkerStatus::Started(pid), "the word answers");
    assert!(!cluster.backend.postmaster_is_alive());
    wait_until("the worker has ended", PATIENCE, || !alive(pid));
}

fn registering_with_a_dead_postmaster_is_an_error() {
    let cluster = Cluster::new();
    kill_postmaster(&cluster);
    cluster.launched.wait().unwrap();
    let refused = cluster.backend.register(&simple("sleep")).unwrap_err();
    assert!(matches!(refused, RegisterError::PostmasterDied { .. }), "{refused}");
}

/// Would fail if the folder were locked by the postmaster alone, or stayed locked at its end.
fn a_second_postmaster_is_refused_while_the_first_lives() {
    let cluster = Cluster::new();
    let handle = cluster.backend.register(&simple("sleep")).unwrap();
    ready(&handle);
    let second = || bgw_postmaster::Postmaster::builder().runtime_dir(&cluster.folder).build();
    let refused = second().unwrap_err();
    assert!(matches!(refused, bgw_postmaster::BuildError::InUse { .. }), "{refused}");
    let folder = cluster.folder.clone();
    cluster.end();
    bgw_postmaster::Postmaster::builder().runtime_dir(folder).build().unwrap();
}

/// Would fail if the folder's lock were the postmaster's alone.
fn surviving_children_keep_the_folder_locked() {
    let cluster = Cluster::new();
    let (handle, pid) = cluster.start(&simple("sleep"));
    ready(&handle);
    // It cannot act on its postmaster's death.
    kill(pid, Signal::SIGSTOP);
    kill(cluster.launched.pid(), Signal::SIGKILL);
    cluster.launched.wait().unwrap();
    let again = || bgw_postmaster::Postmaster::builder().runtime_dir(&cluster.folder).build();
    let refused = again().unwrap_err();
    assert!(matches!(refused, bgw_postmaster::BuildError::InUse { .. }), "{refused}");
    kill(pid, Signal::SIGKILL);
    wait_until("the child is gone", PATIENCE, || !alive(pid));
    again().unwrap();
}

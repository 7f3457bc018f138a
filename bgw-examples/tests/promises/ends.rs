//! The promise: each end of a worker is reported, once and truly, to whoever asks for it.
//!
//! Would catch: a restart pause that passes for the end, a cause that is not the true one.

use crate::support::waiter::{
    end_and_use_the_slots, ended_as, gets_the_report_late, waiting_program, waiting_program_of,
};
use crate::support::{
    Cluster, PATIENCE, alive, connect, note_path, read_note, ready, restarting, simple, stopped,
    the_end, write_note,
};
use bgw_backend::{ExitCause, Handle, WaitError, WorkerStatus, wait_all_ends, wait_any_end};
use process_test::{Signal, Test, fork_child, tests};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_wait_for_the_end_outlasts_the_restart_pause => [D02],
        at_the_end_no_process_of_the_worker_is_left => [D02],
        eight_threads_that_register_and_wait_lose_no_end => [D01],
        a_registrant_that_looks_late_reads_its_report => [D01],
        a_registrant_that_has_looked_keeps_the_report_and_not_the_slot => [D01],
        a_dropped_handle_keeps_no_slot => [D01],
        a_registrant_that_dies_keeps_no_slot => [D01],
        the_oldest_unread_end_gives_way_when_every_slot_is_kept => [D01],
        a_stopped_waiter_of_another_process_gets_the_report_when_it_runs_again => [D01],
        a_waiter_that_dies_holds_no_slot => [D01],
        wait_all_gets_the_report_of_a_member_that_ended_long_before => [D01],
    ]
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
    let report = the_end(&handle);
    assert!(report.unregistered && report.requested(), "{report}");
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

/// Would fail if an ended slot could be taken before its registrant has looked: 400 of 2,000 such
/// waits returned no report.
fn eight_threads_that_register_and_wait_lose_no_end() {
    let cluster = Cluster::with(|builder| builder.max_workers(64));
    let wait = || {
        for _ in 0..250 {
            let handle = cluster.backend.register(&simple("quick")).unwrap();
            let status = handle.wait_for_shutdown_timeout(PATIENCE).unwrap();
            let WorkerStatus::Stopped(Some(report)) = status else { panic!("{handle}: {status}") };
            assert_eq!(report.cause, ExitCause::Exited(0));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(wait);
        }
    });
    cluster.end();
}

/// Would fail if the slot were given up at the end, or if a look before the end gave it up.
fn a_registrant_that_looks_late_reads_its_report() {
    let cluster = Cluster::with(|builder| builder.max_workers(4));
    let (late, pid) = cluster.start(&simple("sleep"));
    late.terminate().unwrap();
    ended_unread(&cluster, &late);
    let clone = late.clone();
    drop(late);
    for _ in 0..50 {
        stopped(&cluster.backend.register(&simple("quick")).unwrap());
    }
    let WorkerStatus::Stopped(Some(report)) = clone.status() else { panic!("{}", clone.status()) };
    assert_eq!((report.pid, report.unregistered), (Some(pid), true));
    cluster.end();
}

fn a_registrant_that_has_looked_keeps_the_report_and_not_the_slot() {
    let cluster = Cluster::with(|builder| builder.max_workers(2));
    let handle = cluster.backend.register(&simple("quick")).unwrap();
    let report = stopped(&handle);
    for _ in 0..5 {
        let next = cluster.backend.register(&simple("quick")).unwrap();
        assert_eq!(next.id().slot(), handle.id().slot(), "the lowest free slot");
        stopped(&next);
    }
    assert_eq!(handle.exit_report(), Some(report.clone()));
    assert_eq!(handle.clone().status(), WorkerStatus::Stopped(Some(report)));
    cluster.end();
}

/// Would fail if only a look, or only the last of two handles to look, gave the slot up.
fn a_dropped_handle_keeps_no_slot() {
    let cluster = Cluster::with(|builder| builder.max_workers(3));
    let before = cluster.backend.register(&simple("sleep")).unwrap();
    let id = before.id();
    let again = cluster.backend.handle(id);
    before.terminate().unwrap();
    drop((before.clone(), before));
    the_end(&again);
    let next = cluster.backend.register(&simple("quick")).unwrap();
    assert_eq!(next.id().slot(), id.slot(), "dropped before the end");
    ended_unread(&cluster, &next);
    drop(next);
    let next = cluster.backend.register(&simple("quick")).unwrap();
    assert_eq!(next.id().slot(), id.slot(), "dropped after the end");
    cluster.end();
}

/// Would fail if the postmaster did not release what a dead registrant kept, before the worker's
/// end or after it.
fn a_registrant_that_dies_keeps_no_slot() {
    let cluster = Cluster::with(|builder| builder.max_workers(4));
    let folder = cluster.folder.clone();
    let child = fork_child(move || {
        let backend = connect(&folder);
        let quick = backend.register(&simple("quick")).unwrap();
        let sleeper = backend.register(&simple("sleep")).unwrap();
        write_note("registered", &format!("{quick} {sleeper}")).unwrap();
        loop {
            std::thread::park();
        }
    });
    process_test::wait_until("the child has registered", PATIENCE, || {
        note_path("registered").exists() && read_note("registered").contains(' ')
    });
    let note = read_note("registered");
    let handle = |text: &str| cluster.backend.handle(text.parse().unwrap());
    let (quick, sleeper) = note.split_once(' ').unwrap();
    let (quick, sleeper) = (handle(quick), handle(sleeper));
    the_end(&quick);
    let other = cluster.backend.register(&simple("quick")).unwrap();
    assert_eq!(other.id().slot(), 2, "slot 0 is kept, slot 1 runs");
    stopped(&other);
    child.kill(Signal::SIGKILL);
    drop(child);
    process_test::wait_until("the postmaster has seen the death", PATIENCE, || {
        let next = cluster.backend.register(&simple("quick")).unwrap();
        stopped(&next);
        next.id().slot() == 0
    });
    sleeper.terminate().unwrap();
    the_end(&sleeper);
    let two: Vec<_> = (0..2).map(|_| cluster.backend.register(&simple("sleep")).unwrap()).collect();
    assert_eq!(two.iter().map(|one| one.id().slot()).collect::<Vec<_>>(), [0, 1]);
    cluster.end();
}

/// Would fail if kept ends could lock registrations out, or if a lost report looked like a clean
/// exit.
fn the_oldest_unread_end_gives_way_when_every_slot_is_kept() {
    let cluster = Cluster::with(|builder| builder.max_workers(2));
    let [oldest, other] = [(); 2].map(|()| {
        let handle = cluster.backend.register(&simple("quick")).unwrap();
        ended_unread(&cluster, &handle);
        handle
    });
    for _ in 0..2 {
        let next = cluster.backend.register(&simple("quick")).unwrap();
        assert_eq!(next.id().slot(), oldest.id().slot());
        assert_eq!(stopped(&next).cause, ExitCause::Exited(0));
    }
    assert_eq!(oldest.wait_for_end().unwrap(), WorkerStatus::Stopped(None));
    assert_eq!(the_end(&other).cause, ExitCause::Exited(0));
    cluster.end();
}

/// Waits for an end without a look by the registrant's own handle.
fn ended_unread(cluster: &Cluster, handle: &Handle) {
    the_end(&cluster.backend.handle(handle.id()));
}

/// Would fail if a waiter that did not register the worker lost the report when the slot was used
/// again before it ran: `Stopped(None)`.
fn a_stopped_waiter_of_another_process_gets_the_report_when_it_runs_again() {
    gets_the_report_late(1, |handle| handle.wait_for_end_timeout(PATIENCE).unwrap());
}

/// Would fail if the hold of a dead waiter were never given back.
fn a_waiter_that_dies_holds_no_slot() {
    let cluster = Cluster::with(|builder| builder.max_workers(3));
    let (handle, _) = cluster.start(&simple("sleep"));
    let id = handle.id();
    let mut waiter = waiting_program(&cluster.folder, id, |handle| {
        let _ = handle.wait_for_end();
    });
    waiter.kill(Signal::SIGSTOP);
    end_and_use_the_slots(&cluster, handle);
    waiter.kill(Signal::SIGKILL);
    waiter.wait();
    process_test::wait_until("the slot is free", PATIENCE, || {
        let next = cluster.backend.register(&simple("quick")).unwrap();
        stopped(&next);
        next.id().slot() == id.slot()
    });
    cluster.end();
}

/// Would fail if only the worker were held that `wait_all` waits for at the moment.
fn wait_all_gets_the_report_of_a_member_that_ended_long_before() {
    let cluster = Cluster::with(|builder| builder.max_workers(4));
    let (first, _) = cluster.start(&simple("sleep"));
    let (second, pid) = cluster.start(&simple("sleep"));
    let ids = [first.id(), second.id()];
    let mut waiter = waiting_program_of(&cluster.folder, ids, |handles| {
        let statuses = wait_all_ends(handles, Some(PATIENCE)).unwrap();
        assert!(ended_as(&statuses[1], pid), "{statuses:?}");
    });
    end_and_use_the_slots(&cluster, second);
    first.terminate().unwrap();
    the_end(&first);
    assert_eq!(waiter.wait().code(), Some(0));
    cluster.end();
}

//! The promise: a status is what the slot's word says, and each wait ends on its event, its
//! deadline or the postmaster's death.
//!
//! Would catch: a state that reads as another, a wait that sleeps through its event, a stale handle
//! that waits for the slot's next tenant.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bgw_backend::{
    Backend, ExitReport, Handle, Pid, WaitError, WorkerHandle, WorkerStatus, wait_all,
    wait_all_ends, wait_any, wait_any_end,
};
use bgw_core::internals::flag;
use std::time::Duration;
use support::{INCARNATION, PATIENCE, cluster, key, report, waiting_thread, woken, worker};

fn running(pid: u32) -> WorkerStatus {
    WorkerStatus::Started(Pid::new(pid).unwrap())
}

#[test]
fn every_word_of_a_slot_has_one_status() {
    let (straw, backend) = cluster(2);
    let handle = backend.register(&worker()).unwrap();
    assert_eq!(handle.status(), WorkerStatus::NotYetStarted);
    straw.start(&handle, 42);
    assert_eq!(handle.status(), running(42));
    assert!(!handle.is_ready());
    straw.slots.set_flags(key(&handle), flag::READY).unwrap();
    assert!(handle.is_ready());
    let pause = ExitReport { unregistered: false, ..report(1) };
    straw.rest(&handle, &pause);
    assert_eq!(handle.status(), WorkerStatus::Stopped(Some(pause.clone())));
    straw.start(&handle, 43);
    assert_eq!(handle.status(), running(43));
    straw.end(&handle, &report(3));
    assert_eq!(handle.status(), WorkerStatus::Stopped(Some(report(3))));
    let next = backend.register(&worker()).unwrap();
    assert_eq!(next.id().slot(), handle.id().slot(), "the lowest free slot is used again");
    assert_eq!(handle.status(), WorkerStatus::Stopped(Some(report(3))));
    straw.start(&next, 44);
    assert_eq!(handle.status(), WorkerStatus::Stopped(Some(report(3))), "its own last one");
    let stranger = backend.handle(handle.id());
    straw.rest(&next, &report(1));
    assert_eq!(stranger.status(), WorkerStatus::Stopped(Some(report(3))), "its own last one");
    straw.rest(&next, &report(1));
    assert_eq!(stranger.status(), WorkerStatus::Stopped(None), "never the next tenant's");
    assert_eq!(handle.status(), WorkerStatus::Stopped(Some(report(3))), "the registrant's stays");
}

/// Would fail if the status of a stale handle forgot the report that `exit_report` still returns.
#[test]
fn status_report_and_wait_give_one_answer() {
    let (straw, backend) = cluster(1);
    let handle = backend.register(&worker()).unwrap();
    let one_answer = |expected: Option<ExitReport>| {
        assert_eq!(handle.exit_report(), expected);
        let stopped = WorkerStatus::Stopped(expected);
        assert_eq!(handle.status(), stopped);
        assert_eq!(handle.wait_for_shutdown().unwrap(), stopped);
        assert_eq!(handle.wait_for_end().unwrap(), stopped);
    };
    straw.end(&handle, &report(0));
    one_answer(Some(report(0)));
    let next = backend.register(&worker()).unwrap();
    one_answer(Some(report(0)));
    straw.start(&next, 42);
    one_answer(Some(report(0)));
    straw.rest(&next, &report(1));
    one_answer(Some(report(0)));
    straw.end(&next, &report(1));
    one_answer(Some(report(0)));
}

/// Would fail if a wait for the end took the restart pause, or the next start, for the end.
#[test]
fn a_wait_for_the_end_sleeps_through_the_restart_pause() {
    let (straw, backend) = cluster(1);
    let handle = backend.register(&worker()).unwrap();
    let soon = Duration::from_millis(5);
    let times_out = || {
        let one = handle.wait_for_end_timeout(soon);
        assert!(matches!(one, Err(WaitError::TimedOut)), "{one:?}");
        let any = wait_any_end(std::slice::from_ref(&handle), Some(soon));
        assert!(matches!(any, Err(WaitError::TimedOut)), "{any:?}");
        let all = wait_all_ends(std::slice::from_ref(&handle), Some(soon));
        assert!(matches!(all, Err(WaitError::TimedOut)), "{all:?}");
    };
    times_out();
    straw.start(&handle, 42);
    times_out();
    straw.rest(&handle, &report(1));
    times_out();
    handle.terminate().unwrap();
    times_out();
    let waiter = handle.clone();
    let end = || straw.end(&handle, &report(1));
    let status = wait_while(move || waiter.wait_for_end(), end).unwrap();
    assert_eq!(status, WorkerStatus::Stopped(Some(report(1))));
    let handles = [handle];
    assert_eq!(wait_any_end(&handles, None).unwrap(), (0, status.clone()));
    assert_eq!(wait_all_ends(&handles, None).unwrap(), [status]);
}

#[test]
fn a_handle_of_another_incarnation_or_of_no_slot_answers_stopped() {
    let (straw, backend) = cluster(2);
    let handle = backend.register(&worker()).unwrap();
    straw.start(&handle, 42);
    let id = handle.id();
    let other_life = WorkerHandle::new(id.slot(), id.generation(), INCARNATION + 2);
    let no_slot = WorkerHandle::new(9999, id.generation(), INCARNATION);
    for stale in [other_life, no_slot] {
        let stale = backend.handle(stale);
        assert_eq!(stale.status(), WorkerStatus::Stopped(None));
        assert_eq!(stale.wait_for_startup().unwrap(), WorkerStatus::Stopped(None));
        stale.terminate().unwrap();
    }
    assert_eq!(straw.slots.look(key(&handle)).unwrap().flags() & flag::TERMINATE, 0);
}

/// Waits in a thread, and does `then` once the thread sleeps.
#[track_caller]
fn wait_while<T: Send + 'static>(
    wait: impl FnOnce() -> Result<T, WaitError> + Send + 'static,
    then: impl FnOnce(),
) -> Result<T, WaitError> {
    let waiter = waiting_thread(wait);
    then();
    woken(waiter)
}

#[test]
fn each_wait_ends_on_its_event() {
    let (straw, backend) = cluster(2);
    let handle = backend.register(&worker()).unwrap();
    let clone = || -> Handle { handle.clone() };
    let waiter = clone();
    let status = wait_while(move || waiter.wait_for_startup(), || straw.start(&handle, 42));
    assert_eq!(status.unwrap(), running(42));
    let waiter = clone();
    let ready = || assert!(straw.slots.set_flags_and_wake(key(&handle), flag::READY).is_ok());
    assert_eq!(wait_while(move || waiter.wait_for_ready(), ready).unwrap(), running(42));
    // Through its pause, until it runs again.
    let pause = ExitReport { unregistered: false, ..report(1) };
    straw.rest(&handle, &pause);
    assert_eq!(handle.wait_for_startup().unwrap(), WorkerStatus::Stopped(Some(pause.clone())));
    let waiter = clone();
    let status = wait_while(move || waiter.wait_for_next_start(), || straw.start(&handle, 43));
    assert_eq!(status.unwrap(), running(43));
    assert_eq!(handle.wait_for_next_start().unwrap(), running(43), "it runs");
    straw.rest(&handle, &pause);
    let waiter = clone();
    let status =
        wait_while(move || waiter.wait_for_next_start(), || straw.end(&handle, &report(2)));
    assert_eq!(status.unwrap(), WorkerStatus::Stopped(Some(report(2))), "it never will");
    let handle = backend.register(&worker()).unwrap();
    straw.start(&handle, 44);
    let clone = || -> Handle { handle.clone() };
    let waiter = clone();
    let end = || straw.end(&handle, &report(0));
    let status = wait_while(move || waiter.wait_for_shutdown(), end);
    assert_eq!(status.unwrap(), WorkerStatus::Stopped(Some(report(0))));
}

#[test]
fn each_wait_ends_on_the_postmasters_death_unless_the_word_answers() {
    let (straw, backend) = cluster(2);
    let waiting = backend.register(&worker()).unwrap();
    let handle = waiting.clone();
    let status = wait_while(move || handle.wait_for_startup(), || straw.die());
    assert_eq!(status.unwrap(), WorkerStatus::PostmasterDied);
    straw.start(&waiting, 42);
    assert_eq!(waiting.wait_for_startup().unwrap(), running(42));
    assert_eq!(waiting.wait_for_shutdown().unwrap(), WorkerStatus::PostmasterDied);
    assert_eq!(waiting.wait_for_end().unwrap(), WorkerStatus::PostmasterDied);
}

#[test]
fn each_wait_ends_on_its_deadline() {
    let (straw, backend) = cluster(2);
    let handle = backend.register(&worker()).unwrap();
    let soon = Duration::from_millis(5);
    assert!(matches!(handle.wait_for_startup_timeout(soon), Err(WaitError::TimedOut)));
    assert!(matches!(handle.wait_for_next_start_timeout(soon), Err(WaitError::TimedOut)));
    straw.start(&handle, 42);
    assert!(matches!(handle.wait_for_ready_timeout(soon), Err(WaitError::TimedOut)));
    assert!(matches!(handle.wait_for_shutdown_timeout(soon), Err(WaitError::TimedOut)));
    assert_eq!(handle.wait_for_startup_timeout(Duration::ZERO).unwrap(), running(42));
}

#[test]
fn many_handles_are_waited_for_at_once() {
    let (straw, backend) = cluster(80);
    let handles: Vec<Handle> = (0..80).map(|_| backend.register(&worker()).unwrap()).collect();
    assert!(matches!(wait_any(&[], None), Err(WaitError::NoHandles)));
    straw.end(&handles[5], &report(1));
    let (which, status) = wait_any(&handles[..10], Some(PATIENCE)).unwrap();
    assert_eq!((which, status), (5, WorkerStatus::Stopped(Some(report(1)))));
    for handle in &handles {
        if handle != &handles[5] {
            straw.end(handle, &report(0));
        }
    }
    assert_eq!(wait_all(&handles, Some(PATIENCE)).unwrap().len(), 80);
}

/// More workers than one system call can watch, of two postmasters. Any change wakes the wait, and
/// it checks its workers.
#[test]
fn a_wait_for_hundreds_of_workers_sleeps_until_one_ends() {
    let (straw, backend) = cluster(100);
    let (other_straw, other) = cluster(100);
    let register = |backend: &Backend| backend.register(&worker()).unwrap();
    let mut handles: Vec<Handle> = (0..100).map(|_| register(&backend)).collect();
    handles.extend((0..100).map(|_| register(&other)));
    let all = handles.clone();
    let waited = wait_while(
        move || wait_any(&all, Some(PATIENCE)),
        || {
            straw.start(&handles[3], 42);
            other_straw.end(&handles[150], &report(1));
        },
    );
    assert_eq!(waited.unwrap(), (150, WorkerStatus::Stopped(Some(report(1)))));
    handles.remove(150);
    let first_of_other = 100;
    let all = handles.clone();
    let waited = wait_while(move || wait_any(&all, Some(PATIENCE)), || other_straw.die());
    assert_eq!(waited.unwrap(), (first_of_other, WorkerStatus::PostmasterDied));
}

#[test]
fn terminate_sets_the_flag_of_its_own_tenant_and_rings() {
    let (straw, backend) = cluster(1);
    let handle = backend.register(&worker()).unwrap();
    straw.slots.drain_changes(|_, _| {});
    straw.rung();
    handle.terminate().unwrap();
    assert!(straw.rung());
    let mut flags = Vec::new();
    straw.slots.drain_changes(|_, word| flags.push(word.flags()));
    assert_eq!(flags, [flag::TERMINATE]);
    straw.end(&handle, &report(0));
    let next = backend.register(&worker()).unwrap();
    handle.terminate().unwrap();
    assert_eq!(straw.slots.look(key(&next)).unwrap().flags(), 0);
}

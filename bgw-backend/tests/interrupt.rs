//! The promise: a program ends all its own waits from a signal handler, and no such interrupt is
//! lost.
//!
//! Alone in its file, since an interrupt is for all threads of a process. Would catch: a flag that
//! a wait reads only before it sleeps, one that the first wait uses up, a wake-up that reaches one
//! of several waiters or none that blocks its signals.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bgw_backend::{Pid, WaitError, WorkerStatus, interrupt_waits, take_interrupt, wait_any};
use nix::sys::signal::SigSet;
use std::slice::from_ref;
use std::time::Duration;
use support::{cluster, waiting_thread, woken, worker};

#[test]
fn every_wait_is_interrupted_until_the_interrupt_is_taken_back() {
    let (straw, backend) = cluster(1);
    let handle = backend.register(&worker()).unwrap();
    let interrupted: Vec<_> = (0..8)
        .map(|number| {
            let (handle, backend) = (handle.clone(), backend.clone());
            waiting_thread(move || {
                if number % 2 == 0 {
                    SigSet::all().thread_block().unwrap();
                }
                let waited = match number / 2 {
                    0 => handle.wait_for_startup().map(drop),
                    1 => handle.wait_for_end().map(drop),
                    2 => wait_any(from_ref(&handle), None).map(drop),
                    _ => backend.wait_for_notification(None).map(drop),
                };
                matches!(waited, Err(WaitError::Interrupted))
            })
        })
        .collect();
    interrupt_waits();
    for (number, waiter) in interrupted.into_iter().enumerate() {
        assert!(woken(waiter), "waiter {number}");
    }
    assert!(matches!(handle.wait_for_startup(), Err(WaitError::Interrupted)), "not used up");
    straw.start(&handle, 42);
    let running = WorkerStatus::Started(Pid::new(42).unwrap());
    assert_eq!(handle.wait_for_startup().unwrap(), running, "an answer comes first");
    assert!(take_interrupt() && !take_interrupt());
    let soon = Duration::from_millis(5);
    assert!(matches!(handle.wait_for_shutdown_timeout(soon), Err(WaitError::TimedOut)));
}

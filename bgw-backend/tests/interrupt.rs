//! The promise: a program ends its own waits from a signal handler, and no such signal is lost.
//!
//! Alone in its file, since the interrupt ends the waits of all threads. Would catch: a flag that is
//! checked only before the sleep, or cleared by the first wait that saw it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bgw_backend::{Pid, WaitError, WorkerStatus, interrupt_waits, take_interrupt};
use std::time::Duration;
use support::{cluster, worker};

#[test]
fn a_wait_is_interrupted_until_the_interrupt_is_taken_back() {
    let (straw, backend) = cluster(1);
    let handle = backend.register(&worker()).unwrap();
    let waiting = handle.clone();
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        tell.send(()).unwrap();
        waiting.wait_for_startup()
    });
    told.recv().unwrap();
    interrupt_waits();
    assert!(matches!(thread.join().unwrap(), Err(WaitError::Interrupted)));
    assert!(matches!(handle.wait_for_startup(), Err(WaitError::Interrupted)), "not lost");
    straw.start(&handle, 42);
    let running = WorkerStatus::Started(Pid::new(42).unwrap());
    assert_eq!(handle.wait_for_startup().unwrap(), running, "an answer comes first");
    assert!(take_interrupt() && !take_interrupt());
    let soon = Duration::from_millis(5);
    assert!(matches!(handle.wait_for_shutdown_timeout(soon), Err(WaitError::TimedOut)));
}

//! The promise: a postmaster never forks while its process has a second thread. It says so, whoever
//! waits for a start is told, nothing hangs; and it forks again once the thread has gone.
//!
//! Would catch: threads counted once only, a refusal that leaves a worker unstarted without a word.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bgw_backend::{ExitCause, NotStarted, ShutdownMode, WorkerStatus};
use bgw_postmaster::{Postmaster, RunError};
use process_test::{Child, fork_child, tests, wait_until};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Once;
use std::time::Duration;
use support::{PATIENCE, connect, functions, read_note, restarting, simple, stopped, write_note};
use tracing::span;

fn main() -> ExitCode {
    process_test::main(tests![
        with_a_second_thread_neither_launch_nor_run_begins => [R23],
        a_thread_that_comes_later_stops_every_fork_until_it_has_gone => [R23],
    ])
}

/// Would fail if the threads were not counted before the fork, or not in `run`.
fn with_a_second_thread_neither_launch_nor_run_begins() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || wait.recv());
    let postmaster = || functions(Postmaster::builder()).build().unwrap();
    for refused in [postmaster().launch().unwrap_err(), postmaster().run().unwrap_err()] {
        assert!(matches!(refused, RunError::Threads { threads: 2 }), "{refused}");
        let text = refused.to_string();
        assert!(text.contains("2 threads") && text.contains("launch() early in main"), "{text}");
    }
    drop(go);
    assert!(thread.join().unwrap().is_err());
    let launched = postmaster().launch().unwrap();
    launched.shutdown(ShutdownMode::Fast).unwrap();
    assert_eq!(launched.wait().unwrap(), ExitCause::Exited(0));
}

/// The postmaster's own code starts no thread, but the program's may that it calls: its log. This one
/// keeps a thread from the first line that the postmaster logs about a registration.
struct ThreadedLog(Once);

impl tracing::Subscriber for ThreadedLog {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        self.0.call_once(|| {
            std::thread::spawn(|| {
                read_note("the thread may go");
                write_note("the thread goes", "").unwrap();
            });
        });
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// A process that runs as the postmaster of the folder that comes with it.
fn postmaster() -> (Child, PathBuf) {
    let folder = std::env::temp_dir().join("cluster");
    let path = folder.clone();
    let child = fork_child(move || {
        tracing::subscriber::set_global_default(ThreadedLog(Once::new())).unwrap();
        let postmaster = functions(Postmaster::builder().runtime_dir(path)).build().unwrap();
        assert_eq!(postmaster.run().unwrap(), 0);
    });
    wait_until("the postmaster listens", PATIENCE, || folder.join("postmaster.pid").exists());
    (child, folder)
}

/// Would fail if the threads were counted at the beginning only (the worker starts), or if the refusal
/// were not told (the wait hangs).
fn a_thread_that_comes_later_stops_every_fork_until_it_has_gone() {
    let (mut postmaster, folder) = postmaster();
    let backend = connect(&folder);
    let refused = ExitCause::NotStarted(NotStarted::ForkFailed { errno: libc::EBUSY });

    let never = backend.register(&simple("sleep")).unwrap();
    let report = stopped(&never);
    assert!(report.cause == refused && report.unregistered, "{report:?}");
    let later = Duration::from_millis(50);
    let again = backend.register(&restarting("sleep", later)).unwrap();
    let report = stopped(&again);
    assert!(report.cause == refused && !report.unregistered, "{report:?}");
    backend.ping().unwrap();

    write_note("the thread may go", "").unwrap();
    read_note("the thread goes");
    wait_until("the worker is started after all", PATIENCE, || {
        matches!(again.status(), WorkerStatus::Started(_))
    });
    backend.shutdown(ShutdownMode::Fast).unwrap();
    assert_eq!(postmaster.wait().code(), Some(0));
}

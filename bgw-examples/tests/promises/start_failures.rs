//! The promise: a start that fails is reported to whoever waits, and retried as the policy says. A
//! postmaster with a second thread never forks; it forks again once the thread has ended.
//!
//! Would catch: a waiter that sleeps on after a failed fork, threads that are counted only once.

use crate::support::{
    PATIENCE, connect, functions, read_note, restarting, simple, stopped, write_note,
};
use bgw_backend::{ExitCause, NotStarted, ShutdownMode, WorkerStatus};
use bgw_postmaster::{Postmaster, RunError};
use process_test::{Child, Test, fork_child, tests, wait_until};
use std::path::PathBuf;
use std::sync::Once;
use std::time::Duration;
use tracing::span;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_failed_fork_is_reported_and_retried_by_policy => [B17, B39, R02],
        launch_and_run_refuse_a_second_thread => [R23],
        no_worker_is_forked_while_a_second_thread_lives => [R23],
    ]
}

/// Would time out if a failed fork woke no waiter, and fail if the policy were ignored.
/// `RLIMIT_NPROC` makes the fork fail; it does not bind root, so a child becomes nobody.
fn a_failed_fork_is_reported_and_retried_by_policy() {
    const NOBODY: u32 = 65534;
    let is_root = nix::unistd::geteuid().is_root();
    if is_root {
        let folder = std::env::temp_dir();
        nix::unistd::chown(&folder, Some(NOBODY.into()), Some(NOBODY.into())).unwrap();
    }
    let mut child = fork_child(move || {
        if is_root {
            nix::unistd::setresgid(NOBODY.into(), NOBODY.into(), NOBODY.into()).unwrap();
            nix::unistd::setresuid(NOBODY.into(), NOBODY.into(), NOBODY.into()).unwrap();
        }
        let mut postmaster =
            functions(bgw_postmaster::Postmaster::builder()).build().unwrap().launch().unwrap();
        let backend = bgw_backend::Backend::over(postmaster.take_control().unwrap()).unwrap();
        forks_fail(&postmaster, &backend);
        backend.shutdown(bgw_backend::ShutdownMode::Fast).unwrap();
        assert_eq!(postmaster.wait().unwrap(), ExitCause::Exited(0));
    });
    assert_eq!(child.wait().code(), Some(0));
}

fn forks_fail(launched: &bgw_postmaster::Launched, backend: &bgw_backend::Backend) {
    let postmaster = launched.pid();
    set_process_limit(postmaster, 1);
    // In this order: the slot of the never-restart worker is free at once, and the next
    // registration takes it with its report.
    let again = backend.register(&restarting("sleep", Duration::from_millis(300))).unwrap();
    let never = backend.register(&simple("sleep")).unwrap();
    let failed = |cause| matches!(cause, ExitCause::NotStarted(NotStarted::ForkFailed { errno }) if errno == libc::EAGAIN);
    assert!(matches!(never.wait_for_startup().unwrap(), WorkerStatus::Stopped(Some(_))));
    let report = stopped(&never);
    assert!(failed(report.cause) && report.unregistered, "{report:?}");
    let report = stopped(&again);
    assert!(failed(report.cause) && !report.unregistered, "{report:?}");
    set_process_limit(postmaster, libc::RLIM_INFINITY);
    wait_until("the other worker starts as its policy says", PATIENCE, || {
        matches!(again.status(), WorkerStatus::Started(_))
    });
    assert_eq!(backend.workers().len(), 1, "the never-restart worker is gone");
}

fn set_process_limit(pid: bgw_backend::Pid, limit: u64) {
    let (_, hard) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NPROC).unwrap();
    let new = libc::rlimit { rlim_cur: limit.min(hard), rlim_max: hard };
    // SAFETY: `new` is valid for the call, and the old limit is not requested.
    let done = unsafe {
        libc::prlimit(pid.as_raw(), libc::RLIMIT_NPROC, &raw const new, std::ptr::null_mut())
    };
    assert_eq!(done, 0, "prlimit: {}", std::io::Error::last_os_error());
}

/// Would fail if `launch` or `run` did not count the threads.
fn launch_and_run_refuse_a_second_thread() {
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

/// The postmaster starts no thread, but code of the program that it calls may: the log. This one
/// starts a thread at the first line, which the postmaster logs about a registration.
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

/// A process that is a postmaster, and its folder.
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

/// Would fail if the threads were counted at the start only: the worker would run. Would time out
/// if the failure woke no waiter.
fn no_worker_is_forked_while_a_second_thread_lives() {
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
    wait_until("the worker starts after all", PATIENCE, || {
        matches!(again.status(), WorkerStatus::Started(_))
    });
    backend.shutdown(ShutdownMode::Fast).unwrap();
    assert_eq!(postmaster.wait().code(), Some(0));
}

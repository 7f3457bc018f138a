//! The promise: the log says what happened to whom, once, and nobody can flood it.
//!
//! Would catch: an end without its code or signal, an error of a worker that is lost, a line for
//! each refusal.

use crate::support::{
    Cluster, Log, PATIENCE, kill, ready, restarting, shared, simple, stopped, worker,
};
use bgw_backend::{
    BackgroundWorker, ExitCause, RegisterError, RestartPolicy, SignalsError, Worker, WorkerError,
    WorkerFlags, WorkerStatus, entry,
};
use process_test::{Signal, Test, tests};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        sigterm_is_logged_as_an_administrator_command => [B54],
        an_error_or_a_panic_is_logged_and_exits_1 => [B57],
        exits_and_crashes_are_logged_with_type_pid_and_cause => [B80],
        every_step_of_a_worker_is_logged_with_its_name_and_handle => [B80, D07],
        a_worker_that_leaves_early_is_said_to_have_done_so => [B34],
        refused_registrations_do_not_fill_the_log => [R19],
    ]
}

/// Would fail if the signal killed the worker, or if the log missed its message.
fn sigterm_is_logged_as_an_administrator_command() {
    let log = Log::start();
    let cluster = Cluster::new();
    let handle = cluster.backend.register(&simple("default")).unwrap();
    ready(&handle);
    handle.terminate().unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(1));
    log.wait_for("terminating background worker \"default\" due to administrator command");
    cluster.end();
}

fn chain(_: &mut Worker) -> Result<(), WorkerError> {
    let source = std::io::Error::new(std::io::ErrorKind::NotFound, "the inner reason");
    Err(SignalsError { what: "the outer step", source }.into())
}

/// Would fail if a panic ended the process by a signal, or if a source of the error were not
/// logged.
fn an_error_or_a_panic_is_logged_and_exits_1() {
    let log = Log::start();
    let cluster = Cluster::with(|builder| builder.function("chain", entry(chain)));
    let cases = [
        ("fail", ") ends: this worker fails on purpose"),
        ("panic", "this worker panics on purpose"),
        ("chain", "the outer step failed: the inner reason"),
    ];
    for (function, text) in cases {
        let handle = cluster.backend.register(&simple(function)).unwrap();
        let report = stopped(&handle);
        assert_eq!(report.cause, ExitCause::Exited(1), "{function}");
        log.wait_for(text);
        assert_eq!(log.count(text), 1, "{function}: once");
    }
    cluster.end();
}

/// Would fail if an end were logged without type, pid or cause, or with those of another process.
fn exits_and_crashes_are_logged_with_type_pid_and_cause() {
    let log = Log::start();
    let cluster = Cluster::new();
    let line = |kind: &str, pid, cause: &str| {
        log.wait_for(&format!("background worker \"{kind}\" (PID {pid}) {cause}"));
    };
    let code = worker("exit").worker_type("leaver").main_arg(7).build().unwrap();
    let handle = cluster.backend.register(&code).unwrap();
    line("leaver", stopped(&handle).pid.unwrap(), "exited with exit code 7");
    let handle = cluster.backend.register(&simple("quick")).unwrap();
    line("quick", stopped(&handle).pid.unwrap(), "exited with exit code 0");
    let (handle, pid) = cluster.start(&restarting("sleep", Duration::from_secs(60)));
    ready(&handle);
    kill(pid, Signal::SIGABRT);
    line("sleep", pid, "was terminated by signal 6: SIGABRT");
    let (_, pid) = cluster.start(&shared("sleep", RestartPolicy::Never));
    kill(pid, Signal::SIGKILL);
    line("sleep", pid, "was terminated by signal 9: SIGKILL");
    log.wait_for(&format!(
        "terminating any other active worker processes, because \
         background worker \"sleep\" (PID {pid}) crashed"
    ));
    log.wait_for("all workers have ended; making the slots anew");
    cluster.backend.ping().unwrap();
    cluster.end();
}

/// Would fail if one of two workers of a type could not be told from the other.
fn every_step_of_a_worker_is_logged_with_its_name_and_handle() {
    let log = Log::start();
    let cluster = Cluster::with(|builder| builder.terminate_grace(Duration::from_millis(10)));
    let named = |function: &str| {
        let builder = BackgroundWorker::builder(format!("{function} 1")).worker_type("kind");
        cluster.backend.register(&builder.function(function).build().unwrap()).unwrap()
    };
    let handle = named("exit");
    let (id, pid) = (handle.id(), stopped(&handle).pid.unwrap());
    log.wait_for(&format!("registering background worker \"exit 1\" (handle {id})"));
    log.wait_for(&format!("starting background worker process \"exit 1\" (handle {id})"));
    let full = format!("background worker \"exit 1\" (handle {id}, PID {pid})");
    log.wait_for(&format!(
        "background worker \"kind\" (PID {pid}) exited with exit code 0 (\"exit 1\", handle {id})"
    ));
    log.wait_for(&format!("unregistering {full}"));
    let handle = named("stubborn");
    let (id, pid) = (handle.id(), ready(&handle));
    handle.terminate().unwrap();
    stopped(&handle);
    log.wait_for(&format!(
        "killing background worker \"stubborn 1\" (handle {id}, PID {pid}): its grace time"
    ));
    let handle = named("stubborn");
    let (id, pid) = (handle.id(), ready(&handle));
    let line = format!("killing background worker \"stubborn 1\" (handle {id}, PID {pid}), as");
    handle.kill().unwrap();
    log.wait_for(&line);
    handle.kill().unwrap();
    stopped(&handle);
    handle.kill().unwrap();
    assert_eq!(log.count(&line), 1, "nobody can fill the log with it");
    cluster.end();
}

/// Would fail if a reset after `exit(0)` looked like one after a signal, or came without a reason.
fn a_worker_that_leaves_early_is_said_to_have_done_so() {
    let log = Log::start();
    let cluster = Cluster::new();
    let shared = worker("exit").flags(WorkerFlags::SHMEM_ACCESS).main_arg(0).build().unwrap();
    let (handle, pid) = {
        let handle = cluster.backend.register(&shared).unwrap();
        let report = handle.wait_for_end_timeout(PATIENCE).unwrap();
        let WorkerStatus::Stopped(Some(report)) = report else { panic!("{report:?}") };
        (handle, report.pid.unwrap())
    };
    log.wait_for(&format!(
        "because background worker \"exit\" (PID {pid}) exited before its main had returned, by \
         std::process::exit or the like, and may have left shared state half done (\"exit\", \
         handle {})",
        handle.id()
    ));
    log.wait_for("making the slots anew");
    cluster.end();
}

/// Would fail if the postmaster or the library logged each refusal.
fn refused_registrations_do_not_fill_the_log() {
    let log = Log::start();
    let cluster = Cluster::with(|builder| builder.max_workers(1));
    cluster.start(&simple("sleep"));
    let before = log.text().lines().count();
    for _ in 0..10_000 {
        let refused = cluster.backend.register(&simple("sleep"));
        assert!(matches!(refused, Err(RegisterError::NoFreeSlot { .. })));
    }
    cluster.backend.ping().unwrap();
    let lines = log.text().lines().count() - before;
    assert!(lines <= 20, "{lines} lines for 10,000 refusals");
    cluster.end();
}

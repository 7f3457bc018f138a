//! The promise: the log says what happened to whom, once, and cannot be flooded.
//!
//! Would catch: an end without its code or signal, an error of a worker that is lost, a line for each
//! refusal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bgw_backend::{
    ExitCause, RegisterError, RestartPolicy, SignalsError, Worker, WorkerError, entry,
};
use process_test::{Signal, tests};
use std::process::ExitCode;
use support::{
    Cluster, Log, kill, ready, restarting, shared, simple, started, stopped, worker, write_note,
};

fn main() -> ExitCode {
    process_test::main(tests![
        the_default_sigterm_is_said_to_be_an_administrators_command => [B54],
        an_error_or_a_panic_is_logged_and_exit_1 => [B57],
        sighup_at_the_postmaster_reaches_every_worker => [B55],
        exits_and_crashes_are_logged_with_type_pid_and_cause => [B80],
        refused_registrations_do_not_fill_the_log => [R19],
    ])
}

/// Would fail if the worker died by the signal itself, or its words were lost.
fn the_default_sigterm_is_said_to_be_an_administrators_command() {
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

/// Would fail if a panic ended the process by a signal, or a cause in the chain were left out.
fn an_error_or_a_panic_is_logged_and_exit_1() {
    let log = Log::start();
    let cluster = Cluster::with(|builder| builder.function("chain", entry(chain)));
    let cases = [
        ("fail", "background worker \"fail\" ends: this worker fails on purpose"),
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

fn note_reload(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.handle_terminate();
    worker.handle_reload()?;
    worker.unblock_signals()?;
    worker.ready();
    while !worker.should_stop() {
        if worker.reload_requested() {
            write_note(&format!("reload-{}", worker.main_arg()), "")?;
        }
        worker.sleep(None)?;
    }
    Ok(())
}

/// Would fail if one worker were left out, or one that ignores SIGHUP died of it.
fn sighup_at_the_postmaster_reaches_every_worker() {
    let cluster = Cluster::with(|builder| builder.function("reloads", entry(note_reload)));
    let (ignores, _) = cluster.start(&simple("sleep"));
    ready(&ignores);
    for number in 0..3 {
        let description = worker("reloads").main_arg(number).build().unwrap();
        ready(&cluster.backend.register(&description).unwrap());
    }
    kill(cluster.launched.pid(), Signal::SIGHUP);
    for number in 0..3 {
        support::read_note(&format!("reload-{number}"));
    }
    started(&ignores);
    cluster.end();
}

/// Would fail if an end were logged without its type, its pid or its cause, or as another process's.
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
    let (handle, pid) = cluster.start(&restarting("sleep", std::time::Duration::from_secs(60)));
    ready(&handle);
    kill(pid, Signal::SIGABRT);
    line("sleep", pid, "was terminated by signal 6: SIGABRT");
    let (_, pid) = cluster.start(&shared("sleep", RestartPolicy::Never));
    kill(pid, Signal::SIGKILL);
    line("sleep", pid, "was terminated by signal 9: SIGKILL");
    log.wait_for("terminating all other workers because background worker \"sleep\" crashed");
    log.wait_for("all workers have ended; making the slots anew");
    cluster.backend.ping().unwrap();
    cluster.end();
}

/// Would fail if the postmaster or the library wrote a line for each of them.
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

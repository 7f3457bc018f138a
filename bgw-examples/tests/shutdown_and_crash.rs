//! The promise: the three shutdowns and the crash reset do what they say, to workers of every kind.
//!
//! Would catch: a worker that outlives the postmaster, a waiter that hangs at the end, an isolated
//! worker's crash that touches others, a handle that survives a reset.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bgw_backend::{ExitCause, NotStarted, RestartPolicy, ShutdownMode, StartTime, WorkerStatus};
use process_test::{Signal, fork_child, tests, wait_until};
use std::process::ExitCode;
use std::time::Duration;
use support::{
    Cluster, PATIENCE, alive, connect, kill, read_note, ready, shared, simple, started, stopped,
    worker, write_note,
};

fn main() -> ExitCode {
    process_test::main(tests![
        fast_shutdown_ends_every_worker_and_exits_0 => [B72],
        smart_shutdown_waits_for_attached_programs_which_may_start_workers => [B71, R15],
        immediate_shutdown_kills_what_does_not_quit => [B73, R16],
        an_unstarted_worker_with_a_waiter_is_released_at_shutdown => [B76, R01],
        a_launched_postmaster_ends_with_its_launcher,
        a_crash_with_shared_state_resets_the_cluster => [B34, B35, B36, S09],
        a_crash_of_an_isolated_worker_touches_nobody,
        a_worker_that_leaves_by_exit_has_crashed,
        an_end_that_was_asked_for_is_no_crash => [R18, X09],
        without_restart_after_crash_the_postmaster_ends => [B37],
        nothing_is_left_half_done_in_the_database_when_a_worker_dies,
    ])
}

/// Would fail if a kind of worker did not hear SIGTERM, or the folder kept the socket.
fn fast_shutdown_ends_every_worker_and_exits_0() {
    let cluster = Cluster::new();
    let mut pids = Vec::new();
    for function in ["sleep", "default", "socket", "busy"] {
        let handle = cluster.backend.register(&simple(function)).unwrap();
        pids.push(ready(&handle));
    }
    cluster.launched.shutdown(ShutdownMode::Fast).unwrap();
    assert_eq!(cluster.launched.wait().unwrap(), ExitCause::Exited(0));
    for pid in pids {
        assert!(!alive(pid));
    }
    assert!(!cluster.folder.join("control.sock").exists());
}

/// Would fail if the late worker were refused, or workers ended before the programs left.
fn smart_shutdown_waits_for_attached_programs_which_may_start_workers() {
    // Not the launcher's end is to end it, but that of the last program.
    let cluster = Cluster::with(|builder| builder.stop_with_launcher(false));
    let (first, _) = cluster.start(&simple("sleep"));
    let second_program = connect(&cluster.folder);
    cluster.backend.shutdown(ShutdownMode::Smart).unwrap();
    let late = cluster.backend.register(&simple("sleep")).unwrap();
    started(&late);
    assert!(bgw_backend::Backend::connect(&cluster.folder).is_err(), "nobody new is let in");
    assert!(matches!(first.status(), WorkerStatus::Started(_)));
    drop(second_program);
    cluster.backend.ping().unwrap();
    assert!(matches!(first.status(), WorkerStatus::Started(_)), "one program is still there");
    let Cluster { launched, backend, .. } = cluster;
    drop((first, late, backend));
    assert_eq!(launched.wait().unwrap(), ExitCause::Exited(0));
}

/// Would fail without the kill after the grace time, or if SIGQUIT were blocked in workers.
fn immediate_shutdown_kills_what_does_not_quit() {
    let cluster = Cluster::new();
    let (quits, _) = cluster.start(&simple("sleep"));
    ready(&quits);
    // A stopped process does not act on SIGQUIT; SIGKILL ends it all the same.
    let (stuck, pid) = cluster.start(&simple("sleep"));
    ready(&stuck);
    kill(pid, Signal::SIGSTOP);
    cluster.launched.shutdown(ShutdownMode::Immediate).unwrap();
    assert_eq!(stopped(&quits).cause, ExitCause::Exited(2));
    assert_eq!(stopped(&stuck).cause, ExitCause::Signaled { signal: 9, core_dumped: false });
    assert_eq!(cluster.launched.wait().unwrap(), ExitCause::Exited(0));
}

/// Would hang if unstarted workers were forgotten at the shutdown.
fn an_unstarted_worker_with_a_waiter_is_released_at_shutdown() {
    let cluster = Cluster::with(|builder| builder.initial_phase(StartTime::PostmasterStart));
    let handle = cluster.backend.register(&simple("sleep")).unwrap();
    let (id, folder) = (handle.id(), cluster.folder.clone());
    let mut waiter = fork_child(move || {
        let handle = connect(&folder).handle(id);
        write_note("waiting", "").unwrap();
        match handle.wait_for_startup().unwrap() {
            WorkerStatus::Stopped(Some(report)) => {
                assert_eq!(report.cause, ExitCause::NotStarted(NotStarted::ShuttingDown));
            }
            other => panic!("{other:?}"),
        }
    });
    read_note("waiting");
    cluster.launched.shutdown(ShutdownMode::Fast).unwrap();
    assert_eq!(waiter.wait().code(), Some(0));
    assert_eq!(cluster.launched.wait().unwrap(), ExitCause::Exited(0));
}

fn a_launched_postmaster_ends_with_its_launcher() {
    let mut launcher = fork_child(|| {
        let cluster = Cluster::new();
        let (handle, pid) = cluster.start(&simple("sleep"));
        ready(&handle);
        write_note("pids", &format!("{} {pid}", cluster.launched.pid())).unwrap();
        std::process::abort();
    });
    let pids = read_note("pids");
    launcher.wait();
    for pid in pids.split(' ') {
        let pid: bgw_backend::Pid = pid.parse().unwrap();
        wait_until(&format!("process {pid} has ended"), PATIENCE, || !alive(pid));
    }
}

/// Would fail if a neighbour kept its process, a never-restart worker came back, or an old handle
/// found a new tenant.
fn a_crash_with_shared_state_resets_the_cluster() {
    let cluster =
        Cluster::with(|builder| builder.max_workers(8).initial_phase(StartTime::ConsistentState));
    // Registered, and waiting for a phase that is not reached before the crash.
    let unstarted = cluster.backend.register(&simple("sleep")).unwrap();
    let shared = |function, restart| {
        let flags = bgw_backend::WorkerFlags::SHMEM_ACCESS;
        let early = worker(function).start_time(StartTime::ConsistentState);
        early.flags(flags).restart(restart).build().unwrap()
    };
    let simple =
        |function| worker(function).start_time(StartTime::ConsistentState).build().unwrap();
    let (crashing, pid) = cluster.start(&shared("sleep", RestartPolicy::after_secs(60)));
    let (neighbour, other) = cluster.start(&shared("sleep", RestartPolicy::after_secs(60)));
    let (isolated, _) = cluster.start(&simple("sleep"));
    for handle in [&crashing, &neighbour, &isolated] {
        ready(handle);
    }
    kill(pid, Signal::SIGABRT);
    wait_until("both restartable workers run again, at once", PATIENCE, || {
        let running = |info: &bgw_backend::WorkerInfo| matches!(info.status, WorkerStatus::Started(now) if now != pid && now != other);
        cluster.backend.workers().iter().filter(|info| running(info)).count() == 2
    });
    assert_eq!(cluster.backend.workers().len(), 2, "never-restart ones are gone");
    for handle in [&crashing, &neighbour, &isolated, &unstarted] {
        assert!(matches!(handle.status(), WorkerStatus::Stopped(_)), "{handle} is of the old life");
        assert!(matches!(handle.wait_for_shutdown().unwrap(), WorkerStatus::Stopped(_)));
    }
    crashing.terminate().unwrap();
    cluster.backend.ping().unwrap();
    assert_eq!(cluster.backend.workers().len(), 2, "an old handle ends nobody");
    cluster.start(&simple("sleep"));
    cluster.end();
}

fn a_crash_of_an_isolated_worker_touches_nobody() {
    let cluster = Cluster::new();
    let (bystander, pid) = cluster.start(&shared("sleep", RestartPolicy::after_secs(60)));
    let (crashing, victim) = cluster.start(&simple("sleep"));
    kill(victim, Signal::SIGABRT);
    assert!(matches!(stopped(&crashing).cause, ExitCause::Signaled { signal: 6, .. }));
    // In a reset it would be told so, and not started.
    started(&cluster.backend.register(&simple("sleep")).unwrap());
    assert_eq!(bystander.status(), WorkerStatus::Started(pid));
    cluster.end();
}

/// Exit code 0, but it left in the middle of its work: its clean-up mark says so.
fn a_worker_that_leaves_by_exit_has_crashed() {
    let cluster = Cluster::new();
    let (bystander, first) = cluster.start(&shared("sleep", RestartPolicy::after_secs(60)));
    ready(&bystander);
    cluster.backend.register(&shared("exit", RestartPolicy::Never)).unwrap();
    wait_until("the bystander was restarted by the reset", PATIENCE, || {
        // Not the one that leaves, which runs for a moment, too.
        let again = |info: &bgw_backend::WorkerInfo| matches!(info.status, WorkerStatus::Started(pid) if pid != first);
        cluster.backend.workers().iter().any(|info| info.worker.name() == "sleep" && again(info))
    });
    cluster.end();
}

/// Would fail if the kill after the grace time reset the cluster, or were not recorded as asked
/// for.
fn an_end_that_was_asked_for_is_no_crash() {
    let grace = Duration::from_millis(200);
    let cluster = Cluster::with(|builder| builder.max_workers(8).terminate_grace(grace));
    let (bystander, pid) = cluster.start(&shared("sleep", RestartPolicy::after_secs(60)));
    let (stubborn, _) = cluster.start(&shared("stubborn", RestartPolicy::Never));
    ready(&stubborn);
    stubborn.terminate().unwrap();
    let report = stopped(&stubborn);
    assert_eq!(report.cause, ExitCause::Signaled { signal: 9, core_dumped: false });
    assert!(report.requested);
    // In a reset it would be told so, and not started.
    started(&cluster.backend.register(&simple("sleep")).unwrap());
    assert_eq!(bystander.status(), WorkerStatus::Started(pid), "nobody else is touched");
    cluster.end();
}

/// Would fail if the cluster were made anew.
fn without_restart_after_crash_the_postmaster_ends() {
    let cluster = Cluster::with(|builder| builder.restart_after_crash(false));
    let (_handle, pid) = cluster.start(&shared("sleep", RestartPolicy::after_secs(0)));
    kill(pid, Signal::SIGKILL);
    assert_eq!(cluster.launched.wait().unwrap(), ExitCause::Exited(1));
}

fn nothing_is_left_half_done_in_the_database_when_a_worker_dies() {
    let cluster = Cluster::new();
    let flags =
        bgw_backend::WorkerFlags::SHMEM_ACCESS | bgw_backend::WorkerFlags::DATABASE_CONNECTION;
    let description = worker("write_and_wait").flags(flags).build().unwrap();
    let (_handle, pid) = cluster.start(&description);
    read_note("half");
    kill(pid, Signal::SIGKILL);
    wait_until("it is gone", PATIENCE, || !alive(pid));
    let database = rusqlite::Connection::open(std::env::temp_dir().join("half.db")).unwrap();
    let rows: i64 = database.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 0);
    cluster.end();
}

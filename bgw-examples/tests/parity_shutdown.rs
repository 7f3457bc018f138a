//! The promise: a shutdown gets what it asked for, whatever the workers do and however many there are.
//!
//! Would catch: a milder request that takes back a stricter one, a registration that is lost in the
//! middle of a shutdown, a loop that starts workers and hears nothing meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bgw_backend::{
    ExitCause, Handle, NotStarted, RestartPolicy, ShutdownMode, StartTime, Worker, WorkerError,
    WorkerStatus, entry,
};
use process_test::{Signal, fork_child, tests, wait_until};
use std::process::ExitCode;
use std::time::Duration;
use support::{
    Cluster, PATIENCE, alive, connect, kill, read_note, ready, shared, simple, started, stopped,
    worker, write_note,
};

fn main() -> ExitCode {
    process_test::main(tests![
        a_stricter_shutdown_overrides_a_milder_one_and_not_the_reverse => [B74],
        a_worker_registered_during_a_shutdown_is_told_stopped => [B75],
        thousands_of_registrations_do_not_starve_a_shutdown => [B77, R08],
        children_that_outlive_their_postmaster_keep_its_folder => [B79],
        a_killed_backend_or_isolated_worker_takes_nobody_along => [S09],
        every_mode_ends_idle_busy_and_unstarted_workers => [S10],
    ])
}

fn ended(cluster: Cluster) {
    assert_eq!(cluster.launched.wait().unwrap(), ExitCause::Exited(0));
}

/// Would hang if the fast shutdown did not end the smart one, or took the immediate one's kill away.
fn a_stricter_shutdown_overrides_a_milder_one_and_not_the_reverse() {
    let cluster = Cluster::new();
    let (handle, _) = cluster.start(&simple("sleep"));
    ready(&handle);
    // The attached test holds up a smart shutdown for ever.
    cluster.backend.shutdown(ShutdownMode::Smart).unwrap();
    cluster.backend.ping().unwrap();
    assert!(matches!(handle.status(), WorkerStatus::Started(_)));
    cluster.backend.shutdown(ShutdownMode::Fast).unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    ended(cluster);
    std::fs::remove_dir_all(std::env::temp_dir().join("cluster")).unwrap();
    // A stopped worker ends by the immediate shutdown's kill alone, five seconds later.
    let cluster = Cluster::new();
    let (stuck, pid) = cluster.start(&simple("sleep"));
    ready(&stuck);
    kill(pid, Signal::SIGSTOP);
    for mode in [ShutdownMode::Immediate, ShutdownMode::Fast, ShutdownMode::Smart] {
        cluster.backend.shutdown(mode).unwrap();
    }
    assert_eq!(stopped(&stuck).cause, ExitCause::Signaled { signal: 9, core_dumped: false });
    ended(cluster);
}

/// Would hang if a registration were left lying in its slot, and fail if it were started.
fn a_worker_registered_during_a_shutdown_is_told_stopped() {
    let cluster = Cluster::new();
    let (stubborn, pid) = cluster.start(&simple("stubborn"));
    ready(&stubborn);
    cluster.backend.shutdown(ShutdownMode::Fast).unwrap();
    let late = cluster.backend.register(&simple("sleep")).unwrap();
    assert_eq!(stopped(&late).cause, ExitCause::NotStarted(NotStarted::ShuttingDown));
    assert_eq!(cluster.backend.workers().len(), 1, "on no list");
    kill(pid, Signal::SIGKILL);
    ended(cluster);
}

/// Asks its postmaster for a shutdown, as its first act.
fn shuts_down(_: &mut Worker) -> Result<(), WorkerError> {
    nix::sys::signal::kill(nix::unistd::getppid(), Signal::SIGINT).map_err(std::io::Error::from)?;
    Ok(())
}

/// Stopped, the postmaster finds five thousand registrations at once, and the first worker asks for a
/// shutdown. Would fail if all were started before the postmaster looked at its signals again.
fn thousands_of_registrations_do_not_starve_a_shutdown() {
    const COUNT: u32 = 5000;
    let cluster = Cluster::with(|builder| {
        builder.max_workers(COUNT).function("shuts_down", entry(shuts_down))
    });
    kill(cluster.launched.pid(), Signal::SIGSTOP);
    let first = cluster.backend.register(&simple("shuts_down")).unwrap();
    let handles: Vec<Handle> =
        (1..COUNT).map(|_| cluster.backend.register(&simple("sleep")).unwrap()).collect();
    kill(cluster.launched.pid(), Signal::SIGCONT);
    let mut was_started = 0;
    for handle in &handles {
        match handle.wait_for_shutdown_timeout(PATIENCE).unwrap() {
            WorkerStatus::Stopped(Some(report)) => was_started += u32::from(report.pid.is_some()),
            other => panic!("{other:?}"),
        }
    }
    stopped(&first);
    // How many is the machine's to say; all of them would be one batch.
    assert!(was_started < COUNT / 2, "{was_started} were started before the shutdown was heard");
    ended(cluster);
}

/// Would fail if the folder's lock were the postmaster's alone.
fn children_that_outlive_their_postmaster_keep_its_folder() {
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

/// Would fail if the end of an attached program reset the cluster, or kept a slot.
fn a_killed_backend_or_isolated_worker_takes_nobody_along() {
    let cluster = Cluster::with(|builder| builder.max_workers(3));
    let (bystander, pid) = cluster.start(&shared("sleep", RestartPolicy::after_secs(60)));
    let folder = cluster.folder.clone();
    let mut program = fork_child(move || {
        let backend = connect(&folder);
        started(&backend.register(&simple("sleep")).unwrap());
        write_note("registered", "").unwrap();
        std::process::abort();
    });
    read_note("registered");
    assert_eq!(program.wait().signal(), Some(Signal::SIGABRT));
    let isolated = worker("sleep").restart(RestartPolicy::After(Duration::ZERO)).build().unwrap();
    let (crashing, victim) = cluster.start(&isolated);
    kill(victim, Signal::SIGKILL);
    wait_until(
        "the isolated one runs again",
        PATIENCE,
        || matches!(crashing.status(), WorkerStatus::Started(now) if now != victim),
    );
    assert_eq!(bystander.status(), WorkerStatus::Started(pid));
    assert_eq!(cluster.backend.workers().len(), 3, "the dead program's worker goes on");
    cluster.end();
}

/// Would hang if a mode did not reach one of the three, or left an unstarted one on its list.
fn every_mode_ends_idle_busy_and_unstarted_workers() {
    for mode in [ShutdownMode::Smart, ShutdownMode::Fast, ShutdownMode::Immediate] {
        let cluster = Cluster::with(|builder| builder.initial_phase(StartTime::ConsistentState));
        let early = |function: &str| {
            worker(function).start_time(StartTime::ConsistentState).build().unwrap()
        };
        let idle = cluster.backend.register(&early("sleep")).unwrap();
        let busy = cluster.backend.register(&early("busy")).unwrap();
        let unstarted = cluster.backend.register(&simple("sleep")).unwrap();
        ready(&idle);
        ready(&busy);
        assert_eq!(unstarted.status(), WorkerStatus::NotYetStarted);
        cluster.launched.shutdown(mode).unwrap();
        let Cluster { launched, backend, .. } = cluster;
        if mode == ShutdownMode::Smart {
            // It waits for the attached program.
            drop((idle, busy, unstarted, backend));
        } else {
            let cause = |handle: &Handle| stopped(handle).cause;
            let quits = mode == ShutdownMode::Immediate;
            assert_eq!(cause(&idle), ExitCause::Exited(if quits { 2 } else { 0 }), "{mode}");
            assert_eq!(cause(&busy), ExitCause::Exited(if quits { 2 } else { 1 }), "{mode}");
            assert_eq!(cause(&unstarted), ExitCause::NotStarted(NotStarted::ShuttingDown));
        }
        assert_eq!(launched.wait().unwrap(), ExitCause::Exited(0), "{mode}");
        std::fs::remove_dir_all(std::env::temp_dir().join("cluster")).unwrap();
    }
}

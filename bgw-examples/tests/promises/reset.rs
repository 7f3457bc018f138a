//! The promise: a crash with shared state resets the whole cluster; any other end resets nobody.
//!
//! Would catch: a neighbour that keeps its process, a never-restart worker that comes back, a handle that
//! survives the reset, an isolated worker whose crash ends others.

use crate::support::{
    Cluster, PATIENCE, connect, kill, read_note, ready, shared, simple, started, stopped, worker,
    write_note,
};
use bgw_backend::{ExitCause, RestartPolicy, StartTime, WorkerStatus};
use process_test::{Signal, Test, fork_child, tests, wait_until};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_crash_with_shared_state_resets_the_cluster => [B34, B35, B36, S09],
        process_exit_with_shared_state_is_a_crash,
        without_restart_after_crash_the_postmaster_ends => [B37],
        a_crash_of_an_isolated_worker_touches_nobody,
        a_killed_program_or_isolated_worker_resets_nobody => [S09],
    ]
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

/// Exit code 0, but it left in the middle of its work: its clean-up mark says so.
fn process_exit_with_shared_state_is_a_crash() {
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

/// Would fail if the cluster were made anew.
fn without_restart_after_crash_the_postmaster_ends() {
    let cluster = Cluster::with(|builder| builder.restart_after_crash(false));
    let (_handle, pid) = cluster.start(&shared("sleep", RestartPolicy::after_secs(0)));
    kill(pid, Signal::SIGKILL);
    assert_eq!(cluster.launched.wait().unwrap(), ExitCause::Exited(1));
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

/// Would fail if the end of an attached program reset the cluster, or kept a slot.
fn a_killed_program_or_isolated_worker_resets_nobody() {
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

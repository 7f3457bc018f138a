//! The promise: a crash with shared state resets the whole cluster; any other end resets nobody.
//!
//! Would catch: a neighbour that keeps its process, a never-restart worker that comes back, a handle that
//! survives the reset, an isolated worker whose crash ends others.

use crate::support::{
    Cluster, PATIENCE, connect, kill, note_path, read_note, ready, shared, simple, started,
    stopped, wait_until_asleep, worker, write_note,
};
use bgw_backend::{
    BackgroundWorker, ExitCause, Pid, RestartPolicy, StartTime, Worker, WorkerError, WorkerFlags,
    WorkerStatus, entry,
};
use process_test::{Signal, Test, fork_child, tests, wait_until};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_crash_with_shared_state_resets_the_cluster => [B34, B35, B36, S09],
        the_worker_that_caused_a_reset_runs_again_after_it => [R26],
        process_exit_with_shared_state_is_a_crash,
        without_restart_after_crash_the_postmaster_ends => [B37],
        a_crash_of_an_isolated_worker_touches_nobody,
        a_killed_program_or_isolated_worker_resets_nobody => [S09],
    ]
}

/// Would fail if a neighbour kept its process, if a never-restart worker came back, or if an old handle
/// answered for a new worker.
fn a_crash_with_shared_state_resets_the_cluster() {
    let cluster =
        Cluster::with(|builder| builder.max_workers(8).initial_phase(StartTime::ConsistentState));
    // It waits for a phase that does not come before the crash.
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
    wait_until("both restartable workers run again", PATIENCE, || {
        let running = |info: &bgw_backend::WorkerInfo| matches!(info.status, WorkerStatus::Started(now) if now != pid && now != other);
        cluster.backend.workers().iter().filter(|info| running(info)).count() == 2
    });
    assert_eq!(cluster.backend.workers().len(), 2, "the never-restart workers are gone");
    for handle in [&crashing, &neighbour, &isolated, &unstarted] {
        assert!(
            matches!(handle.status(), WorkerStatus::Stopped(_)),
            "{handle} is from before the reset"
        );
        assert!(matches!(handle.wait_for_shutdown().unwrap(), WorkerStatus::Stopped(_)));
    }
    crashing.terminate().unwrap();
    cluster.backend.ping().unwrap();
    assert_eq!(cluster.backend.workers().len(), 2, "an old handle ends no worker");
    cluster.start(&simple("sleep"));
    cluster.end();
}

/// Would fail if the pid of the crashed run stayed on record: the postmaster would take the worker for a
/// running one.
fn the_worker_that_caused_a_reset_runs_again_after_it() {
    type Crash = fn(Pid);
    let crashes: [(&str, Crash); 4] = [
        ("SIGKILL", |pid| kill(pid, Signal::SIGKILL)),
        ("SIGABRT", |pid| kill(pid, Signal::SIGABRT)),
        ("exit code 7", |_| write_note("leave", "7").unwrap()),
        ("exit code 1", |_| write_note("leave", "1").unwrap()),
    ];
    let cluster = Cluster::with(|builder| builder.function("leaves", entry(leaves)));
    let culprit = BackgroundWorker::builder("culprit")
        .function("leaves")
        .flags(WorkerFlags::SHMEM_ACCESS)
        .restart(RestartPolicy::after_secs(3600));
    let (handle, mut pid) = cluster.start(&culprit.build().unwrap());
    ready(&handle);
    let (bystander, _) = cluster.start(&shared("sleep", RestartPolicy::after_secs(3600)));
    ready(&bystander);
    let find = |name: &str| {
        let workers = cluster.backend.workers();
        workers.into_iter().find(|info| info.worker.name() == name)
    };
    for (how, crash) in crashes {
        let before = find("sleep").unwrap().handle;
        wait_until_asleep(pid);
        crash(pid);
        wait_until(&format!("the culprit runs again after {how}"), PATIENCE, || {
            let now = find("culprit").filter(|info| info.ready).map(|info| info.status);
            matches!(now, Some(WorkerStatus::Started(now)) if now != pid)
        });
        let Some(WorkerStatus::Started(now)) = find("culprit").map(|info| info.status) else {
            panic!("after {how} the culprit ran for a moment only")
        };
        pid = now;
        assert_eq!(cluster.backend.workers().len(), 2, "{how}: each once");
        wait_until(&format!("{how} was a crash, and reset the bystander"), PATIENCE, || {
            find("sleep").is_some_and(|info| info.handle != before && info.ready)
        });
    }
    let handle = cluster.backend.handle(find("culprit").unwrap().handle);
    handle.terminate().unwrap();
    assert!(stopped(&handle).unregistered);
    cluster.end();
}

/// Leaves by `exit` when its note says so, without a return to the library.
fn leaves(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.handle_terminate();
    worker.unblock_signals()?;
    worker.ready();
    while !worker.should_stop() {
        let note = note_path("leave");
        if let Ok(code) = std::fs::read_to_string(&note) {
            std::fs::remove_file(&note)?;
            std::process::exit(code.parse().unwrap());
        }
        worker.sleep(Some(Duration::from_millis(2)))?;
    }
    Ok(())
}

/// Exit code 0, but it left in the middle of its work: its clean-up mark says so.
fn process_exit_with_shared_state_is_a_crash() {
    let cluster = Cluster::new();
    let (bystander, first) = cluster.start(&shared("sleep", RestartPolicy::after_secs(60)));
    ready(&bystander);
    cluster.backend.register(&shared("exit", RestartPolicy::Never)).unwrap();
    wait_until("the bystander was restarted by the reset", PATIENCE, || {
        // Not the worker that exits, which also runs for a moment.
        let again = |info: &bgw_backend::WorkerInfo| matches!(info.status, WorkerStatus::Started(pid) if pid != first);
        cluster.backend.workers().iter().any(|info| info.worker.name() == "sleep" && again(info))
    });
    cluster.end();
}

/// Would hang if the postmaster made the slots anew.
fn without_restart_after_crash_the_postmaster_ends() {
    let cluster = Cluster::with(|builder| builder.restart_after_crash(false));
    let (_handle, pid) = cluster.start(&shared("sleep", RestartPolicy::after_secs(0)));
    kill(pid, Signal::SIGKILL);
    assert_eq!(cluster.launched.wait().unwrap(), ExitCause::Exited(1));
}

/// Would fail if a crash without shared state reset the cluster.
fn a_crash_of_an_isolated_worker_touches_nobody() {
    let cluster = Cluster::new();
    let (bystander, pid) = cluster.start(&shared("sleep", RestartPolicy::after_secs(60)));
    let (crashing, victim) = cluster.start(&simple("sleep"));
    kill(victim, Signal::SIGABRT);
    assert!(matches!(stopped(&crashing).cause, ExitCause::Signaled { signal: 6, .. }));
    // In a reset this one would not start.
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
    assert_eq!(cluster.backend.workers().len(), 3, "the worker of the dead program goes on");
    cluster.end();
}

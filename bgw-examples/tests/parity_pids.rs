//! The promise: a pid that is used again is a stranger's, and no stranger is ever signalled.
//!
//! Each test makes a pid namespace of its own, in which it can say which pid the next process gets. That
//! takes root; without it the tests say so and are skipped. Would catch: a notify target kept as a
//! number, a child signalled by number.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bgw_backend::{Pid, RestartPolicy, Worker, WorkerError, WorkerFlags, WorkerStatus, entry};
use nix::sched::{CloneFlags, unshare};
use process_test::{Signal, Stranger, fork_child, skip, tests, wait_until};
use std::process::ExitCode;
use support::{
    Cluster, PATIENCE, connect, kill, read_note, ready, shared, started, stopped, worker,
    write_note,
};

fn main() -> ExitCode {
    process_test::main(tests![
        after_a_reset_the_next_owner_of_a_targets_pid_is_not_signalled => [R06],
        the_next_owner_of_a_gone_backends_pid_is_not_signalled => [R07],
    ])
}

const NEXT_PID: &str = "/proc/sys/kernel/ns_last_pid";

/// Runs `test` as the first process of a new pid namespace.
fn in_a_namespace(test: impl FnOnce()) {
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWPID) {
        skip(format!("a pid namespace cannot be made ({errno}); it takes root"));
    }
    let mut first = fork_child(|| {
        if std::fs::write(NEXT_PID, "100").is_err() {
            write_note("skip", "").unwrap();
            return;
        }
        test();
    });
    let ended = first.wait();
    if support::note_path("skip").exists() {
        skip(format!("{NEXT_PID} cannot be written; it takes root"));
    }
    assert_eq!(ended.code(), Some(0));
}

/// A process with exactly this pid, which SIGUSR1 would end.
fn stranger(pid: Pid) -> Stranger {
    std::fs::write(NEXT_PID, (pid.get() - 1).to_string()).unwrap();
    let stranger = Stranger::new();
    assert_eq!(stranger.pid().as_raw(), pid.as_raw(), "the pid was used again");
    stranger
}

/// A child of the backend keeps its connection open, so that the postmaster does not learn of its end.
/// Would fail if the target were signalled by its number: the stranger has it by then.
fn the_next_owner_of_a_gone_backends_pid_is_not_signalled() {
    in_a_namespace(|| {
        let cluster = Cluster::new();
        let folder = cluster.folder.clone();
        let mut backend = fork_child(move || {
            let backend = connect(&folder);
            backend.enable_notifications().unwrap();
            let description = worker("sleep").notify(backend.pid()).build().unwrap();
            started(&backend.register(&description).unwrap());
            // SAFETY: the child does nothing but live on; the namespace's end is its own.
            if unsafe { nix::unistd::fork() }.unwrap().is_child() {
                loop {
                    std::thread::park();
                }
            }
        });
        let pid = Pid::new(backend.pid().as_raw().unsigned_abs()).unwrap();
        assert_eq!(backend.wait().code(), Some(0));
        let mut stranger = stranger(pid);
        let handle = cluster.backend.handle(cluster.backend.workers()[0].handle);
        handle.terminate().unwrap();
        stopped(&handle);
        cluster.backend.ping().unwrap();
        assert!(stranger.answers(), "the stranger was signalled");
        drop(stranger);
        cluster.end();
    });
}

/// Registers a worker that comes back after a reset, to be told of its end.
fn registers(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.handle_terminate();
    worker.unblock_signals()?;
    let backend = worker.backend();
    let description = bgw_backend::BackgroundWorker::builder("kept")
        .function("sleep")
        .flags(WorkerFlags::SHMEM_ACCESS)
        .restart(RestartPolicy::after_secs(3600))
        .notify(backend.pid())
        .build()
        .map_err(|error| error.to_string())?;
    backend.register(&description)?.wait_for_ready()?;
    write_note("registered", "")?;
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    Ok(())
}

/// Would fail if the target of a worker that is started anew after a reset were kept as a number.
fn after_a_reset_the_next_owner_of_a_targets_pid_is_not_signalled() {
    in_a_namespace(|| {
        let cluster = Cluster::with(|builder| builder.function("registers", entry(registers)));
        let (target, pid) = cluster.start(&worker("registers").build().unwrap());
        read_note("registered");
        let (crashing, victim) = cluster.start(&shared("sleep", RestartPolicy::Never));
        ready(&crashing);
        kill(victim, Signal::SIGABRT);
        let kept = || {
            let kept =
                cluster.backend.workers().into_iter().find(|info| info.worker.name() == "kept");
            kept.filter(|info| matches!(info.status, WorkerStatus::Started(_)) && info.ready)
        };
        wait_until("the target is gone and the kept one runs again", PATIENCE, || {
            matches!(target.status(), WorkerStatus::Stopped(_)) && kept().is_some()
        });
        let mut stranger = stranger(pid);
        let handle = cluster.backend.handle(kept().unwrap().handle);
        handle.terminate().unwrap();
        stopped(&handle);
        cluster.backend.ping().unwrap();
        assert!(stranger.answers(), "the stranger was signalled");
        drop(stranger);
        cluster.end();
    });
}

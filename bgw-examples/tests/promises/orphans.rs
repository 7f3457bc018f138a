//! The promise: whatever workers leave behind, the postmaster reaps it when it has ended, and
//! learns of that without looking again and again.
//!
//! Would catch: a zombie that waits behind another one, the end of a process that nobody tells of.

use crate::support::{
    Cluster, PATIENCE, connect, functions, kill, note_path, raw, read_note, simple, spares,
    wait_for_spares, write_note,
};
use bgw_backend::{
    Backend, BackgroundWorker, Pid, ShutdownMode, Worker, WorkerError, WorkerStatus, entry,
};
use bgw_postmaster::Postmaster;
use process_test::{Signal, Test, fork_child, tests, wait_until, zombies_of};
use std::path::Path;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        an_orphan_behind_a_child_of_the_program_is_reaped => [D20],
        an_orphan_behind_a_dead_spare_is_reaped => [D20],
        what_a_worker_has_cloned_beside_itself_is_waited_for => [D02, D04, P23],
    ]
}

/// A process in a session of its own that a worker has left behind. It sleeps.
fn daemon(backend: &Backend) -> Pid {
    let note = note_path("daemon").display().to_string();
    let script = format!("echo $$ > {note}.part; mv {note}.part {note}; exec sleep 1000");
    // Until then it belongs to the worker.
    let script = format!("setsid sh -c '{script}' & until [ -e {note} ]; do sleep 0.01; done");
    let worker = BackgroundWorker::builder("leaves").command("/bin/sh", ["-c", &script]);
    let handle = backend.register(&worker.build().unwrap()).unwrap();
    handle.wait_for_end_timeout(PATIENCE).unwrap();
    read_note("daemon").trim().parse().unwrap()
}

fn wait_until_reaped(daemon: Pid) {
    let process = format!("/proc/{daemon}");
    wait_until("it is reaped", PATIENCE, || !Path::new(&process).exists());
}

/// The program has a child that has ended, which it alone may reap. Would time out if what the
/// kernel hands out first hid all others.
fn an_orphan_behind_a_child_of_the_program_is_reaped() {
    let folder = std::env::temp_dir().join("cluster");
    let path = folder.clone();
    let mut program = fork_child(move || {
        std::mem::forget(fork_child(|| {}));
        let postmaster = functions(Postmaster::builder().runtime_dir(path)).build().unwrap();
        assert_eq!(postmaster.run().unwrap(), 0);
    });
    wait_until("the postmaster listens", PATIENCE, || folder.join("postmaster.pid").exists());
    let backend = connect(&folder);
    for _ in 0..2 {
        let daemon = daemon(&backend);
        std::fs::remove_file(note_path("daemon")).unwrap();
        kill(daemon, Signal::SIGKILL);
        wait_until_reaped(daemon);
    }
    assert_eq!(zombies_of(program.pid()).len(), 1, "its own");
    backend.shutdown(ShutdownMode::Fast).unwrap();
    drop(backend);
    assert_eq!(program.wait().code(), Some(0));
}

/// Spares send SIGCHLD where the C library forks. Would time out if nobody looked again for orphans
/// when the spare is reaped that is handed out before them.
fn an_orphan_behind_a_dead_spare_is_reaped() {
    let cluster = Cluster::with(|builder| builder.warm_spares(1).run_atfork_handlers(true));
    wait_for_spares(&cluster, 1);
    let (postmaster, spare) = (cluster.launched.pid(), spares(&cluster)[0]);
    let daemon = daemon(&cluster.backend);
    // The end of the worker that has left it is told before the worker is reaped.
    wait_until("the worker is reaped", PATIENCE, || zombies_of(raw(postmaster)).is_empty());
    kill(postmaster, Signal::SIGSTOP);
    for (process, zombies) in [(daemon, 1), (spare, 2)] {
        kill(process, Signal::SIGKILL);
        wait_until("it has ended", PATIENCE, || zombies_of(raw(postmaster)).len() == zombies);
    }
    kill(postmaster, Signal::SIGCONT);
    wait_until_reaped(daemon);
    cluster.end();
}

/// A sibling of the worker's: a child of the postmaster, which sends no signal when it ends.
fn clones(_: &mut Worker) -> Result<(), WorkerError> {
    // SAFETY: as a fork of a process with one thread; the child calls what a child of that may.
    match unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_PARENT, 0, 0, 0, 0) } {
        0 => {
            std::thread::sleep(PATIENCE * 2);
            // SAFETY: takes any integer.
            unsafe { libc::_exit(0) }
        }
        sibling => Ok(write_note("sibling", &sibling.to_string())?),
    }
}

/// Would time out if the end of such a process were noticed by SIGCHLD alone.
fn what_a_worker_has_cloned_beside_itself_is_waited_for() {
    let cluster = Cluster::with(|builder| {
        let builder = builder.terminate_grace(Duration::from_millis(50));
        builder.function("clones", entry(clones))
    });
    let postmaster = cluster.launched.pid();
    let handle = cluster.backend.register(&simple("clones")).unwrap();
    let sibling: Pid = read_note("sibling").parse().unwrap();
    let status = handle.wait_for_end_timeout(PATIENCE).unwrap();
    assert!(matches!(status, WorkerStatus::Stopped(Some(_))), "{status}");
    wait_until_reaped(sibling);
    assert!(zombies_of(raw(postmaster)).is_empty());
    cluster.end();
}

//! Threads and programs that are asleep in a wait. What a test does next is what wakes them.

use super::{Cluster, PATIENCE, connect, read_note, simple, stopped, write_note};
use bgw_backend::{BackgroundWorker, Handle, Pid, WorkerHandle, WorkerStatus};
use process_test::{Child, Signal, asleep, fork_child, wait_until, wait_until_all_asleep};
use std::path::Path;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};

/// A thread that runs `wait`; it is asleep there when this returns.
#[track_caller]
pub fn waiting_thread<T: Send + 'static>(
    wait: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let (tell, told) = channel();
    let thread = thread::spawn(move || {
        tell.send(nix::unistd::gettid()).unwrap();
        wait()
    });
    process_test::wait_until_asleep(told.recv().unwrap());
    thread
}

/// A program that attaches and runs `wait`; it is asleep there when this returns. It exits with 0
/// when `wait` returns.
#[track_caller]
pub fn waiting_program(folder: &Path, id: WorkerHandle, wait: impl FnOnce(&Handle)) -> Child {
    waiting_program_of(folder, [id], |[handle]| wait(handle))
}

/// The same, for several workers.
#[track_caller]
pub fn waiting_program_of<const N: usize>(
    folder: &Path,
    ids: [WorkerHandle; N],
    wait: impl FnOnce(&[Handle; N]),
) -> Child {
    let folder = folder.to_owned();
    program(1, move |note| {
        let backend = connect(&folder);
        let handles = ids.map(|id| backend.handle(id));
        note();
        wait(&handles);
    })
}

/// A program of `threads` threads that attaches once and runs `wait` in each. All are asleep when
/// this returns. It exits with 0 when each `wait` has returned.
#[track_caller]
pub fn waiting_threads(
    folder: &Path,
    id: WorkerHandle,
    threads: usize,
    wait: fn(&Handle),
) -> Child {
    let folder = folder.to_owned();
    // The main thread sleeps as well: it joins the others.
    program(threads + 1, move |note| {
        let handle = connect(&folder).handle(id);
        let waiting: Vec<_> = (0..threads)
            .map(|_| {
                let handle = handle.clone();
                thread::spawn(move || wait(&handle))
            })
            .collect();
        note();
        waiting.into_iter().for_each(|thread| thread.join().unwrap());
    })
}

/// A child that calls its argument when it is about to wait, since attaching is a wait, too.
fn program(threads: usize, run: impl FnOnce(&dyn Fn())) -> Child {
    let about_to_wait = |pid: &dyn std::fmt::Display| format!("{pid}-is-about-to-wait");
    let child = fork_child(|| {
        run(&|| write_note(&about_to_wait(&std::process::id()), "").unwrap());
    });
    read_note(&about_to_wait(&child.pid()));
    wait_until_all_asleep(child.pid(), threads);
    child
}

/// A program that waits for a slot, and notes its worker's handle when it has one. It is in the
/// queue when this returns.
pub fn queued_program(cluster: &Cluster, name: &'static str) -> Child {
    program_queued_for(cluster, name, simple("sleep"))
}

/// The same, for a slot that this worker may have.
pub fn program_queued_for(
    cluster: &Cluster,
    name: &'static str,
    worker: BackgroundWorker,
) -> Child {
    let folder = cluster.folder.clone();
    let child = fork_child(move || {
        let backend = connect(&folder);
        let handle = backend.register_timeout(&worker, PATIENCE).unwrap();
        write_note(name, &handle.id().to_string()).unwrap();
        handle.wait_for_end_timeout(PATIENCE).unwrap();
    });
    // After each answer to a ping, it has its next answer, too; asleep behind the last one, it
    // waits for its turn.
    for _ in 0..4 {
        wait_until("it sleeps", PATIENCE, || asleep(child.pid()));
        cluster.backend.ping().unwrap();
    }
    child
}

/// A program waits by `wait`, which sleeps in `threads` threads, for a worker that it has not
/// registered. It is stopped while the worker ends and its slot could be used again: it gets the
/// report when it runs, and holds the slot no longer.
#[track_caller]
pub fn gets_the_report_late(threads: usize, wait: impl FnOnce(&Handle) -> WorkerStatus) {
    let cluster = Cluster::with(|builder| builder.max_workers(3));
    let (handle, pid) = cluster.start(&simple("sleep"));
    let id = handle.id();
    let mut waiter = program(threads, |note| {
        let handle = connect(&cluster.folder).handle(id);
        note();
        let status = wait(&handle);
        assert!(ended_as(&status, pid), "{status:?}");
    });
    waiter.kill(Signal::SIGSTOP);
    end_and_use_the_slots(&cluster, handle);
    waiter.kill(Signal::SIGCONT);
    assert_eq!(waiter.wait().code(), Some(0));
    let next = cluster.backend.register(&simple("quick")).unwrap();
    assert_eq!(next.id().slot(), id.slot(), "held no longer than until it has read the report");
    cluster.end();
}

/// The report of the end of process `pid`.
pub fn ended_as(status: &WorkerStatus, pid: Pid) -> bool {
    matches!(status, WorkerStatus::Stopped(Some(report)) if report.pid == Some(pid))
}

/// Ends `handle`, whose registrant then no longer keeps its slot, and uses other slots many times.
#[track_caller]
pub fn end_and_use_the_slots(cluster: &Cluster, handle: Handle) {
    let id = handle.id();
    handle.terminate().unwrap();
    handle.wait_for_end_timeout(PATIENCE).unwrap();
    drop(handle);
    for _ in 0..12 {
        let next = cluster.backend.register(&simple("quick")).unwrap();
        stopped(&next);
        assert_ne!(next.id().slot(), id.slot(), "a waiter holds it");
    }
}

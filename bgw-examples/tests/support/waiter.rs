//! Threads and programs that are asleep in a wait. What a test does next is what wakes them.

use super::{connect, read_note, write_note};
use bgw_backend::{Handle, WorkerHandle};
use process_test::{Child, fork_child, wait_until_all_asleep};
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
    let folder = folder.to_owned();
    program(1, move |note| {
        let handle = connect(&folder).handle(id);
        note();
        wait(&handle);
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

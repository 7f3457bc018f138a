//! The promise: a slot that a process has claimed is its own until it publishes it, gives it back, or
//! ends, whatever becomes of its connections.
//!
//! Would catch: a sweep that takes the end of a connection for the end of a process, or does not see
//! the end of a process whose connection a fork holds.

use crate::support::fault::{cluster, cluster_with, wait_for_state};
use crate::support::{connect, kill, raw, read_note, simple, stopped, write_note};
use bgw_backend::{Backend, ExitCause, Pid, Worker, WorkerError, entry};
use process_test::{Signal, Test, fork_child, tests, wait_until};
use std::path::Path;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_claim_outlives_another_connection_of_its_process => [D13],
        a_claim_of_a_dead_program_is_given_back_though_a_fork_holds_its_connection => [D13],
    ]
}

/// From here on this process stops itself once it has claimed a slot.
fn stop_in_the_next_claim() {
    // SAFETY: this process has one thread; its slots have met no point yet, so they read this later.
    unsafe { std::env::set_var("SHMEM_SLOTS_FAULT", "claim:after_swap=stop") };
}

/// Connects a second time, closes that connection, and registers a worker.
fn connects_twice(worker: &mut Worker) -> Result<(), WorkerError> {
    let second = Backend::connect(Path::new(&std::env::temp_dir().join("cluster")))?;
    write_note("connected", &std::process::id().to_string())?;
    read_note("stopped");
    drop(second);
    stop_in_the_next_claim();
    let registered = worker.backend().register(&simple("quick"));
    write_note("registered", &registered.map_or_else(|error| error.to_string(), |_| "yes".into()))?;
    Ok(())
}

/// Would fail if closing the second connection gave back what the worker claims through the one that it
/// inherited.
fn a_claim_outlives_another_connection_of_its_process() {
    let cluster =
        cluster_with("", |builder| builder.function("connects_twice", entry(connects_twice)));
    let postmaster = cluster.launched.pid();
    let handle = cluster.backend.register(&simple("connects_twice")).unwrap();
    let worker: Pid = read_note("connected").parse().unwrap();
    kill(postmaster, Signal::SIGSTOP);
    wait_for_state(postmaster, 'T', "stopped");
    write_note("stopped", "").unwrap();
    wait_for_state(worker, 'T', "in the middle of its claim");
    kill(postmaster, Signal::SIGCONT);
    // By the answer the postmaster has seen the closed connection.
    cluster.backend.ping().unwrap();
    cluster.backend.ping().unwrap();
    kill(worker, Signal::SIGCONT);
    assert_eq!(read_note("registered"), "yes");
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    cluster.end();
}

/// Would fail if the slot stayed taken until the fork ends.
fn a_claim_of_a_dead_program_is_given_back_though_a_fork_holds_its_connection() {
    let cluster = cluster("");
    let folder = cluster.folder.clone();
    let capacity = cluster.backend.capacity();
    let mut program = fork_child(move || {
        let backend = connect(&folder);
        let fork = fork_child(|| {
            loop {
                std::thread::park();
            }
        });
        write_note("fork", &fork.pid().to_string()).unwrap();
        stop_in_the_next_claim();
        let _ = backend.register(&simple("quick"));
    });
    let fork: Pid = read_note("fork").parse().unwrap();
    wait_for_state(Pid::new(program.pid().as_raw().unsigned_abs()).unwrap(), 'T', "in its claim");
    program.kill(Signal::SIGKILL);
    program.wait();
    let sleepers = || (0..capacity).map(|_| cluster.backend.register(&simple("sleep")));
    wait_until("every slot can be used", crate::support::PATIENCE, || {
        let all: Vec<_> = sleepers().collect();
        let fits = all.iter().all(Result::is_ok);
        let handles: Vec<_> = all.into_iter().flatten().collect();
        for handle in &handles {
            handle.terminate().unwrap();
        }
        bgw_backend::wait_all_ends(&handles, Some(crate::support::PATIENCE)).unwrap();
        fits
    });
    nix::sys::signal::kill(raw(fork), Signal::SIGKILL).unwrap();
    wait_until("the fork is gone", crate::support::PATIENCE, || !crate::support::alive(fork));
    cluster.end();
}

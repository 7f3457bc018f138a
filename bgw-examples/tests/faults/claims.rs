//! The promise: a slot that a process has claimed is its own until it publishes it, gives it back,
//! or ends, whatever becomes of its connections. One that is given back goes to whoever waits.
//!
//! Would catch: a sweep that takes the end of a connection for the end of a process, or does not
//! see the end of a process whose connection a fork holds.

use crate::support::fault::{AT_ONCE, CAPACITY, cluster, cluster_with};
use crate::support::waiter::queued_program;
use crate::support::{
    Cluster, PATIENCE, connect, kill, raw, read_note, ready, shared, simple, stopped,
    wait_for_state, write_note,
};
use bgw_backend::{Backend, ExitCause, Pid, RegisterError, Worker, WorkerError, WorkerInfo, entry};
use process_test::{Child, Signal, Test, fork_child, tests, wait_until};
use std::path::Path;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_claim_outlives_another_connection_of_its_process => [D13],
        a_claim_of_a_dead_program_is_given_back_though_a_fork_holds_its_connection => [D13],
        slots_that_a_failed_batch_gives_back_go_to_those_that_wait => [P56],
        a_slot_that_an_overtaken_claim_gives_back_goes_to_one_that_waits => [P56],
    ]
}

/// Connects a second time, closes that connection, and registers a worker.
fn connects_twice(worker: &mut Worker) -> Result<(), WorkerError> {
    let second = Backend::connect(Path::new(&std::env::temp_dir().join("cluster")))?;
    write_note("connected", &std::process::id().to_string())?;
    read_note("stopped");
    drop(second);
    shmem_slots::fault::arm("claim:after_swap=stop");
    let registered = worker.backend().register(&simple("quick"));
    write_note("registered", &registered.map_or_else(|error| error.to_string(), |_| "yes".into()))?;
    Ok(())
}

/// Would fail if closing the second connection gave back what the worker claims through the one
/// that it inherited.
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
        shmem_slots::fault::arm("claim:after_swap=stop");
        let _ = backend.register(&simple("quick"));
    });
    let fork: Pid = read_note("fork").parse().unwrap();
    wait_for_state(Pid::new(program.pid().as_raw().unsigned_abs()).unwrap(), 'T', "in its claim");
    program.kill(Signal::SIGKILL);
    program.wait();
    let sleepers = || (0..capacity).map(|_| cluster.backend.register(&simple("sleep")));
    wait_until("every slot can be used", PATIENCE, || {
        let all: Vec<_> = sleepers().collect();
        let fits = all.iter().all(Result::is_ok);
        let handles: Vec<_> = all.into_iter().flatten().collect();
        for handle in &handles {
            handle.terminate().unwrap();
        }
        bgw_backend::wait_all_ends(&handles, Some(PATIENCE)).unwrap();
        fits
    });
    nix::sys::signal::kill(raw(fork), Signal::SIGKILL).unwrap();
    wait_until("the fork is gone", PATIENCE, || !crate::support::alive(fork));
    cluster.end();
}

/// A program that does `act`, and is stopped by `fault` in the middle of that. It lives until
/// somebody notes that it is over.
fn stopped_program(cluster: &Cluster, fault: &str, act: impl FnOnce(&Backend)) -> Child {
    let child = fork_child(|| {
        let backend = connect(&cluster.folder);
        shmem_slots::fault::arm(fault);
        act(&backend);
        read_note("over");
    });
    wait_for_state(Pid::new(child.pid().as_raw().unsigned_abs()).unwrap(), 'T', fault);
    child
}

/// Those that wait in `queued` have their turns once `program` goes on.
fn are_served_after(cluster: Cluster, mut program: Child, queued: &mut [Child]) {
    program.kill(Signal::SIGCONT);
    for name in NAMES.iter().take(queued.len()) {
        let handle = cluster.backend.handle(read_note(name).parse().unwrap());
        ready(&handle);
        handle.terminate().unwrap();
    }
    write_note("over", "").unwrap();
    for child in queued.iter_mut().chain([&mut program]) {
        assert_eq!(child.wait().code(), Some(0));
    }
    cluster.end();
}

const NAMES: [&str; 2] = ["first", "second"];

/// A program registers three workers at once. It has claimed two slots, and finds no third. Would
/// time out if nobody told the postmaster that two slots are free again.
fn slots_that_a_failed_batch_gives_back_go_to_those_that_wait() {
    let cluster = cluster("");
    let sleepers = [(); CAPACITY as usize - 2].map(|()| cluster.start(&simple("sleep")));
    let program = stopped_program(&cluster, "claim:after_swap=stop@2", |backend| {
        let batch = [(); 3].map(|()| simple("quick"));
        let refused = backend.register_all(&batch).map(drop).unwrap_err();
        assert!(matches!(refused, RegisterError::NoFreeSlot { .. }), "{refused}");
    });
    let mut queued = NAMES.map(|name| queued_program(&cluster, name));
    are_served_after(cluster, program, &mut queued);
    drop(sleepers);
}

/// A crash reset revokes a claim while its program is stopped. Would time out if the slot went to
/// nobody when the program gives it back.
fn a_slot_that_an_overtaken_claim_gives_back_goes_to_one_that_waits() {
    let cluster = cluster("");
    let program = stopped_program(&cluster, "claim:after_swap=stop", |backend| {
        let lost = backend.register(&simple("quick")).map(drop).unwrap_err();
        assert!(matches!(lost, RegisterError::ClaimLost(_)), "{lost}");
    });
    let crashing = cluster.backend.register(&shared("sleep", AT_ONCE)).unwrap();
    kill(ready(&crashing), Signal::SIGABRT);
    wait_until("the slots are made anew", PATIENCE, || {
        let runs = |info: &WorkerInfo| info.handle.incarnation() != crashing.id().incarnation();
        cluster.backend.workers().iter().any(runs)
    });
    let sleepers = [(); CAPACITY as usize - 2].map(|()| cluster.start(&simple("sleep")));
    let mut queued = [queued_program(&cluster, NAMES[0])];
    are_served_after(cluster, program, &mut queued);
    drop(sleepers);
}

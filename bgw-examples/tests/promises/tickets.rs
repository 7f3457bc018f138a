//! The promise: slots go to those that wait for one in the order in which they began to, whichever
//! process they are in. One that waits no longer, or cannot, delays nobody. At the deadline both
//! sides agree whether the worker is registered.
//!
//! Would catch: a registration that overtakes, a slot that goes to nobody, a worker that nobody
//! knows of, a wait that ends with the cluster and is not told.

use crate::support::waiter::{queued_program as waiter, waiting_thread};
use crate::support::{
    Cluster, PATIENCE, connect, kill, read_note, ready, shared, simple, stopped, worker,
};
use bgw_backend::{
    AskError, Backend, EventKind, EventsFrom, Handle, Refusal, RegisterError, RestartPolicy,
    ShutdownMode, WorkerFlags, WorkerStatus,
};
use process_test::{Signal, Test, tests, wait_until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        tickets_of_several_processes_are_served_in_order_and_register_overtakes_nobody => [P56],
        a_waiter_that_is_killed_or_stopped_blocks_nobody => [P57],
        a_deadline_and_a_grant_at_once_give_one_answer_and_leak_nothing => [P58],
        a_deadline_holds_while_the_postmaster_is_stopped_and_leaves_no_worker => [P58],
        a_connection_has_64_tickets_and_a_shutdown_answers_them_all,
        a_reset_answers_those_that_wait,
        who_waits_for_a_parallel_slot_gets_no_other,
    ]
}

/// A cluster with one slot, and the worker that holds it.
fn full() -> (Cluster, Handle) {
    let cluster = Cluster::with(|builder| builder.max_workers(1));
    let (holder, _) = cluster.start(&simple("sleep"));
    (cluster, holder)
}

/// The worker of a program that had its turn.
fn of(cluster: &Cluster, name: &str) -> Handle {
    cluster.backend.handle(read_note(name).parse().unwrap())
}

fn is_noted(name: &str) -> bool {
    crate::support::note_path(name).exists()
}

fn no_slot(answer: &Result<Handle, RegisterError>) -> bool {
    matches!(answer, Err(RegisterError::NoFreeSlot { .. }))
}

/// Would fail if a slot were free for an instant, or if the newest were served first.
fn tickets_of_several_processes_are_served_in_order_and_register_overtakes_nobody() {
    let (cluster, mut holder) = full();
    let names = ["first", "second", "third"];
    let mut waiters = names.map(|name| waiter(&cluster, name));
    let over = Arc::new(AtomicBool::new(false));
    let (greedy, is_over) = (cluster.backend.clone(), Arc::clone(&over));
    let overtakes = std::thread::spawn(move || {
        while !is_over.load(Ordering::Relaxed) {
            assert!(no_slot(&greedy.register(&simple("sleep"))), "it overtook those that wait");
        }
    });
    for (at, name) in names.into_iter().enumerate() {
        holder.terminate().unwrap();
        holder = of(&cluster, name);
        ready(&holder);
        assert!(names.iter().skip(at + 1).all(|later| !is_noted(later)), "{name} was next");
    }
    over.store(true, Ordering::Relaxed);
    overtakes.join().unwrap();
    holder.terminate().unwrap();
    for waiter in &mut waiters {
        assert_eq!(waiter.wait().code(), Some(0));
    }
    cluster.end();
}

/// Would time out if the slot were kept for one that is dead, or until one that is stopped runs.
fn a_waiter_that_is_killed_or_stopped_blocks_nobody() {
    let (cluster, holder) = full();
    let mut killed = waiter(&cluster, "killed");
    let mut is_stopped = waiter(&cluster, "stopped");
    let mut lives = waiter(&cluster, "lives");
    killed.kill(Signal::SIGKILL);
    killed.wait();
    is_stopped.kill(Signal::SIGSTOP);
    holder.terminate().unwrap();
    stopped(&holder);
    let of_stopped = || {
        let workers = cluster.backend.workers();
        workers.into_iter().find(|worker| worker.handle != holder.id())
    };
    wait_until("its worker is registered", PATIENCE, || of_stopped().is_some());
    let handle = cluster.backend.handle(of_stopped().unwrap().handle);
    ready(&handle);
    assert!(!is_noted("stopped") && !is_noted("killed") && !is_noted("lives"));
    handle.terminate().unwrap();
    let last = of(&cluster, "lives");
    ready(&last);
    is_stopped.kill(Signal::SIGCONT);
    assert_eq!(read_note("stopped"), handle.id().to_string());
    last.terminate().unwrap();
    assert_eq!(is_stopped.wait().code(), Some(0));
    assert_eq!(lives.wait().code(), Some(0));
    cluster.end();
}

/// The only slot can be used at once: nobody has it.
#[track_caller]
fn nobody_is_left(cluster: &Cluster) {
    cluster.backend.ping().unwrap();
    let handle = cluster.backend.register(&simple("sleep")).expect("the slot is free");
    handle.terminate().unwrap();
    handle.wait_for_end_timeout(PATIENCE).unwrap();
}

/// Would fail if a worker ran that whoever waited knows nothing of, or if the slot were lost.
fn a_deadline_and_a_grant_at_once_give_one_answer_and_leak_nothing() {
    let cluster = Cluster::with(|builder| builder.max_workers(1).events(16_384));
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    let (mut granted, mut timed_out) = (0, 0);
    for round in 0..150 {
        let (holder, _) = cluster.start(&simple("sleep"));
        let timeout = match round {
            0 => Duration::ZERO,
            149 => PATIENCE,
            _ => Duration::from_micros(round % 50 * 40),
        };
        let backend = cluster.backend.clone();
        let waits = std::thread::spawn(move || backend.register_timeout(&simple("exit"), timeout));
        if round > 0 {
            holder.terminate().unwrap();
        }
        match waits.join().unwrap() {
            Ok(handle) => {
                granted += 1;
                let status = handle.wait_for_end_timeout(PATIENCE).unwrap();
                assert!(matches!(status, WorkerStatus::Stopped(Some(_))), "{status}");
            }
            Err(RegisterError::TimedOut) => timed_out += 1,
            Err(other) => panic!("{other}"),
        }
        holder.terminate().unwrap();
        holder.wait_for_end_timeout(PATIENCE).unwrap();
        nobody_is_left(&cluster);
    }
    assert!(granted > 0 && timed_out > 0, "{granted} granted, {timed_out} timed out");
    let all = std::iter::from_fn(|| events.try_next().unwrap());
    let registered =
        all.filter(|event| matches!(event.kind, EventKind::Registered) && event.name == "exit");
    assert_eq!(registered.count(), granted, "{timed_out} timed out");
    cluster.end();
}

fn waits_for(backend: &Backend, timeout: Duration) -> JoinHandle<Result<Handle, RegisterError>> {
    let backend = backend.clone();
    waiting_thread(move || backend.register_timeout(&simple("sleep"), timeout))
}

/// Would hang if a deadline needed the postmaster, and fail if it later served one that had gone.
fn a_deadline_holds_while_the_postmaster_is_stopped_and_leaves_no_worker() {
    let (cluster, holder) = full();
    let short = Duration::from_millis(300);
    let postmaster = cluster.backend.postmaster();
    let queued = waits_for(&cluster.backend, short);
    cluster.backend.ping().unwrap();
    kill(postmaster, Signal::SIGSTOP);
    holder.terminate().unwrap();
    assert!(matches!(queued.join().unwrap(), Err(RegisterError::TimedOut)));
    // The postmaster does not even answer this one.
    let late = connect_stopped(&cluster).join().unwrap();
    assert!(matches!(late, Err(RegisterError::TimedOut)), "{late:?}");
    kill(postmaster, Signal::SIGCONT);
    holder.wait_for_end_timeout(PATIENCE).unwrap();
    nobody_is_left(&cluster);
    cluster.end();
}

fn connect_stopped(cluster: &Cluster) -> JoinHandle<Result<Handle, RegisterError>> {
    let backend = cluster.backend.clone();
    std::thread::spawn(move || {
        backend.register_timeout(&simple("sleep"), Duration::from_millis(20))
    })
}

fn is_full(error: &RegisterError) -> bool {
    matches!(error, RegisterError::Ask(AskError::Refused { reason: Refusal::QueueFull, detail })
        if detail.contains("64"))
}

/// Would fail if a connection could fill the queue alone, and hang if a shutdown forgot those in
/// it.
fn a_connection_has_64_tickets_and_a_shutdown_answers_them_all() {
    let (cluster, _holder) = full();
    let waits = |backend: Backend| loop {
        match backend.register_timeout(&simple("sleep"), PATIENCE) {
            // The place is that of a look below.
            Err(full) if is_full(&full) => {}
            other => return other,
        }
    };
    let backends = (0..64).map(|_| cluster.backend.clone());
    let waiting: Vec<_> =
        backends.map(|backend| std::thread::spawn(move || waits(backend))).collect();
    let short = Duration::from_millis(1);
    let look = || cluster.backend.register_timeout(&simple("sleep"), short).unwrap_err();
    wait_until("the queue is full", PATIENCE, || is_full(&look()));
    let other = connect(&cluster.folder);
    let gives_up = other.register_timeout(&simple("sleep"), short);
    assert!(matches!(gives_up, Err(RegisterError::TimedOut)), "it has its own 64");
    cluster.backend.shutdown(ShutdownMode::Fast).unwrap();
    for thread in waiting {
        let refused = thread.join().unwrap().unwrap_err();
        let RegisterError::Ask(AskError::Refused { reason, .. }) = &refused else {
            panic!("{refused}");
        };
        assert_eq!(*reason, Refusal::ShuttingDown);
    }
    cluster.launched.wait().unwrap();
}

/// Would hang if a wait from before a reset went on after it, for a description of before.
fn a_reset_answers_those_that_wait() {
    let cluster = Cluster::with(|builder| builder.max_workers(1));
    let (holder, pid) = cluster.start(&shared("sleep", RestartPolicy::Never));
    ready(&holder);
    let waits = waits_for(&cluster.backend, PATIENCE);
    cluster.backend.ping().unwrap();
    kill(pid, Signal::SIGKILL);
    let refused = waits.join().unwrap().unwrap_err();
    let RegisterError::Ask(AskError::Refused { reason, .. }) = &refused else {
        panic!("{refused}");
    };
    assert_eq!(*reason, Refusal::ClusterReset);
    holder.wait_for_end_timeout(PATIENCE).unwrap();
    let again = cluster.backend.register_timeout(&simple("sleep"), PATIENCE).unwrap();
    ready(&again);
    cluster.end();
}

/// Would fail if a slot went to a worker of the other class.
fn who_waits_for_a_parallel_slot_gets_no_other() {
    let cluster = Cluster::with(|builder| builder.max_workers(1).max_parallel_workers(1));
    let parallel = || worker("sleep").flags(WorkerFlags::CLASS_PARALLEL).build().unwrap();
    let (general, _) = cluster.start(&simple("sleep"));
    let (special, _) = cluster.start(&parallel());
    let backend = cluster.backend.clone();
    let waits = waiting_thread(move || backend.register_timeout(&parallel(), PATIENCE));
    cluster.backend.ping().unwrap();
    general.terminate().unwrap();
    general.wait_for_end_timeout(PATIENCE).unwrap();
    let (general, _) = cluster.start(&simple("sleep"));
    special.terminate().unwrap();
    let granted = waits.join().unwrap().unwrap();
    assert_eq!(granted.id().slot(), special.id().slot());
    ready(&granted);
    drop(general);
    cluster.end();
}

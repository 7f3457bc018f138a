//! The promise: a worker whose main runs a current-thread runtime ends at its stop signal, sees
//! each set of its latch, and ends with its postmaster, as one that blocks does.
//!
//! Would catch: a signal that wakes no task, a set that comes without a signal or between two
//! polls, a worker that has a second thread for that, a future that a stop signal leaves pending.

use crate::support::runtime::{runtime, threads};
use crate::support::{
    Cluster, PATIENCE, alive, kill, read_note, ready, simple, stopped, wait_until_asleep,
    write_note,
};
use bgw_backend::{ExitCause, Interrupt, WaitError, Worker, WorkerError, entry};
use process_test::{Signal, Test, tests, wait_until};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_worker_with_a_runtime_ends_at_its_stop_signal,
        a_worker_with_a_runtime_sees_every_set_of_its_latch,
        a_worker_with_a_runtime_ends_with_its_postmaster,
        a_stop_signal_ends_the_futures_of_a_worker_as_its_waits,
    ]
}

/// Awaits another worker, then its own end; notes what it saw.
fn on_a_runtime(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.handle_terminate();
    worker.unblock_signals()?;
    let alone = threads().len();
    let inner = worker.backend().register(&simple("quick"))?;
    let worker = &*worker;
    runtime().block_on(async {
        let ended = inner.ended().await?;
        worker.ready();
        let why = worker.terminated().await?;
        write_note("runtime", &format!("{alone}|{}|{why:?}", ended))?;
        Ok(())
    })
}

/// Would hang if the stop signal woke no future.
fn a_worker_with_a_runtime_ends_at_its_stop_signal() {
    let cluster =
        Cluster::with(|builder| builder.function("runtime", entry(on_a_runtime)).max_workers(4));
    let (handle, _) = cluster.start(&simple("runtime"));
    ready(&handle);
    handle.terminate().unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    let note = read_note("runtime");
    assert!(note.starts_with("1|") && note.contains("terminating"), "{note}");
    cluster.end();
}

/// Counts the sets of its latch in a file, until it is stopped. It has one thread.
fn counts_sets(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.handle_terminate();
    worker.unblock_signals()?;
    let worker = &*worker;
    runtime().block_on(async {
        let (mut latch, terminated) = (worker.latch_sets(), worker.terminated());
        tokio::pin!(terminated);
        let mut sets = 0;
        worker.ready();
        loop {
            tokio::select! {
                biased;
                set = latch.next_set() => assert!(set?),
                why = &mut terminated => {
                    assert!(matches!(why?, Interrupt::Terminated { .. }));
                    break;
                }
            }
            sets += 1;
            write_note(&format!("set-{sets}"), &threads().len().to_string())?;
        }
        Ok(())
    })
}

/// Would hang if a set came without a signal, or were lost between two polls.
fn a_worker_with_a_runtime_sees_every_set_of_its_latch() {
    let cluster =
        Cluster::with(|builder| builder.function("sets", entry(counts_sets)).max_workers(4));
    let (handle, pid) = cluster.start(&simple("sets"));
    ready(&handle);
    for set in 1..=20 {
        if set % 2 == 0 {
            wait_until_asleep(pid);
        }
        assert!(handle.set_latch().unwrap());
        assert_eq!(read_note(&format!("set-{set}")), "1", "threads of the worker");
    }
    handle.terminate().unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    cluster.end();
}

fn orphan(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.handle_terminate();
    worker.unblock_signals()?;
    let worker = &*worker;
    runtime().block_on(async {
        let mut latch = worker.latch_sets();
        worker.ready();
        assert!(!latch.next_set().await?, "the stream ends");
        let why = worker.terminated().await?;
        write_note("orphan", &format!("{why:?}"))?;
        Ok(())
    })
}

fn a_worker_with_a_runtime_ends_with_its_postmaster() {
    let cluster = Cluster::with(|builder| builder.function("orphan", entry(orphan)).max_workers(4));
    let (handle, pid) = cluster.start(&simple("orphan"));
    ready(&handle);
    wait_until_asleep(pid);
    kill(cluster.launched.pid(), Signal::SIGKILL);
    assert!(read_note("orphan").contains("postmaster has died"));
    wait_until("it has ended", PATIENCE, || !alive(pid));
    cluster.launched.wait().unwrap();
}

/// Does not handle SIGTERM: its waits fail then, these like others.
fn awaits_for_ever(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.unblock_signals()?;
    let other = worker.backend().handle(worker.handle());
    worker.ready();
    let error = runtime().block_on(other.ended()).unwrap_err();
    write_note("interrupted", &format!("{}", matches!(error, WaitError::Interrupted)))?;
    Err(error.into())
}

fn a_stop_signal_ends_the_futures_of_a_worker_as_its_waits() {
    let cluster =
        Cluster::with(|builder| builder.function("awaits", entry(awaits_for_ever)).max_workers(4));
    let (handle, pid) = cluster.start(&simple("awaits"));
    ready(&handle);
    wait_until_asleep(pid);
    handle.terminate().unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(1));
    assert_eq!(read_note("interrupted"), "true");
    cluster.end();
}

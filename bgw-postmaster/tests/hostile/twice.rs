//! One worker for each slot, and each worker once, whatever the slots say.
//!
//! Would catch: a worker that starts twice, a slot that is given away while its worker runs. Either
//! leaves a process that nobody stops, and nobody reaps.

use crate::support::{Cluster, PATIENCE, builder, publish, worker};
use bgw_core::internals::{Received, Reply, Request, RunState, WorkerRecord, scm};
use bgw_core::{After, BackgroundWorker, ControlSocket, Pid};
use process_test::{Test, descendants, tests, wait_until};
use shmem_slots::{Key, Memory, Snapshot};
use std::sync::atomic::Ordering;
use std::time::Instant;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_worker_that_is_registered_beside_a_lonely_one_is_taken_in_once,
        a_slot_that_looks_free_while_its_worker_runs_is_given_to_nobody => [B78],
    ]
}

fn record(worker: &BackgroundWorker) -> WorkerRecord {
    WorkerRecord::encode(worker, Pid::this())
}

/// Waits until the only worker called `sleep` shows its title: it has started before that.
fn wait_for_sleeper(cluster: &Cluster) {
    wait_until("a worker shows its title", PATIENCE, || sleepers(cluster) == 1);
}

/// The processes of workers called `sleep`.
fn sleepers(cluster: &Cluster) -> usize {
    let all = descendants(process_test::Pid::from_raw(cluster.launched.pid().as_raw()));
    let title = |pid| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    all.into_iter().filter(|&pid| title(pid).starts_with("bgworker: sleep")).count()
}

fn ping(cluster: &Cluster) {
    let reply = cluster.peer.ask(&Request::Ping, Some(Instant::now() + PATIENCE)).unwrap();
    assert_eq!(reply, Reply::Done);
}

/// One registration, and one that is to start after a worker that nobody knows: the postmaster
/// looks for that one in all slots. Would fail if it took the other one in again there.
fn a_worker_that_is_registered_beside_a_lonely_one_is_taken_in_once() {
    let path = std::env::temp_dir().join("log");
    let file = std::fs::OpenOptions::new().create_new(true).append(true).open(&path).unwrap();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_writer(std::sync::Mutex::new(file))
        .init();
    let cluster = Cluster::new();
    let lonely = BackgroundWorker::builder("lonely").function("sleep").after("no", After::Started);
    let key = publish(&cluster.peer, &record(&worker("sleep")), 0);
    publish(&cluster.peer, &record(&lonely.build().unwrap()), 0);
    cluster.peer.ring().unwrap();
    cluster.started(key);
    ping(&cluster);
    wait_for_sleeper(&cluster);
    let log = std::fs::read_to_string(path).unwrap();
    let count = log.matches("registering background worker \"sleep\"").count();
    assert_eq!(count, 1, "{log}");
    cluster.end();
}

/// Writes over the word of a slot: it looks free.
fn make_free(cluster: &Cluster, key: Key) {
    let word = cluster.peer.slots().snapshot(key.index).unwrap();
    let cells = cluster.peer.slots().memory().writable_cells().unwrap();
    let cell = cells.iter().find(|cell| cell.load(Ordering::Relaxed) == word.bits()).unwrap();
    cell.store(Snapshot::vacant(key.generation).bits(), Ordering::Relaxed);
}

/// Would fail if the postmaster believed it, and ran a second worker in the slot.
fn a_slot_that_looks_free_while_its_worker_runs_is_given_to_nobody() {
    let cluster = Cluster::with(builder().max_workers(1).max_parallel_workers(0));
    let first = cluster.register(&worker("sleep"));
    let pid = cluster.started(first);
    wait_for_sleeper(&cluster);
    make_free(&cluster, first);
    // Somebody waits for a slot.
    let until = Some(Instant::now() + PATIENCE);
    let queue = Request::Queue { waits: true, gifts: 0 };
    let (reply, sockets) = cluster.peer.ask_for(&queue, until).unwrap();
    assert_eq!(reply, Reply::Queue);
    let mut place = ControlSocket::from(sockets.into_iter().next().unwrap());
    scm::send(&place, record(&worker("sleep")).bytes(), &[]).unwrap();
    ping(&cluster);
    ping(&cluster);
    assert_eq!(cluster.run_state(first), RunState::Started(pid), "the registry is the truth");
    // A backend gets it, and is told that it has not.
    make_free(&cluster, first);
    let second = cluster.register(&worker("sleep"));
    ping(&cluster);
    assert_eq!(cluster.run_state(second), RunState::Stopped);
    assert_eq!((cluster.run_state(first), sleepers(&cluster)), (RunState::Started(pid), 1));
    cluster.terminate(first);
    let Received::Message { message: Reply::Granted(third), .. } = place.recv_reply(until).unwrap()
    else {
        panic!("the slot went to nobody")
    };
    cluster.started(Key { index: third.slot(), generation: third.generation() });
    cluster.end();
}

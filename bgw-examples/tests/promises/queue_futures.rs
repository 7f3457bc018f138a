//! The promise: a wait for a slot as a future has its turn in the same queue as one that blocks.
//! Dropped at any moment, it leaves neither a place in the queue nor a worker.
//!
//! Would catch: a future that overtakes, a grant that meets its drop and stays, a place that is
//! never given up, an end of the cluster or of a worker that a future does not learn of.

use crate::support::runtime::{block_on, runtime, threads};
use crate::support::waiter::queued_program;
use crate::support::{
    Cluster, PATIENCE, connect, kill, read_note, ready, simple, stopped, wait_until_asleep, worker,
    write_note,
};
use bgw_backend::{
    AskError, Backend, BackgroundWorker, EventKind, EventsFrom, ExitCause, Handle, NotWritable,
    Refusal, RegisterError, ShutdownMode, Worker, WorkerError, WorkerStatus, entry,
};
use process_test::{Signal, Test, fork_child, tests, wait_until};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_future_has_its_turn_among_those_that_block => [P56],
        a_drop_and_a_grant_at_once_leave_no_worker => [P58],
        a_future_that_is_dropped_gives_up_its_turn => [P57],
        futures_learn_of_the_postmaster_s_death_and_of_a_shutdown,
        a_worker_waits_for_a_slot_and_its_stop_signal_ends_that,
        outside_of_a_runtime_and_in_a_forked_child_it_is_refused,
    ]
}

pub(crate) type Wait = Pin<Box<dyn Future<Output = Result<Handle, RegisterError>> + Send>>;

pub(crate) fn wait_for(backend: &Backend, function: &str) -> Wait {
    Box::pin(backend.register_when_free(&simple(function)))
}

pub(crate) fn poll(wait: &mut Wait) -> Poll<Result<Handle, RegisterError>> {
    wait.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// A cluster with one slot, and the worker that holds it.
pub(crate) fn full() -> (Cluster, Handle) {
    let cluster = Cluster::with(|builder| builder.max_workers(1).events(16_384));
    let (holder, _) = cluster.start(&simple("sleep"));
    ready(&holder);
    (cluster, holder)
}

/// Polls a future until it is behind the others in the queue.
pub(crate) async fn queued(backend: &Backend, wait: &mut Wait) {
    for _ in 0..3 {
        timeout(Duration::from_millis(20), &mut *wait).await.map(drop).unwrap_err();
        let backend = backend.clone();
        tokio::task::spawn_blocking(move || backend.ping().unwrap()).await.unwrap();
    }
}

/// The slot can be used, soon: whoever had it is on its way out.
#[track_caller]
fn nobody_is_left(cluster: &Cluster) {
    let handle = cluster.backend.register_timeout(&simple("sleep"), PATIENCE).expect("it is free");
    handle.terminate().unwrap();
    handle.wait_for_end_timeout(PATIENCE).unwrap();
}

/// Would fail if futures stood in a queue of their own.
fn a_future_has_its_turn_among_those_that_block() {
    let (cluster, holder) = full();
    let mut first = queued_program(&cluster, "first");
    let (backend, folder) = (cluster.backend.clone(), cluster.folder.clone());
    runtime().block_on(async {
        let mut second = wait_for(&backend, "sleep");
        queued(&backend, &mut second).await;
        let last = tokio::task::spawn_blocking(move || {
            connect(&folder).register_timeout(&simple("sleep"), PATIENCE).unwrap().id()
        });
        holder.terminate().unwrap();
        let of_first = tokio::task::spawn_blocking(|| read_note("first")).await.unwrap();
        timeout(Duration::from_millis(50), &mut second).await.map(drop).unwrap_err();
        let of_first = backend.handle(of_first.parse().unwrap());
        assert!(matches!(of_first.started().await.unwrap(), WorkerStatus::Started(_)));
        of_first.terminate().unwrap();
        let handle = timeout(PATIENCE, second).await.unwrap().unwrap();
        assert!(matches!(handle.ready().await.unwrap(), WorkerStatus::Started(_)));
        handle.terminate().unwrap();
        let last = timeout(PATIENCE, last).await.unwrap().unwrap();
        backend.handle(last).terminate().unwrap();
    });
    assert_eq!(first.wait().code(), Some(0));
    cluster.end();
}

fn of_name(cluster: &Cluster, name: &str) -> usize {
    cluster.backend.workers().iter().filter(|worker| worker.worker.name() == name).count()
}

/// Would fail if a worker stayed that nobody has a handle of, or if the slot were lost.
fn a_drop_and_a_grant_at_once_leave_no_worker() {
    const ROUNDS: u64 = 150;
    let (cluster, first) = full();
    first.terminate().unwrap();
    first.wait_for_end_timeout(PATIENCE).unwrap();
    drop(first);
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    let (mut granted, mut dropped) = (0, 0);
    let runtime = runtime();
    for round in 0..ROUNDS {
        let (holder, _) = cluster.start(&simple("sleep"));
        ready(&holder);
        let backend = cluster.backend.clone();
        let outcome = runtime.block_on(async {
            let sleeper = BackgroundWorker::builder("granted").function("sleep").build().unwrap();
            let mut wait: Wait = Box::pin(backend.register_when_free(&sleeper));
            if round == 1 {
                queued(&backend, &mut wait).await;
            } else {
                queued_once(&mut wait).await;
            }
            if round > 0 {
                holder.terminate().unwrap();
            }
            // A drop whenever it comes: of a future that nobody polls any more, or by a deadline.
            let moment = Duration::from_micros(round % 50 * 60);
            if round == ROUNDS - 1 {
                Some(wait.await)
            } else if round == 1 {
                wait_until("the grant has come", PATIENCE, || of_name(&cluster, "granted") > 0);
                cluster.backend.ping().unwrap();
                drop(wait);
                None
            } else if round % 2 == 0 {
                std::thread::sleep(moment);
                drop(wait);
                None
            } else {
                timeout(moment, wait).await.ok()
            }
        });
        match outcome {
            Some(handle) => {
                granted += 1;
                let handle = handle.unwrap();
                handle.terminate().unwrap();
                let status = handle.wait_for_end_timeout(PATIENCE).unwrap();
                assert!(matches!(status, WorkerStatus::Stopped(Some(_))), "{status}");
            }
            None => dropped += 1,
        }
        holder.terminate().unwrap();
        holder.wait_for_end_timeout(PATIENCE).unwrap();
        nobody_is_left(&cluster);
        assert_eq!(of_name(&cluster, "granted"), 0);
    }
    assert!(granted > 0 && dropped > 0, "{granted} granted, {dropped} dropped");
    let all: Vec<_> = std::iter::from_fn(|| events.try_next().unwrap()).collect();
    let count = |kind: &EventKind| {
        all.iter().filter(|event| event.name == "granted" && event.kind == *kind).count()
    };
    let registered = count(&EventKind::Registered);
    assert!(registered > granted, "no drop met a grant: {granted} of {registered}");
    assert_eq!(registered, count(&EventKind::Unregistered), "{granted} granted");
    cluster.end();
}

/// Polls a future until its description is on its way.
async fn queued_once(wait: &mut Wait) {
    timeout(Duration::from_millis(5), wait).await.map(drop).unwrap_err();
}

/// Would time out if a place stayed in the queue, and if the next one were not told.
fn a_future_that_is_dropped_gives_up_its_turn() {
    let (cluster, holder) = full();
    let backend = cluster.backend.clone();
    let handle = runtime().block_on(async {
        let mut given_up = wait_for(&backend, "quick");
        queued(&backend, &mut given_up).await;
        let mut next = wait_for(&backend, "sleep");
        queued(&backend, &mut next).await;
        // 64 that are dropped before the postmaster has answered them, twice.
        for _ in 0..2 {
            let mut early: Vec<_> = (0..64).map(|_| wait_for(&backend, "quick")).collect();
            early.iter_mut().for_each(|wait| assert!(poll(wait).is_pending()));
        }
        drop(given_up);
        holder.terminate().unwrap();
        timeout(PATIENCE, next).await.unwrap().unwrap()
    });
    ready(&handle);
    assert_eq!(of_name(&cluster, "quick"), 0, "a turn that was given up was served");
    cluster.end();
}

/// Would hang if an end of the cluster woke no future.
fn futures_learn_of_the_postmaster_s_death_and_of_a_shutdown() {
    for death in [true, false] {
        let (cluster, _holder) = full();
        let backend = cluster.backend.clone();
        block_on(async {
            let mut waits = JoinSet::new();
            (0..20).for_each(|_| drop(waits.spawn(wait_for(&backend, "sleep"))));
            let mut one = wait_for(&backend, "sleep");
            queued(&backend, &mut one).await;
            waits.spawn(one);
            if death {
                kill(backend.postmaster(), Signal::SIGKILL);
            } else {
                backend.shutdown(ShutdownMode::Fast).unwrap();
            }
            for wait in waits.join_all().await {
                match wait.unwrap_err() {
                    RegisterError::PostmasterDied { pid } if death => {
                        assert_eq!(pid, backend.postmaster());
                    }
                    RegisterError::Ask(AskError::Refused { reason, .. }) if !death => {
                        assert_eq!(reason, Refusal::ShuttingDown);
                    }
                    other => panic!("{other}"),
                }
            }
            if death {
                let late = wait_for(&backend, "sleep").await.unwrap_err();
                assert!(matches!(late, RegisterError::PostmasterDied { .. }), "{late}");
            }
        });
        cluster.launched.wait().unwrap();
        std::fs::remove_dir_all(&cluster.folder).unwrap();
    }
}

/// Waits for slots as futures, until it is told to end.
fn waits_for_slots(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.handle_terminate();
    worker.unblock_signals()?;
    let backend = worker.backend();
    let worker = &*worker;
    runtime().block_on(async {
        let first = backend.register_when_free(&simple("sleep")).await?;
        write_note("first", &format!("{} {}", first.id(), threads().len()))?;
        let mut next = wait_for(&backend, "quick");
        queued_once(&mut next).await;
        worker.ready();
        let error = next.await.unwrap_err();
        write_note("second", &format!("{error:?}"))?;
        Ok(())
    })
}

/// Would hang if a signal woke no such future, and fail if the wait took a thread.
fn a_worker_waits_for_a_slot_and_its_stop_signal_ends_that() {
    let cluster =
        Cluster::with(|builder| builder.function("waits", entry(waits_for_slots)).max_workers(2));
    let (handle, pid) = cluster.start(&simple("waits"));
    ready(&handle);
    let note = read_note("first");
    let (inner, threads) = note.split_once(' ').unwrap();
    assert_eq!(threads, "1");
    ready(&cluster.backend.handle(inner.parse().unwrap()));
    wait_until_asleep(pid);
    handle.terminate().unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    assert!(read_note("second").contains("interrupted"));
    cluster.end();
}

fn outside_of_a_runtime_and_in_a_forked_child_it_is_refused() {
    let (cluster, holder) = full();
    let mut wait = wait_for(&cluster.backend, "sleep");
    let Poll::Ready(Err(error)) = poll(&mut wait) else { panic!("it waits") };
    assert!(matches!(error, RegisterError::Runtime(_)), "{error}");
    let inherited = cluster.backend.clone();
    let mut child = fork_child(move || {
        let error = block_on(wait_for(&inherited, "sleep")).unwrap_err();
        assert!(
            matches!(error, RegisterError::NotWritable(NotWritable::ForkedChild { .. })),
            "{error}"
        );
    });
    assert_eq!(child.wait().code(), Some(0));
    let other_id = holder.id();
    runtime().block_on(async {
        // An unpolled one has asked for nothing.
        drop(wait_for(&cluster.backend, "sleep"));
        sleep(Duration::from_millis(1)).await;
    });
    assert!(cluster.backend.workers().iter().all(|worker| worker.handle == other_id));
    wait_until("nobody waits", PATIENCE, || {
        matches!(cluster.backend.register(&simple("sleep")), Err(RegisterError::NoFreeSlot { .. }))
    });
    cluster.end();
}

/// Only compiles if the future can be spawned.
#[expect(dead_code, reason = "it is compiled")]
fn it_can_be_spawned(backend: &Backend) {
    fn spawned(_: impl Future + Send + 'static) {}
    spawned(backend.register_when_free(&worker("sleep").build().unwrap()));
}

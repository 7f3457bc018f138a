//! The promise: any number of futures may wait for slots. They take no thread and block none, and
//! those that cannot wait are told so; none keeps others from asking.
//!
//! Would catch: a thread for each, a bound that is not told, a runtime that stops with the
//! postmaster, a request that keeps others from asking until it is polled.

use super::queue_futures::{full, poll, queued, wait_for};
use crate::support::runtime::{runtime, threads};
use crate::support::{Cluster, PATIENCE, kill};
use bgw_backend::{AskError, Pid, Refusal, RegisterError, WorkerStatus};
use process_test::{Signal, Test, tests, wait_until};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_thousand_futures_take_64_places_and_no_thread,
        what_can_be_granted_at_once_fills_no_queue,
        a_stopped_postmaster_stops_no_runtime,
        a_future_that_nobody_polls_keeps_nobody_from_asking,
    ]
}

fn is_full(error: &RegisterError) -> bool {
    matches!(error, RegisterError::Ask(AskError::Refused { reason: Refusal::QueueFull, detail })
        if detail.contains("64"))
}

/// Stops a process, and waits until it stands.
#[track_caller]
fn stop(pid: Pid) {
    kill(pid, Signal::SIGSTOP);
    wait_until("it has stopped", PATIENCE, || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    });
}

/// Would fail if a waiter were a thread, if the bound were not told, or if a place were lost.
fn a_thousand_futures_take_64_places_and_no_thread() {
    let (cluster, holder) = full();
    let backend = cluster.backend.clone();
    let before = threads().len();
    runtime().block_on(async {
        let mut waits = JoinSet::new();
        for _ in 0..1000 {
            let wait = wait_for(&backend, "quick");
            waits.spawn(async move {
                let handle = wait.await?;
                // It gives up its slot with its report.
                handle.ended().await.map(drop).map_err(|error| panic!("{error}"))
            });
        }
        for _ in 0..936 {
            let refused = waits.join_next().await.unwrap().unwrap().unwrap_err();
            assert!(is_full(&refused), "{refused}");
        }
        assert_eq!(waits.len(), 64);
        assert_eq!(threads().len(), before);
        holder.terminate().unwrap();
        while let Some(served) = timeout(PATIENCE, waits.join_next()).await.unwrap() {
            served.unwrap().unwrap();
        }
    });
    cluster.end();
}

/// Would fail if futures that are polled together filled the queue before they could be served.
fn what_can_be_granted_at_once_fills_no_queue() {
    let cluster = Cluster::with(|builder| builder.max_workers(256));
    let backend = cluster.backend.clone();
    let handles: Vec<_> = runtime().block_on(async {
        let mut waits = JoinSet::new();
        (0..256).for_each(|_| drop(waits.spawn(wait_for(&backend, "sleep"))));
        timeout(PATIENCE, waits.join_all()).await.unwrap()
    });
    let mut slots: Vec<_> = handles.into_iter().map(|handle| handle.unwrap().id().slot()).collect();
    slots.sort_unstable();
    slots.dedup();
    assert_eq!(slots.len(), 256);
    cluster.end();
}

/// Would hang if a step waited for the postmaster.
fn a_stopped_postmaster_stops_no_runtime() {
    let (cluster, holder) = full();
    let (backend, postmaster) = (cluster.backend.clone(), cluster.backend.postmaster());
    runtime().block_on(async {
        let mut queued_before = wait_for(&backend, "sleep");
        queued(&backend, &mut queued_before).await;
        stop(postmaster);
        let mut waits = JoinSet::new();
        for _ in 0..600 {
            waits.spawn(timeout(Duration::from_millis(100), wait_for(&backend, "quick")));
        }
        // More requests than there is room for.
        for _ in 0..600 {
            assert!(poll(&mut wait_for(&backend, "quick")).is_pending());
        }
        for wait in waits.join_all().await {
            wait.map(drop).unwrap_err();
        }
        timeout(Duration::from_millis(20), &mut queued_before).await.map(drop).unwrap_err();
        kill(postmaster, Signal::SIGCONT);
        holder.terminate().unwrap();
        let handle = timeout(PATIENCE, queued_before).await.unwrap().unwrap();
        assert!(matches!(handle.ready().await.unwrap(), WorkerStatus::Started(_)));
        handle.terminate().unwrap();
        // Whatever was asked meanwhile is forgotten.
        let handle = timeout(PATIENCE, wait_for(&backend, "sleep")).await.unwrap().unwrap();
        handle.terminate().unwrap();
    });
    let all = cluster.backend.workers();
    assert!(all.iter().all(|worker| worker.worker.name() != "quick"), "{all:?}");
    cluster.end();
}

/// Would time out if the connection belonged to whoever asks until its answer has come.
fn a_future_that_nobody_polls_keeps_nobody_from_asking() {
    let (cluster, holder) = full();
    let backend = cluster.backend.clone();
    runtime().block_on(async {
        let mut idle: Vec<_> = (0..8).map(|_| wait_for(&backend, "sleep")).collect();
        // Stopped: no answer comes to them while they are polled.
        stop(backend.postmaster());
        idle.iter_mut().for_each(|wait| assert!(poll(wait).is_pending()));
        kill(backend.postmaster(), Signal::SIGCONT);
        for _ in 0..100 {
            backend.ping().unwrap();
        }
        let mut other = wait_for(&backend, "sleep");
        queued(&backend, &mut other).await;
        holder.terminate().unwrap();
        // Those that nobody polls have not said what they wait for.
        let handle = timeout(PATIENCE, other).await.unwrap().unwrap();
        handle.terminate().unwrap();
        for wait in idle {
            let handle = timeout(PATIENCE, wait).await.unwrap().unwrap();
            handle.terminate().unwrap();
        }
    });
    cluster.end();
}

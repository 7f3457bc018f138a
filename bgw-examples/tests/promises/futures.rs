//! The promise: a wait as a future answers as the blocking one does, on any runtime, any number at
//! a time; a change wakes those whose wait it ends, and nobody else in the cluster.
//!
//! Would catch: a lost wake-up, a dropped future that takes an end along, a future that its
//! postmaster's death leaves pending, a thread for each wait, a wake-up for another process's
//! worker.

use crate::support::runtime::{block_on, runtime, threads};
use crate::support::waiter::gets_the_report_late;
use crate::support::{
    Cluster, PATIENCE, connect, kill, ready, shared, simple, started, stopped, worker,
};
use bgw_backend::{
    Backend, BackgroundWorker, ConnectOptions, EventKind, EventsError, EventsFrom, ExitCause,
    Handle, RestartPolicy, StartTime, WaitError, Worker, WorkerError, WorkerStatus, WorkerWait,
    entry,
};
use process_test::{Signal, Test, fork_child, tests, wait_until};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use tokio::time::timeout;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_future_answers_as_the_blocking_wait_does,
        a_future_waits_for_a_command_too,
        a_future_ends_when_its_worker_is_ready_without_a_declaration,
        a_deadline_and_a_dropped_future_lose_nothing,
        a_stopped_process_that_awaits_an_end_gets_the_report => [D01],
        a_future_moves_to_another_runtime,
        a_thousand_futures_learn_of_the_postmaster_s_death,
        a_change_wakes_those_whose_wait_it_ends_among_ten_thousand,
        changes_of_other_workers_do_not_wake_the_process,
        a_read_only_connection_has_futures,
        a_crash_reset_ends_the_futures_of_before,
        the_thread_ends_with_the_last_connection,
        a_forked_child_is_told_that_nobody_waits_for_it,
        events_come_as_a_stream,
    ]
}

/// How often it was woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Count {
    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn poll(wait: &mut WorkerWait, count: &Arc<Count>) -> Poll<Result<WorkerStatus, WaitError>> {
    let waker = Waker::from(Arc::clone(count));
    Pin::new(wait).poll(&mut Context::from_waker(&waker))
}

/// Polls a wait that is not over, so that it waits from now on.
#[track_caller]
fn pending(mut wait: WorkerWait) -> (WorkerWait, Arc<Count>) {
    let count = Arc::new(Count::default());
    assert!(poll(&mut wait, &count).is_pending());
    (wait, count)
}

const THREAD: &str = "bgw changes";

fn waiting_threads() -> usize {
    threads().iter().filter(|name| *name == THREAD).count()
}

/// A worker that never starts, since its phase never comes.
fn unstarted() -> BackgroundWorker {
    worker("sleep").start_time(StartTime::RecoveryFinished).build().unwrap()
}

fn in_first_phase(workers: u32) -> Cluster {
    Cluster::with(|builder| builder.max_workers(workers).initial_phase(StartTime::PostmasterStart))
}

fn a_future_answers_as_the_blocking_wait_does() {
    let cluster = Cluster::new();
    let handle = cluster.backend.register(&simple("sleep")).unwrap();
    let asked = handle.clone();
    let (first, pid, report) = block_on(async move {
        let first = asked.started().await.unwrap();
        let WorkerStatus::Started(pid) = asked.ready().await.unwrap() else { panic!() };
        assert_eq!(asked.next_started().await.unwrap(), WorkerStatus::Started(pid));
        asked.terminate().unwrap();
        let stopped = asked.stopped().await.unwrap();
        assert!(matches!(stopped, WorkerStatus::Stopped(_)));
        let WorkerStatus::Stopped(report) = asked.ended().await.unwrap() else { panic!() };
        (first, pid, report)
    });
    assert_eq!(first, WorkerStatus::Started(pid));
    let report = report.unwrap();
    assert_eq!((report.pid, report.cause), (Some(pid), ExitCause::Exited(0)));
    assert_eq!(handle.wait_for_end().unwrap(), WorkerStatus::Stopped(Some(report)));
    cluster.end();
}

fn a_future_waits_for_a_command_too() {
    let cluster = Cluster::new();
    let command = BackgroundWorker::builder("c").command("sh", ["-c", "read line; exit 3"]);
    let (handle, pid) = {
        let sleeper = BackgroundWorker::builder("c").command("sleep", ["1000"]).build().unwrap();
        cluster.start(&sleeper)
    };
    let (mut ended, count) = pending(handle.ended());
    kill(pid, Signal::SIGKILL);
    wait_until("the end of the command wakes", PATIENCE, || count.get() > 0);
    let status = poll(&mut ended, &count);
    let Poll::Ready(Ok(WorkerStatus::Stopped(Some(report)))) = status else {
        panic!("{status:?}");
    };
    assert!(matches!(report.cause, ExitCause::Signaled { .. }), "{report:?}");
    let handle = cluster.backend.register(&command.build().unwrap()).unwrap();
    let status = block_on(handle.ended()).unwrap();
    let WorkerStatus::Stopped(Some(report)) = status else { panic!("{status:?}") };
    assert_eq!(report.cause, ExitCause::Exited(3));
    cluster.end();
}

/// Waits for its latch, then says that it is ready.
fn ready_when_told(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.handle_terminate();
    worker.unblock_signals()?;
    worker.sleep(None)?;
    worker.ready();
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    Ok(())
}

/// Would hang if a worker that has not declared that it says so rang nobody's bell.
fn a_future_ends_when_its_worker_is_ready_without_a_declaration() {
    let cluster =
        Cluster::with(|builder| builder.function("told", entry(ready_when_told)).max_workers(4));
    let (handle, pid) = cluster.start(&simple("told"));
    crate::support::wait_until_asleep(pid);
    let (mut wait, count) = pending(handle.ready());
    assert!(handle.set_latch().unwrap());
    wait_until("the readiness wakes", PATIENCE, || count.get() > 0);
    assert!(matches!(poll(&mut wait, &count), Poll::Ready(Ok(WorkerStatus::Started(_)))));
    cluster.end();
}

/// Would fail if a future that is dropped took the end along, or left its waker behind.
fn a_deadline_and_a_dropped_future_lose_nothing() {
    let cluster = Cluster::new();
    let (handle, _) = cluster.start(&simple("sleep"));
    runtime().block_on(async {
        timeout(Duration::from_millis(10), handle.ended()).await.unwrap_err();
        let (dropped, count) = pending(handle.ended());
        drop(dropped);
        let (mut kept, other) = pending(handle.ended());
        handle.terminate().unwrap();
        let status = timeout(PATIENCE, handle.ended()).await.unwrap().unwrap();
        assert!(matches!(status, WorkerStatus::Stopped(Some(_))), "{status:?}");
        wait_until("the other is woken, too", PATIENCE, || other.get() == 1);
        assert!(matches!(poll(&mut kept, &other), Poll::Ready(Ok(found)) if found == status));
        assert_eq!(count.get(), 0);
        assert_eq!(Arc::strong_count(&count), 1, "its waker is gone");
        // Over is over, deadline or not.
        let late = timeout(Duration::ZERO, handle.ended()).await.unwrap().unwrap();
        assert_eq!(late, status);
    });
    cluster.end();
}

/// Would fail if a future held no slot: `Stopped(None)`, since another worker has used it since.
fn a_stopped_process_that_awaits_an_end_gets_the_report() {
    // The thread of all futures waits, too.
    gets_the_report_late(2, |handle| {
        let mut ended = handle.ended();
        assert!(poll(&mut ended, &Arc::default()).is_pending());
        block_on(ended).unwrap()
    });
}

/// Would hang if a wait belonged to the runtime that polled it first.
fn a_future_moves_to_another_runtime() {
    let cluster = Cluster::new();
    let (handle, _) = cluster.start(&simple("sleep"));
    let mut wait = handle.ended();
    runtime().block_on(async {
        timeout(Duration::from_millis(10), &mut wait).await.unwrap_err();
    });
    let ended = std::thread::spawn(move || block_on(wait).unwrap());
    handle.terminate().unwrap();
    assert!(matches!(ended.join().unwrap(), WorkerStatus::Stopped(Some(_))));
    cluster.end();
}

/// Would time out if the death woke one waiter of the process alone.
fn a_thousand_futures_learn_of_the_postmaster_s_death() {
    let cluster = Cluster::new();
    let handles: Vec<Handle> = (0..8).map(|_| cluster.start(&simple("sleep")).0).collect();
    for handle in &handles {
        ready(handle);
    }
    let waits: Vec<_> = (0..1000)
        .map(|n: usize| {
            let handle = &handles[n % handles.len()];
            pending(if n.is_multiple_of(2) { handle.ended() } else { handle.stopped() })
        })
        .collect();
    wait_until("there is one thread", PATIENCE, || waiting_threads() == 1);
    kill(cluster.launched.pid(), Signal::SIGKILL);
    block_on(async {
        for (wait, _) in waits {
            assert_eq!(wait.await.unwrap(), WorkerStatus::PostmasterDied);
        }
    });
    // One that begins after the death.
    assert_eq!(block_on(handles[0].ended()).unwrap(), WorkerStatus::PostmasterDied);
    cluster.launched.wait().unwrap();
}

/// Would fail if a change woke every wait, or if each wait had a thread.
fn a_change_wakes_those_whose_wait_it_ends_among_ten_thousand() {
    const ALL: usize = 10_000;
    let cluster = in_first_phase(ALL as u32);
    let handles: Vec<Handle> =
        (0..ALL).map(|_| cluster.backend.register(&unstarted()).unwrap()).collect();
    let mut waits: Vec<_> = handles.iter().map(|handle| pending(handle.ended())).collect();
    wait_until("there is one thread", PATIENCE, || waiting_threads() == 1);
    let ended = [0, 1, 1024, 5000, 9999];
    for at in ended {
        handles[at].terminate().unwrap();
    }
    for at in ended {
        wait_until("the end wakes its wait", PATIENCE, || waits[at].1.get() == 1);
        let (wait, count) = &mut waits[at];
        assert!(matches!(poll(wait, count), Poll::Ready(Ok(WorkerStatus::Stopped(_)))));
    }
    let woken = waits.iter().filter(|(_, count)| count.get() > 0).count();
    assert_eq!(woken, ended.len());
    cluster.end();
    wait_until("the shutdown wakes all others", PATIENCE, || {
        waits.iter().all(|(_, count)| count.get() == 1)
    });
    for (at, (wait, count)) in waits.iter_mut().enumerate().filter(|(at, _)| !ended.contains(at)) {
        let status = poll(wait, count);
        assert!(matches!(status, Poll::Ready(Ok(_))), "{at}: {status:?}");
    }
}

/// How often the thread that waits went to sleep.
fn sleeps() -> u64 {
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let folder = task.unwrap().path();
        if std::fs::read_to_string(folder.join("comm")).unwrap_or_default().trim() == THREAD {
            let status = std::fs::read_to_string(folder.join("status")).unwrap();
            let line =
                status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            return line.unwrap().trim().parse().unwrap();
        }
    }
    panic!("there is no thread that waits")
}

/// Would fail if the postmaster rang every bell at every change.
fn changes_of_other_workers_do_not_wake_the_process() {
    let cluster = Cluster::new();
    let (handle, _) = cluster.start(&simple("sleep"));
    ready(&handle);
    // The postmaster has seen that, too.
    cluster.backend.ping().unwrap();
    let (mut wait, count) = pending(handle.ended());
    wait_until("the thread sleeps", PATIENCE, || {
        if waiting_threads() == 0 {
            return false;
        }
        let before = sleeps();
        std::thread::sleep(Duration::from_millis(20));
        sleeps() == before
    });
    let before = sleeps();
    for _ in 0..20 {
        let other = cluster.backend.register(&simple("quick")).unwrap();
        stopped(&other);
    }
    cluster.backend.ping().unwrap();
    assert_eq!(sleeps(), before);
    handle.terminate().unwrap();
    wait_until("its own end wakes it", PATIENCE, || count.get() == 1);
    assert!(poll(&mut wait, &count).is_ready());
    assert!(sleeps() > before);
    cluster.end();
}

/// Would hang if a wait relied on writing to the region.
fn a_read_only_connection_has_futures() {
    let cluster = Cluster::new();
    let (handle, _) = cluster.start(&simple("sleep"));
    let options = ConnectOptions { read_only: true, ..ConnectOptions::default() };
    let observer = Backend::connect_with(&cluster.folder, options).unwrap();
    let (mut wait, count) = pending(observer.handle(handle.id()).ended());
    handle.terminate().unwrap();
    wait_until("the end wakes the observer", PATIENCE, || count.get() == 1);
    assert!(poll(&mut wait, &count).is_ready());
    drop((wait, observer));
    cluster.end();
}

/// Would hang if a reset rang no bell.
fn a_crash_reset_ends_the_futures_of_before() {
    let cluster = Cluster::new();
    let (culprit, pid) = cluster.start(&shared("sleep", RestartPolicy::Never));
    let (other, _) = cluster.start(&shared("sleep", RestartPolicy::after_secs(0)));
    ready(&culprit);
    ready(&other);
    let waits: Vec<_> =
        [culprit.ended(), other.ended()].into_iter().map(|wait| pending(wait).0).collect();
    kill(pid, Signal::SIGKILL);
    for wait in waits {
        let status = block_on(wait).unwrap();
        assert!(matches!(status, WorkerStatus::Stopped(_)), "{status:?}");
    }
    assert!(other.crash_reset().is_some());
    cluster.end();
}

/// Would fail if the thread kept a connection, or outlived the last one.
fn the_thread_ends_with_the_last_connection() {
    let cluster = Cluster::new();
    let (handle, _) = cluster.start(&simple("sleep"));
    let other = connect(&cluster.folder);
    let wait = pending(other.handle(handle.id()).ended());
    wait_until("there is a thread", PATIENCE, || waiting_threads() == 1);
    drop(wait);
    // A wait later it is still there.
    stopped(&cluster.backend.register(&simple("quick")).unwrap());
    assert_eq!(waiting_threads(), 1);
    drop(other);
    wait_until("the thread ends", PATIENCE, || waiting_threads() == 0);
    let (mut wait, count) = pending(handle.ended());
    handle.terminate().unwrap();
    wait_until("another one wakes", PATIENCE, || count.get() == 1);
    assert!(poll(&mut wait, &count).is_ready());
    cluster.end();
}

/// Would hang if a child took its parent's thread for its own.
fn a_forked_child_is_told_that_nobody_waits_for_it() {
    let cluster = Cluster::new();
    let (handle, _) = cluster.start(&simple("sleep"));
    let (folder, inherited) = (cluster.folder.clone(), handle.clone());
    let mut child = fork_child(move || {
        let error = block_on(inherited.ended()).unwrap_err();
        assert!(matches!(error, WaitError::ForkedChild { .. }), "{error}");
        let own = connect(&folder).handle(inherited.id());
        drop(inherited);
        let (mut wait, count) = pending(own.ended());
        own.terminate().unwrap();
        wait_until("its own thread wakes it", PATIENCE, || count.get() == 1);
        assert!(poll(&mut wait, &count).is_ready());
    });
    let (wait, _) = pending(handle.ended());
    assert_eq!(child.wait().code(), Some(0));
    assert!(matches!(block_on(wait).unwrap(), WorkerStatus::Stopped(_)));
    cluster.end();
}

/// Would hang if an event woke no stream, and spin if one woke it that it has read.
fn events_come_as_a_stream() {
    let cluster = Cluster::new();
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    let backend = cluster.backend.clone();
    let seen = block_on(async {
        // Dropped before anything came.
        timeout(Duration::from_millis(10), events.recv()).await.unwrap_err();
        let handle = backend.register(&simple("quick")).unwrap();
        let mut seen = Vec::new();
        while seen.last() != Some(&EventKind::Unregistered) {
            let event = events.recv().await.unwrap();
            assert_eq!(event.handle, Some(handle.id()));
            seen.push(event.kind);
        }
        seen
    });
    use EventKind as K;
    assert_eq!(seen, [K::Registered, K::Started, K::Exited, K::Unregistered]);
    assert_eq!(waiting_threads(), 1);
    let last = std::thread::spawn(move || {
        block_on(async {
            loop {
                if let Err(error) = events.recv().await {
                    return error;
                }
            }
        })
    });
    let (handle, _) = cluster.start(&simple("sleep"));
    started(&handle);
    kill(cluster.launched.pid(), Signal::SIGKILL);
    let last = last.join().unwrap();
    assert!(matches!(last, EventsError::PostmasterDied { .. }), "{last}");
    cluster.launched.wait().unwrap();
}

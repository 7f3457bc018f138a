//! The promise: a worker that is to be ready in time is stopped when it is not, and its report says
//! so however it exits.
//!
//! Would catch: a start that takes for ever, a late worker that counts as done because it exits
//! with 0, a ready worker that is stopped, a request for more time that nobody reads.

use crate::support::{Cluster, ready, the_end, wait_for_spares, worker};
use bgw_backend::{
    BackgroundWorkerBuilder, ExitCause, GivenUp, Grace, Ready, RestartPolicy, Worker, WorkerError,
    WorkerStatus, entry,
};
use process_test::{Test, tests};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_late_start_has_timed_out_even_if_the_worker_then_exits_with_0 => [P29],
        a_late_worker_that_is_deaf_is_killed_after_its_grace => [P29],
        a_worker_that_is_late_each_time_is_given_up_after_its_attempts => [P13, P29],
        a_worker_that_asks_for_more_time_gets_it => [P29],
        a_worker_that_is_ready_in_time_is_left_alone => [P29],
        the_clock_of_a_worker_in_a_spare_begins_with_its_own_start => [P29],
    ]
}

const SHORT: Duration = Duration::from_millis(300);

type Done = Result<(), WorkerError>;

/// Says nothing, and exits with 0 on SIGTERM.
fn never_ready(worker: &mut Worker) -> Done {
    worker.handle_terminate();
    worker.unblock_signals()?;
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    Ok(())
}

/// Takes longer than its timeout, and says so before.
fn slow(worker: &mut Worker) -> Done {
    worker.handle_terminate();
    worker.extend_start(Duration::from_millis(2_500));
    // It takes nothing back.
    worker.extend_start(Duration::from_millis(1));
    std::thread::sleep(3 * SHORT);
    worker.ready();
    worker.unblock_signals()?;
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    Ok(())
}

fn cluster() -> Cluster {
    Cluster::with(|builder| {
        builder.function("never-ready", entry(never_ready)).function("slow", entry(slow))
    })
}

fn declared(function: &str) -> BackgroundWorkerBuilder {
    worker(function).ready(Ready::Call).start_timeout(SHORT)
}

/// Would fail if the exit code decided.
fn a_late_start_has_timed_out_even_if_the_worker_then_exits_with_0() {
    let cluster = cluster();
    let handle = cluster.backend.register(&declared("never-ready").build().unwrap()).unwrap();
    let report = the_end(&handle);
    assert_eq!(report.cause, ExitCause::StartTimedOut);
    assert!(report.asked_by.is_none() && report.unregistered, "{report:?}");
    assert!(report.ran_for >= SHORT, "{report:?}");
    assert_eq!(report.to_string(), "was not ready in time, and was stopped");
    cluster.end();
}

/// Would time out if nothing came after the stop signal.
fn a_late_worker_that_is_deaf_is_killed_after_its_grace() {
    let cluster = Cluster::with(|builder| {
        builder.function("mute", |_| {
            loop {
                std::thread::park();
            }
        })
    });
    let description = declared("mute").grace(Grace::After(Duration::from_millis(50)));
    let handle = cluster.backend.register(&description.build().unwrap()).unwrap();
    let report = the_end(&handle);
    assert_eq!(report.cause, ExitCause::StartTimedOut);
    assert!(report.killed && report.asked_by.is_none(), "{report:?}");
    cluster.end();
}

/// Would time out if a late start were no failure, or counted for no limit.
fn a_worker_that_is_late_each_time_is_given_up_after_its_attempts() {
    let cluster = cluster();
    let soon = RestartPolicy::Fixed(Duration::from_millis(1));
    let description = declared("never-ready").restart(soon).start_attempts(3).build().unwrap();
    let handle = cluster.backend.register(&description).unwrap();
    let report = the_end(&handle);
    assert_eq!(report.cause, ExitCause::StartTimedOut);
    assert_eq!(report.given_up, Some(GivenUp::StartAttempts { count: 3 }));
    assert_eq!((report.restarts, report.streak), (2, 3));
    cluster.end();
}

/// Would fail if nobody read what the worker asks for.
fn a_worker_that_asks_for_more_time_gets_it() {
    let cluster = cluster();
    let handle = cluster.backend.register(&declared("slow").build().unwrap()).unwrap();
    ready(&handle);
    handle.terminate().unwrap();
    assert_eq!(the_end(&handle).cause, ExitCause::Exited(0));
    cluster.end();
}

/// Would fail if the clock went on after the worker is ready.
fn a_worker_that_is_ready_in_time_is_left_alone() {
    let cluster = cluster();
    let description = worker("sleep").ready(Ready::Call).start_timeout(Duration::from_secs(1));
    let handle = cluster.backend.register(&description.build().unwrap()).unwrap();
    let pid = ready(&handle);
    // A clock that had begun later has run out meanwhile.
    let late = worker("never-ready").ready(Ready::Call).start_timeout(Duration::from_secs(2));
    let late = cluster.backend.register(&late.build().unwrap()).unwrap();
    assert_eq!(the_end(&late).cause, ExitCause::StartTimedOut);
    assert_eq!(handle.status(), WorkerStatus::Started(pid));
    cluster.end();
}

/// Would fail if the clock ran while the spare slept.
fn the_clock_of_a_worker_in_a_spare_begins_with_its_own_start() {
    let cluster =
        Cluster::with(|builder| builder.warm_spares(1).function("never-ready", entry(never_ready)));
    wait_for_spares(&cluster, 1);
    std::thread::sleep(2 * SHORT);
    let handle = cluster.backend.register(&declared("never-ready").build().unwrap()).unwrap();
    let report = the_end(&handle);
    assert_eq!(report.cause, ExitCause::StartTimedOut);
    assert!(report.ran_for >= SHORT, "{report:?}");
    cluster.end();
}

//! The promise: terminate ends a worker at any point of its life, once and for all, and harms
//! nobody else.
//!
//! Would catch: a request lost between two runs of a worker or in its start, a SIGTERM handler that
//! does unsafe work, a requested end that resets the cluster.

use crate::support::waiter::waiting_thread;
use crate::support::{Cluster, kill, ready, restarting, shared, simple, started, stopped, the_end};
use bgw_backend::{
    ExitCause, NotStarted, RestartPolicy, StartTime, Worker, WorkerError, WorkerStatus, entry,
};
use process_test::{Signal, Test, tests};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_terminated_worker_gets_sigterm_and_is_not_restarted => [B26, B54],
        a_worker_terminated_before_its_phase_never_starts => [B14, B17, B27],
        a_worker_terminated_before_its_intake_never_starts => [R03],
        terminate_between_two_runs_unregisters_at_once => [B29],
        terminate_is_harmless_twice_and_after_the_end => [B28],
        terminate_during_the_start_never_loses_the_request,
        sigterm_during_allocations_ends_the_worker_in_order => [R12],
        a_requested_end_is_no_crash => [R18, X09],
    ]
}

/// Would fail if SIGTERM were not sent, or if the policy overrode the request.
fn a_terminated_worker_gets_sigterm_and_is_not_restarted() {
    let cluster = Cluster::with(|builder| builder.max_workers(1));
    let handle = cluster.backend.register(&restarting("default", Duration::ZERO)).unwrap();
    ready(&handle);
    handle.terminate().unwrap();
    let report = stopped(&handle);
    assert_eq!(report.cause, ExitCause::Exited(1), "its end by SIGTERM");
    assert!(report.unregistered && report.requested());
    cluster.backend.ping().unwrap();
    assert!(matches!(handle.status(), WorkerStatus::Stopped(_)));
    started(&cluster.backend.register(&simple("sleep")).unwrap());
    cluster.end();
}

/// Would fail if it started in its phase all the same, and hang if its end woke no waiter.
fn a_worker_terminated_before_its_phase_never_starts() {
    let cluster = Cluster::with(|builder| builder.initial_phase(StartTime::PostmasterStart));
    let handle = cluster.backend.register(&simple("sleep")).unwrap();
    // Registered by now, it waits for its phase.
    cluster.backend.ping().unwrap();
    let waiting = handle.clone();
    let waiter = waiting_thread(move || waiting.wait_for_startup().unwrap());
    handle.terminate().unwrap();
    assert!(matches!(waiter.join().unwrap(), WorkerStatus::Stopped(_)));
    let report = stopped(&handle);
    assert_eq!(report.cause, ExitCause::NotStarted(NotStarted::Terminated));
    assert_eq!(report.pid, None);
    assert!(matches!(handle.wait_for_startup().unwrap(), WorkerStatus::Stopped(_)));
    cluster.end();
}

/// Would hang if the intake dropped a terminated slot without a wake-up, and fail if it did not
/// free it.
fn a_worker_terminated_before_its_intake_never_starts() {
    let cluster = Cluster::with(|builder| builder.max_workers(1));
    let postmaster = cluster.launched.pid();
    kill(postmaster, Signal::SIGSTOP);
    let handle = cluster.backend.register(&simple("sleep")).unwrap();
    handle.terminate().unwrap();
    let waiting = handle.clone();
    let waiter = waiting_thread(move || waiting.wait_for_startup().unwrap());
    kill(postmaster, Signal::SIGCONT);
    assert!(matches!(waiter.join().unwrap(), WorkerStatus::Stopped(_)));
    assert_eq!(stopped(&handle).pid, None, "it never started");
    started(&cluster.backend.register(&simple("sleep")).unwrap());
    cluster.end();
}

/// Would fail if the slot stayed taken for the hour until the restart.
fn terminate_between_two_runs_unregisters_at_once() {
    let cluster = Cluster::with(|builder| builder.max_workers(1));
    let hour = Duration::from_secs(3600);
    let handle = cluster.backend.register(&restarting("fail", hour)).unwrap();
    assert!(!stopped(&handle).unregistered);
    cluster.backend.register(&simple("quick")).unwrap_err();
    handle.terminate().unwrap();
    let report = the_end(&handle);
    assert!(report.unregistered);
    assert_eq!(report.cause, ExitCause::Exited(1), "the report of its run stays");
    assert!(report.requested());
    stopped(&cluster.backend.register(&simple("quick")).unwrap());
    cluster.end();
}

/// Would fail if a request after the end were an error, or if it ended the postmaster.
fn terminate_is_harmless_twice_and_after_the_end() {
    let cluster = Cluster::new();
    let (handle, _) = cluster.start(&simple("sleep"));
    for _ in 0..3 {
        handle.terminate().unwrap();
    }
    stopped(&handle);
    for _ in 0..3 {
        handle.terminate().unwrap();
    }
    cluster.backend.ping().unwrap();
    cluster.end();
}

/// Would hang if a request got lost while the worker starts.
fn terminate_during_the_start_never_loses_the_request() {
    let cluster = Cluster::new();
    for round in 0..300 {
        let handle = cluster.backend.register(&simple("sleep")).unwrap();
        if round % 3 == 0 {
            started(&handle);
        }
        handle.terminate().unwrap();
        assert!(stopped(&handle).requested(), "round {round}");
    }
    cluster.end();
}

fn allocates(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.unblock_signals()?;
    worker.ready();
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for size in (1..5000usize).cycle() {
        worker.check_interrupts()?;
        kept.push(vec![1; size * 37 % 4096]);
        if kept.len() > 500 {
            kept.clear();
        }
    }
    Ok(())
}

/// Would now and then hang or crash if the handler of SIGTERM allocated, logged or took a lock.
fn sigterm_during_allocations_ends_the_worker_in_order() {
    let cluster = Cluster::with(|builder| builder.function("allocates", entry(allocates)));
    for round in 0..50 {
        let handle = cluster.backend.register(&simple("allocates")).unwrap();
        ready(&handle);
        handle.terminate().unwrap();
        assert_eq!(stopped(&handle).cause, ExitCause::Exited(1), "round {round}");
    }
    cluster.end();
}

/// Would fail if the kill after the grace time reset the cluster, or was not recorded as requested.
fn a_requested_end_is_no_crash() {
    let grace = Duration::from_millis(200);
    let cluster = Cluster::with(|builder| builder.max_workers(8).terminate_grace(grace));
    let (bystander, pid) = cluster.start(&shared("sleep", RestartPolicy::after_secs(60)));
    let (stubborn, _) = cluster.start(&shared("stubborn", RestartPolicy::Never));
    ready(&stubborn);
    stubborn.terminate().unwrap();
    let report = stopped(&stubborn);
    assert_eq!(report.cause, ExitCause::Signaled { signal: 9, core_dumped: false });
    assert!(report.requested());
    // In a reset this one would not start.
    started(&cluster.backend.register(&simple("sleep")).unwrap());
    assert_eq!(bystander.status(), WorkerStatus::Started(pid), "everybody else goes on");
    cluster.end();
}

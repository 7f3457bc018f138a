//! The promise: ten thousand workers pass through sixty-four slots, registered by four processes.
//! Each handle ends `Stopped` once, no slot leaks, no zombie stays, and a handle of the first round
//! never answers for another worker.
//!
//! Would catch: a lost wake-up, a slot that is not freed, a pid that is not reaped, a generation
//! that is mistaken for another.

use crate::support::{Cluster, PATIENCE, connect, raw, simple, started, stopped};
use bgw_backend::{ExitCause, RegisterError, WorkerStatus};
use process_test::{Test, fork_child, tests, zombies_of};

pub(crate) fn tests() -> Vec<Test> {
    process_test::watchdog(
        std::time::Duration::from_secs(300),
        tests![ten_thousand_workers_pass_through_64_slots_and_leave_nothing,],
    )
}

const PROCESSES: usize = 4;

const WORKERS: usize = 10_000;

const SLOTS: u32 = 64;

fn ten_thousand_workers_pass_through_64_slots_and_leave_nothing() {
    let cluster = Cluster::with(|builder| builder.max_workers(SLOTS));
    let (first, _) = cluster.start(&simple("sleep"));
    first.terminate().unwrap();
    let report = stopped(&first);
    assert_eq!(report.cause, ExitCause::Exited(0));
    let mut children: Vec<_> = (0..PROCESSES)
        .map(|_| {
            let folder = cluster.folder.clone();
            fork_child(move || {
                let backend = connect(&folder);
                let (mut done, mut waiting) = (0, Vec::new());
                while done < WORKERS / PROCESSES {
                    match backend.register(&simple("quick")) {
                        Ok(handle) => waiting.push(handle),
                        Err(RegisterError::NoFreeSlot { capacity: SLOTS, .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                    if waiting.len() >= 12 || done + waiting.len() == WORKERS / PROCESSES {
                        done += waiting.len();
                        ended_once(&waiting);
                        waiting.clear();
                    }
                }
            })
        })
        .collect();
    for child in &mut children {
        while child.try_wait().is_none() {
            let status = first.status();
            assert_eq!(status, WorkerStatus::Stopped(Some(report.clone())));
            std::thread::yield_now();
        }
        assert_eq!(child.wait().code(), Some(0));
    }
    cluster.backend.ping().unwrap();
    assert!(cluster.backend.workers().is_empty(), "{:?}", cluster.backend.workers());
    assert_eq!(zombies_of(raw(cluster.launched.pid())), []);
    let all: Vec<_> = (0..SLOTS)
        .map(|_| cluster.backend.register(&simple("sleep")).expect("every slot is free"))
        .collect();
    for handle in &all {
        started(handle);
    }
    cluster.end();
}

fn ended_once(handles: &[bgw_backend::Handle]) {
    for status in bgw_backend::wait_all(handles, Some(PATIENCE * 4)).unwrap() {
        match status {
            WorkerStatus::Stopped(Some(report)) => {
                assert_eq!(report.cause, ExitCause::Exited(0));
                assert_eq!(report.restarts, 0);
            }
            other => panic!("{other:?}"),
        }
    }
    for handle in handles {
        assert!(matches!(handle.status(), WorkerStatus::Stopped(Some(_))), "stopped stays stopped");
    }
}

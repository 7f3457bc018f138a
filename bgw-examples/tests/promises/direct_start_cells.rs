//! The promise: whatever others write into the cells by which spares are given workers, each worker
//! starts once, and no stranger is touched.
//!
//! Would catch: a postmaster that believes those cells, a worker that is lost with one.

use crate::direct_starts::{cluster, counted, go_on, register_past, settled};
use crate::support::{PATIENCE, kill, simple, spares, stopped, wait_until_asleep};
use bgw_backend::{ExitCause, WorkerStatus};
use bgw_core::Attachment;
use bgw_core::internals::{ClusterCells, MOST_TAKERS};
use process_test::{Signal, Test, tests, wait_until};
use shmem_slots::Key;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        whatever_lies_in_the_cells_of_spares_everybody_is_served => [J38],
        a_worker_whose_cell_is_overwritten_starts_in_the_ordinary_way => [J38],
    ]
}

/// Would fail if a key that somebody has made up were believed, or made the spare unusable.
fn whatever_lies_in_the_cells_of_spares_everybody_is_served() {
    let cluster = cluster(2);
    let (running, pid) = cluster.start(&simple("sleep"));
    settled(&cluster, 2);
    let hostile = Attachment::connect(&cluster.folder, false, None).unwrap();
    let id = running.id();
    let keys = [
        // A slot that nobody has, one that is beyond the array, one that runs.
        Key { index: 90, generation: 1 },
        Key { index: 4_000_000, generation: 1 << 30 },
        Key { index: id.slot(), generation: id.generation() },
    ];
    for key in keys {
        let cells: ClusterCells<'_> = hostile.cells();
        for number in 0..MOST_TAKERS {
            let _ = cells.taker(number).unwrap().give(key);
        }
        for _ in 0..3 {
            let handle = cluster.backend.register(&simple("count")).unwrap();
            assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
        }
        assert_eq!(running.status(), WorkerStatus::Started(pid));
    }
    assert_eq!(counted(), 9);
    running.terminate().unwrap();
    assert_eq!(stopped(&running).cause, ExitCause::Exited(0));
    settled(&cluster, 2);
    // Once it has looked, they are given workers again.
    wait_until("a spare takes a worker by itself", PATIENCE, || {
        settled(&cluster, 2);
        kill(cluster.launched.pid(), Signal::SIGSTOP);
        let handle = cluster.backend.register(&simple("count")).unwrap();
        let began = handle.wait_for_startup_timeout(Duration::from_millis(200)).is_ok();
        go_on(&cluster);
        stopped(&handle);
        began
    });
    cluster.end();
}

/// Nobody rings. Would time out if a worker were lost with the cell that named it: before the
/// postmaster has looked at it, or afterwards.
fn a_worker_whose_cell_is_overwritten_starts_in_the_ordinary_way() {
    let cluster = cluster(1);
    let hostile = Attachment::connect(&cluster.folder, false, None).unwrap();
    for looked_before in [false, true] {
        settled(&cluster, 1);
        let runs = counted();
        let spare = spares(&cluster)[0];
        kill(spare, Signal::SIGSTOP);
        let handle = register_past(&cluster, &simple("count"));
        if looked_before {
            // Its first look; the worker is late only a moment later.
            go_on(&cluster);
            hostile.ring().unwrap();
            cluster.backend.ping().unwrap();
            wait_until_asleep(cluster.launched.pid());
        }
        for number in 0..MOST_TAKERS {
            let _ = hostile.cells().taker(number).unwrap().close();
        }
        kill(spare, Signal::SIGCONT);
        go_on(&cluster);
        wait_until("the worker has run", PATIENCE, || counted() == runs + 1);
        assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    }
    cluster.end();
}

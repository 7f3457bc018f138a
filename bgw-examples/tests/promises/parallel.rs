//! The promise: the parallel class has slots of its own. It cannot starve the other workers nor be
//! starved by them, and no death or crash loses one of its places.
//!
//! Would catch: a class count that changes apart from the slot, one that is zeroed too late in a
//! reset, a claim that strays into the other class.

use crate::support::{Cluster, PATIENCE, connect, kill, shared, simple, started, stopped, worker};
use bgw_backend::{BackgroundWorker, InvalidWorker, RegisterError, RestartPolicy, WorkerFlags};
use process_test::{Signal, Test, fork_child, tests, wait_until};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        the_parallel_class_has_its_own_cap => [B66],
        a_parallel_worker_must_never_restart => [B67],
        the_class_fills_to_its_cap_after_a_reset => [R04],
        four_processes_never_exceed_the_cap => [R05],
    ]
}

fn parallel(function: &str) -> BackgroundWorker {
    worker(function).flags(WorkerFlags::CLASS_PARALLEL).build().unwrap()
}

fn cluster(general: u32, parallel: u32) -> Cluster {
    Cluster::with(|builder| builder.max_workers(general).max_parallel_workers(parallel))
}

/// Fills the class; the next registration is refused.
#[track_caller]
fn fills_exactly(cluster: &Cluster, cap: u32) -> Vec<bgw_backend::Handle> {
    let handles: Vec<_> =
        (0..cap).map(|_| cluster.backend.register(&parallel("sleep")).unwrap()).collect();
    for handle in &handles {
        started(handle);
    }
    match cluster.backend.register(&parallel("sleep")) {
        Err(RegisterError::NoParallelSlot { limit, in_use }) => {
            assert_eq!((limit, in_use), (cap, cap))
        }
        other => panic!("{other:?}"),
    }
    handles
}

/// Would fail if a class took a slot of the other, or if an end did not free its place.
fn the_parallel_class_has_its_own_cap() {
    let cluster = cluster(2, 3);
    assert_eq!((cluster.backend.capacity(), cluster.backend.parallel_capacity()), (2, 3));
    let handles = fills_exactly(&cluster, 3);
    let others: Vec<_> =
        (0..2).map(|_| cluster.backend.register(&simple("sleep")).unwrap()).collect();
    for handle in &others {
        started(handle);
    }
    let refused = cluster.backend.register(&simple("sleep")).unwrap_err();
    assert!(matches!(refused, RegisterError::NoFreeSlot { capacity: 2, in_use: 2 }), "{refused}");
    handles[1].terminate().unwrap();
    stopped(&handles[1]);
    started(&cluster.backend.register(&parallel("sleep")).unwrap());
    cluster.end();
}

/// Would fail if the builder accepted a restart interval for the class.
fn a_parallel_worker_must_never_restart() {
    let restarting = worker("sleep")
        .flags(WorkerFlags::CLASS_PARALLEL)
        .restart(RestartPolicy::after_secs(1))
        .build();
    assert_eq!(restarting, Err(InvalidWorker::ParallelMustNeverRestart));
}

/// Would fail if a reset lost the places of the parallel workers that it forgets, or counted them
/// twice.
fn the_class_fills_to_its_cap_after_a_reset() {
    let cluster = cluster(4, 3);
    fills_exactly(&cluster, 3);
    let (_crashing, pid) = cluster.start(&shared("sleep", RestartPolicy::after_secs(60)));
    kill(pid, Signal::SIGKILL);
    wait_until("only the restartable worker runs", PATIENCE, || {
        let workers = cluster.backend.workers();
        workers.len() == 1
            && workers[0].status.to_string().contains("started (pid")
            && !workers[0].status.to_string().contains(&pid.to_string())
    });
    fills_exactly(&cluster, 3);
    cluster.end();
}

/// Would fail if a slot became free before its place in the class, or after it.
fn four_processes_never_exceed_the_cap() {
    const CAP: u32 = 3;
    let cluster = cluster(4, CAP);
    let mut children: Vec<_> = (0..4)
        .map(|_| {
            let folder = cluster.folder.clone();
            fork_child(move || {
                let backend = connect(&folder);
                let mut done = 0;
                while done < 300 {
                    match backend.register(&parallel("quick")) {
                        Ok(handle) => {
                            handle.wait_for_shutdown().unwrap();
                            done += 1;
                        }
                        Err(RegisterError::NoParallelSlot { limit: CAP, in_use: 0..=CAP }) => {}
                        Err(error) => panic!("{error}"),
                    }
                    let live =
                        backend.workers().iter().filter(|info| info.worker.is_parallel()).count();
                    assert!(live <= CAP as usize, "{live} of {CAP}");
                }
            })
        })
        .collect();
    for child in &mut children {
        assert_eq!(child.wait().code(), Some(0));
    }
    fills_exactly(&cluster, CAP);
    cluster.end();
}

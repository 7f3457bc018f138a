//! Scribbled memory: records, counts, any bytes at all.
//!
//! Would catch: a panic or an endless loop over scribbled bytes, a slot that corrupt bytes keep for
//! ever, a count that the postmaster takes from shared memory.

use crate::support::{Cluster, PATIENCE, builder, publish, worker};
use bgw_core::internals::{Reply, Request, RunState, WorkerRecord, flag};
use bgw_core::{BackgroundWorker, ExitCause, NotStarted, Pid, WorkerFlags};
use bytemuck::Zeroable;
use process_test::{Signal, Test, alive, tests, wait_until, watchdog};
use shmem_slots::Memory;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

pub(crate) fn tests() -> Vec<Test> {
    let slow = tests![after_any_bytes_a_reset_brings_normal_service => [B78]];
    [
        tests![
            a_record_that_is_no_worker_is_freed_and_the_next_one_starts => [B78],
            a_function_that_does_not_exist_exits_1_and_is_reported => [B52],
            a_command_that_is_smuggled_into_a_slot_is_refused => [D16],
            overwritten_counts_are_logged_once_and_service_continues => [R21],
        ],
        watchdog(Duration::from_secs(120), slow),
    ]
    .concat()
}

/// Would fail if a corrupt record kept its slot, or ended the postmaster.
fn a_record_that_is_no_worker_is_freed_and_the_next_one_starts() {
    let cluster = Cluster::new();
    let zeros = publish(&cluster.peer, &WorkerRecord::zeroed(), 0);
    let mut bytes = WorkerRecord::encode(&worker("sleep"), Pid::this());
    bytemuck::bytes_of_mut(&mut bytes).fill(0xff);
    let ones = publish(&cluster.peer, &bytes, flag::STARTED | flag::READY);
    cluster.peer.ring().unwrap();
    for key in [zeros, ones] {
        wait_until("the slot is freed", PATIENCE, || cluster.run_state(key) == RunState::Stopped);
    }
    let key = cluster.register(&worker("sleep"));
    cluster.started(key);
    cluster.end();
}

/// A backend refuses such a worker; other peers may not. Would fail if the start hung, or if the worker
/// stayed registered.
fn a_function_that_does_not_exist_exits_1_and_is_reported() {
    let cluster = Cluster::new();
    let key = cluster.register(&worker("no such function"));
    let report = cluster.stopped(key).unwrap();
    assert_eq!(report.cause, ExitCause::Exited(1));
    assert!(report.unregistered);
    cluster.end();
}

/// A process that dropped its privileges still has the slots writable. Would fail if only the
/// registering side checked what it may register.
fn a_command_that_is_smuggled_into_a_slot_is_refused() {
    let cluster = Cluster::new();
    let ran = std::env::temp_dir().join("ran");
    let command = BackgroundWorker::builder("c").command("touch", [ran.to_str().unwrap()]);
    let library = BackgroundWorker::builder("l").library("/no/such/library.so", "main");
    for smuggled in [command, library] {
        let key = cluster.register(&smuggled.build().unwrap());
        let report = cluster.stopped(key).unwrap();
        assert_eq!(report.cause, ExitCause::NotStarted(NotStarted::Refused));
        assert!(report.unregistered && report.pid.is_none());
    }
    let key = cluster.register(&worker("quick"));
    cluster.stopped(key);
    assert!(!ran.exists());
    cluster.end();
}

/// Would fail if the postmaster used a count from shared memory, or logged it at each ring.
fn overwritten_counts_are_logged_once_and_service_continues() {
    let path = std::env::temp_dir().join("log");
    let file = std::fs::OpenOptions::new().create_new(true).append(true).open(&path).unwrap();
    tracing_subscriber::fmt().with_writer(std::sync::Mutex::new(file)).init();
    let cluster = Cluster::new();
    // Cell 3 of the header is the capacity; the number of general slots is shared cell 3.
    let cells = cluster.peer.slots().memory().writable_cells().unwrap();
    let general = cluster.peer.slots().writable_cells().unwrap().shared_cell(3).unwrap();
    for wrong in [0, 1, u64::MAX, 1 << 40, 17] {
        cells[3].store(wrong, Ordering::Relaxed);
        general.store(wrong, Ordering::Relaxed);
        let keys: Vec<_> = (0..16).map(|_| cluster.register(&worker("sleep"))).collect();
        for &key in &keys {
            cluster.started(key);
        }
        for key in keys {
            cluster.terminate(key);
            cluster.stopped(key);
        }
        assert_eq!(general.load(Ordering::Relaxed), 16, "corrected for those who register");
    }
    let log = std::fs::read_to_string(path).unwrap();
    assert_eq!(log.matches("inconsistent slot counts").count(), 1, "{log}");
    cluster.end();
}

/// A stream of numbers that look random, the same each time.
fn numbers() -> impl FnMut() -> u64 {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    }
}

/// Overwrites everything but the liveness words again and again; then a worker crashes. Would fail if
/// the postmaster believed a byte of it, or if its reset left one: after it every slot takes a worker
/// that starts, ends and is reported as ever.
fn after_any_bytes_a_reset_brings_normal_service() {
    let cluster = Cluster::with(builder().max_parallel_workers(0));
    let shared = BackgroundWorker::builder("shared").function("sleep");
    let shared = shared.flags(WorkerFlags::SHMEM_ACCESS).build().unwrap();
    let survivors = [cluster.register(&worker("sleep")), cluster.register(&shared)];
    let [isolated, crashing] = survivors.map(|key| cluster.started(key));
    let mut noise = numbers();
    let cells = cluster.peer.slots().writable_cells().unwrap().shared_cells();
    let liveness = cells[16..16 + 512].as_ptr_range();
    for round in 0..60 {
        for cell in cluster.peer.slots().memory().writable_cells().unwrap() {
            let value = noise();
            // All bits, few bits, or small numbers, which reach further than large ones.
            let value = match round % 3 {
                0 => value,
                1 => value & noise() & noise() & noise(),
                _ => value % 7,
            };
            if !liveness.contains(&std::ptr::from_ref(cell)) {
                cell.store(value, Ordering::Relaxed);
            }
        }
        cluster.peer.ring().unwrap();
        assert_eq!(ping(&cluster), Reply::Done, "round {round}");
    }
    for pid in [isolated, crashing] {
        assert!(alive(process_test::Pid::from_raw(pid.as_raw())), "the postmaster's list decides");
    }

    let incarnation = || cluster.peer.cells().incarnation();
    let before = incarnation();
    let victim = process_test::Pid::from_raw(crashing.as_raw());
    nix::sys::signal::kill(victim, Signal::SIGKILL).unwrap();
    wait_until("the cluster is made anew", PATIENCE, || {
        incarnation() != before && incarnation() % 2 == 1
    });
    for round in 0..3 {
        let keys: Vec<_> = (0..16).map(|_| cluster.register(&worker("sleep"))).collect();
        let full = cluster.peer.slots().claim(cluster.peer.owner().get());
        assert!(full.is_err(), "round {round}: 16 slots and no more");
        for &key in &keys {
            cluster.started(key);
            cluster.terminate(key);
        }
        for key in keys {
            let report = cluster.stopped(key).unwrap();
            assert_eq!(report.cause, ExitCause::Exited(0), "round {round}");
        }
    }
    let key = cluster.register(&worker("quick"));
    assert_eq!(cluster.stopped(key).unwrap().cause, ExitCause::Exited(0));
    cluster.end();
}

fn ping(cluster: &Cluster) -> Reply {
    cluster.peer.ask(&Request::Ping, Some(Instant::now() + PATIENCE)).unwrap()
}

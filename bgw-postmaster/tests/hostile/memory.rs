//! Scribbled memory: records, counts, any bytes at all.
//!
//! Would catch: a panic or an endless loop over scribbled bytes, a slot that corrupt bytes keep for
//! ever, a count that the postmaster takes from shared memory.

use crate::support::{Cluster, PATIENCE, builder, publish, second_peer, worker};
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
            a_worker_in_a_reserved_slot_of_another_class_is_refused,
            overwritten_counts_are_logged_once_and_service_continues => [R21],
            who_attaches_after_somebody_has_scribbled_finds_the_slots => [D14],
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

/// A backend refuses such a worker; other peers may not. Would fail if the start hung, or if the
/// worker stayed registered.
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
    let path = std::env::temp_dir().join("log");
    let file = std::fs::OpenOptions::new().create_new(true).append(true).open(&path).unwrap();
    tracing_subscriber::fmt().with_writer(std::sync::Mutex::new(file)).init();
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
    // The log says why, and how to allow it: nothing is corrupt.
    let log = std::fs::read_to_string(&path).unwrap();
    for (kind, setting) in [("commands", "allow_commands"), ("libraries", "allow_libraries")] {
        let why = format!("backends may register no {kind}; {setting}(true)");
        assert_eq!(log.matches(&why).count(), 1, "{log}");
    }
    assert!(log.contains(&format!("registration of process {}", Pid::this())), "{log}");
    assert!(!log.contains("corrupt"), "{log}");
}

/// Would fail if the postmaster used a count from shared memory, or logged it at each ring.
fn overwritten_counts_are_logged_once_and_service_continues() {
    let path = std::env::temp_dir().join("log");
    let file = std::fs::OpenOptions::new().create_new(true).append(true).open(&path).unwrap();
    tracing_subscriber::fmt().with_writer(std::sync::Mutex::new(file)).init();
    let cluster = Cluster::new();
    // Cell 3 of the header is the capacity; the numbers of slots are shared cell 3.
    let cells = cluster.peer.slots().memory().writable_cells().unwrap();
    let capacity = cells[3].load(Ordering::Relaxed);
    let counts = cluster.peer.slots().writable_cells().unwrap().shared_cell(3).unwrap();
    let ours = counts.load(Ordering::Relaxed);
    for wrong in [0, 1, u64::MAX, 1 << 40, 17] {
        cells[3].store(wrong, Ordering::Relaxed);
        counts.store(wrong, Ordering::Relaxed);
        let keys: Vec<_> = (0..16).map(|_| cluster.register(&worker("sleep"))).collect();
        for &key in &keys {
            cluster.started(key);
        }
        for key in keys {
            cluster.terminate(key);
            cluster.stopped(key);
        }
        assert_eq!(counts.load(Ordering::Relaxed), ours, "corrected for those who register");
        assert_eq!(cells[3].load(Ordering::Relaxed), capacity, "and for those who attach");
    }
    let log = std::fs::read_to_string(path).unwrap();
    assert_eq!(log.matches("inconsistent slot counts").count(), 1, "{log}");
    cluster.end();
}

/// Would fail if the header were written again at a ring of the doorbell only: who is not attached
/// cannot ring.
fn who_attaches_after_somebody_has_scribbled_finds_the_slots() {
    let folder = std::env::temp_dir().join("run");
    let cluster = Cluster::with(builder().runtime_dir(&folder));
    let cells = cluster.peer.slots().memory().writable_cells().unwrap();
    let header: Vec<u64> = cells[..8].iter().map(|cell| cell.load(Ordering::Relaxed)).collect();
    for place in 0..header.len() {
        cells[place].store(!header[place], Ordering::Relaxed);
        let peer = second_peer(&folder);
        assert_eq!(peer.slots().memory().writable_cells().unwrap().len(), cells.len());
    }
    cluster.end();
}

/// The last round in which everything is overwritten.
const LAST: u32 = 60;

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

/// Overwrites everything again and again; then a worker crashes. Would fail if the postmaster
/// believed a byte of it, or if its reset left one: after it another program attaches, every slot
/// takes a worker that starts, ends and is reported as ever, and the postmaster's death is seen.
fn after_any_bytes_a_reset_brings_normal_service() {
    let folder = std::env::temp_dir().join("cluster");
    let cluster = Cluster::with(builder().max_parallel_workers(0).runtime_dir(&folder));
    let shared = BackgroundWorker::builder("shared").function("sleep");
    let shared = shared.flags(WorkerFlags::SHMEM_ACCESS).build().unwrap();
    let survivors = [cluster.register(&worker("sleep")), cluster.register(&shared)];
    let [isolated, crashing] = survivors.map(|key| cluster.started(key));
    let mut noise = numbers();
    let cells = cluster.peer.slots().writable_cells().unwrap().shared_cells();
    let liveness = &cells[16..16 + 512];
    let alive_to_all =
        || -> Vec<u64> { liveness.iter().map(|cell| cell.load(Ordering::Relaxed)).collect() };
    let words = alive_to_all();
    for round in 0..=LAST {
        for cell in cluster.peer.slots().memory().writable_cells().unwrap() {
            let value = noise();
            // All bits, few bits, or small numbers, which reach further than large ones.
            let value = match round % 3 {
                // The last round retires every slot.
                _ if round == LAST => u64::MAX,
                0 => value,
                1 => value & noise() & noise() & noise(),
                _ => value % 7,
            };
            cell.store(value, Ordering::Relaxed);
        }
        cluster.peer.ring().unwrap();
        assert_eq!(ping(&cluster), Reply::Done, "round {round}");
    }
    // Without a reset: another program may look, and a worker that runs is found and ends.
    let visitor = second_peer(&folder);
    assert!(visitor.postmaster_is_alive());
    assert_eq!(cluster.run_state(survivors[0]), RunState::Started(isolated));
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
    // The incarnation comes first, the slots after it.
    assert_eq!(ping(&cluster), Reply::Done);
    assert_eq!(words, alive_to_all(), "the kernel marks them at its death");
    drop(second_peer(&folder));
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

/// Would fail if a worker could be put into a slot that is reserved for another class.
fn a_worker_in_a_reserved_slot_of_another_class_is_refused() {
    let cluster = Cluster::with(builder().max_workers(4).reserve("a", 1).reserve("b", 1));
    let of = |class: &str| {
        BackgroundWorker::builder("w").function("quick").class(class).build().unwrap()
    };
    let cause_in = |slot: u32, worker: &BackgroundWorker| {
        let slots = cluster.peer.slots();
        let mut claim = slots.claim_in(slot..slot + 1, cluster.peer.owner().get()).unwrap();
        claim.write(&WorkerRecord::encode(worker, Pid::this())).unwrap();
        let key = claim.publish(0).unwrap();
        cluster.peer.ring().unwrap();
        cluster.stopped(key).unwrap().cause
    };
    let refused = ExitCause::NotStarted(NotStarted::Refused);
    assert_eq!(cause_in(2, &worker("quick")), refused);
    assert_eq!(cause_in(2, &of("b")), refused);
    assert_eq!(cause_in(3, &of("a")), refused);
    assert_eq!(cause_in(0, &of("unknown")), refused);
    for (slot, class) in [(2, "a"), (0, "a"), (3, "b")] {
        assert_eq!(cause_in(slot, &of(class)), ExitCause::Exited(0), "{class} in {slot}");
    }
    cluster.end();
}

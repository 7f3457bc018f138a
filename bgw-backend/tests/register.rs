//! The promise: a registration happens in full or not at all, and its error says what to do.
//!
//! Would catch: a slot that stays taken after a refusal, a description that changes on its way, a
//! doorbell that is not rung.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bgw_backend::{
    BackgroundWorker, LatchError, NotWritable, Pid, RegisterError, RestartPolicy, StartTime,
    TerminateError, WorkerFlags, WorkerStatus,
};
use std::sync::atomic::{AtomicBool, Ordering};
use support::{INCARNATION, cluster, cluster_with, key, worker};

#[test]
fn a_registration_fills_the_slot_and_rings_the_doorbell() {
    let (straw, backend) = cluster(4);
    let description = BackgroundWorker::builder("the name")
        .worker_type("the type")
        .function("f")
        .flags(WorkerFlags::SHMEM_ACCESS | WorkerFlags::INTERRUPTIBLE)
        .start_time(StartTime::ConsistentState)
        .restart(RestartPolicy::after_secs(7))
        .main_arg(u64::MAX)
        .extra(&[9; 128])
        .tag("db1")
        .build()
        .unwrap();
    assert!(!straw.rung());
    let handle = backend.register(&description).unwrap();
    assert!(straw.rung());
    let record = straw.slots.read(key(&handle)).unwrap();
    assert_eq!(record.decode().unwrap(), description);
    assert_eq!(record.registered_by(), Some(Pid::this()));
    let mut changed = Vec::new();
    straw.slots.drain_changes(|index, _| changed.push(index));
    assert_eq!(changed, [handle.id().slot()]);
}

#[test]
fn a_full_array_is_refused_at_once_with_both_numbers() {
    let (straw, backend) = cluster(2);
    let first = backend.register(&worker()).unwrap();
    backend.register(&worker()).unwrap();
    let refused = backend.register(&worker()).unwrap_err();
    assert!(matches!(refused, RegisterError::NoFreeSlot { capacity: 2, in_use: 2 }), "{refused}");
    assert!(refused.to_string().contains("max_workers"), "it says what to do: {refused}");
    straw.end(&first, &support::report(0));
    backend.register(&worker()).unwrap();
}

#[test]
fn a_function_that_the_postmaster_does_not_have_is_refused_by_name() {
    let (straw, backend) = cluster(2);
    let description = BackgroundWorker::builder("w").function("g").build().unwrap();
    let refused = backend.register(&description).unwrap_err();
    assert_eq!(refused.to_string(), "function: the postmaster has no \"g\"; it has f");
    assert_eq!(straw.slots.in_use(), 0);
}

#[test]
fn a_refused_notify_target_leaves_no_slot_behind() {
    let (straw, backend) = cluster(2);
    let stranger = Pid::new(1).unwrap();
    let description = BackgroundWorker::builder("w").function("f").notify(stranger).build();
    let refused = backend.register(&description.unwrap()).unwrap_err();
    assert!(matches!(refused, RegisterError::NotifyTarget { asked, .. } if asked == stranger));
    assert_eq!(straw.slots.in_use(), 0);
}

#[test]
fn a_read_only_backend_cannot_register_or_terminate() {
    let (straw, backend) = cluster_with(2, true);
    assert!(matches!(
        backend.register(&worker()),
        Err(RegisterError::NotWritable(NotWritable::ReadOnly))
    ));
    let mut claim = straw.slots.claim(5).unwrap();
    claim.write(&bgw_core::internals::WorkerRecord::encode(&worker(), Pid::this())).unwrap();
    claim.publish(0).unwrap();
    let workers = backend.workers();
    assert_eq!(workers.len(), 1);
    let handle = backend.handle(workers[0].handle);
    assert!(matches!(handle.terminate(), Err(TerminateError::NotWritable(NotWritable::ReadOnly))));
    assert!(matches!(handle.set_latch(), Err(LatchError::NotWritable(NotWritable::ReadOnly))));
}

#[test]
fn a_dead_postmaster_registers_nothing() {
    let (straw, backend) = cluster(2);
    straw.die();
    assert!(matches!(backend.register(&worker()), Err(RegisterError::PostmasterDied { .. })));
    assert_eq!(straw.slots.in_use(), 0);
}

/// A reset that has begun names its incarnation before it comes to the slot. Would fail if the
/// handle went by the incarnation alone: the slot has no report yet, so the registrant would be
/// told of an end without one.
#[test]
fn a_registration_during_a_reset_has_not_ended_before_its_slot_says_so() {
    let (straw, backend) = cluster(4);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let resets = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                straw.set_incarnation(INCARNATION + 2);
                straw.set_incarnation(INCARNATION);
            }
        });
        let told: Vec<_> = (0..20_000)
            .filter_map(|_| {
                let handle = backend.register(&worker()).unwrap();
                let status = handle.status();
                straw.slots.free(key(&handle)).unwrap();
                (status != WorkerStatus::NotYetStarted).then_some(status)
            })
            .collect();
        over.store(true, Ordering::Relaxed);
        resets.join().unwrap();
        assert_eq!(told, []);
    });
}

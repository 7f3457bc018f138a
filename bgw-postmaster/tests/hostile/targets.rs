//! Pids that a peer writes into shared memory. None of them is ever signalled.
//!
//! Would catch: a pid of a slot or a notify target that the postmaster uses as it finds it.

use crate::support::{Cluster, PATIENCE, worker};
use bgw_core::internals::{Request, flag};
use bgw_core::{BackgroundWorker, Pid};
use process_test::{
    Signal, Stranger, Test, alive, fork_child, in_pid_namespace, tests, wait_until,
};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_pid_written_into_a_slot_is_never_signalled,
        a_notify_target_that_is_no_child_or_peer_is_never_signalled => [B24],
        a_notify_target_that_is_process_1_is_never_signalled => [B24],
    ]
}

/// Would fail if the postmaster took the pid to signal from the slot.
fn a_pid_written_into_a_slot_is_never_signalled() {
    let cluster = Cluster::new();
    let mut stranger = Stranger::new();
    let key = cluster.register(&worker("sleep"));
    let own = cluster.started(key);
    let pid = stranger.pid().as_raw().unsigned_abs();
    cluster.peer.slots().update(key, pid, flag::STARTED | flag::TERMINATE).unwrap();
    cluster.terminate(key);
    wait_until("the worker itself has ended", PATIENCE, || {
        !alive(process_test::Pid::from_raw(own.as_raw()))
    });
    cluster.peer.ask(&Request::Ping, Some(Instant::now() + PATIENCE)).unwrap();
    assert!(stranger.answers(), "and nobody else got a signal");
    drop(stranger);
    cluster.end();
}

/// Registers a worker with this notify target, and has it start and end.
fn notify(cluster: &Cluster, target: Pid) {
    let named = BackgroundWorker::builder("w").function("sleep").notify(target).build().unwrap();
    let key = cluster.register(&named);
    cluster.started(key);
    cluster.terminate(key);
    cluster.stopped(key);
    cluster.peer.ask(&Request::Ping, Some(Instant::now() + PATIENCE)).unwrap();
}

/// SIGUSR1 would end the stranger, and would stay pending in the postmaster, which blocks it. Would
/// fail if the target were signalled by its pid.
fn a_notify_target_that_is_no_child_or_peer_is_never_signalled() {
    let cluster = Cluster::new();
    let mut stranger = Stranger::new();
    notify(&cluster, Pid::new(stranger.pid().as_raw().unsigned_abs()).unwrap());
    assert!(stranger.answers(), "the stranger got no signal");
    let postmaster = cluster.launched.pid();
    assert!(has(postmaster, "SigBlk:", Signal::SIGUSR1), "it would stay pending");
    notify(&cluster, postmaster);
    assert!(
        !has(postmaster, "ShdPnd:", Signal::SIGUSR1)
            && !has(postmaster, "SigPnd:", Signal::SIGUSR1)
    );
    drop(stranger);
    cluster.end();
}

/// Is the signal in this set of the process's status?
fn has(pid: Pid, set: &str, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let bits = status.lines().find_map(|line| line.strip_prefix(set)).unwrap();
    u64::from_str_radix(bits.trim(), 16).unwrap() >> (signal as u32 - 1) & 1 == 1
}

static SIGNALS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

/// The first process of a pid namespace counts the signals that it gets; it is neither a child of
/// the postmaster nor attached. Would fail if a target of 1 were signalled by its pid.
fn a_notify_target_that_is_process_1_is_never_signalled() {
    in_pid_namespace(|| {
        let count = nix::sys::signal::SigHandler::Handler(count);
        // SAFETY: the handler only adds to an atomic.
        unsafe { nix::sys::signal::signal(Signal::SIGUSR1, count) }.unwrap();
        let mut program = fork_child(|| {
            let cluster = Cluster::new();
            notify(&cluster, Pid::new(1).unwrap());
            cluster.end();
        });
        assert_eq!(program.wait().code(), Some(0));
        assert_eq!(SIGNALS.load(Ordering::Relaxed), 0);
        nix::sys::signal::raise(Signal::SIGUSR1).unwrap();
        assert_eq!(SIGNALS.load(Ordering::Relaxed), 1, "and it would count one");
    });
}

//! What the tests with real processes share: connected peers, and looks into `/proc`.
#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

use bgw_core::internals::{PostmasterCells, Received, Reply, Request, WorkerSlots, eventfd, pidfd};
use bgw_core::{Attachment, ControlSocket, RecvError};
use process_test::{Child, Pid, fork_child, wait_until};
use shmem_slots::WritableCells;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a condition may take before a test gives up. Far more than it needs.
pub const LIMIT: Duration = Duration::from_secs(30);

pub fn deadline() -> Option<Instant> {
    Some(Instant::now() + LIMIT)
}

/// A process that has connected to this one and does `run`, and this side of the connection, as the
/// postmaster has it: calls on it never wait.
pub fn peer(run: impl FnOnce(ControlSocket)) -> (ControlSocket, Child) {
    let path = std::env::temp_dir().join("control");
    let listener = ControlSocket::listen(&path).unwrap();
    let child = fork_child(|| run(ControlSocket::connect(&path, deadline()).unwrap()));
    let mut accepted = None;
    wait_until("the peer has connected", LIMIT, || {
        accepted = listener.accept_nonblocking().unwrap();
        accepted.is_some()
    });
    std::fs::remove_file(path).unwrap();
    (accepted.unwrap(), child)
}

/// The bits of a latch that count threads which sleep on the futex, and in `ppoll`.
pub const SLEEPERS: u64 = 0xffff << 32;
pub const POLLERS: u64 = 0xffff << 48;

pub fn wait_for_count(latch: &AtomicU64, bits: u64) {
    wait_until("the owner announces its sleep", LIMIT, || {
        latch.load(Ordering::Acquire) & bits != 0
    });
}

pub fn wait_for_no_count(latch: &AtomicU64, bits: u64) {
    wait_until("the owner has woken", LIMIT, || {
        let bits_now = latch.load(Ordering::Acquire);
        bits_now & bits == 0 || bits_now & 1 == 0
    });
}

/// A shared cell that no code under test uses: a counter, or a latch, of the tests.
pub fn cell(slots: &WorkerSlots, number: u32) -> &AtomicU64 {
    slots.writable_cells().unwrap().shared_cell(4 + number).unwrap()
}

/// The cells of the slots, to store into.
pub fn cells_of(slots: &WorkerSlots) -> WritableCells<'_> {
    slots.writable_cells().unwrap()
}

/// How many descriptors this process has open.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Waits until the process sleeps, as its state letter in `/proc` says.
pub fn wait_until_asleep(pid: Pid) {
    wait_until(&format!("process {pid} sleeps"), LIMIT, || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S'))
    });
}

/// Slots that this process and its children share, and that stay mapped until the process ends: the
/// kernel writes into them at its very end.
pub fn shared_cells() -> Arc<PostmasterCells> {
    let cells = Arc::new(PostmasterCells::create(8, 0).unwrap());
    std::mem::forget(Arc::clone(&cells));
    cells
}

pub fn shared_slots() -> Arc<WorkerSlots> {
    Arc::clone(shared_cells().slots())
}

/// A process of the cluster, as a forked worker is one; `postmaster` stands for the postmaster.
pub fn member(slots: &Arc<WorkerSlots>, postmaster: Pid) -> Attachment {
    let postmaster = bgw_core::Pid::try_from(postmaster.as_raw()).unwrap();
    Attachment::inherit(
        Arc::clone(slots),
        Arc::new(eventfd::new_doorbell().unwrap()),
        postmaster,
        Arc::new(pidfd::open(postmaster).unwrap()),
        Arc::new([]),
        Vec::new(),
    )
}

/// The next request, or why there is none; waits until something is there.
pub fn next(socket: &mut ControlSocket) -> Result<Received<Request>, RecvError> {
    let mut got = Ok(Received::WouldBlock);
    wait_until("something comes", LIMIT, || {
        got = socket.recv_request();
        !matches!(got, Ok(Received::WouldBlock))
    });
    got
}

pub fn next_request(socket: &mut ControlSocket) -> Request {
    match next(socket) {
        Ok(Received::Message { message, fds }) => {
            assert!(fds.is_empty());
            message
        }
        other => panic!("{other:?}"),
    }
}

pub fn next_reply(socket: &mut ControlSocket) -> (Reply, Vec<OwnedFd>) {
    match socket.recv_reply(deadline()) {
        Ok(Received::Message { message, fds }) => (message, fds),
        other => panic!("{other:?}"),
    }
}

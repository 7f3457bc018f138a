//! A postmaster of straw: it welcomes one backend and then does with the slots what a test says.
//!
//! The backend crate knows the postmaster by shared memory and messages alone, so its own tests
//! need no real one. Everything together is tested in `bgw-examples`.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

use bgw_backend::{
    Backend, BackgroundWorker, ExitCause, ExitReport, Handle, Pid, Returned, WorkerHandle,
};
use bgw_core::ControlSocket;
use bgw_core::internals::{
    PROTOCOL, PostmasterCells, Received, Reply, ReportRecord, Request, WorkerSlots, alarm, eventfd,
    flag, pidfd,
};
use shmem_slots::Key;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

/// How long a test waits for something that must come.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// FUTEX_OWNER_DIED and FUTEX_WAITERS: what the kernel writes into a liveness word.
const OWNER_DIED: u32 = 0x4000_0000;
const WAITERS: u32 = 0x8000_0000;

pub const INCARNATION: u32 = 0x1234_5679;

pub struct Straw {
    pub slots: Arc<WorkerSlots>,
    cells: PostmasterCells,
    pub doorbell: OwnedFd,
}

/// A postmaster of straw and a backend of it.
pub fn cluster(capacity: u32) -> (Straw, Backend) {
    cluster_with(capacity, false)
}

pub fn cluster_with(capacity: u32, read_only: bool) -> (Straw, Backend) {
    let cells = PostmasterCells::create(capacity, 0).unwrap();
    cells.set_incarnation(INCARNATION);
    for word in cells.liveness_words() {
        word.store(u64::from(Pid::this().get() | WAITERS), Ordering::Release);
    }
    let straw = Straw {
        slots: Arc::clone(cells.slots()),
        cells,
        doorbell: eventfd::new_doorbell().unwrap(),
    };
    let (mut ours, theirs) = ControlSocket::pair().unwrap();
    let backend = std::thread::scope(|scope| {
        let backend = scope.spawn(move || Backend::over(theirs).unwrap());
        straw.welcome(&mut ours, read_only);
        backend.join().unwrap()
    });
    (straw, backend)
}

impl Straw {
    fn welcome(&self, socket: &mut ControlSocket, read_only: bool) {
        let Received::Message { message: Request::Hello { .. }, .. } =
            socket.recv_request().unwrap()
        else {
            panic!("no hello");
        };
        let me = Pid::this();
        let process = pidfd::open(me).unwrap();
        let reply = Reply::Welcome {
            protocol: PROTOCOL,
            postmaster: me,
            owner: me,
            liveness: 1,
            read_only,
        };
        let region = self.slots.region().as_fd();
        let alarm = alarm::new_alarm().unwrap();
        let all = [region, process.as_fd(), self.doorbell.as_fd(), alarm.as_fd()];
        let fds = if read_only { &all[..2] } else { &all[..] };
        socket.send_reply(&reply, fds).unwrap();
        for names in [vec!["f".to_owned()], Vec::new()] {
            let asked = socket.recv_request().unwrap();
            assert!(matches!(asked, Received::Message { message: Request::Functions { .. }, .. }));
            socket.send_reply(&Reply::Functions(names), &[]).unwrap();
        }
    }

    /// The first step of a crash reset: from now on the slots are of another incarnation.
    pub fn set_incarnation(&self, incarnation: u32) {
        self.cells.set_incarnation(incarnation);
    }

    pub fn rung(&self) -> bool {
        eventfd::take_rings(&self.doorbell).unwrap()
    }

    pub fn start(&self, handle: &Handle, pid: u32) {
        self.slots.update(key(handle), pid, flag::STARTED).unwrap();
        self.cells.count_change(key(handle).index);
    }

    fn write_report(&self, handle: &Handle, report: &ExitReport) {
        let (record, annex) = ReportRecord::encode(report, handle.id().incarnation());
        self.slots.write_report_with(key(handle), &record, &annex).unwrap();
    }

    pub fn rest(&self, handle: &Handle, report: &ExitReport) {
        self.write_report(handle, report);
        self.slots.update(key(handle), 0, flag::STOPPED).unwrap();
        self.cells.count_change(key(handle).index);
    }

    pub fn end(&self, handle: &Handle, report: &ExitReport) {
        self.write_report(handle, report);
        self.slots.free(key(handle)).unwrap();
        self.cells.count_change(key(handle).index);
    }

    /// What the kernel does to the liveness words when the postmaster ends.
    pub fn die(&self) {
        for word in self.cells.liveness_words() {
            word.store(u64::from(OWNER_DIED | WAITERS), Ordering::Release);
            shmem_slots::futex::wake_all(word);
        }
    }
}

pub fn key(handle: &Handle) -> Key {
    let id: WorkerHandle = handle.id();
    Key { index: id.slot(), generation: id.generation() }
}

pub fn worker() -> BackgroundWorker {
    BackgroundWorker::builder("w").function("f").build().unwrap()
}

pub fn report(code: u8) -> ExitReport {
    ExitReport {
        cause: ExitCause::Exited(code),
        pid: Pid::new(77),
        restarts: 0,
        asked_by: None,
        killed: false,
        unregistered: true,
        reset: false,
        streak: 0,
        pause: None,
        given_up: None,
        recycled: None,
        ended_at: SystemTime::UNIX_EPOCH,
        ran_for: Duration::from_millis(3),
        user_time: Duration::ZERO,
        system_time: Duration::ZERO,
        max_rss_kib: 1,
        copied_kib: None,
        returned: Returned::NOTHING,
    }
}

/// A thread that runs `wait`; it is asleep there when this returns.
#[track_caller]
pub fn waiting_thread<T: Send + 'static>(
    wait: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        tell.send(nix::unistd::gettid()).unwrap();
        wait()
    });
    process_test::wait_until_asleep(told.recv().unwrap());
    thread
}

/// What the wait of a thread returned, now that its event has come.
#[track_caller]
pub fn woken<T>(waiter: JoinHandle<T>) -> T {
    process_test::wait_until("the waiter is awake", PATIENCE, || waiter.is_finished());
    waiter.join().unwrap()
}

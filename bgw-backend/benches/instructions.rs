//! Each fast path once, for `cargo xtask bench --instructions`, which runs this under callgrind and
//! counts what `bgw_counted` executes. Run by itself it does the same and measures nothing.
//!
//! The contract with that task: each call of `bgw_counted` executes one operation, whose name is
//! then printed as `counted NAME`. Before it the operation has run some times uncounted, so that
//! what only a first call does (binding a symbol, growing the heap) is not in the figure. Nothing
//! here depends on time, on chance or on another process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bgw_backend::{Backend, BackgroundWorker, Pid, WorkerHandle, WorkerStatus};
use bgw_core::Berth;
use bgw_core::internals::{
    ClusterCells, Function, Gifts, LAYOUT_TAG, PROTOCOL, PostmasterCells, Reply, Request,
    WorkerRecord, WorkerSlots, eventfd, flag, process,
};
use bgw_core::{Attachment, WorkerProcess};
use shmem_slots::{Key, Wake};
use std::fs::File;
use std::hint::black_box;
use std::sync::Arc;

/// What callgrind counts. Not generic and never inlined, so there is exactly one.
// SAFETY: no other function of this program or of its libraries has this name.
#[unsafe(no_mangle)]
#[inline(never)]
fn bgw_counted(operation: &mut dyn FnMut()) {
    operation();
}

fn count(name: &str, mut operation: impl FnMut()) {
    for _ in 0..4 {
        operation();
    }
    bgw_counted(black_box(&mut operation));
    println!("counted {name}");
}

const OWNER: u32 = 42;

fn slots(capacity: u32) -> Arc<WorkerSlots> {
    Arc::clone(PostmasterCells::create(capacity, 0).unwrap().slots())
}

fn life(slots: &WorkerSlots) {
    let key = black_box(slots).claim(OWNER).unwrap().publish(0).unwrap();
    slots.free(key).unwrap();
}

/// A worker whose description fills what most leave empty.
fn described() -> BackgroundWorker {
    BackgroundWorker::builder("worker").function("main").extra(&[7; 128]).build().unwrap()
}

fn one_slot() {
    let slots = slots(64);
    let key = slots.claim(OWNER).unwrap().publish(0).unwrap();
    slots.update(key, OWNER, flag::STARTED).unwrap();
    slots.drain_changes(|_, _| {});
    count("slot: look at a live key", || {
        black_box(black_box(&slots).look(black_box(key)));
    });
    count("slot: snapshot", || {
        black_box(black_box(&slots).snapshot(black_box(key.index)));
    });
    count("slot: set flags", || {
        black_box(black_box(&slots).set_flags(black_box(key), flag::TERMINATE)).unwrap();
    });
    count("slot: claim, publish, free", || life(&slots));

    let record = WorkerRecord::encode(&described(), Pid::this());
    let mut claim = slots.claim(OWNER).unwrap();
    count("payload: write a worker's record", || claim.write(black_box(&record)).unwrap());
    let key = claim.publish(0).unwrap();
    count("payload: read a worker's record", || {
        black_box(slots.read(black_box(key))).unwrap();
    });
}

fn many_slots() {
    const CAPACITY: u32 = 65_536;
    let slots = slots(CAPACITY);
    let claim = |_| slots.claim(OWNER).unwrap().publish(0).unwrap();
    let keys: Vec<Key> = (0..CAPACITY - 1).map(claim).collect();
    slots.drain_changes(|_, _| {});
    assert_eq!(slots.in_use(), CAPACITY - 1);
    count("65536 slots, one free: claim, publish, free", || life(&slots));

    slots.drain_changes(|_, _| {});
    let last = *keys.last().unwrap();
    let mut found = 0;
    count("65536 slots, one changed: set flags, drain", || {
        slots.set_flags(black_box(last), flag::TERMINATE).unwrap();
        slots.drain_changes(|index, _| found = index);
    });
    assert_eq!(found, last.index);
}

fn latch() {
    let slots = slots(8);
    let latch = ClusterCells::new(&slots).latch(0).unwrap();
    assert_eq!(latch.set(), Wake::Done);
    count("latch: set one that is set", || assert_eq!(black_box(&latch).set(), Wake::Done));
    count("latch: reset, and set it, its owner awake", || {
        black_box(&latch).reset();
        assert_eq!(black_box(&latch).set(), Wake::Done);
    });
}

/// A handle without a postmaster: this process is a worker that got the cluster by inheritance.
/// (Attaching asks the kernel for `futex_waitv`, which valgrind 3.19 does not know.)
fn handle() {
    let cells = PostmasterCells::create(64, 0).unwrap();
    cells.set_incarnation(7);
    let slots = Arc::clone(cells.slots());
    let attachment = Attachment::inherit(
        Arc::clone(&slots),
        Arc::new(eventfd::new_doorbell().unwrap()),
        Pid::this(),
        // Never asked: nobody waits here.
        Arc::new(File::open("/dev/null").unwrap().into()),
        [Function { name: "main".to_owned(), call: None, reusable: false }].into(),
        Vec::new(),
    );
    let me = slots.claim(OWNER).unwrap().publish(0).unwrap();
    slots.update(me, OWNER, flag::STARTED).unwrap();
    let id = WorkerHandle::new(me.index, me.generation, 7);
    let worker = Arc::new(described());
    process::enter(WorkerProcess {
        worker: Arc::clone(&worker),
        handle: id,
        berth: Berth::own(id),
        restarts: 0,
        attachment: Arc::new(attachment),
        gifts: Gifts::default(),
    })
    .unwrap();
    let backend = Backend::current().unwrap();
    let handle = backend.handle(id);
    assert!(matches!(handle.status(), WorkerStatus::Started(_)));
    // What a caller does: it asks which status, and copies no report that is not there.
    count("handle: status of a live worker", || {
        black_box(matches!(black_box(&handle).status(), WorkerStatus::Started(_)));
    });
    count("backend: register, free the slot", || {
        let id = backend.register(black_box(&worker)).unwrap().id();
        slots.free(Key { index: id.slot(), generation: id.generation() }).unwrap();
    });
}

fn records() {
    let (worker, me) = (described(), Pid::new(OWNER).unwrap());
    count("record: encode", || {
        black_box(WorkerRecord::encode(black_box(&worker), me));
    });
    let record = WorkerRecord::encode(&worker, me);
    count("record: decode and check", || {
        black_box(black_box(&record).decode()).unwrap();
    });
}

fn messages() {
    let me = Pid::new(OWNER).unwrap();
    let request = Request::Hello { protocol: PROTOCOL, layout_tag: LAYOUT_TAG, read_only: false };
    count("message: encode a request", || {
        black_box(black_box(&request).encode());
    });
    let bytes = request.encode();
    count("message: decode a request", || {
        black_box(Request::decode(black_box(&bytes))).unwrap();
    });
    let reply = Reply::Welcome {
        protocol: PROTOCOL,
        postmaster: me,
        owner: me,
        liveness: 1,
        read_only: false,
    };
    count("message: encode a reply", || {
        black_box(black_box(&reply).encode());
    });
    let bytes = reply.encode();
    count("message: decode a reply", || {
        black_box(Reply::decode(black_box(&bytes))).unwrap();
    });
}

fn main() {
    // What every other count contains.
    count("an empty operation", || {});
    one_slot();
    many_slots();
    latch();
    handle();
    records();
    messages();
}

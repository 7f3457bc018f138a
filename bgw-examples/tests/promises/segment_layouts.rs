//! The promise: a queue, and a slot array, lie in a segment that was made at run time as in memory
//! that all have inherited, and what somebody scribbles there gives an error.
//!
//! Would catch: a queue that works in inherited memory only, bytes that are believed.

use crate::support::{Cluster, PATIENCE, connect, ready, stopped, worker};
use bgw_backend::{
    Backend, ExitCause, Segment, SegmentError, SegmentHandle, Worker, WorkerError, entry,
};
use bgw_postmaster::PostmasterBuilder;
use process_test::{Test, fork_child, tests};
use shmem_slots::queue::{Queue, QueueOptions, ReceiveError};
use shmem_slots::{Access, Options, Slots, State};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        workers_pass_messages_through_a_queue_that_was_made_at_run_time => [J11],
        a_slot_array_lies_in_a_segment => [J11],
        a_scribbled_queue_gives_an_error => [J12],
    ]
}

fn with_functions(builder: PostmasterBuilder) -> PostmasterBuilder {
    builder.function("passes on", entry(passes_on))
}

const TAG: u64 = 7;

fn queue(backend: &Backend) -> (Segment, Queue) {
    let options = QueueOptions { buffer: 4096, max_message: 1 << 20, tag: TAG };
    let segment = backend.create_segment(options.bytes().unwrap() as u64).unwrap();
    let queue = segment.create_queue(&options).unwrap();
    (segment, queue)
}

/// Passes on what comes through one queue to another. Its extra bytes name both.
fn passes_on(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.unblock_signals()?;
    let (from, to) = worker.extra().split_at(64);
    let mapped = |bytes: &[u8]| -> Result<Queue, WorkerError> {
        let bits = u64::from_le_bytes(bytes[..8].try_into().map_err(|_| "no handle")?);
        Ok(worker.backend().segment(SegmentHandle::from_bits(bits))?.queue(TAG)?)
    };
    let (from, to) = (mapped(from)?, mapped(to)?);
    let me = worker.backend().pid().get();
    let (mut receiver, mut sender) = (from.receiver(me)?, to.sender(me)?);
    worker.ready();
    let mut message = Vec::new();
    loop {
        match receiver.receive(&mut message, &[], None) {
            Ok(_) => sender.send(&message, &[], None)?,
            Err(ReceiveError::Detached) => {
                sender.detach();
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Fails if queues work only in memory that all have inherited: as in PostgreSQL, this leader and
/// its workers make theirs when they need them.
fn workers_pass_messages_through_a_queue_that_was_made_at_run_time() {
    let cluster = Cluster::with(with_functions);
    let queues: Vec<(Segment, Queue)> = (0..4).map(|_| queue(&cluster.backend)).collect();
    let workers: Vec<_> = queues
        .windows(2)
        .map(|pair| {
            let mut extra = [0; 128];
            extra[..8].copy_from_slice(&pair[0].0.handle().to_bits().to_le_bytes());
            extra[64..72].copy_from_slice(&pair[1].0.handle().to_bits().to_le_bytes());
            let worker = worker("passes on").extra(&extra).build().unwrap();
            let handle = cluster.backend.register(&worker).unwrap();
            ready(&handle);
            handle
        })
        .collect();
    let me = cluster.backend.pid().get();
    let mut sender = queues[0].1.sender(me).unwrap();
    let mut receiver = queues[3].1.receiver(me).unwrap();
    let sent: Vec<Vec<u8>> = (0..60u32).map(|n| vec![n as u8; (n * n * 7) as usize]).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            sent.iter().for_each(|message| sender.send(message, &[], None).unwrap());
            sender.detach();
        });
        let mut message = Vec::new();
        for expected in &sent {
            receiver.receive(&mut message, &[], None).unwrap();
            assert_eq!(&message, expected);
        }
        let end = receiver.receive(&mut message, &[], None);
        assert!(matches!(end, Err(ReceiveError::Detached)));
    });
    for handle in workers {
        assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    }
    cluster.end();
}

/// Fails if slots need a region that was there before the launch.
fn a_slot_array_lies_in_a_segment() {
    type Array = Slots<[u64; 4], [u64; 1]>;
    let cluster = Cluster::with(with_functions);
    let options = Options {
        capacity: 64,
        tag: 1,
        shared_cells: 0,
        annex_cells: 0,
        spare_sets: 0,
        first_generation: 0,
    };
    let bytes = Array::bytes(&options).unwrap();
    let segment = cluster.backend.create_segment(bytes as u64).unwrap();
    let file = |segment: &Segment| segment.as_fd().try_clone_to_owned().unwrap();
    let slots = Array::create_in(file(&segment), &options).unwrap();
    let (folder, handle) = (cluster.folder.clone(), segment.handle());
    let mut program = fork_child(move || {
        let segment = connect(&folder).segment(handle).unwrap();
        let slots = Array::attach(file(&segment), 1, Access::ReadWrite).unwrap();
        let mut claim = slots.claim(std::process::id()).unwrap();
        claim.write(&[1, 2, 3, 4]).unwrap();
        claim.publish(0).unwrap();
    });
    assert_eq!(program.wait().code(), Some(0));
    let mut found = Vec::new();
    slots.drain_changes(|index, word| found.push((index, word.state())));
    assert_eq!(found, [(0, State::Published)]);
    let small = cluster.backend.create_segment(64).unwrap();
    let text = Array::create_in(file(&small), &options).unwrap_err().to_string();
    assert!(text.contains("has 64 bytes") && text.contains(&bytes.to_string()), "{text}");
    cluster.end();
}

/// Fails if what another process has written ends this one, or is believed.
fn a_scribbled_queue_gives_an_error() {
    let cluster = Cluster::with(with_functions);
    let empty = cluster.backend.create_segment(8192).unwrap();
    assert!(matches!(empty.queue(TAG), Err(SegmentError::Map(_))), "it is no queue");
    let (segment, queue) = queue(&cluster.backend);
    assert!(matches!(segment.queue(TAG + 1), Err(SegmentError::Map(_))), "of another kind");
    let mut receiver = queue.receiver(1).unwrap();
    let sender = segment.queue(TAG).unwrap();
    let mut sender = sender.sender(2).unwrap();
    sender.send(b"fine", &[], None).unwrap();
    let mut message = Vec::new();
    receiver.receive(&mut message, &[], None).unwrap();
    for (at, cell) in segment.memory().cells().iter().enumerate() {
        cell.store((at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 << 63, Ordering::Relaxed);
    }
    let deadline = std::time::Instant::now() + PATIENCE;
    let received = receiver.receive(&mut message, &[], Some(deadline));
    assert!(!matches!(received, Ok(_) | Err(ReceiveError::TimedOut)), "{received:?}");
    assert!(sender.send(&[1; 10_000], &[], Some(deadline)).is_err());
    cluster.end();
}

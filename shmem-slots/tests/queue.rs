//! The promise: two processes pass messages of every size, whole, once and in order. A wait ends
//! for room, for a message, for the other side's detach and for the caller's own watches, and never
//! too early.
//!
//! It would catch: an index that is wrong at the end of the buffer, a private futex, a wake that is
//! sent too seldom, a message lost or made up at a detach or a death, a header that is not checked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use nix::sys::memfd::{MFdFlags, memfd_create};
use process_test::{Child, Signal, fork_child, tests};
use shmem_slots::futex::{self, Half, Watch};
use shmem_slots::queue::{
    MAX_BYTES, Queue, QueueOptions, ReceiveError, Receiver, SendError, Sender, Side, SideError,
    SideState,
};
use shmem_slots::{AttachError, CreateError, Memory, Options, Slots};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::TAG;

fn main() -> std::process::ExitCode {
    process_test::main(tests![
        messages_of_every_size_arrive_whole_and_in_order,
        ten_thousand_messages_of_random_sizes_arrive_as_they_were_sent,
        a_slow_receiver_and_a_slow_sender_lose_nothing,
        an_empty_and_a_full_queue_say_so_and_lose_nothing,
        a_deadline_ends_a_wait_and_the_message_goes_on_later,
        a_watch_of_the_callers_ends_a_wait,
        what_was_sent_before_a_detach_is_received,
        a_sleeping_side_is_told_of_the_detach,
        a_receiver_gets_what_a_killed_sender_sent_whole_and_then_detached,
        a_sender_is_told_of_the_death_of_its_receiver,
        a_side_is_had_once,
        a_message_that_is_too_long_or_another_one_is_refused,
        what_does_not_fit_is_refused_at_attach_by_name,
    ])
}

const BUFFER: usize = 256;

fn options() -> QueueOptions {
    QueueOptions { buffer: BUFFER, max_message: 100 * BUFFER, tag: TAG }
}

fn queue() -> Queue {
    Queue::create(&options()).unwrap()
}

fn sender(queue: &Queue) -> Sender<'_> {
    queue.sender(std::process::id()).unwrap()
}

fn receiver(queue: &Queue) -> Receiver<'_> {
    queue.receiver(std::process::id()).unwrap()
}

/// No deadline, so that the watchdog finds a lost wake-up: a wait with a deadline looks once more
/// at its end.
const NEVER: Option<Instant> = None;

/// Bytes that differ in every message and at every place.
fn message(number: u64, len: usize) -> Vec<u8> {
    let mut noise = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        bytes.extend_from_slice(&noise.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The length of a message of random size: mostly short ones, some many times the buffer.
fn random_len(number: u64) -> usize {
    let bytes = message(number + (1 << 40), 9);
    let random = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    match bytes[8] {
        0..=200 => random % 64,
        201..=240 => random % (2 * BUFFER),
        _ => random % (20 * BUFFER),
    }
}

/// A child that sends messages of these lengths and detaches.
fn sending(queue: &Queue, lens: impl IntoIterator<Item = usize>) -> Child {
    fork_child(|| {
        let mut sender = sender(queue);
        for (number, len) in (0..).zip(lens) {
            sender.send(&message(number, len), &[], NEVER).unwrap();
        }
    })
}

/// Receives messages of these lengths, and then the detach.
#[track_caller]
fn receive_all(receiver: &mut Receiver<'_>, lens: impl IntoIterator<Item = usize>) {
    let mut got = b"what stands there before".to_vec();
    for (number, len) in (0..).zip(lens) {
        receiver.receive(&mut got, &[], NEVER).unwrap();
        assert!(got == message(number, len), "message {number} of {len} bytes");
    }
    let end = receiver.receive(&mut got, &[], NEVER);
    assert!(matches!(end, Err(ReceiveError::Detached)), "{end:?}");
}

fn passes(lens: impl IntoIterator<Item = usize> + Clone, buffer: usize) {
    let queue = Queue::create(&QueueOptions { buffer, ..options() }).unwrap();
    let mut child = sending(&queue, lens.clone());
    receive_all(&mut receiver(&queue), lens);
    assert_eq!(child.wait().code(), Some(0), "buffer of {buffer}");
}

/// Would fail if a word at the end of the buffer, or the end of a message, went wrong.
fn messages_of_every_size_arrive_whole_and_in_order() {
    for buffer in [1, 8, 16, 24, 40, BUFFER, 4096] {
        let around =
            [0, 1, 7, 8, 9, 15, 16, 17, buffer - 1, buffer, buffer + 1, 2 * buffer, 5 * buffer];
        passes(around.repeat(5), buffer);
    }
    passes(0..2 * BUFFER, BUFFER);
}

/// Would fail if any piece were lost, doubled or mixed up, at whatever place in the buffer.
fn ten_thousand_messages_of_random_sizes_arrive_as_they_were_sent() {
    passes((0..10_000).map(random_len), BUFFER);
}

/// Would fail if one side's step did not wake the other. Each side sleeps every time.
fn a_slow_receiver_and_a_slow_sender_lose_nothing() {
    let queue = queue();
    let lens = [0, 3, BUFFER, 10 * BUFFER];
    let mut child = sending(&queue, lens);
    process_test::wait_until_asleep(child.pid()); // no room
    let mut first = receiver(&queue);
    receive_all(&mut first, lens);
    assert_eq!(child.wait().code(), Some(0));

    let queue = self::queue();
    let mut child = fork_child(|| receive_all(&mut receiver(&queue), lens));
    let mut sender = sender(&queue);
    for (number, len) in (0..).zip(lens) {
        process_test::wait_until_asleep(child.pid()); // no message
        sender.send(&message(number, len), &[], NEVER).unwrap();
    }
    process_test::wait_until_asleep(child.pid());
    sender.detach();
    assert_eq!(child.wait().code(), Some(0));
}

/// Would fail if a try waited, or if a piece were lost between two tries.
fn an_empty_and_a_full_queue_say_so_and_lose_nothing() {
    let queue = queue();
    let (mut sender, mut receiver) = (sender(&queue), receiver(&queue));
    let mut got = Vec::new();
    assert!(matches!(receiver.try_receive(&mut got), Err(ReceiveError::Empty)));
    // 8 bytes of length and 8 of message.
    for number in 0..BUFFER as u64 / 16 {
        sender.try_send(&message(number, 8)).unwrap();
    }
    let long = message(99, 3 * BUFFER);
    assert!(matches!(sender.try_send(&long), Err(SendError::Full)));
    for number in 0..BUFFER as u64 / 16 {
        receiver.try_receive(&mut got).unwrap();
        assert_eq!(got, message(number, 8));
    }
    let mut rounds = 0;
    loop {
        rounds += 1;
        let sent = sender.try_send(&long);
        let received = receiver.try_receive(&mut got);
        match (sent, received) {
            (Ok(()), Ok(())) => break,
            (Err(SendError::Full), Err(ReceiveError::Empty)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((got, rounds), (long, 4), "in four pieces");
}

/// Would fail if a wait outlived its deadline, even one long past, or dropped what had arrived.
fn a_deadline_ends_a_wait_and_the_message_goes_on_later() {
    let queue = queue();
    let soon = || Some(Instant::now() + Duration::from_millis(5));
    let mut receiver = receiver(&queue);
    let mut got = b"as it was".to_vec();
    let end = receiver.receive(&mut got, &[], soon());
    assert!(matches!(end, Err(ReceiveError::TimedOut)), "{end:?}");
    assert_eq!(got, b"as it was");
    let mut sender = sender(&queue);
    let long = message(1, 2 * BUFFER);
    for deadline in [soon(), Some(Instant::now()), soon()] {
        let end = sender.send(&long, &[], deadline);
        assert!(matches!(end, Err(SendError::TimedOut)), "{end:?}");
    }
    let end = receiver.receive(&mut got, &[], soon());
    assert!(matches!(end, Err(ReceiveError::TimedOut)), "{end:?}");
    let mut child = fork_child(|| {
        receiver.receive(&mut got, &[], NEVER).unwrap();
        assert_eq!(got, long);
    });
    sender.send(&long, &[], NEVER).unwrap();
    assert_eq!(child.wait().code(), Some(0));
}

/// Would fail if the wait left out a watch, or did not check it after waking.
fn a_watch_of_the_callers_ends_a_wait() {
    let cells: Slots<[u64; 1], [u64; 1]> = Slots::create(&Options {
        capacity: 1,
        tag: 0,
        shared_cells: 2,
        annex_cells: 0,
        spare_sets: 0,
        first_generation: 0,
    })
    .unwrap();
    let bell: &AtomicU64 = cells.writable_cells().unwrap().shared_cell(0).unwrap();
    let also = [Watch { cell: bell.into(), half: Half::Low, seen: 0 }];
    let queue = queue();
    let mut children = [
        fork_child(|| {
            let end = receiver(&queue).receive(&mut Vec::new(), &also, NEVER);
            assert!(matches!(end, Err(ReceiveError::Interrupted)), "{end:?}");
        }),
        fork_child(|| {
            let full = self::queue();
            let end = sender(&full).send(&message(0, 2 * BUFFER), &also, NEVER);
            assert!(matches!(end, Err(SendError::Interrupted)), "{end:?}");
        }),
    ];
    for child in &children {
        process_test::wait_until_asleep(child.pid());
    }
    futex::wake_all(bell); // spurious: nobody may take it for a change
    bell.store(1, Ordering::Release);
    futex::wake_all(bell);
    for child in &mut children {
        assert_eq!(child.wait().code(), Some(0));
    }
    let many = [also[0]; 128];
    let end = self::receiver(&self::queue()).receive(&mut Vec::new(), &many, NEVER);
    assert!(matches!(end, Err(ReceiveError::Wait(futex::WaitError::Count { count: 129 }))));
}

/// Would fail if the receiver checked the state alone, or returned half a message.
fn what_was_sent_before_a_detach_is_received() {
    let queue = queue();
    let mut sender = sender(&queue);
    sender.send(&message(0, 9), &[], None).unwrap();
    sender.send(&message(1, 0), &[], None).unwrap();
    assert!(matches!(sender.try_send(&message(2, 2 * BUFFER)), Err(SendError::Full)));
    sender.detach();
    assert_eq!(queue.side_state(Side::Sender), SideState::Detached);
    let mut receiver = receiver(&queue);
    receive_all(&mut receiver, [9, 0]);
    let end = receiver.try_receive(&mut Vec::new());
    assert!(matches!(end, Err(ReceiveError::Detached)), "{end:?}");
}

/// Would fail if a detach woke nobody.
fn a_sleeping_side_is_told_of_the_detach() {
    let queue = queue();
    let mut child = fork_child(|| receive_all(&mut receiver(&queue), []));
    let sender = sender(&queue);
    process_test::wait_until_asleep(child.pid());
    sender.detach();
    assert_eq!(child.wait().code(), Some(0));

    let queue = self::queue();
    let mut child = fork_child(|| {
        let mut sender = self::sender(&queue);
        let end = sender.send(&message(0, 2 * BUFFER), &[], NEVER);
        assert!(matches!(end, Err(SendError::Detached)), "{end:?}");
        let end = sender.try_send(&[]);
        assert!(matches!(end, Err(SendError::Unfinished { begun: 512, .. })), "{end:?}");
    });
    let receiver = receiver(&queue);
    process_test::wait_until_asleep(child.pid());
    receiver.detach();
    assert_eq!(child.wait().code(), Some(0));
    // Also when there is room.
    let queue = self::queue();
    drop(self::receiver(&queue));
    assert!(matches!(self::sender(&queue).try_send(&[1]), Err(SendError::Detached)));
}

/// Would fail if a sweep woke nobody, or forgot whole messages, or took the living for dead.
fn a_receiver_gets_what_a_killed_sender_sent_whole_and_then_detached() {
    let queue = queue();
    let mut sending = sending(&queue, [5, 2 * BUFFER]);
    process_test::wait_until_asleep(sending.pid()); // in the middle of the second message
    sending.kill(Signal::SIGKILL);
    sending.wait();
    let mut receiving = fork_child(|| receive_all(&mut receiver(&queue), [5]));
    process_test::wait_until_asleep(receiving.pid()); // no sweep has told it yet
    let dead = sending.pid().as_raw() as u32;
    assert_eq!(queue.side_state(Side::Sender), SideState::Attached { owner: dead });
    assert_eq!(queue.sweep(|owner| owner == dead), 1);
    assert_eq!(receiving.wait().code(), Some(0));
    assert_eq!(queue.sweep(|_| true), 0, "both have detached");
}

/// Would fail if a sweep of the receiver woke no sender, or if a dead receiver's announcement
/// confused it.
fn a_sender_is_told_of_the_death_of_its_receiver() {
    let queue = queue();
    let mut receiving = fork_child(|| receive_all(&mut receiver(&queue), [3]));
    process_test::wait_until_asleep(receiving.pid());
    receiving.kill(Signal::SIGKILL);
    receiving.wait();
    let mut sending = fork_child(|| {
        let mut sender = sender(&queue);
        let end = (0..).find_map(|number| sender.send(&message(number, 9), &[], NEVER).err());
        assert!(matches!(end, Some(SendError::Detached)), "{end:?}");
    });
    process_test::wait_until_asleep(sending.pid());
    assert_eq!(queue.sweep(|owner| owner == receiving.pid().as_raw() as u32), 1);
    assert_eq!(sending.wait().code(), Some(0));
}

/// Would fail if two processes could have one side, at once or one after the other.
fn a_side_is_had_once() {
    let queue = queue();
    assert_eq!(queue.sender(0).unwrap_err(), SideError::BadOwner);
    assert_eq!(queue.side_state(Side::Sender), SideState::Vacant);
    let first = queue.sender(7).unwrap();
    let side = Side::Sender;
    assert_eq!(queue.sender(8).unwrap_err(), SideError::Taken { side, owner: 7 });
    assert_eq!(queue.side_state(side), SideState::Attached { owner: 7 });
    first.detach();
    assert_eq!(queue.sender(8).unwrap_err(), SideError::Gone { side });
    // A side that never attached.
    queue.close(Side::Receiver);
    assert_eq!(queue.receiver(8).unwrap_err(), SideError::Gone { side: Side::Receiver });
}

/// Would fail if a message could be mixed with another that had begun.
fn a_message_that_is_too_long_or_another_one_is_refused() {
    let queue = queue();
    let mut sender = sender(&queue);
    let limit = 100 * BUFFER;
    let end = sender.try_send(&vec![0; limit + 1]);
    assert!(
        matches!(end, Err(SendError::TooLong { len, limit: most }) if (len, most) == (limit + 1, limit))
    );
    assert!(matches!(sender.try_send(&message(0, limit)), Err(SendError::Full)));
    let end = sender.try_send(b"another");
    let sent = BUFFER - 8;
    assert!(
        matches!(end, Err(SendError::Unfinished { sent: s, begun }) if (s, begun) == (sent, limit))
    );
    let mut child = fork_child(|| {
        let mut got = Vec::new();
        receiver(&queue).receive(&mut got, &[], NEVER).unwrap();
        assert_eq!(got, message(0, limit));
    });
    sender.send(&message(0, limit), &[], NEVER).unwrap();
    assert_eq!(child.wait().code(), Some(0));
}

/// Would fail if a field were not looked at, or a size were taken from a header unchecked.
fn what_does_not_fit_is_refused_at_attach_by_name() {
    let fields = ["magic", "version", "tag", "words", "longest", "total cells", "hash"];
    for (at, name) in fields.into_iter().enumerate() {
        for value in [0, 1 << 40, u64::MAX] {
            let queue = queue();
            queue.memory().writable_cells().unwrap()[at].store(value, Ordering::Relaxed);
            match Queue::attach(queue.region().as_fd().try_clone_to_owned().unwrap(), TAG) {
                Err(AttachError::Header { field, found, .. }) => {
                    // A length of 0 or 1 is possible; then the hash differs.
                    let fits =
                        field.contains(name) || (name == "longest" && field.contains("hash"));
                    assert!(fits && found != 0 || value == 0, "{name}: {field} is {found}");
                }
                other => panic!("{name} of {value} is taken: {other:?}"),
            }
        }
    }
    let attach = |queue: &Queue, tag| {
        Queue::attach(queue.region().as_fd().try_clone_to_owned().unwrap(), tag)
    };
    assert!(matches!(attach(&queue(), TAG + 1), Err(AttachError::Header { field: "tag", .. })));
    let queue = queue();
    let second = attach(&queue, TAG).unwrap();
    assert_eq!((second.buffer(), second.max_message()), (BUFFER, 100 * BUFFER));
    sender(&second).try_send(b"through another mapping").unwrap();
    let mut got = Vec::new();
    receiver(&queue).try_receive(&mut got).unwrap();
    assert_eq!(got, b"through another mapping");
    let unsealed = memfd_create("unsealed", MFdFlags::MFD_ALLOW_SEALING).unwrap();
    assert!(matches!(Queue::attach(unsealed, TAG), Err(AttachError::Unsealed)));
    for (buffer, max_message) in [(0, 1), (MAX_BYTES + 1, 1), (8, MAX_BYTES + 1), (usize::MAX, 0)] {
        let refused = Queue::create(&QueueOptions { buffer, max_message, tag: TAG }).unwrap_err();
        assert!(matches!(refused, CreateError::QueueSize { .. }), "{refused}");
    }
}

//! The queue: bytes come before positions, no wake-up is lost in either direction, a detach ends a
//! wait and loses no message. A side that sleeps for ever is a deadlock, and loom says so.
//!
//! Not shown, since loom lets no load see a store that is made later: that the sender's look at the
//! read position must be an acquire (Q2), lest it overwrites what is being read. That a detach is a
//! release (Q5) shows nowhere either: the fence of the message before it (Q4) orders as much.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use shmem_slots::Heap;
use shmem_slots::futex::{self, Half, Watch};
use shmem_slots::queue::{
    Queue, QueueOptions, ReceiveError, Receiver, SendError, Sender, Side, SideState,
};
use std::mem::ManuallyDrop;

fn queue(words: usize) -> Arc<Queue<Heap>> {
    let options = QueueOptions { buffer: words * 8, max_message: 64, tag: 0 };
    Arc::new(Queue::heap(&options).unwrap())
}

/// Never detached: the end is not part of the model.
fn sender(queue: &Queue<Heap>) -> ManuallyDrop<Sender<'_, Heap>> {
    ManuallyDrop::new(queue.sender(1).unwrap())
}

fn receiver(queue: &Queue<Heap>) -> ManuallyDrop<Receiver<'_, Heap>> {
    ManuallyDrop::new(queue.receiver(2).unwrap())
}

/// The receiver never sleeps: it looks until a message is there.
///
/// Fails when the position is stored relaxed (Q1) or looked at relaxed (Q2): then the bytes are
/// old.
#[test]
fn who_sees_the_position_reads_the_bytes() {
    loom::model(|| {
        let queue = queue(4);
        let reader = Arc::clone(&queue);
        let thread = thread::spawn(move || {
            let mut receiver = receiver(&reader);
            let mut message = Vec::new();
            loop {
                match receiver.try_receive(&mut message) {
                    Ok(()) => return message,
                    Err(ReceiveError::Empty) => thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            }
        });
        let mut sender = sender(&queue);
        sender.try_send(&[7; 16]).unwrap();
        assert_eq!(thread.join().unwrap(), [7; 16]);
    });
}

/// Two messages through a buffer that holds one: the second is written over the first, but not
/// before that was read. Fails when the receiver shows its position before it copies.
#[test]
fn bytes_are_not_overwritten_before_they_are_read() {
    loom::model(|| {
        let queue = queue(2);
        let mut sender = sender(&queue);
        sender.try_send(&[7; 8]).unwrap();
        let reader = Arc::clone(&queue);
        let thread = thread::spawn(move || {
            let mut receiver = receiver(&reader);
            let mut message = Vec::new();
            receiver.try_receive(&mut message).unwrap();
            assert_eq!(message, [7; 8]);
        });
        while let Err(error) = sender.try_send(&[9; 8]) {
            assert!(matches!(error, SendError::Full), "{error}");
            thread::yield_now();
        }
        thread.join().unwrap();
    });
}

/// Fails without the fence of the sender before it looks for an announcement (Q4), without the
/// fence of the receiver after its announcement (Q3), when the receiver does not look again after
/// it, when the sender wakes before it stores its position, or does not wake.
#[test]
fn a_sleeping_receiver_is_told_of_a_message() {
    loom::model(|| {
        let queue = queue(4);
        let reader = Arc::clone(&queue);
        let thread = thread::spawn(move || {
            let mut receiver = receiver(&reader);
            let mut message = Vec::new();
            receiver.receive(&mut message, &[], None).unwrap();
            message
        });
        let mut sender = sender(&queue);
        sender.send(&[7; 8], &[], None).unwrap();
        assert_eq!(thread.join().unwrap(), [7; 8]);
    });
}

/// The same for the sender, which waits for room. Fails by the same weakenings on the other side.
#[test]
fn a_sleeping_sender_is_told_of_room() {
    loom::model(|| {
        let queue = queue(2);
        let mut sender = sender(&queue);
        sender.try_send(&[7; 8]).unwrap();
        let reader = Arc::clone(&queue);
        let thread = thread::spawn(move || {
            let mut receiver = receiver(&reader);
            let mut message = Vec::new();
            receiver.try_receive(&mut message).unwrap();
            message
        });
        sender.send(&[9; 8], &[], None).unwrap();
        assert_eq!(thread.join().unwrap(), [7; 8]);
    });
}

/// Three words through a buffer of two: both sides sleep and are woken in turn. Fails when a waker
/// takes no announcement back, or a side waits for more than there will be.
#[test]
fn a_message_longer_than_the_buffer_passes_in_pieces() {
    loom::model(|| {
        let queue = queue(2);
        let reader = Arc::clone(&queue);
        let thread = thread::spawn(move || {
            let mut receiver = receiver(&reader);
            let mut message = Vec::new();
            receiver.receive(&mut message, &[], None).unwrap();
            message
        });
        let mut sender = sender(&queue);
        let message: Vec<u8> = (1..=15).collect();
        sender.send(&message, &[], None).unwrap();
        assert_eq!(thread.join().unwrap(), message);
    });
}

/// A short message and one of twice the buffer, so that the second begins in the middle of it.
/// Fails when a side waits for the rest of its message, however long: then both sleep.
#[test]
fn both_sides_of_a_long_message_never_sleep_at_once() {
    loom::model(|| {
        let queue = queue(4);
        let mut sender = sender(&queue);
        sender.try_send(&[]).unwrap();
        let reader = Arc::clone(&queue);
        let thread = thread::spawn(move || {
            let mut receiver = receiver(&reader);
            let mut message = Vec::new();
            receiver.receive(&mut message, &[], None).unwrap();
            assert_eq!(message, []);
            receiver.receive(&mut message, &[], None).unwrap();
            message
        });
        let message: Vec<u8> = (1..=64).collect();
        sender.send(&message, &[], None).unwrap();
        assert_eq!(thread.join().unwrap(), message);
    });
}

/// Fails when the receiver looks at the state relaxed or after the position (Q6), or the detach
/// does not wake.
#[test]
fn a_message_before_a_detach_is_received_and_the_detach_ends_the_wait() {
    loom::model(|| {
        let queue = queue(4);
        let reader = Arc::clone(&queue);
        let thread = thread::spawn(move || {
            let mut receiver = receiver(&reader);
            let mut message = Vec::new();
            receiver.receive(&mut message, &[], None).unwrap();
            assert_eq!(message, [7; 8]);
            let end = receiver.receive(&mut message, &[], None);
            assert!(matches!(end, Err(ReceiveError::Detached)), "{end:?}");
        });
        let mut sender = sender(&queue);
        sender.try_send(&[7; 8]).unwrap();
        drop(ManuallyDrop::into_inner(sender));
        thread.join().unwrap();
    });
}

/// Fails when a detach does not wake, or the sender's last look leaves out the state.
#[test]
fn a_sender_that_waits_for_room_is_told_of_the_detach() {
    loom::model(|| {
        let queue = queue(2);
        let mut sender = sender(&queue);
        sender.try_send(&[7; 8]).unwrap();
        let reader = Arc::clone(&queue);
        let thread = thread::spawn(move || drop(reader.receiver(2).unwrap()));
        let end = sender.send(&[9; 8], &[], None);
        assert!(matches!(end, Err(SendError::Detached)), "{end:?}");
        thread.join().unwrap();
    });
}

/// A third party that knows of the sender's death. Fails when a close does not wake.
#[test]
fn a_sweep_ends_the_wait_for_a_dead_sender() {
    loom::model(|| {
        let queue = queue(2);
        let _dead = sender(&queue);
        let sweeper = Arc::clone(&queue);
        let thread = thread::spawn(move || assert_eq!(sweeper.sweep(|owner| owner == 1), 1));
        let mut receiver = receiver(&queue);
        let end = receiver.receive(&mut Vec::new(), &[], None);
        assert!(matches!(end, Err(ReceiveError::Detached)), "{end:?}");
        thread.join().unwrap();
    });
}

/// Fails when the wait leaves out the caller's own watches, or does not look what woke it.
#[test]
fn a_watch_of_the_callers_ends_the_wait() {
    loom::model(|| {
        let queue = queue(2);
        let bell = Arc::new(AtomicU64::new(0));
        let ringer = Arc::clone(&bell);
        let thread = thread::spawn(move || {
            ringer.store(1, Ordering::Release);
            futex::wake_all(&*ringer);
        });
        let mut receiver = receiver(&queue);
        let also = [Watch { cell: (&*bell).into(), half: Half::Low, seen: 0 }];
        let end = receiver.receive(&mut Vec::new(), &also, None);
        assert!(matches!(end, Err(ReceiveError::Interrupted)), "{end:?}");
        thread.join().unwrap();
    });
}

/// Of two that come at once one is the sender. Fails when the state is looked at and then stored.
#[test]
fn a_side_is_had_by_one() {
    loom::model(|| {
        let queue = queue(1);
        let other = Arc::clone(&queue);
        let thread = thread::spawn(move || {
            let taken = other.sender(1);
            let won = taken.is_ok();
            std::mem::forget(taken);
            won
        });
        let taken = queue.sender(2);
        let won = taken.is_ok();
        std::mem::forget(taken);
        assert!(won != thread.join().unwrap());
        assert!(matches!(queue.side_state(Side::Sender), SideState::Attached { owner: 1 | 2 }));
    });
}

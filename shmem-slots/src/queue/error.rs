//! What can go wrong with a queue, one enum for each kind of operation.

use super::side::Side;
use crate::futex::WaitError;

/// Why a side of a queue could not be taken.
#[derive(Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SideError {
    /// Another process has it. A queue has one sender and one receiver in its life.
    #[error("the queue already has a {side}: process {owner}; create another queue")]
    Taken {
        /// The side of the queue.
        side: Side,
        /// The process that has it.
        owner: u32,
    },
    /// Its process has detached, or it was closed.
    #[error("the {side} of the queue has detached; create another queue")]
    Gone {
        /// The side of the queue.
        side: Side,
    },
    /// Owner 0 means vacant.
    #[error("owner 0 cannot have a side of a queue; use a pid")]
    BadOwner,
}

/// Why a message was not sent, or not completely.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The receiver has detached: no process will read this or any other message.
    #[error("the receiver of the queue has detached")]
    Detached,
    /// Longer than the queue allows. Nothing of it was sent.
    #[error("a message of {len} bytes is too long, the queue takes {limit}")]
    TooLong {
        /// Its length.
        len: usize,
        /// The largest length of a message, in bytes.
        limit: usize,
    },
    /// Another message was sent in part: its rest must follow.
    #[error(
        "{sent} bytes of another message of {begun} bytes were sent; send the rest of that one first"
    )]
    Unfinished {
        /// How much of it was sent.
        sent: usize,
        /// How long it is.
        begun: usize,
    },
    /// There is no room ([`Sender::try_send`](super::Sender::try_send)). Call again with the same
    /// message.
    #[error("the queue is full")]
    Full,
    /// The deadline passed. Call again with the same message, or detach.
    #[error("the deadline passed before the queue had room")]
    TimedOut,
    /// One of the caller's own watches has changed, or a signal handler ran. Check which, then call
    /// again with the same message, or detach.
    #[error("a watch of the caller or a signal ended the wait for room in the queue")]
    Interrupted,
    /// The shared cells hold what no receiver writes.
    #[error(
        "the queue is corrupt: its receiver claims to have read up to word {read} of {written}; create another queue"
    )]
    Corrupt {
        /// The read position found.
        read: u64,
        /// How much was written.
        written: u64,
    },
    /// The wait itself failed.
    #[error("waiting for room in the queue failed")]
    Wait(#[from] WaitError),
}

/// Why no message was received.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The sender has detached, and all whole messages were read. A message that it had sent only
    /// in part is gone.
    #[error("the sender of the queue has detached")]
    Detached,
    /// No whole message has arrived ([`Receiver::try_receive`](super::Receiver::try_receive)).
    #[error("the queue is empty")]
    Empty,
    /// The deadline passed. What has arrived of a message is kept for the next call.
    #[error("the deadline passed before a whole message arrived")]
    TimedOut,
    /// One of the caller's own watches has changed, or a signal handler ran. Check which, then call
    /// again, or detach.
    #[error("a watch of the caller or a signal ended the wait for a message")]
    Interrupted,
    /// The shared cells hold a position that no sender writes.
    #[error(
        "the queue is corrupt: its sender claims to have written up to word {written}, {read} are read; create another queue"
    )]
    Corrupt {
        /// The write position found.
        written: u64,
        /// How much was read.
        read: u64,
    },
    /// The shared cells hold a length that no sender writes.
    #[error(
        "the queue is corrupt: a message of {len} bytes, the queue takes {limit}; create another queue"
    )]
    BadLength {
        /// The length found.
        len: u64,
        /// The largest length of a message, in bytes.
        limit: usize,
    },
    /// The wait itself failed.
    #[error("waiting for a message failed")]
    Wait(#[from] WaitError),
}

crate::debug_as_chain!(SideError, SendError, ReceiveError);

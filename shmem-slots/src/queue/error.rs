//! What can go wrong with a queue, and what to do about it.

use super::Side;
use crate::futex::WaitError;

/// Why a side of a queue could not be taken.
#[derive(Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SideError {
    /// Somebody has it. A queue has one sender and one receiver in its life.
    #[error("the queue has a {side} already: process {owner}; create another queue")]
    Taken {
        /// Which side.
        side: Side,
        /// Who has it.
        owner: u32,
    },
    /// It was had by somebody who detached, or it was closed.
    #[error("the {side} of the queue has detached; create another queue")]
    Gone {
        /// Which side.
        side: Side,
    },
    /// The owner is to be told from nobody.
    #[error("owner 0 cannot have a side of a queue; use a pid")]
    BadOwner,
}

/// Why a message was not sent, or not to its end.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The receiver has detached: nobody will read this or any other message.
    #[error("the receiver of the queue has detached")]
    Detached,
    /// Longer than the queue allows. Nothing of it was sent.
    #[error("a message of {len} bytes is too long, the queue takes {limit}")]
    TooLong {
        /// Its length.
        len: usize,
        /// The longest.
        limit: usize,
    },
    /// A part of another message was sent before: the rest of that one must follow.
    #[error("{sent} bytes of a message of {begun} bytes were sent; send that one to its end first")]
    Unfinished {
        /// How much of it was sent.
        sent: usize,
        /// How long it is.
        begun: usize,
    },
    /// No room ([`super::Sender::try_send`]). Call again with the same message.
    #[error("the queue is full")]
    Full,
    /// The deadline passed. Call again with the same message, or detach.
    #[error("the queue had no room until the deadline")]
    TimedOut,
    /// One of the caller's own watches has changed, or a signal handler ran. Look what it was, then
    /// call again with the same message, or detach.
    #[error("something else ended the wait for room in the queue")]
    Interrupted,
    /// The shared cells hold what no receiver writes.
    #[error(
        "the queue is spoilt: its receiver claims to have read up to {read} of {written} words"
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
    /// The sender has detached, and all whole messages were read. A message that it had sent only a
    /// part of is gone.
    #[error("the sender of the queue has detached")]
    Detached,
    /// No whole message is there ([`super::Receiver::try_receive`]).
    #[error("the queue is empty")]
    Empty,
    /// The deadline passed. What has come of a message is kept for the next call.
    #[error("no whole message came until the deadline")]
    TimedOut,
    /// One of the caller's own watches has changed, or a signal handler ran. Look what it was, then
    /// call again, or detach.
    #[error("something else ended the wait for a message")]
    Interrupted,
    /// The shared cells hold a position that no sender writes.
    #[error(
        "the queue is spoilt: its sender claims to have written up to {written}, {read} words are read"
    )]
    Corrupt {
        /// The write position found.
        written: u64,
        /// How much was read.
        read: u64,
    },
    /// The shared cells hold a length that no sender writes.
    #[error("the queue is spoilt: a message of {len} bytes, it takes {limit}")]
    BadLength {
        /// The length found.
        len: u64,
        /// The longest.
        limit: usize,
    },
    /// The wait itself failed.
    #[error("waiting for a message failed")]
    Wait(#[from] WaitError),
}

crate::debug_as_chain!(SideError, SendError, ReceiveError);

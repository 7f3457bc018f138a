//! A bounded queue of messages in shared memory, from one process to another.
//!
//! One sender, one receiver; messages are bytes, of any length up to a limit that may be far beyond
//! the buffer: longer ones pass through it in pieces. The counterpart of PostgreSQL's `shm_mq`.
//!
//! ```
//! use shmem_slots::queue::{Queue, QueueOptions, ReceiveError};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let options = QueueOptions { buffer: 4096, max_message: 1 << 20, tag: 1 };
//! let queue = Queue::create(&options)?; // shared with every child that is forked from here on
//!
//! let mut sender = queue.sender(std::process::id())?; // in one process
//! sender.send(b"hello", &[], None)?;
//! sender.detach();
//!
//! let mut receiver = queue.receiver(std::process::id())?; // in another
//! let mut message = Vec::new();
//! receiver.receive(&mut message, &[], None)?; // what was sent before the detach can be read
//! assert_eq!(message, b"hello");
//! assert!(matches!(receiver.receive(&mut message, &[], None), Err(ReceiveError::Detached)));
//! # Ok(())
//! # }
//! ```
//!
//! | guarantee | how |
//! |---|---|
//! | bytes before position | the position is stored as a release after the bytes (Q1, Q2) |
//! | no wake-up is lost | announce, fence, look again; store, fence, look for announcements (Q3, Q4) |
//! | one system call for a wake, none when the other side is awake | the announcement is taken back by the waker |
//! | what was sent before a detach is read | the standing is looked at before the position (Q5, Q6) |
//! | any bytes in the region give a value or an error | each side trusts its own position alone |
//!
//! Words. A message is one word with its length in bytes, then its bytes in whole words. The sender
//! counts the words that it has written, the receiver those that it has read, both from 0 and for
//! ever; each keeps its count in private memory and shows it in a cell of its own, which the other one
//! reads. Between them lie at most as many words as the buffer has: more is an error (`Corrupt`). So no
//! byte from the region is ever used as an index, and a length is compared with the limit first.
//!
//! Sleep. A side that cannot go on stores in its announcement which position of the other side it
//! waits for, and sleeps on that cell. The other side, once it has moved there, stores 0 over it and
//! wakes. To spare wake-ups in the midst of a long message, a sender waits for room for the rest of
//! its message or half the buffer, a receiver for the rest of its message or half a buffer. Both can
//! never wait at once: then more than half the buffer would be full, and less than half.
//!
//! Ordering. (Q1) a position is a release, after the bytes; (Q2) the look at the other's position is
//! an acquire, before the bytes are touched. (Q3) the fence of a sleeper stands between its
//! announcement and its last look, (Q4) the fence of the other side between its position (or its
//! standing) and the look for announcements: at least one of the two sees the other. The kernel
//! compares the announcement once more while it queues the sleeper. (Q5) a detach is a release,
//! (Q6) the look at a standing an acquire that comes before the look at the position.
//!
//! Crash. A side killed between any two steps:
//!
//! | killed | the other side |
//! |---|---|
//! | before its position is stored | does not see that piece; the message never ends |
//! | after that, before the wake | is awake and sees it; or sleeps on, until told of the death |
//! | after it took back an announcement, before the wake | sleeps on, until told: so a close always wakes |
//! | between two pieces | has a part of a message; it goes with the detach |
//! | asleep | stores over a stale announcement and wakes nobody, once |
//!
//! A killed process detaches from nothing. Whoever learns of its death (its parent; a peer that gave
//! the wait a [`Watch`](crate::futex::Watch) on something that changes then, such as a slot's word) tells the queue by
//! [`Queue::sweep`] or [`Queue::close`], and the other side is woken and gets `Detached`.
//!
//! Fork. A child inherits the mapping; a [`Sender`] or [`Receiver`] is of the process that made it and
//! must not be used or dropped in a child of it.
//!
//! Trust. The other side can withhold messages and wake-ups, and send any messages: give a deadline.

mod error;
mod layout;
mod receive;
#[cfg(not(loom))]
mod region;
mod send;
mod sleep;
mod words;

pub use error::{ReceiveError, SendError, SideError};
pub use layout::{MAX_BYTES, QueueOptions};
pub use receive::Receiver;
pub use send::Sender;

use crate::fault;
use crate::memory::{Heap, Memory};
use crate::primitive::{AtomicU64, Ordering};
use layout::Layout;
use std::fmt;

/// In a standing, beside the owner: has detached.
const DETACHED: u64 = 1 << 32;

/// One of the two ends of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that writes.
    Sender,
    /// The one that reads.
    Receiver,
}

impl Side {
    const fn other(self) -> Self {
        match self {
            Self::Sender => Self::Receiver,
            Self::Receiver => Self::Sender,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sender => "sender",
            Self::Receiver => "receiver",
        })
    }
}

/// What has become of a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has taken it yet.
    Vacant,
    /// This process has it, as far as the queue knows.
    Attached {
        /// Its pid, or whatever number it gave.
        owner: u32,
    },
    /// It has detached, or was closed. For ever.
    Detached,
}

impl Standing {
    /// Of any bits.
    const fn of(bits: u64) -> Self {
        let owner = bits as u32;
        if bits & DETACHED != 0 {
            Self::Detached
        } else if owner == 0 {
            Self::Vacant
        } else {
            Self::Attached { owner }
        }
    }
}

/// A queue over cells of `M`.
#[derive(Debug)]
pub struct Queue<M = crate::Region> {
    memory: M,
    layout: Layout,
}

impl Queue<Heap> {
    /// A queue in the private memory of this process, between threads.
    ///
    /// `None` when the sizes are out of range.
    #[must_use]
    pub fn heap(options: &QueueOptions) -> Option<Self> {
        let layout = Layout::new(options.buffer, options.max_message)?;
        let memory = Heap::zeroed(layout.total());
        layout.write(memory.cells().0, options.tag);
        Some(Self { memory, layout })
    }
}

impl<M: Memory> Queue<M> {
    /// Where the cells lie.
    #[must_use]
    pub const fn memory(&self) -> &M {
        &self.memory
    }

    /// Bytes of the buffer.
    #[must_use]
    pub const fn buffer(&self) -> usize {
        self.layout.words * 8
    }

    /// The longest message, in bytes.
    #[must_use]
    pub const fn max_message(&self) -> usize {
        self.layout.max_message
    }

    /// Makes the caller, whom `owner` stands for (its pid), the sender. It is that until it drops or
    /// detaches what it gets here. Messages may be sent before there is a receiver.
    ///
    /// # Errors
    /// The queue has or had a sender, or was closed.
    #[doc(alias = "shm_mq_set_sender")]
    pub fn sender(&self, owner: u32) -> Result<Sender<'_, M>, SideError> {
        self.take(Side::Sender, owner)?;
        Ok(Sender::new(self))
    }

    /// Makes the caller, whom `owner` stands for (its pid), the receiver. It is that until it drops or
    /// detaches what it gets here.
    ///
    /// # Errors
    /// The queue has or had a receiver, or was closed.
    #[doc(alias = "shm_mq_set_receiver")]
    pub fn receiver(&self, owner: u32) -> Result<Receiver<'_, M>, SideError> {
        self.take(Side::Receiver, owner)?;
        Ok(Receiver::new(self))
    }

    fn take(&self, side: Side, owner: u32) -> Result<(), SideError> {
        if owner == 0 {
            return Err(SideError::BadOwner);
        }
        // Compared: of two that come at once one is refused. It orders nothing.
        let relaxed = Ordering::Relaxed;
        let swap = self.standing_cell(side).compare_exchange(0, u64::from(owner), relaxed, relaxed);
        match swap.map_err(Standing::of) {
            Ok(_) => {
                fault::point("queue:attached");
                Ok(())
            }
            Err(Standing::Attached { owner }) => Err(SideError::Taken { side, owner }),
            // Vacant: bits that nobody writes.
            Err(Standing::Detached | Standing::Vacant) => Err(SideError::Gone { side }),
        }
    }

    /// What has become of a side.
    #[doc(alias = "shm_mq_get_sender")]
    #[doc(alias = "shm_mq_get_receiver")]
    #[must_use]
    pub fn standing(&self, side: Side) -> Standing {
        Standing::of(self.standing_cell(side).load(Ordering::Acquire)) // Q6, pairs with Q5
    }

    /// Detaches a side on its behalf, and wakes the other one: for whoever knows that its process is
    /// dead, or will never come. Harmless when the side has detached already.
    ///
    /// The side itself, should it live, is not told by its own standing: its next message goes to a
    /// receiver that may have gone away.
    pub fn close(&self, side: Side) {
        fault::point("detach:before_swap");
        // Or-ed: the owner stays readable for `sweep`.
        self.standing_cell(side).fetch_or(DETACHED, Ordering::Release); // Q5, pairs with Q6
        self.wake_for_certain(side.other());
    }

    /// Closes each side whose owner `is_dead`; returns how many had not detached. To be called by
    /// whoever learns of the death of a process that may have had a side.
    ///
    /// A side that had detached is closed once more: its process may have died before the wake.
    pub fn sweep(&self, is_dead: impl Fn(u32) -> bool) -> usize {
        let mut closed = 0;
        for side in [Side::Sender, Side::Receiver] {
            let bits = self.standing_cell(side).load(Ordering::Relaxed);
            let owner = bits as u32;
            if owner != 0 && is_dead(owner) {
                self.close(side);
                closed += usize::from(bits & DETACHED == 0);
            }
        }
        closed
    }

    fn cell(&self, number: usize) -> &AtomicU64 {
        // In range: the numbers of the layout, and that the memory has all its cells is checked when
        // it is made or attached.
        &self.memory.cells().0[number]
    }

    fn standing_cell(&self, side: Side) -> &AtomicU64 {
        self.cell(match side {
            Side::Sender => layout::SENDER,
            Side::Receiver => layout::RECEIVER,
        })
    }

    fn announcement(&self, side: Side) -> &AtomicU64 {
        self.cell(match side {
            Side::Sender => layout::SENDER + 1,
            Side::Receiver => layout::RECEIVER + 1,
        })
    }

    fn position(&self, side: Side) -> &AtomicU64 {
        self.cell(match side {
            Side::Sender => layout::WRITTEN,
            Side::Receiver => layout::READ,
        })
    }

    fn words(&self) -> &[AtomicU64] {
        // The same range as in `cell`.
        &self.memory.cells().0[layout::BUFFER..layout::BUFFER + self.layout.words]
    }

    /// Shows how far `side` has come, and wakes the other one if it waits for that.
    fn publish(&self, side: Side, position: u64) {
        self.position(side).store(position, Ordering::Release); // Q1, pairs with Q2
        fault::point(match side {
            Side::Sender => "send:published",
            Side::Receiver => "receive:published",
        });
        self.wake(side.other(), position);
    }
}

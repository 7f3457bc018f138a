//! A bounded queue of messages in shared memory, from one process to another.
//!
//! A queue has one sender and one receiver. Messages are bytes, of any length up to a limit, which
//! may be far beyond the buffer: longer messages pass through it in pieces. The counterpart of
//! PostgreSQL's `shm_mq`.
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
//! receiver.receive(&mut message, &[], None)?; // messages sent before the detach are received
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
//! | one system call for a wake, none when the other side is awake | the waker clears the announcement |
//! | what was sent before a detach is read | the side's state is loaded before the position (Q5, Q6) |
//! | any bytes in the region give a value or an error | each side trusts its own position alone |
//!
//! Words. A message is one word with its length in bytes, then its bytes in whole words. The sender
//! counts the words that it has written, the receiver those that it has read, both from 0 on and
//! without end. Each keeps its count in private memory and publishes it in a cell of its own, which
//! the other side reads. The two counts differ by at most the size of the buffer; more is an error
//! (`Corrupt`). So no byte from the region is ever used as an index, and a length is compared with
//! the limit first.
//!
//! Sleep. A side that cannot go on stores in its announcement which position of the other side it
//! waits for, and sleeps on that cell. When the other side has reached that position, it stores 0
//! over the announcement and wakes the sleeper. To save wake-ups in the middle of a long message, a
//! sender waits until there is room for the rest of its message or for half the buffer; a receiver
//! waits for the rest of its message or half a buffer. They never both wait: more than half of the
//! buffer would have to be full, and less than half.
//!
//! Ordering. (Q1) A position is a release, after the bytes; (Q2) the load of the other side's
//! position is an acquire, before the bytes are accessed. (Q3) The fence of a sleeper comes between
//! its announcement and its last look, (Q4) the fence of the other side between its position (or
//! its state) and its look for announcements: at least one of the two sees the other. The kernel
//! compares the announcement once more while it queues the sleeper. (Q5) A detach is a release,
//! (Q6) the load of a state an acquire that comes before the load of the position.
//!
//! Crash. A side killed between any two steps:
//!
//! | killed | the other side |
//! |---|---|
//! | before its position is stored | does not see that piece; the message never ends |
//! | after that, before the wake | is awake and sees it, or sleeps until it learns of the death |
//! | after it cleared an announcement, before the wake | sleeps until it learns of the death: a close always wakes |
//! | between two pieces | has a part of a message, which the detach discards |
//! | asleep | stores over a stale announcement and wakes nobody, once |
//!
//! A killed process detaches from nothing. Whoever learns of its death (its parent, or a peer whose
//! wait included a [`Watch`](crate::futex::Watch) on something that changes then, such as a slot's
//! word) calls [`Queue::sweep`] or [`Queue::close`]. The other side is woken and gets `Detached`.
//!
//! Fork. A child inherits the mapping. A [`Sender`] or [`Receiver`] belongs to the process that
//! made it; a child must neither use nor drop it.
//!
//! Trust. The other side can withhold messages and wake-ups, and send any message. Give a deadline.

mod close;
mod error;
mod layout;
mod receive;
#[cfg(not(loom))]
mod region;
mod send;
mod shared;
mod side;
mod sleep;
mod words;

pub use error::{ReceiveError, SendError, SideError};
pub use layout::{MAX_BYTES, QueueOptions};
pub use receive::Receiver;
pub use send::Sender;
pub use shared::Queue;
pub use side::{Side, SideState};

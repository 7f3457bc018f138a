//! A ring of values in shared memory: one process appends, any number of processes read along.
//!
//! The ring keeps the last values, as many as it has entries. Values are numbered from 0, without
//! gaps. The writer never waits and does not know its readers. Each reader has a [`Cursor`] of its
//! own; a slow reader learns exactly how many values it has missed.
//!
//! ```
//! use shmem_slots::ring::{Ring, RingOptions};
//! use std::os::fd::AsFd;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let ring: Ring<[u64; 2]> = Ring::create(&RingOptions { entries: 4, tag: 1 })?; // the writer
//!
//! let file = ring.region().as_fd().try_clone_to_owned()?; // a reader, in any process
//! let reader: Ring<[u64; 2]> = Ring::attach(file, 1)?;
//! let mut cursor = reader.oldest();
//!
//! for value in 0..6 {
//!     ring.append(&[value; 2])?;
//! }
//! ring.wake();
//!
//! assert_eq!(reader.next(&mut cursor)?, Some((2, [2, 2]))); // 0 and 1 were overwritten
//! assert_eq!(cursor.missed(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! | guarantee | how |
//! |---|---|
//! | appending is wait-free | a fixed number of stores; readers write nothing |
//! | a copy is never torn | the entry's number is compared again after it, with fences (N2, N5) |
//! | every value is either read or counted as missed, once | the cursor moves on by one number for each |
//! | a wait misses no value | the kernel compares the count with what the reader has read |
//! | no other process can write | the memfd is sealed against it before anybody else has it |
//! | any bytes in the ring give a value or an error | numbers are compared, places are computed modulo the entries |
//!
//! An entry is a cell with its number plus 1, and the value. It holds 0 while it is written.
//!
//! | | writer, value number n | reader, at number n |
//! |---|---|---|
//! | 1 | stores 0 in the entry | loads the count (N4): above n |
//! | 2 | release fence (N2) | loads the entry's number (N3): n + 1 |
//! | 3 | stores the value | copies |
//! | 4 | stores n + 1 in the entry, a release (N3) | acquire fence (N5) |
//! | 5 | stores n + 1 as the count, a release (N4) | loads the number again: the same |
//!
//! Ordering. (N4) A reader that sees the count sees the entry. (N3) A reader that sees the entry's
//! number sees the value. (N2, N5) A reader that copied anything of a later value sees 0 or a later
//! number at its second load, and throws the copy away.
//!
//! Missed values. The entry of number n is written again for number n + entries, and for no other.
//! So an entry with 0 or a higher number means that value n is gone: it is counted, and the reader
//! goes on with n + 1. Numbers that no writer can have left there are an error.
//!
//! Sleep. The futex is the low half of the count. A reader that has read all sleeps while the count
//! is where its cursor stands. Readers may not write, so they cannot announce that they sleep, and
//! a wake is one system call, always. The writer may append several values and wake once.
//!
//! Crash. A writer killed between any two steps leaves an entry that no reader takes for a value,
//! and a count below it. Readers that are killed or stopped concern nobody.
//!
//! Fork. The writer's mapping is left out of its children, so that a child cannot write: it
//! attaches, as any other process. A child must neither use nor drop the writer's [`Ring`].

mod append;
mod error;
mod layout;
mod read;
#[cfg(not(loom))]
mod region;
mod shared;

pub use error::{CursorError, RingError};
pub use layout::{MAX_ENTRIES, RingOptions};
pub use read::Cursor;
pub use shared::Ring;

//! A lock-free array of slots in shared memory.
//!
//! Any process claims a free slot, fills it, and publishes it. One process, the *manager*, takes
//! published slots in, reports on them, and ends them. Whoever has a slot's [`Key`] asks by one
//! atomic load what has become of it, or sleeps until it changes. A process that dies between any
//! two instructions leaves nothing that cannot be given back.
//!
//! ```
//! use shmem_slots::{Options, Slots, State};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let options = Options {
//!     capacity: 64,
//!     tag: 1,
//!     shared_cells: 0,
//!     annex_cells: 0,
//!     spare_sets: 0,
//!     first_generation: 0,
//! };
//! let slots: Slots<[u64; 4], [u64; 1]> = Slots::create(&options)?;
//!
//! let me = std::process::id();
//! let mut claim = slots.claim(me)?; // any process
//! claim.write(&[1, 2, 3, 4])?;
//! let key = claim.publish_kept(0)?;
//!
//! let mut found = None; // the manager
//! slots.drain_changes(|index, word| found = Some((index, word.state())));
//! assert_eq!(found, Some((key.index, State::Published)));
//! assert_eq!(slots.read(key)?, [1, 2, 3, 4]);
//! slots.write_report(key, &[42])?;
//! slots.end(key, me)?;
//!
//! assert_eq!(slots.read_report(key)?, [42]); // stays, however many other slots come and go,
//! slots.release(key); // until whoever keeps it has read it
//! # Ok(())
//! # }
//! ```
//!
//! The types that matter: [`Slots`] is the array, [`Snapshot`] is one slot's word, read once, and
//! [`Key`] names one tenancy of one slot for ever.
//!
//! | guarantee | how |
//! |---|---|
//! | asking is wait-free | one load of one word that holds generation, state, flags and pid |
//! | a claim is one swap that names its owner | a dead owner's claim is recognized and swept |
//! | a report stays until it was read | a kept slot is taken only when no slot is free, oldest first |
//! | a copy is never torn | the generation is compared again after it, with fences on both sides |
//! | a stale key finds nobody | generations are retired when they are used up, never wrapped |
//! | the cost does not grow with the number of slots | hint trees; a wrong hint costs time only |
//! | a wait misses no change | the kernel compares with what was seen before it sleeps |
//! | any bytes in the region give a value or an error | clamped, checked, bounded |
//!
//! It does not allocate in the region, hold pointers there, block, or know what a slot stands for.
//!
//! Four more things live in shared memory, each by itself: a [`Latch`], on which one process
//! sleeps and which any process sets, a [`queue`] of messages from one process to another, a
//! [`ring`] of values from one process to any number of others, and [`jobs`] from any number of
//! processes to any number of others. Each lies in a region of its own,
//! or in a `Segment`: plain bytes that are made at run time, of any size.
//!
//! Reading order: `word` (the life of a slot), `slots` (the array), `claim`, `manage`, `keep`,
//! `sweep`, `reset` and `flags` (what is done with it), `payload` and `report` (data in and out),
//! `hints`, `wait` and [`futex`], `layout`, `format`, `region`, `attach`, `sys`.
//!
//! Feature `fault`: named crash points for tests.
#![deny(unsafe_code)]

mod word;

mod claim;
mod flags;
mod hold;
mod keep;
mod manage;
mod offer;
mod reset;
mod slots;
mod sweep;

mod payload;
mod report;
mod words;

mod hints;
#[cfg(not(loom))]
mod pinned;
mod wait;

mod annex;
mod side_cells;

pub mod bells;
pub mod futex;
pub mod jobs;
mod latch;
#[cfg(loom)]
mod loom_futex;
pub mod queue;
pub mod ring;
pub mod taker;

#[cfg(not(loom))]
mod attach;
mod cell;
mod format;
mod header;
mod layout;
mod memory;
mod options;
#[cfg(not(loom))]
mod region;
#[cfg(not(loom))]
mod segment;

mod chain;
mod error;
#[cfg(feature = "fault")]
#[doc(hidden)]
pub mod fault;
#[cfg(not(feature = "fault"))]
mod fault;
mod primitive;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod sys;

pub use cell::{CellRef, Cells};
pub use chain::chain;
pub use claim::Claim;
pub use error::{
    AttachError, ClaimError, ClaimLost, CreateError, FlagError, ManageError, NotWritable,
    ReadError, ReportError,
};
pub use hold::{DetachedHold, Hold};
pub use latch::{Latch, Seen, Wake};
pub use layout::HOLDS;
pub use memory::{Access, Heap, Memory};
pub use offer::Offer;
pub use options::{MAX_CAPACITY, Options};
#[cfg(not(loom))]
pub use pinned::PinnedSlot;
#[cfg(not(loom))]
pub use region::{MEMFD_NAME, Region};
pub use reset::After;
#[cfg(not(loom))]
pub use segment::{OutOfSegment, Segment};
pub use side_cells::WritableCells;
pub use slots::Slots;
#[cfg(not(loom))]
pub use sys::standard_streams::StandardStreams;
pub use word::{Key, MAX_FLAGS, MAX_GENERATION, MAX_PID, Snapshot, State};

/// Under loom there is no mapping: the default backing is the heap.
#[cfg(loom)]
pub type Region = Heap;

/// The examples of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct ReadMe;

//! A lock-free array of slots in shared memory.
//!
//! Any process claims a free slot, fills it, and publishes it; one process, the *manager*, takes
//! published slots in, reports on them, and frees them. Whoever has a slot's [`Key`] asks by one
//! atomic load what has become of it, or sleeps until it changes. A process that dies between any two
//! instructions leaves nothing that cannot be given back.
//!
//! ```
//! use shmem_slots::{Options, Slots, State};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let options = Options { capacity: 64, tag: 1, shared_cells: 0, first_generation: 0 };
//! let slots: Slots<[u64; 4], [u64; 1]> = Slots::create(&options)?;
//!
//! let mut claim = slots.claim(std::process::id())?; // anybody
//! claim.write(&[1, 2, 3, 4])?;
//! let key = claim.publish(0)?;
//!
//! let mut found = None; // the manager
//! slots.drain_changes(|index, word| found = Some((index, word.state())));
//! assert_eq!(found, Some((key.index, State::Published)));
//! assert_eq!(slots.read(key)?, [1, 2, 3, 4]);
//! slots.write_report(key, &[42])?;
//! slots.free(key)?;
//!
//! assert_eq!(slots.read_report(key), Some([42])); // until the slot is used again
//! # Ok(())
//! # }
//! ```
//!
//! Types that matter: [`Slots`] is the array; [`Snapshot`] is one slot's word, read once; [`Key`]
//! names one tenancy of one slot for ever.
//!
//! | guarantee | how |
//! |---|---|
//! | asking is wait-free | one acquire load of one word that holds generation, state, flags and pid |
//! | a claim is one swap that names its owner | a dead owner's claim is recognised and swept |
//! | a copy is never torn | the generation is looked at again after it, with fences on both sides |
//! | a stale key finds nobody | generations are retired when they are used up, never wrapped |
//! | the cost does not grow with the number of slots | hint trees; a wrong hint costs time only |
//! | a wait misses no change | compared in the kernel with what was seen |
//! | any bytes in the region give a value or an error | clamped, checked, bounded |
//!
//! It does not: allocate in the region, hold pointers there, block, or know what a slot stands for.
//!
//! Beside the slots, in regions of its own: [`queue`], messages of any size from one process to
//! another.
//!
//! Reading order: `word` (the life of a slot), `slots` (claim and publish), `manage` (drain, update,
//! free, sweep), `payload` and `report` (data in and out), `hints`, `wait` and [`futex`], `layout`,
//! `header`, `region`, `sys`. By themselves: `latch` and [`queue`].
//!
//! Feature `fault`: named crash points for tests, see [`fault`].
#![deny(unsafe_code)]

mod cell;
mod chain;
mod error;
pub mod fault;
pub mod futex;
mod header;
mod hints;
mod latch;
mod layout;
#[cfg(loom)]
mod loom_futex;
mod manage;
mod memory;
mod payload;
mod primitive;
pub mod queue;
#[cfg(not(loom))]
mod region;
mod report;
mod side_cells;
mod slots;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod sys;
mod wait;
mod word;

pub use cell::{CellRef, Cells};
pub use chain::chain;
pub use error::{
    AttachError, ClaimError, ClaimLost, CreateError, FlagError, ManageError, NotWritable, ReadError,
};
pub use latch::{Latch, Seen, Wake};
pub use layout::MAX_CAPACITY;
pub use memory::{Access, Heap, Memory};
#[cfg(not(loom))]
pub use region::{MEMFD_NAME, Region};
pub use side_cells::WritableCells;
pub use slots::{Claim, Options, Slots};
#[cfg(not(loom))]
pub use sys::pinned::PinnedSlot;
#[cfg(not(loom))]
pub use sys::standard_streams::StandardStreams;
pub use word::{Key, MAX_FLAGS, MAX_GENERATION, MAX_PID, Snapshot, State};

/// Under loom there is no mapping: the default backing is the heap.
#[cfg(loom)]
pub type Region = Heap;

/// The example of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct ReadMe;

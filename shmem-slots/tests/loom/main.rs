//! Loom models of the slot protocol: all interleavings of a few operations of two or three threads,
//! over the very code that runs on mapped memory (only the atomics and the futex are loom's).
//!
//! Run by `cargo xtask loom shmem-slots`. What loom does not show: reorderings inside one thread
//! that the C11 model allows beyond acquire/release (it treats SeqCst as AcqRel), and the kernel's
//! futex, which is a lock and a condition here (`src/loom_futex.rs`).
//!
//! Each model says in its comment which weakening of the code makes it fail; each was tried,
//! but for some of `jobs.rs`: that no bell is raised, that the last look is left out, that the tail
//! is stored.
#![cfg(loom)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bells;
mod claim;
mod hints;
mod hold;
mod jobs;
mod kept;
mod latch;
mod passed_on;
mod payload;
mod queue;
mod reset;
mod reuse;
mod ring;
mod taker;
mod wake;

use shmem_slots::{Heap, Options, Slots};

/// Slots with two words of request and one of report.
type Small = Slots<[u64; 2], [u64; 2], Heap>;
type SmallClaim<'a> = shmem_slots::Claim<'a, [u64; 2], [u64; 2], Heap>;

fn slots(capacity: u32) -> Small {
    let options = Options {
        capacity,
        tag: 0,
        shared_cells: 1,
        annex_cells: 0,
        spare_sets: 0,
        first_generation: 0,
    };
    Small::heap(&options).unwrap()
}

/// Publishes one slot with a payload of `value` in each word.
fn published(slots: &Small, value: u64) -> shmem_slots::Key {
    let mut claim = slots.claim(1).unwrap();
    claim.write(&[value; 2]).unwrap();
    claim.publish(0).unwrap()
}

/// The same, in the name of a keeper.
fn kept(slots: &Small, value: u64) -> shmem_slots::Key {
    let mut claim = slots.claim(1).unwrap();
    claim.write(&[value; 2]).unwrap();
    claim.publish_kept(0).unwrap()
}

//! Regions: a file of any bytes, and any words in a region that is attached.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a check panics")]

use super::check::{Checker, assert_harmless};
use bgw_core::internals::{ReportRecord, WorkerRecord};
use shmem_slots::{Access, Key, MAX_GENERATION, MAX_PID, Memory, Options, Slots, State};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

type Array = Slots<[u64; 8], [u64; 4]>;

const OPTIONS: Options = Options {
    capacity: 6,
    tag: 7,
    shared_cells: 4,
    annex_cells: 6,
    spare_sets: 2,
    first_generation: 0,
};
/// Any owner.
const OWNER: u32 = 42;

/// A region with slots in several states.
fn used() -> Array {
    let slots = Array::create(&OPTIONS).unwrap();
    slots.claim(OWNER).unwrap().publish(1).unwrap();
    let ended = slots.claim(OWNER).unwrap().publish_kept(1).unwrap();
    slots.end(ended, OWNER).unwrap();
    // Held by a waiter, after its end and before it.
    let held = [(); 2].map(|()| slots.claim(OWNER).unwrap().publish_kept(1).unwrap());
    held.iter().for_each(|&key| std::mem::forget(slots.hold(key, OWNER + 1).unwrap()));
    slots.end(held[0], 0).unwrap();
    // Left as by a process that died.
    std::mem::forget(slots.claim(OWNER).unwrap());
    slots
}

fn bytes_of(slots: &Array) -> Vec<u8> {
    let cells = slots.memory().writable_cells().unwrap();
    cells.iter().flat_map(|cell| cell.load(Ordering::Relaxed).to_ne_bytes()).collect()
}

pub(super) fn files() -> Vec<Vec<u8>> {
    vec![bytes_of(&used())]
}

pub(super) fn words() -> Vec<Vec<u8>> {
    vec![bytes_of(&used()), vec![0; 64], vec![0xff; 64]]
}

/// Attaches a file of these bytes; what attaches can be used.
pub(super) fn check_file() -> Checker {
    let file = scratch_file();
    Box::new(move |bytes| {
        // A file of its own for each input: a region that is mapped keeps the old one.
        let _ = fs::remove_file(&file);
        fs::write(&file, bytes).unwrap();
        for access in [Access::ReadOnly, Access::ReadWrite] {
            match Array::attach_file(&file, OPTIONS.tag, access) {
                Ok(slots) => use_everything(&slots),
                Err(error) => assert_harmless(&error.to_string()),
            }
            let other = Slots::<WorkerRecord, ReportRecord>::attach_file(&file, 0, access);
            assert!(other.is_err() || bytes.len() > size_of::<WorkerRecord>());
        }
        fs::remove_file(&file).unwrap();
    })
}

/// In memory where the system has such a folder.
fn scratch_file() -> PathBuf {
    let shared = PathBuf::from("/dev/shm");
    let folder = if shared.is_dir() { shared } else { std::env::temp_dir() };
    folder.join(format!("bgw-fuzz-region-{}", std::process::id()))
}

/// Writes the words over a region, uses it, and resets it: then it works as a new one.
pub(super) fn check_words() -> Checker {
    let slots = used();
    Box::new(move |bytes| {
        let cells = slots.memory().writable_cells().unwrap();
        for (cell, word) in cells.iter().zip(bytes.chunks_exact(8)) {
            cell.store(u64::from_ne_bytes(word.try_into().unwrap()), Ordering::Relaxed);
        }
        use_everything(&slots);
        slots.reset_all().unwrap();
        slots.sweep(|_| true);
        works_normally(&slots);
    })
}

/// Every slot that is not retired can be claimed, published and freed.
fn works_normally(slots: &Array) {
    let retired = |index: &u32| slots.snapshot(*index).unwrap().state() == State::Retired;
    let retired = (0..slots.capacity()).filter(retired).count();
    let mut keys = Vec::new();
    while let Ok(mut claim) = slots.claim(OWNER) {
        claim.write(&[5; 8]).unwrap();
        keys.push(claim.publish(1).unwrap());
    }
    assert_eq!(keys.len() + retired, slots.capacity() as usize);
    for key in keys {
        assert_eq!(slots.read(key), Ok([5; 8]));
        slots.free(key).unwrap();
    }
}

/// Every operation, on slots inside and outside of the array, with keys that fit and that do not.
fn use_everything(slots: &Array) {
    let _ = (slots.in_use(), slots.occupied().count(), slots.header_is_intact(OPTIONS.tag));
    let mut changed = 0;
    slots.drain_changes(|index, _| {
        assert!(index < slots.capacity());
        changed += 1;
    });
    assert!(changed <= slots.capacity(), "a drain visits a slot at most once");
    assert!(slots.sweep(|owner| owner % 2 == 0) <= slots.capacity() as usize);
    for index in [0, slots.capacity() / 2, slots.capacity() - 1, slots.capacity(), u32::MAX] {
        let now = slots.snapshot(index).map_or(0, |word| word.generation());
        for generation in [now, 1, MAX_GENERATION, u64::MAX] {
            let key = Key { index, generation };
            let _ = (slots.look(key), slots.read(key), slots.read_report(key));
            let _ = (slots.set_flags(key, 255), slots.update(key, MAX_PID, 15));
            let _ = slots.read_report_with(key, |report| report[0] as usize);
            slots.read_own_annex(index, generation as usize, &mut [0; 64]);
            let _ = (slots.write_report_with(key, &[1; 4], &[2; 64]), slots.release(key));
            if let Ok(cells) = slots.writable_cells() {
                cells.write_own_annex(index, generation as usize, &[3; 64]);
            }
            drop(slots.hold(key, OWNER + 2));
            let _ = (slots.is_held(key), slots.set_report_aside_with(key, &[4; 4], &[5; 64]));
            drop(slots.end_and_claim(key, OWNER, || {}));
            let _ = (slots.end(key, OWNER), slots.free(key));
        }
    }
    if let Ok(mut claim) = slots.claim(OWNER) {
        let _ = claim.write(&[0; 8]);
        let _ = claim.publish(1);
    }
}

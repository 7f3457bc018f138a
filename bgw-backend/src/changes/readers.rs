//! The readers of events that wait as futures.

use super::shared::{lock, wake_all};
use bgw_core::internals::EventRing;
use shmem_slots::futex::Watch;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Waker;

/// The readers of events that wait.
#[derive(Debug, Default)]
pub(super) struct Readers {
    /// Opened by the first of them.
    ring: OnceLock<EventRing>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Each with the number of the event that it waits for.
    all: BTreeMap<u64, (u64, Waker)>,
    next: u64,
}

impl Readers {
    /// The ring that is watched; `open` opens it for the first reader.
    pub(super) fn open<E>(&self, open: impl FnOnce() -> Result<EventRing, E>) -> Result<(), E> {
        if self.ring.get().is_none() {
            // Another thread may have been first.
            let _ = self.ring.set(open()?);
        }
        Ok(())
    }

    /// From now on, `waker` is woken once there is event number `position`.
    pub(super) fn wait(self: &Arc<Self>, position: u64, waker: &Waker) -> Place {
        let mut waiting = lock(&self.waiting);
        let number = waiting.next;
        waiting.next = number.wrapping_add(1);
        waiting.all.insert(number, (position, waker.clone()));
        Place { readers: Arc::clone(self), number, process: std::process::id() }
    }

    /// Wakes those for whom there is an event, or all, and watches the ring for the others.
    pub(super) fn tend<'a>(&'a self, all: bool, watches: &mut Vec<Watch<'a>>) {
        let Some(ring) = self.ring.get() else { return };
        let newest = ring.newest();
        let mut woken = Vec::new();
        let mut waiting = lock(&self.waiting);
        waiting.all.retain(|_, (position, waker)| {
            let waits = !all && *position == newest.position();
            if !waits {
                woken.push(waker.clone());
            }
            waits
        });
        if !waiting.all.is_empty() {
            watches.extend(ring.watches(&newest));
        }
        drop(waiting);
        wake_all(woken);
    }
}

/// A reader's place among those that wait; it leaves when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    readers: Arc<Readers>,
    number: u64,
    process: u32,
}

impl Place {
    fn remove(&self) -> Option<(u64, Waker)> {
        lock(&self.readers.waiting).all.remove(&self.number)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // In a forked child the lock may be held for ever.
        if self.process == std::process::id() {
            drop(self.remove());
        }
    }
}

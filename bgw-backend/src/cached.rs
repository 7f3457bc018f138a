//! Segments that a worker of a pool caches, mapped for its next job.
//!
//! A segment that it maps for the second time stays mapped when the worker has dropped it, and the
//! next use costs a swap of a cell instead of two questions and a mapping. It counts as held only
//! while it is used: when nobody else holds it, the postmaster takes it back by the cell and wakes
//! the worker, which unmaps it; while the worker is busy, after its job. So what others have
//! dropped is gone for everybody at once, and its memory shortly after. See `cached_cells.rs` in
//! bgw-core for the cells.
//!
//! Only in the process of the worker, not in its forks, and for the cluster of its postmaster.

use crate::requests::deadline;
use bgw_core::internals::{CACHED_SEGMENTS, CachedCell, Request, SegmentRequest, process};
use bgw_core::{Attachment, SegmentHandle, WorkerProcess};
use shmem_slots::Segment;
#[cfg(feature = "serde")]
use shmem_slots::futex::Watch;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many of the segments that were mapped last are known.
const RECENT: usize = 8;

/// What this process caches.
static CACHE: Mutex<Cache> = Mutex::new(Cache::new());

fn cache() -> MutexGuard<'static, Cache> {
    CACHE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A segment that is cached, and used or not.
struct Entry {
    segment: SegmentHandle,
    memory: Arc<Segment>,
    used: bool,
}

struct Cache {
    is_on: bool,
    entries: [Option<Entry>; CACHED_SEGMENTS],
    /// The entry that is given up next when there is no other place.
    next: usize,
    recent: [u64; RECENT],
    next_recent: usize,
}

impl Cache {
    const fn new() -> Self {
        Self {
            is_on: false,
            entries: [const { None }; CACHED_SEGMENTS],
            next: 0,
            recent: [0; RECENT],
            next_recent: 0,
        }
    }

    /// True if the segment was mapped before, not long ago.
    fn is_known(&mut self, segment: SegmentHandle) -> bool {
        let bits = segment.to_bits();
        if self.recent.contains(&bits) {
            return true;
        }
        if let Some(place) = self.recent.get_mut(self.next_recent) {
            *place = bits;
        }
        self.next_recent = (self.next_recent + 1) % RECENT;
        false
    }

    fn find(&self, segment: SegmentHandle) -> Option<usize> {
        let is_it = |entry: &Entry| entry.segment == segment;
        self.entries.iter().position(|entry| entry.as_ref().is_some_and(is_it))
    }

    /// A free place, which may be that of a segment that is not used.
    fn place(&mut self, me: &WorkerProcess) -> Option<usize> {
        if let Some(free) = self.entries.iter().position(Option::is_none) {
            return Some(free);
        }
        let turn = (self.next..CACHED_SEGMENTS).chain(0..self.next);
        let idle = |number: &usize| {
            self.entries.get(*number).and_then(Option::as_ref).is_some_and(|entry| !entry.used)
        };
        let number = { turn }.find(idle)?;
        self.next = (number + 1) % CACHED_SEGMENTS;
        self.give_up(me, number);
        Some(number)
    }

    /// Unmaps a segment, unless somebody uses it, and drops it. The postmaster may have it back
    /// already, and takes no notice then.
    fn give_up(&mut self, me: &WorkerProcess, number: usize) {
        if let Some(entry) = self.entries.get_mut(number).and_then(Option::take) {
            me.attachment.cells().give_up_cached(cell(me, number));
            let Entry { segment, memory, .. } = entry;
            drop(memory);
            me.attachment.tell(&Request::Segment(SegmentRequest::Drop(segment)), deadline());
        }
    }
}

fn cell(me: &WorkerProcess, number: usize) -> CachedCell {
    // There are few.
    CachedCell { berth: me.berth.index, number: number as u32 }
}

/// This worker, if `attachment` is its own and this is not a fork of it.
fn owner(attachment: &Arc<Attachment>) -> Option<&'static WorkerProcess> {
    let me = process::current()?;
    (Arc::ptr_eq(attachment, &me.attachment) && attachment.is_mine()).then_some(me)
}

/// While this exists, this worker caches segments.
#[cfg(feature = "serde")]
pub(crate) struct Caching(&'static WorkerProcess);

#[cfg(feature = "serde")]
impl Caching {
    pub(crate) fn begin(me: &'static WorkerProcess) -> Self {
        cache().is_on = true;
        Self(me)
    }

    /// Gives up what the postmaster has taken back. Returns what to sleep on: those that change
    /// when it takes another one.
    pub(crate) fn look(&self) -> Vec<Watch<'static>> {
        let (me, mut cache) = (self.0, cache());
        let mut watches = Vec::new();
        for number in 0..CACHED_SEGMENTS {
            let entry = cache.entries.get(number).and_then(Option::as_ref);
            let Some(entry) = entry.filter(|entry| !entry.used) else { continue };
            match me.attachment.cells().watch_cached(cell(me, number), entry.segment) {
                Some(watch) => watches.push(watch),
                None => cache.give_up(me, number),
            }
        }
        watches
    }
}

#[cfg(feature = "serde")]
impl Drop for Caching {
    fn drop(&mut self) {
        let mut cache = cache();
        cache.is_on = false;
        for number in 0..CACHED_SEGMENTS {
            let used = cache.entries.get(number).and_then(Option::as_ref).is_some_and(|e| e.used);
            if !used {
                cache.give_up(self.0, number);
            }
        }
    }
}

/// The segment, if it is cached and not used: it is used from now on, until [`end_use`].
pub(crate) fn find(
    attachment: &Arc<Attachment>,
    segment: SegmentHandle,
) -> Option<(Arc<Segment>, usize)> {
    let me = owner(attachment)?;
    let mut cache = cache();
    let number = cache.is_on.then(|| cache.find(segment))??;
    let entry = cache.entries.get_mut(number)?.as_mut().filter(|entry| !entry.used)?;
    if me.attachment.cells().use_cached(cell(me, number), segment) {
        entry.used = true;
        return Some((Arc::clone(&entry.memory), number));
    }
    cache.give_up(me, number);
    None
}

/// Caches a segment that this process has just mapped and uses, if it is worth it. Returns where.
pub(crate) fn cache_mapped(
    attachment: &Arc<Attachment>,
    segment: SegmentHandle,
    memory: &Arc<Segment>,
) -> Option<usize> {
    let me = owner(attachment)?;
    let mut cache = cache();
    if !cache.is_on || !cache.is_known(segment) || cache.find(segment).is_some() {
        return None;
    }
    let number = cache.place(me)?;
    if !me.attachment.cells().cache_segment(cell(me, number), segment) {
        return None;
    }
    let entry = Entry { segment, memory: Arc::clone(memory), used: true };
    *cache.entries.get_mut(number)? = Some(entry);
    let request = SegmentRequest::Cache { segment, cell: number as u32 };
    me.attachment.tell(&Request::Segment(request), deadline());
    Some(number)
}

/// A segment that is cached is not used any more.
pub(crate) fn end_use(attachment: &Arc<Attachment>, segment: SegmentHandle, number: usize) {
    // First of all: in a fork, another thread of the worker may have had the lock.
    let Some(me) = owner(attachment) else { return };
    let mut cache = cache();
    let is_on = cache.is_on;
    let Some(entry) = cache.entries.get_mut(number).and_then(Option::as_mut) else { return };
    entry.used = false;
    if !is_on || !me.attachment.cells().end_use(cell(me, number), segment) {
        cache.give_up(me, number);
    }
}

//! What happened, in the order in which it happened: a list in memory that all processes of a round
//! share, so that a process which is killed leaves what it has written.
//!
//! A clock of tickets orders the events. An event has the ticket of its beginning and that of its
//! end: if one ends before another begins, it came first. The oracle reads the list afterwards.
//!
//! Ordering. An event's cells are written first and its kind last (Release); a reader loads the
//! kind first (Acquire). A process killed in between leaves kind 0, which the reader skips.

use crate::processes::Identity;
use crate::sys;
use bgw_backend::{SegmentHandle, WorkerHandle};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A worker was registered; `a` is its job.
    Registered = 1,
    /// A status was seen; `a` and `b` are it, see [`crate::seen`]. `c` says by whom.
    Saw,
    /// A short wait ended by its deadline.
    TimedOut,
    /// Termination was requested.
    Terminated,
    /// Signal `b` was sent to process `a` of the worker.
    Signalled,
    /// The worker's process `a` has reached its function.
    Began,
    /// The worker's process `a` is about to leave its function.
    Left,
    /// The registrant has dropped its handle.
    Dropped,
    /// Somebody found something wrong; what, was printed.
    Broken,
    /// The supervisor did something; `a` says what, see [`Deed`].
    Did,
}

const KINDS: [Kind; 10] = [
    Kind::Registered,
    Kind::Saw,
    Kind::TimedOut,
    Kind::Terminated,
    Kind::Signalled,
    Kind::Began,
    Kind::Left,
    Kind::Dropped,
    Kind::Broken,
    Kind::Did,
];

/// What the supervisor did to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Deed {
    /// It killed an actor process.
    KilledActor = 1,
    /// It stopped the postmaster for a while.
    StoppedPostmaster,
    /// It began to shut the cluster down, or killed the postmaster.
    Ended,
    /// Somebody was stopped at a fault point.
    #[cfg_attr(not(feature = "fault"), allow(dead_code, reason = "of the exhaustive run"))]
    FoundStopped,
    /// It killed the template.
    KilledTemplate,
    /// A pool's worker runs job `b`.
    RanJob,
}

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) begin: u64,
    pub(crate) end: u64,
    /// Milliseconds since the journal was made, at its end. For readers; no rule leans on it.
    pub(crate) at: u32,
    /// Process and thread.
    pub(crate) who: u32,
    pub(crate) kind: Kind,
    pub(crate) handle: WorkerHandle,
    pub(crate) a: u64,
    pub(crate) b: u64,
    pub(crate) c: u64,
}

/// A handle that is none: for events of no worker.
pub(crate) const NOBODY: WorkerHandle = WorkerHandle::new(u32::MAX, 0, 0);

const CELLS: usize = 8;
/// Of the header: counters, then a cell a slot.
const HEADER: usize = 64 + SLOTS;
/// Slots with a cell of their own.
const SLOTS: usize = 1024;
/// Cells of the header, each on a line of its own.
const CLOCK: usize = 0;
const NEXT: usize = 8;
const STOP: usize = 16;
const REFUSED: usize = 24;
const BROKEN: usize = 32;
const HOSTILE: usize = 40;
const POOL: usize = 48;

/// The list, and what else the processes of a round share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Journal {
    cells: &'static [AtomicU64],
    made: Instant,
}

impl Journal {
    /// An empty list with room for `events`; more are dropped. Pages are taken as they are written.
    pub(crate) fn new(events: usize) -> nix::Result<Self> {
        let cells = sys::shared_cells(HEADER + events * CELLS)?;
        let journal = Self { cells, made: Instant::now() };
        // 0 is no ticket.
        journal.cells[CLOCK].store(1, Ordering::Relaxed);
        Ok(journal)
    }

    /// The next ticket.
    pub(crate) fn ticket(&self) -> u64 {
        self.cells[CLOCK].fetch_add(1, Ordering::AcqRel)
    }

    /// Writes down what began at `begin` and ends now.
    pub(crate) fn note(
        &self,
        begin: u64,
        who: u32,
        kind: Kind,
        handle: WorkerHandle,
        [a, b, c]: [u64; 3],
    ) {
        let end = self.ticket();
        let place = self.cells[NEXT].fetch_add(1, Ordering::Relaxed) as usize;
        let Some(cells) = self.event_cells(place) else { return };
        let of_slot = u64::from(handle.slot()) | u64::from(handle.incarnation()) << 32;
        let values = [begin, end, of_slot, handle.generation(), a, b, c];
        for (cell, value) in cells.iter().skip(1).zip(values) {
            cell.store(value, Ordering::Relaxed);
        }
        let at = self.made.elapsed().as_millis() as u32;
        let first = u64::from(at) << 32 | u64::from(who & 0x00ff_ffff) << 8 | kind as u64;
        cells[0].store(first, Ordering::Release);
    }

    fn event_cells(&self, place: usize) -> Option<&'static [AtomicU64]> {
        let start = HEADER + place.checked_mul(CELLS)?;
        self.cells.get(start..start + CELLS)
    }

    fn read(&self, place: usize) -> Option<Event> {
        let cells = self.event_cells(place)?;
        let first = cells[0].load(Ordering::Acquire);
        let kind = KINDS.into_iter().find(|kind| *kind as u64 == first & 0xff)?;
        let at = |place: usize| cells[place].load(Ordering::Relaxed);
        let of_slot = at(3);
        Some(Event {
            begin: at(1),
            end: at(2),
            at: (first >> 32) as u32,
            who: (first >> 8) as u32 & 0x00ff_ffff,
            kind,
            handle: WorkerHandle::new(of_slot as u32, at(4), (of_slot >> 32) as u32),
            a: at(5),
            b: at(6),
            c: at(7),
        })
    }

    /// How many events were written.
    pub(crate) fn len(&self) -> usize {
        let room = (self.cells.len() - HEADER) / CELLS;
        (self.cells[NEXT].load(Ordering::Acquire) as usize).min(room)
    }

    /// True when the list is nearly full: the round ends then.
    pub(crate) fn is_nearly_full(&self) -> bool {
        self.len() + 10_000 > (self.cells.len() - HEADER) / CELLS
    }

    /// All events, by their beginning.
    pub(crate) fn events(&self) -> Vec<Event> {
        let mut events: Vec<Event> = (0..self.len()).filter_map(|place| self.read(place)).collect();
        events.sort_by_key(|event| event.begin);
        events
    }

    /// A handle that somebody registered lately, if the `back`th event before the last is one.
    pub(crate) fn recent(&self, back: usize) -> Option<WorkerHandle> {
        let event = self.read(self.len().checked_sub(1 + back)?)?;
        (event.kind == Kind::Registered).then_some(event.handle)
    }

    /// Writes down that something is broken; what, the caller prints.
    pub(crate) fn broke(&self, who: u32, handle: WorkerHandle) {
        self.note(self.ticket(), who, Kind::Broken, handle, [0; 3]);
        self.cells[BROKEN].fetch_add(1, Ordering::AcqRel);
    }

    /// From now on what actors find means nothing: somebody writes over what they read.
    pub(crate) fn be_hostile(&self) {
        self.cells[HOSTILE].store(1, Ordering::Release);
    }

    /// See [`Journal::be_hostile`].
    pub(crate) fn is_hostile(&self) -> bool {
        self.cells[HOSTILE].load(Ordering::Acquire) != 0
    }

    /// How often something was found to be broken.
    pub(crate) fn broken(&self) -> u64 {
        self.cells[BROKEN].load(Ordering::Acquire)
    }

    /// Asks all actors to come to an end.
    pub(crate) fn stop(&self) {
        self.cells[STOP].store(1, Ordering::Release);
    }

    /// Lets the next actors begin.
    pub(crate) fn go(&self) {
        self.cells[STOP].store(0, Ordering::Release);
    }

    /// True when the actors are to come to an end.
    pub(crate) fn is_stopped(&self) -> bool {
        self.cells[STOP].load(Ordering::Acquire) != 0
    }

    /// The process that runs in `slot` from now on; gives the one that ran there before.
    pub(crate) fn move_in(&self, slot: u32, identity: Identity) -> Identity {
        let Some(cell) = self.cells.get(64 + slot as usize).filter(|_| (slot as usize) < SLOTS)
        else {
            return Identity { pid: 0, began: 0 };
        };
        let new = u64::from(identity.pid) | u64::from(identity.began) << 32;
        let old = cell.swap(new, Ordering::AcqRel);
        Identity { pid: old as u32, began: (old >> 32) as u32 }
    }

    /// The worker in `slot` has ended; its process may live on.
    pub(crate) fn move_out(&self, slot: u32) {
        let _: Identity = self.move_in(slot, Identity { pid: 0, began: 0 });
    }

    /// Names the pool of the round to all.
    pub(crate) fn set_pool(&self, pool: SegmentHandle) {
        self.cells[POOL].store(pool.to_bits(), Ordering::Relaxed);
    }

    /// The pool of the round.
    pub(crate) fn pool(&self) -> Option<SegmentHandle> {
        let bits = self.cells[POOL].load(Ordering::Relaxed);
        (bits != 0).then(|| SegmentHandle::from_bits(bits))
    }

    /// Counts a registration that found no free slot.
    pub(crate) fn count_refused(&self) {
        self.cells[REFUSED].fetch_add(1, Ordering::Relaxed);
    }

    /// How many registrations found no free slot.
    pub(crate) fn refused(&self) -> u64 {
        self.cells[REFUSED].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_comes_back_as_it_was_written_and_one_too_many_is_dropped() {
        let journal = Journal::new(2).unwrap();
        let handle = WorkerHandle::new(3, 1 << 35, 0xffff_0001);
        let begin = journal.ticket();
        for _ in 0..3 {
            journal.note(begin, 0x00ff_ff01, Kind::Saw, handle, [u64::MAX, 7, 9]);
        }
        let events = journal.events();
        assert_eq!((events.len(), journal.len()), (2, 2));
        let found = events[0];
        assert_eq!((found.who, found.kind, found.handle), (0x00ff_ff01, Kind::Saw, handle));
        assert_eq!((found.a, found.b, found.c), (u64::MAX, 7, 9));
        assert!(found.begin == begin && found.end > begin);
    }
}

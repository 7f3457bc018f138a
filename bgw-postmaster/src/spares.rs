//! Warm spares: children forked ahead, asleep until there is a worker for them.
//!
//! A start by fork costs the fork, and the child's own first steps. A spare has both behind it: it
//! sleeps on a page that it shares with the postmaster alone. To start a worker the postmaster writes
//! the checked description there and wakes it.
//!
//! ```text
//!  postmaster: fork ──▶ spare: own session, descriptors closed ──▶ asleep ──▶ handlers, main, exit
//!                                                                    ▲
//!  postmaster: job into the page, state = GIVEN, one wake ───────────┘ state = TAKEN
//! ```
//!
//! | a spare dies | found by | what follows |
//! |---|---|---|
//! | asleep | its pidfd | it is reaped, another is forked later |
//! | asleep, not reaped yet when it is wanted | a look before the job is given | the next one is taken, or a fork |
//! | after the job was given, before it took it | state is not `TAKEN` at its end | the worker starts once more, as if it never had |
//! | afterwards | | it is the worker that died |
//!
//! Spares are filled up when nothing is to be started, and a moment after the start that took one, so
//! that the fork is on nobody's way. When all are taken, workers are forked as without spares.

use crate::event_loop::Token;
use crate::fault;
use crate::rules::Stage;
use crate::server::{Child, Server};
use crate::spawn::{self, Home};
use crate::sys::end;
use crate::sys::fork::Forked;
use crate::sys::page::{CELLS, Page};
use bgw_core::shared::ClusterCells;
use bgw_core::shared::{CorruptRecord, WorkerRecord};
use bgw_core::sys::pidfd;
use bgw_core::{BackgroundWorker, EntryPoint, Pid, WorkerHandle};
use bytemuck::Zeroable;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use shmem_slots::Key;
use shmem_slots::futex::{self, Half, Watch};
use shmem_slots::primitive::{AtomicU64, Ordering};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long after a start the spare that it took is replaced.
const REFILL_DELAY: Duration = Duration::from_millis(1);
/// How long after a spare died for no reason of ours.
const DEATH_DELAY: Duration = Duration::from_secs(1);

const STATE: usize = 0;
const SLOT: usize = 8;
const GENERATION: usize = 9;
const INCARNATION: usize = 10;
const RESTARTS: usize = 11;
const MAIN: usize = 12;
const RECORD: usize = 13;
const RECORD_CELLS: usize = size_of::<WorkerRecord>() / size_of::<AtomicU64>();

const _: () = assert!(RECORD + RECORD_CELLS <= CELLS);

const IDLE: u64 = 0;
const GIVEN: u64 = 1;
const TAKEN: u64 = 2;

/// What a spare is to become.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) worker: BackgroundWorker,
    /// Where its function stands.
    pub(crate) main: Option<usize>,
    pub(crate) handle: WorkerHandle,
    pub(crate) restarts: u32,
}

/// The page on which a spare sleeps.
#[derive(Debug)]
pub(crate) struct Bed(Page);

impl Bed {
    /// Wakes the spare for a worker.
    fn give(
        &self,
        record: &WorkerRecord,
        main: Option<usize>,
        handle: WorkerHandle,
        restarts: u32,
    ) {
        let cells = self.0.cells();
        let words: &[u64] = bytemuck::cast_slice(bytemuck::bytes_of(record));
        for (cell, &word) in cells.iter().skip(RECORD).zip(words) {
            cell.store(word, Ordering::Relaxed);
        }
        cells[SLOT].store(u64::from(handle.slot()), Ordering::Relaxed);
        cells[GENERATION].store(handle.generation(), Ordering::Relaxed);
        cells[INCARNATION].store(u64::from(handle.incarnation()), Ordering::Relaxed);
        cells[RESTARTS].store(u64::from(restarts), Ordering::Relaxed);
        // No table is that long.
        cells[MAIN].store(main.map_or(u64::MAX, |place| place as u64), Ordering::Relaxed);
        cells[STATE].store(GIVEN, Ordering::Release);
        futex::wake_all(&cells[STATE]);
    }

    /// True once the spare has woken up for its job. Its worker keeps the page, so whatever a worker that
    /// went astray wrote there counts as taken, too.
    pub(crate) fn was_taken(&self) -> bool {
        self.0.cells()[STATE].load(Ordering::Acquire) != GIVEN
    }

    /// A new page, which the postmaster has touched already: the first job is not to wait for that.
    fn make() -> io::Result<Self> {
        let bed = Self(Page::new()?);
        bed.0.cells()[STATE].store(IDLE, Ordering::Relaxed);
        Ok(bed)
    }

    /// In the spare: sleeps until there is a job, and takes it.
    pub(crate) fn sleep(&self) -> io::Result<Job> {
        let cells = self.0.cells();
        let state = &cells[STATE];
        while state.load(Ordering::Acquire) != GIVEN {
            let watch = Watch { cell: state, half: Half::Low, seen: IDLE as u32 };
            futex::wait_any(&[watch], None).map_err(io::Error::other)?;
        }
        fault::point("waking:woken");
        state.store(TAKEN, Ordering::Release);
        fault::point("waking:taken");
        let word = |at: usize| cells[at].load(Ordering::Relaxed);
        let mut record = WorkerRecord::zeroed();
        let words: &mut [u64] = bytemuck::cast_slice_mut(bytemuck::bytes_of_mut(&mut record));
        for (to, cell) in words.iter_mut().zip(cells.iter().skip(RECORD)) {
            *to = cell.load(Ordering::Relaxed);
        }
        let worker = record.decode().map_err(|error: CorruptRecord| io::Error::other(error))?;
        // The postmaster wrote them out of 32 bits.
        let handle =
            WorkerHandle::new(word(SLOT) as u32, word(GENERATION), word(INCARNATION) as u32);
        let main = usize::try_from(word(MAIN)).ok();
        Ok(Job { worker, main, handle, restarts: word(RESTARTS) as u32 })
    }
}

/// A child without a worker.
#[derive(Debug)]
struct Spare {
    number: u64,
    pid: Pid,
    pidfd: OwnedFd,
    bed: Bed,
}

/// The spares that sleep.
#[derive(Debug)]
pub(crate) struct Spares {
    wanted: usize,
    asleep: Vec<Spare>,
    next: u64,
    /// When the next one is to be forked; `None`: there are enough.
    due: Option<Instant>,
}

impl Spares {
    pub(crate) fn new(wanted: usize) -> Self {
        Self { wanted, asleep: Vec::new(), next: 0, due: (wanted > 0).then(Instant::now) }
    }

    /// When [`Server::fill_up_spares`] is wanted next.
    pub(crate) const fn due(&self) -> Option<Instant> {
        self.due
    }

    fn wanted_after(&mut self, delay: Duration) {
        // Not later for each start that follows: there must be an end of it under load.
        self.due = self.due.or_else(|| Some(Instant::now() + delay));
    }
}

impl Server {
    /// Starts the worker of `key` in a spare; `None` when there is none, or it is a command.
    pub(crate) fn hand_to_spare(&mut self, key: Key) -> Option<Pid> {
        if self.spares.asleep.is_empty() {
            return None;
        }
        let entry = self.cluster.registry.get(key)?;
        if matches!(entry.worker.entry(), EntryPoint::Command { .. }) {
            return None;
        }
        let record = WorkerRecord::encode(&entry.worker, self.pid);
        let (main, restarts) = (self.functions.place_of(&entry.worker), entry.next_restarts());
        let spare = self.take_living_spare(key)?;
        let Spare { pid, pidfd, bed, .. } = spare;
        let cells = ClusterCells::new(&self.slots);
        cells.mark_cleanup_needed(key.index, false);
        let handle = WorkerHandle::new(key.index, key.generation, cells.incarnation());
        let started = Instant::now();
        fault::point("spare:before_give");
        bed.give(&record, main, handle, restarts);
        fault::point("spare:given");
        self.keep_child(Child { key, pid, pidfd, started, bed: Some(bed) });
        fault::point("spare:kept");
        Some(pid)
    }

    /// A spare that has not died in its sleep, watched as the child of slot `key.index` from now on.
    fn take_living_spare(&mut self, key: Key) -> Option<Spare> {
        loop {
            let spare = self.spares.asleep.pop()?;
            self.spares.wanted_after(REFILL_DELAY);
            let event = &mut EpollEvent::new(EpollFlags::EPOLLIN, Token::Child(key.index).pack());
            let alive = matches!(end::peek(&spare.pidfd), Ok(None));
            if alive && self.epoll.modify(&spare.pidfd, event).is_ok() {
                return Some(spare);
            }
            end_spare(&spare);
        }
    }

    /// A spare has died in its sleep.
    pub(crate) fn spare_died(&mut self, number: u64) {
        let place = self.spares.asleep.iter().position(|spare| spare.number == number);
        let Some(spare) = place.map(|place| self.spares.asleep.swap_remove(place)) else { return };
        tracing::warn!("spare process {} died in its sleep", spare.pid);
        end_spare(&spare);
        self.spares.wanted_after(DEATH_DELAY);
    }

    /// Forks one spare, if one is due and nothing else is to be started.
    pub(crate) fn fill_up_spares(&mut self) {
        let is_due = self.spares.due.is_some_and(|due| due <= Instant::now());
        let in_service = matches!(self.cluster.stage(), Stage::Accepting | Stage::Draining);
        if !is_due || !in_service || self.cluster.has_more_to_start() {
            return;
        }
        self.spares.due = None;
        match self.fork_spare() {
            Ok(()) if self.spares.asleep.len() < self.spares.wanted => {
                self.spares.due = Some(Instant::now());
            }
            Ok(()) => {}
            Err(error) => {
                tracing::warn!("forking a spare failed: {error}");
                self.spares.wanted_after(DEATH_DELAY);
            }
        }
    }

    fn fork_spare(&mut self) -> io::Result<()> {
        let bed = Bed::make()?;
        let number = self.spares.next;
        let proof = self.prove_single_threaded()?;
        let pid = match self.forker.fork(&proof)? {
            Forked::Child => {
                let (attachment, functions) = (&self.for_children, &self.functions);
                let (fence, title) = (self.fence, &mut self.title);
                spawn::live_as_spare(Home { attachment, fence, functions, title }, bed)
            }
            Forked::Parent(pid) => pid,
        };
        touch_stack();
        let watched = bed.0.hide_from_later_children().and_then(|()| {
            let pidfd = self.fence.raise(pidfd::open(pid)?)?;
            self.listen_to(&pidfd, Token::Spare(number))?;
            Ok(pidfd)
        });
        match watched {
            Ok(pidfd) => {
                self.spares.next += 1;
                self.spares.asleep.push(Spare { number, pid, pidfd, bed });
                Ok(())
            }
            Err(error) => {
                let _ = end::kill_and_peek(pid).and_then(|_| end::reap_by_pid(pid));
                Err(error)
            }
        }
    }

    /// Ends all spares: the postmaster itself ends.
    pub(crate) fn end_spares(&mut self) {
        self.spares.due = None;
        for spare in std::mem::take(&mut self.spares.asleep) {
            end_spare(&spare);
        }
    }
}

/// Has the kernel copy, now that nobody waits, the pages of the stack that the fork has left shared with
/// the child, and that the next start will write to. Not inlined: its frame would lie in all others'
/// way.
#[inline(never)]
fn touch_stack() {
    let mut stack = [0u8; 16 << 10];
    std::hint::black_box(&mut stack).fill(1);
}

/// Kills a spare, dead or not, and reaps it.
fn end_spare(spare: &Spare) {
    // ESRCH: it is dead already.
    let _ = pidfd::send(&spare.pidfd, rustix::process::Signal::KILL);
    if let Err(error) = end::reap_blocking(&spare.pidfd) {
        tracing::error!("reaping spare process {} failed: {error}", spare.pid);
    }
}

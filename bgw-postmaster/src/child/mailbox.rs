//! The mailbox of a spare: a page that it shares with the postmaster alone. (A spare that a
//! template has forked: with its template, too, until that has forked it.)
//!
//! ```text
//!           give: record, then state, then wake            the spare wakes
//!  IDLE ───────────────────────────────────────▶ GIVEN ───────────────────▶ TAKEN
//!   ▲ rest: its end is published                                   its main has │
//!   └────────────────────────────────── OVER ◀──────── returned in good order ──┘
//! ```
//!
//! Only the postmaster leaves `IDLE` and `OVER`, only the spare leaves `GIVEN` and `TAKEN`. A spare
//! that ends before `TAKEN` has not begun its worker. Whatever else it writes there counts as
//! taken.
//!
//! Signals. A spare that has served before discards what has come for its last worker once it sees
//! `IDLE`, or `GIVEN` if the postmaster was faster. What is for its next worker must not come
//! before that. So while the state is `GIVEN` the postmaster writes the signal down (`WANTED`) and
//! sends none, and the spare raises it when it has taken the worker. Both write first and look
//! second (`SeqCst`): the spare finds the signal, or the postmaster finds `TAKEN` and sends it, or
//! both, and the same signal twice does no more than once.

use super::launch::{ChildContext, Launch, RunSetup};
use super::taker_number::TakerNumber;
use crate::fault;
use crate::sys::shared_page::{CELLS, SharedPage};
use crate::sys::usage::Usage;
use bgw_core::internals::{CorruptRecord, WorkerRecord};
use bgw_core::{Berth, Pid, WorkerHandle};
use bytemuck::Zeroable;
use rustix::process::Signal;
use shmem_slots::futex::{self, Half, Watch};
use shmem_slots::taker::{TakerWord, Taking};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const STATE: usize = 0;
const WANTED: usize = 1;
const USER_TIME: usize = 2;
const SYSTEM_TIME: usize = 3;
const MAX_RSS: usize = 4;
/// How much memory is the worker's own, and one more; 0: that was not measured.
const COPIED: usize = 5;
/// The pid of a child that a template has forked, in the first half.
const PID: usize = 6;
/// In how many packets its descriptors come.
const PACKETS: usize = 7;
const SLOT: usize = 8;
const GENERATION: usize = 9;
const INCARNATION: usize = 10;
const RESTARTS: usize = 11;
const MAIN: usize = 12;
/// Whether the spare may begin a worker that it is given by who registers it, and which it has
/// begun: see `shmem_slots::taker`. The postmaster gives it one only while this is closed.
const TAKING: usize = 13;
const BERTH: usize = 14;
const BESIDE: usize = 15;
const RECORD: usize = 16;
const RECORD_CELLS: usize = size_of::<WorkerRecord>() / size_of::<AtomicU64>();

const _: () = assert!(RECORD + RECORD_CELLS <= CELLS);

const IDLE: u64 = 0;
const GIVEN: u64 = 1;
const TAKEN: u64 = 2;
const OVER: u64 = 3;

/// How long a spare whose worker has ended waits for the postmaster to look before it tells it
/// again: what it told it by lies in memory that others can write to.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often it does.
const TRIES: u32 = 4;

/// The page on which one spare sleeps.
#[derive(Debug)]
pub(crate) struct Mailbox {
    page: SharedPage,
    /// Where it may be given a worker by who registers it.
    pub(super) taker: Option<TakerNumber>,
}

impl Mailbox {
    /// Maps a new one, and touches it, so that the first launch does not wait for the page.
    pub(crate) fn new(taker: Option<TakerNumber>) -> io::Result<Self> {
        let mailbox = Self { page: SharedPage::new()?, taker };
        mailbox.page.cells()[STATE].store(IDLE, Ordering::Relaxed);
        Ok(mailbox)
    }

    /// In the postmaster: maps one for a child that a template is to fork, which gets the file.
    pub(crate) fn in_file() -> io::Result<(Self, OwnedFd)> {
        let (page, file) = SharedPage::in_file()?;
        page.hide_from_later_children()?;
        Ok((Self { page, taker: None }, file))
    }

    /// In a template: maps that of a child that it is about to fork.
    pub(crate) fn of_file(file: &OwnedFd) -> io::Result<Self> {
        Ok(Self { page: SharedPage::of_file(file)?, taker: None })
    }

    /// Where the kernel writes the pid of that child.
    pub(crate) const fn pid_cell(&self) -> &AtomicU64 {
        &self.page.cells()[PID]
    }

    /// In the postmaster: the pid that is written there. The template, and the child, may have
    /// written any.
    pub(crate) fn pid(&self) -> Option<Pid> {
        let [a, b, c, d, ..] = self.pid_cell().load(Ordering::Acquire).to_ne_bytes();
        Pid::new(u32::from_ne_bytes([a, b, c, d]))
    }

    /// In the postmaster, before [`Mailbox::give`]: so many packets with descriptors are on the
    /// line to the child of a template.
    pub(crate) fn announce_packets(&self, packets: usize) {
        self.page.cells()[PACKETS].store(packets as u64, Ordering::Relaxed);
    }

    /// In that child, at its end: so much memory is its own.
    pub(super) fn set_copied_kib(&self, kib: u64) {
        self.page.cells()[COPIED].store(kib.saturating_add(1), Ordering::Relaxed);
    }

    /// In the postmaster, when that child has ended: what it has said of its memory, if anything.
    pub(crate) fn copied_kib(&self) -> Option<u64> {
        self.page.cells()[COPIED].load(Ordering::Relaxed).checked_sub(1)
    }

    /// In that child, after [`Mailbox::sleep`].
    pub(super) fn packets(&self) -> u64 {
        self.page.cells()[PACKETS].load(Ordering::Relaxed)
    }

    /// In the postmaster, after the fork: children forked from now on do not have it.
    pub(crate) fn hide_from_later_children(&self) -> io::Result<()> {
        self.page.hide_from_later_children()
    }

    /// In the postmaster: wakes the spare with a worker.
    pub(crate) fn give(
        &self,
        record: &WorkerRecord,
        main: Option<usize>,
        (handle, berth): (WorkerHandle, Berth),
        restarts: u32,
    ) {
        let cells = self.page.cells();
        self.put_record(record);
        cells[SLOT].store(u64::from(handle.slot()), Ordering::Relaxed);
        cells[GENERATION].store(handle.generation(), Ordering::Relaxed);
        cells[INCARNATION].store(u64::from(handle.incarnation()), Ordering::Relaxed);
        cells[RESTARTS].store(u64::from(restarts), Ordering::Relaxed);
        cells[BERTH].store(u64::from(berth.index), Ordering::Relaxed);
        cells[BESIDE].store(u64::from(berth.beside), Ordering::Relaxed);
        // No table has `u64::MAX` functions.
        cells[MAIN].store(main.map_or(u64::MAX, |index| index as u64), Ordering::Relaxed);
        cells[WANTED].store(0, Ordering::Relaxed);
        cells[STATE].store(GIVEN, Ordering::Release);
        futex::wake_all(&cells[STATE]);
    }

    /// The description of its worker.
    pub(super) fn put_record(&self, record: &WorkerRecord) {
        let words: &[u64] = bytemuck::cast_slice(bytemuck::bytes_of(record));
        for (cell, &word) in self.page.cells().iter().skip(RECORD).zip(words) {
            cell.store(word, Ordering::Relaxed);
        }
    }

    /// The description of its worker, as the spare has copied it or was given it. The worker may
    /// have written something else there since.
    pub(crate) fn record(&self) -> WorkerRecord {
        let mut record = WorkerRecord::zeroed();
        let words: &mut [u64] = bytemuck::cast_slice_mut(bytemuck::bytes_of_mut(&mut record));
        for (to, cell) in words.iter_mut().zip(self.page.cells().iter().skip(RECORD)) {
            *to = cell.load(Ordering::Relaxed);
        }
        record
    }

    /// What it has begun by itself.
    pub(crate) fn taking(&self) -> TakerWord<'_> {
        TakerWord::new(&self.page.cells()[TAKING])
    }

    /// In the postmaster, when the spare has ended: another one may have its number.
    pub(crate) fn give_back_number(&mut self) {
        self.taker = None;
    }

    /// Its number among those that who registers may wake.
    pub(crate) fn taker(&self) -> Option<u32> {
        self.taker.as_ref().map(TakerNumber::get)
    }

    /// In the postmaster, while the spare sleeps: it may begin by itself, in this incarnation.
    pub(crate) fn open(&self, incarnation: u32) {
        self.page.cells()[INCARNATION].store(u64::from(incarnation), Ordering::Relaxed);
        self.taking().open();
    }

    /// In the postmaster: true if the spare will raise `signal` itself, since it has not taken its
    /// worker yet. False: it is to be sent.
    pub(crate) fn defers(&self, signal: Signal) -> bool {
        let cells = self.page.cells();
        cells[WANTED].fetch_or(bit(signal.as_raw()), Ordering::SeqCst);
        cells[STATE].load(Ordering::SeqCst) == GIVEN
    }

    /// In the postmaster: what the worker has used, if its main has returned and the process waits
    /// to be a spare again.
    pub(crate) fn over(&self) -> Option<Usage> {
        let cells = self.page.cells();
        (cells[STATE].load(Ordering::Acquire) == OVER).then(|| Usage {
            user_time: Duration::from_nanos(cells[USER_TIME].load(Ordering::Relaxed)),
            system_time: Duration::from_nanos(cells[SYSTEM_TIME].load(Ordering::Relaxed)),
            max_rss_kib: cells[MAX_RSS].load(Ordering::Relaxed),
        })
    }

    /// In the postmaster, when the end is published and no signal is sent for it any more: the
    /// process is a spare.
    pub(crate) fn rest(&self) {
        let state = &self.page.cells()[STATE];
        self.taking().reset();
        state.store(IDLE, Ordering::Release);
        futex::wake_all(state);
    }

    /// In the postmaster: true unless the spare has been given a worker and has not woken for it.
    pub(crate) fn was_taken(&self) -> bool {
        self.page.cells()[STATE].load(Ordering::Acquire) != GIVEN
            && !matches!(self.taking().look(), Taking::Begun(_))
    }

    /// In the spare: sleeps until it is given a worker, by the postmaster or by who registers it,
    /// and takes it. One that is `used` takes reusable ones alone by itself.
    pub(super) fn sleep(&self, context: &ChildContext<'_>, used: bool) -> io::Result<Launch> {
        let cells = self.page.cells();
        let state = &cells[STATE];
        let taker = self.taker().and_then(|number| context.attachment.cells().taker(number));
        let mut refused = None;
        while state.load(Ordering::Acquire) != GIVEN {
            let Some(taker) = taker else {
                sleep_while(state, IDLE, None)?;
                continue;
            };
            let (given, [low, high]) = taker.watch();
            if let Some(key) = given.filter(|_| refused != given) {
                if let Some(launch) = self.take_by_itself(context, key, used) {
                    return Ok(launch);
                }
                refused = given;
                continue;
            }
            let state = Watch { cell: state.into(), half: Half::Low, seen: IDLE as u32 };
            futex::wait_any(&[state, low, high], None).map(drop).map_err(io::Error::other)?;
        }
        fault::point("waking:woken");
        state.store(TAKEN, Ordering::SeqCst);
        fault::point("waking:taken");
        raise(cells[WANTED].load(Ordering::SeqCst));
        let word = |at: usize| cells[at].load(Ordering::Relaxed);
        let worker =
            self.record().decode().map_err(|error: CorruptRecord| io::Error::other(error))?;
        // `give` stored slot, incarnation, berth and restarts from 32 bits each.
        let handle =
            WorkerHandle::new(word(SLOT) as u32, word(GENERATION), word(INCARNATION) as u32);
        let main = usize::try_from(word(MAIN)).ok();
        let berth = Berth { index: word(BERTH) as u32, beside: word(BESIDE) != 0 };
        let restarts = word(RESTARTS) as u32;
        let worker = Arc::new(worker);
        Ok(Launch {
            share: Some(Arc::clone(&worker)),
            worker,
            main,
            handle,
            berth,
            restarts,
            setup: RunSetup::default(),
            exec_errno: None,
        })
    }

    /// The incarnation in which it may begin by itself.
    pub(super) fn incarnation(&self) -> u32 {
        // It was stored from 32 bits.
        self.page.cells()[INCARNATION].load(Ordering::Relaxed) as u32
    }

    /// In the spare: the main of its worker has returned in good order, having used this much.
    pub(super) fn end(&self, used: Usage) {
        let cells = self.page.cells();
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        cells[USER_TIME].store(nanos(used.user_time), Ordering::Relaxed);
        cells[SYSTEM_TIME].store(nanos(used.system_time), Ordering::Relaxed);
        cells[MAX_RSS].store(used.max_rss_kib, Ordering::Relaxed);
        cells[STATE].store(OVER, Ordering::Release);
    }

    /// In the spare, after [`Mailbox::end`]: waits until the postmaster has published the end. From
    /// then on it sends no signal for that worker. Calls `tell` again while it does not look.
    ///
    /// # Errors
    /// It never did, or the wait failed. The process is to end, which the postmaster cannot miss.
    pub(super) fn wait_for_rest(&self, tell: impl Fn()) -> io::Result<()> {
        let state = &self.page.cells()[STATE];
        for _ in 0..TRIES {
            let deadline = Instant::now() + PATIENCE;
            while deadline > Instant::now() {
                if state.load(Ordering::Acquire) != OVER {
                    return Ok(());
                }
                sleep_while(state, OVER, Some(deadline))?;
            }
            tell();
        }
        Err(io::Error::other("the postmaster does not see that its worker has ended"))
    }
}

fn sleep_while(state: &AtomicU64, seen: u64, deadline: Option<Instant>) -> io::Result<()> {
    // A state is less than 2^32.
    let watch = Watch { cell: state.into(), half: Half::Low, seen: seen as u32 };
    futex::wait_any(&[watch], deadline).map(drop).map_err(io::Error::other)
}

/// The bit of a signal; standard signals have numbers below 32.
const fn bit(signal: i32) -> u64 {
    1 << (signal & 63)
}

/// Sends this process the signals of `wanted`. They are blocked, and so pending.
fn raise(wanted: u64) {
    if wanted == 0 {
        return;
    }
    for signal in nix::sys::signal::Signal::iterator() {
        if wanted & bit(signal as i32) != 0 {
            // A process may always signal itself.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), signal);
        }
    }
}

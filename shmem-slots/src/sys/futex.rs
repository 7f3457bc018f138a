//! `futex_waitv` and `FUTEX_WAKE`, shared between processes.

use crate::primitive::AtomicU64;
use crate::primitive::private::AtomicU32;
use rustix::io::Errno;
use rustix::thread::futex::{self, Flags, Wait, WaitFlags, WaitvFlags};
use rustix::time::{ClockId, Timespec, clock_gettime};
use std::io;
use std::time::Instant;

/// The largest number of words of one wait.
pub(crate) const MAX_WORDS: usize = 128;

/// As many words as nearly every wait has.
const FEW: usize = 8;

/// Half of a cell, and what the caller saw there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Word<'a> {
    pub(crate) cell: &'a AtomicU64,
    /// The upper half.
    pub(crate) high: bool,
    pub(crate) seen: u32,
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Changed,
    TimedOut,
    Interrupted,
}

/// The address of one half of a cell.
fn address(cell: &AtomicU64, high: bool) -> *mut u32 {
    let first = high != cfg!(target_endian = "little");
    let base: *mut u32 = cell.as_ptr().cast();
    if first { base } else { base.wrapping_add(1) }
}

/// Sleeps until one of `count` words is woken or is not as seen, the deadline (monotonic) passes,
/// or a signal handler runs. `count` is at most [`MAX_WORDS`]. One system call, no allocation. May
/// return without a reason.
///
/// # Errors
/// The error of `futex_waitv`.
pub(crate) fn wait<'a>(
    words: impl Iterator<Item = Word<'a>>,
    count: usize,
    deadline: Option<Instant>,
) -> io::Result<Outcome> {
    if count <= FEW {
        return wait_in(&mut [Wait::new(); FEW], words, deadline);
    }
    wait_for_many(words, deadline)
}

/// Out of line: most waits then neither clear nor touch this much stack.
#[inline(never)]
fn wait_for_many<'a>(
    words: impl Iterator<Item = Word<'a>>,
    deadline: Option<Instant>,
) -> io::Result<Outcome> {
    wait_in(&mut [Wait::new(); MAX_WORDS], words, deadline)
}

/// `room` has place for all words.
fn wait_in<'a>(
    room: &mut [Wait],
    words: impl Iterator<Item = Word<'a>>,
    deadline: Option<Instant>,
) -> io::Result<Outcome> {
    let mut count = 0;
    for (wait, word) in room.iter_mut().zip(words) {
        wait.val = u64::from(word.seen);
        wait.uaddr = address(word.cell, word.high).cast::<core::ffi::c_void>().into();
        wait.flags = WaitFlags::SIZE_U32;
        count += 1;
    }
    let waits = room.get(..count).unwrap_or(&[]);
    let timeout = deadline.map(absolute);
    // Each address is half of a cell that a word borrows for the length of the call, so it is
    // mapped and aligned (I1); the kernel reads it atomically (I2).
    let done = futex::waitv(waits, WaitvFlags::empty(), timeout.as_ref(), ClockId::Monotonic);
    match done {
        Ok(_) | Err(Errno::AGAIN) => Ok(Outcome::Changed),
        Err(Errno::TIMEDOUT) => Ok(Outcome::TimedOut),
        Err(Errno::INTR) => Ok(Outcome::Interrupted),
        Err(errno) => Err(errno.into()),
    }
}

/// The deadline on the kernel's monotonic clock.
fn absolute(deadline: Instant) -> Timespec {
    let left = deadline.saturating_duration_since(Instant::now());
    let now = clock_gettime(ClockId::Monotonic);
    let nanos = now.tv_nsec + i64::from(left.subsec_nanos());
    let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
    Timespec {
        tv_sec: now.tv_sec.saturating_add(seconds).saturating_add(nanos / 1_000_000_000),
        tv_nsec: nanos % 1_000_000_000,
    }
}

/// Wakes all waiters on the low half of `cell`, in every process. One system call; safe in a signal
/// handler.
pub(crate) fn wake_all(cell: &AtomicU64) {
    let _ = wake(cell, i32::MAX.unsigned_abs());
}

/// The same, one waiter. False if there is none.
pub(crate) fn wake_one(cell: &AtomicU64) -> bool {
    wake(cell, 1) > 0
}

fn wake(cell: &AtomicU64, count: u32) -> usize {
    let address = address(cell, false).cast_const().cast::<AtomicU32>();
    // SAFETY: half of a cell that is borrowed, so it is mapped and aligned (I1), and is accessed
    // atomically only (I2). The kernel takes the address as a name and does not write there.
    let word = unsafe { &*address };
    // Fails only for an address that is not mapped.
    futex::wake(word, Flags::empty(), count).unwrap_or(0)
}

/// Calls `futex_waitv` with no words, which a kernel that has the call refuses as invalid.
///
/// # Errors
/// Any other error: `ENOSYS` before Linux 5.16, and what a system call filter says.
pub(crate) fn probe() -> io::Result<()> {
    match futex::waitv(&[], WaitvFlags::empty(), None, ClockId::Monotonic) {
        Ok(_) | Err(Errno::INVAL) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

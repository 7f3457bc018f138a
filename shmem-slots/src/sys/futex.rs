//! `futex_waitv` and `FUTEX_WAKE`, shared between processes.

use crate::cell::CellRef;
use crate::futex::{Half, MAX_WATCHES, Unsupported, WaitError, Watch, Woken};
use crate::primitive::private::AtomicU32;
use rustix::io::Errno;
use rustix::thread::futex::{self, Flags, Wait, WaitFlags, WaitvFlags};
use rustix::time::{ClockId, Timespec, clock_gettime};
use std::time::Instant;

/// Where a half of a cell lies.
fn address(cell: CellRef<'_>, half: Half) -> *mut u32 {
    let first = matches!(half, Half::Low) == cfg!(target_endian = "little");
    let base: *mut u32 = cell.atomic().as_ptr().cast();
    if first { base } else { base.wrapping_add(1) }
}

/// Sleeps until one of the watched halves is woken or is not as seen, the deadline (monotonic)
/// passes, or a signal handler ran. One system call, no allocation. Spurious returns are possible.
///
/// # Errors
/// More than [`MAX_WATCHES`], or none; a kernel without `futex_waitv`.
pub fn wait_any(watches: &[Watch<'_>], deadline: Option<Instant>) -> Result<Woken, WaitError> {
    wait_both(watches, &[], deadline)
}

/// Waits as [`wait_any`] does, on the watches of `first` and then of `also`.
pub(crate) fn wait_both(
    first: &[Watch<'_>],
    also: &[Watch<'_>],
    deadline: Option<Instant>,
) -> Result<Woken, WaitError> {
    let count = first.len() + also.len();
    if count == 0 || count > MAX_WATCHES {
        return Err(WaitError::Count { count });
    }
    if count <= FEW {
        return wait_in(&mut [Wait::new(); FEW], first, also, deadline);
    }
    wait_for_many(first, also, deadline)
}

/// As many watches as nearly every wait has.
const FEW: usize = 8;

/// Out of line: most waits then neither clear nor touch this much stack.
#[inline(never)]
fn wait_for_many(
    first: &[Watch<'_>],
    also: &[Watch<'_>],
    deadline: Option<Instant>,
) -> Result<Woken, WaitError> {
    wait_in(&mut [Wait::new(); MAX_WATCHES], first, also, deadline)
}

/// `room` has place for all watches.
fn wait_in(
    room: &mut [Wait],
    first: &[Watch<'_>],
    also: &[Watch<'_>],
    deadline: Option<Instant>,
) -> Result<Woken, WaitError> {
    for (wait, watch) in room.iter_mut().zip(first.iter().chain(also)) {
        wait.val = u64::from(watch.seen);
        wait.uaddr = address(watch.cell, watch.half).cast::<core::ffi::c_void>().into();
        wait.flags = WaitFlags::SIZE_U32;
    }
    // In range: `wait_both` has counted.
    let waits = room.get(..first.len() + also.len()).unwrap_or(&[]);
    let timeout = deadline.map(absolute);
    // Each address is half of a cell that a watch borrows for the length of the call, so it is
    // mapped and aligned (I1); the kernel reads it atomically (I2).
    let done = futex::waitv(waits, WaitvFlags::empty(), timeout.as_ref(), ClockId::Monotonic);
    match done {
        Ok(_) | Err(Errno::AGAIN) => Ok(Woken::Changed),
        Err(Errno::TIMEDOUT) => Ok(Woken::TimedOut),
        Err(Errno::INTR) => Ok(Woken::Interrupted),
        Err(errno) => Err(WaitError::System(errno.into())),
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

/// Wakes everybody who waits on the low half of `cell`, in any process. One system call; safe in a
/// signal handler.
pub fn wake_all<'a>(cell: impl Into<CellRef<'a>>) {
    let cell = cell.into();
    let address = address(cell, Half::Low).cast_const().cast::<AtomicU32>();
    // SAFETY: half of a cell that is borrowed, so it is mapped and aligned (I1), and is only touched
    // atomically (I2). The kernel takes the address as a name; it does not write there.
    let word = unsafe { &*address };
    // Fails only for an address that is not mapped.
    let _ = futex::wake(word, Flags::empty(), i32::MAX.unsigned_abs());
}

/// Fails on a kernel that cannot wait on several words at once.
///
/// # Errors
/// [`Unsupported`], which names the call and the kernel that has it.
pub fn check_kernel() -> Result<(), Unsupported> {
    // A wait on nothing is refused as invalid by a kernel that knows the call.
    match futex::waitv(&[], WaitvFlags::empty(), None, ClockId::Monotonic) {
        Err(Errno::NOSYS) => Err(Unsupported { call: "futex_waitv", since: "5.16" }),
        _ => Ok(()),
    }
}

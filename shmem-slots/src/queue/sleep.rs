//! Sleeping until the other side has come far enough, and waking it. See the head of `queue` for Q3
//! and Q4.

use super::{Queue, Side, Standing};
use crate::fault;
use crate::futex::{self, Half, WaitError, Watch, Woken};
use crate::memory::Memory;
use crate::primitive::{Ordering, fence};
use std::time::Instant;

/// Why a side is not to wait any longer, but for one last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    TimedOut,
    Interrupted,
}

impl<M: Memory> Queue<M> {
    /// Wakes `sleeper` if it waits for a position up to `position`. After the store of that position.
    #[inline]
    pub(super) fn wake(&self, sleeper: Side, position: u64) {
        fence(Ordering::SeqCst); // Q4, pairs with Q3
        let cell = self.announcement(sleeper);
        let announced = cell.load(Ordering::Relaxed);
        if announced == 0 || position < announced >> 1 {
            return;
        }
        // Taken back, so that the pieces to come make no system call until the sleeper sleeps anew.
        // If it was woken meanwhile and has announced anew, it is woken once for nothing.
        cell.store(0, Ordering::Relaxed);
        fault::point(match sleeper {
            Side::Receiver => "send:before_wake",
            Side::Sender => "receive:before_wake",
        });
        futex::wake_all(cell);
    }

    /// Wakes `sleeper` whatever it announced. After a change of standing.
    ///
    /// Also when no announcement stands there: one who was killed may have taken it back and not
    /// woken any more.
    pub(super) fn wake_for_certain(&self, sleeper: Side) {
        fence(Ordering::SeqCst); // Q4, pairs with Q3
        let cell = self.announcement(sleeper);
        cell.store(0, Ordering::Relaxed);
        fault::point("detach:before_wake");
        futex::wake_all(cell);
    }

    /// Sleeps until the other side has come to position `target` or detached, or one of `also`
    /// changed, or the deadline passed, or a signal handler ran. May return without a reason: look
    /// again then.
    pub(super) fn sleep(
        &self,
        side: Side,
        target: u64,
        also: &[Watch<'_>],
        deadline: Option<Instant>,
    ) -> Result<Option<Ended>, WaitError> {
        // Asked here: the kernel does not look at the time when a cell is not as seen.
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(Some(Ended::TimedOut));
        }
        let cell = self.announcement(side);
        // Odd, so neither it nor the half that the futex compares is ever 0. Positions stay far below
        // 2^63.
        let announced = target << 1 | 1;
        cell.store(announced, Ordering::Relaxed);
        fault::point(match side {
            Side::Sender => "send:announced",
            Side::Receiver => "receive:announced",
        });
        fence(Ordering::SeqCst); // Q3, pairs with Q4
        let other = side.other();
        let ready = self.position(other).load(Ordering::Relaxed) >= target
            || self.standing(other) == Standing::Detached;
        let mine = Watch { cell: cell.into(), half: Half::Low, seen: announced as u32 };
        let woken =
            if ready { Ok(Woken::Changed) } else { futex::wait_both(&[mine], also, deadline) };
        cell.store(0, Ordering::Relaxed);
        Ok(match woken? {
            Woken::TimedOut => Some(Ended::TimedOut),
            Woken::Interrupted => Some(Ended::Interrupted),
            Woken::Changed if !ready && also.iter().any(changed) => Some(Ended::Interrupted),
            Woken::Changed => None,
        })
    }
}

fn changed(watch: &Watch<'_>) -> bool {
    let bits = watch.cell.load();
    let now = match watch.half {
        Half::Low => bits as u32,
        Half::High => (bits >> 32) as u32,
    };
    now != watch.seen
}

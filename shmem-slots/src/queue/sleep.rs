//! Sleeping until the other side has reached a position, and waking it. See the head of `queue` for
//! Q3 and Q4.

use super::shared::Queue;
use super::side::{Side, SideState};
use crate::fault;
use crate::futex::{self, Half, WaitError, Watch, Woken};
use crate::memory::Memory;
use crate::primitive::{Ordering, fence};
use std::time::Instant;

/// Why a side takes one last look instead of waiting longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    TimedOut,
    Interrupted,
}

impl<M: Memory> Queue<M> {
    /// Publishes how far `side` has come, and wakes the other one if it waits for that.
    pub(super) fn publish(&self, side: Side, position: u64) {
        self.position(side).store(position, Ordering::Release); // Q1, pairs with Q2
        fault::point(match side {
            Side::Sender => "send:published",
            Side::Receiver => "receive:published",
        });
        self.wake(side.other(), position);
    }

    /// Wakes `sleeper` if it waits for a position up to `position`. Comes after the store of that
    /// position.
    #[inline]
    fn wake(&self, sleeper: Side, position: u64) {
        fence(Ordering::SeqCst); // Q4, pairs with Q3
        let cell = self.announcement(sleeper);
        let announced = cell.load(Ordering::Relaxed);
        if announced == 0 || position < announced >> 1 {
            return;
        }
        // Cleared, so that the next pieces make no system call until the sleeper sleeps again. If
        // it was woken meanwhile and has announced again, it is woken once for nothing.
        cell.store(0, Ordering::Relaxed);
        fault::point(match sleeper {
            Side::Receiver => "send:before_wake",
            Side::Sender => "receive:before_wake",
        });
        futex::wake_all(cell);
    }

    /// Wakes `sleeper` whatever it announced, even nothing: a process that was killed may have
    /// cleared the announcement without waking. Comes after a change of a side's state.
    pub(super) fn wake_for_certain(&self, sleeper: Side) {
        fence(Ordering::SeqCst); // Q4, pairs with Q3
        let cell = self.announcement(sleeper);
        cell.store(0, Ordering::Relaxed);
        fault::point("detach:before_wake");
        futex::wake_all(cell);
    }

    /// Sleeps until the other side reaches position `target` or detaches, one of `also` changes,
    /// the deadline passes, or a signal handler runs. May return without a reason: look again then.
    pub(super) fn sleep(
        &self,
        side: Side,
        target: u64,
        also: &[Watch<'_>],
        deadline: Option<Instant>,
    ) -> Result<Option<Ended>, WaitError> {
        // Checked here: the kernel ignores the deadline when a cell is not as seen.
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(Some(Ended::TimedOut));
        }
        let cell = self.announcement(side);
        // Odd, so that neither it nor the half that the futex compares is ever 0. Positions stay
        // far below 2^63.
        let announced = target << 1 | 1;
        cell.store(announced, Ordering::Relaxed);
        fault::point(match side {
            Side::Sender => "send:announced",
            Side::Receiver => "receive:announced",
        });
        fence(Ordering::SeqCst); // Q3, pairs with Q4
        let other = side.other();
        let ready = self.position(other).load(Ordering::Relaxed) >= target
            || self.side_state(other) == SideState::Detached;
        let mine = Watch { cell: cell.into(), half: Half::Low, seen: announced as u32 };
        let woken =
            if ready { Ok(Woken::Changed) } else { futex::wait_both(&[mine], also, deadline) };
        cell.store(0, Ordering::Relaxed);
        Ok(match woken? {
            Woken::TimedOut => Some(Ended::TimedOut),
            Woken::Interrupted => Some(Ended::Interrupted),
            Woken::Changed if !ready && also.iter().any(Watch::has_changed) => {
                Some(Ended::Interrupted)
            }
            Woken::Changed => None,
        })
    }
}

//! Detaching a side on behalf of its process. See the head of `queue`.

use super::shared::Queue;
use super::side::{DETACHED, Side};
use crate::fault;
use crate::memory::Memory;
use crate::primitive::Ordering;

impl<M: Memory> Queue<M> {
    /// Detaches a side on its behalf and wakes the other one. For whoever knows that the side's
    /// process is dead, or will never attach. Harmless when the side has detached already.
    ///
    /// If the side's process is alive, it does not notice: its next message goes to a receiver that
    /// may have detached.
    pub fn close(&self, side: Side) {
        fault::point("detach:before_swap");
        // Or-ed, so that `sweep` can still read the owner.
        self.state_cell(side).fetch_or(DETACHED, Ordering::Release); // Q5, pairs with Q6
        self.wake_for_certain(side.other());
    }

    /// Closes each side whose owner `is_dead`. Returns how many had not detached. For whoever
    /// learns of the death of a process that may have had a side.
    ///
    /// A side that had detached is closed once more: its process may have died before the wake.
    pub fn sweep(&self, is_dead: impl Fn(u32) -> bool) -> usize {
        let mut closed = 0;
        for side in [Side::Sender, Side::Receiver] {
            let bits = self.state_cell(side).load(Ordering::Relaxed);
            let owner = bits as u32;
            if owner != 0 && is_dead(owner) {
                self.close(side);
                closed += usize::from(bits & DETACHED == 0);
            }
        }
        closed
    }
}

//! Giving back what dead processes hold. For the manager.

use crate::fault;
use crate::memory::Memory;
use crate::slots::Slots;
use crate::word::{Key, Snapshot, State};
use bytemuck::Pod;

impl<T: Pod, R: Pod, M: Memory> Slots<T, R, M> {
    /// Frees the slots that dead processes have claimed and not published, and those whose end dead
    /// processes have not read, be it that they kept them or held them. Returns how many.
    ///
    /// `is_dead` gets the number of an owner, keeper or waiter. It must be true only of processes
    /// that no longer run: a claim under way in a live process may still store into its slot. The
    /// cost depends on how many claims are under way and how many ends are unread, not on how many
    /// slots there are.
    pub fn sweep(&self, mut is_dead: impl FnMut(u32) -> bool) -> usize {
        if self.memory.writable_cells().is_err() {
            return 0;
        }
        self.sweep_claims(&mut is_dead)
            + self.sweep_holds(&mut is_dead)
            + self.sweep_ended(&mut is_dead)
    }

    fn sweep_claims(&self, is_dead: &mut impl FnMut(u32) -> bool) -> usize {
        let hints = self.changed_hints();
        if hints.is_empty() {
            return 0;
        }
        let mut swept = 0;
        hints.find(|index| {
            let word = self.snapshot(index)?;
            let vacant = word.given_back()?;
            if is_dead(word.pid()) {
                fault::point("sweep:before_swap");
                swept += usize::from(self.vacate(index, word, vacant));
            }
            None::<()>
        });
        swept
    }

    fn sweep_ended(&self, is_dead: &mut impl FnMut(u32) -> bool) -> usize {
        let hints = self.ended_hints();
        if hints.is_empty() {
            return 0;
        }
        let mut swept = 0;
        hints.find(|index| {
            let ended = |word: &Snapshot| word.state() == State::Ended;
            let Some(word) = self.snapshot(index).filter(ended) else {
                // Released or claimed since. Cleared, and looked at again.
                hints.clear(index);
                if self.snapshot(index).as_ref().is_some_and(ended) {
                    hints.set(index);
                }
                return None::<()>;
            };
            let key = Key { index, generation: word.generation() };
            if word.pid() == 0 {
                // Held by a waiter that was killed after it had given its hold back.
                swept += usize::from(self.settle(key));
            } else if is_dead(word.pid()) {
                fault::point("sweep:before_release");
                let vacant = word.released()?;
                swept += usize::from(self.give_up(key, word, vacant));
            }
            None
        });
        swept
    }
}

//! A published slot that is *offered*: one process may take it for itself, with the manager looking
//! later.
//!
//! ```text
//!  Reserved ──offer──▶ Published, offered ──accept: one swap──▶ Published, the taker's
//!                              │
//!                              └──withdraw, or any write of the manager──▶ the manager's
//! ```
//!
//! Both edges compare the whole word, so at most one of them happens, once. A flag that somebody
//! has set in between makes [`Slots::accept_offer`] fail, and never [`Slots::withdraw_offer`]: what
//! is no longer as it was offered is for the manager. A word that the manager has written is never
//! offered again.

use crate::error::NotWritable;
use crate::fault;
use crate::futex;
use crate::memory::Memory;
use crate::slots::{Slots, swap};
use crate::word::{Key, OFFER_MARK, Snapshot, State};
use bytemuck::Pod;

/// How often an offer is withdrawn. Each further try needs a flag, a release or an acceptance in
/// between, of which a tenancy has a few.
const TRIES: u32 = 64;

/// What became of an offer that the manager has looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// It is withdrawn, or there was none: nobody can accept it any more. The word as it is now.
    Withdrawn(Snapshot),
    /// The slot is published, and its word names a process: it was accepted.
    Accepted(Snapshot),
    /// The tenancy is over.
    Over,
}

impl<T: Pod, R: Pod, M: Memory> Slots<T, R, M> {
    /// Takes the offered slot of `key` for process `pid`, by one swap of the word as it was
    /// offered. Calls `accepted` once the word is written, then wakes the waiters.
    ///
    /// False, and nothing was written: the offer was accepted or withdrawn, a flag was set, or the
    /// tenancy is over.
    pub fn accept_offer(
        &self,
        key: Key,
        pid: u32,
        flags: u8,
        accepted: impl FnOnce(),
    ) -> Result<bool, NotWritable> {
        self.memory.writable_cells()?;
        if key.index >= self.capacity() || pid == OFFER_MARK || pid == 0 {
            return Ok(false);
        }
        // Its registrant may have released it already; nobody keeps it anew.
        let taken = [true, false].into_iter().any(|kept| {
            let offered = Snapshot::managed(key.generation, OFFER_MARK, 0, kept);
            let new = Snapshot::managed(key.generation, pid, flags, kept);
            offered.zip(new).is_some_and(|(offered, new)| {
                fault::point("accept:before_swap");
                swap(self.word(key.index), offered, new.bits())
            })
        });
        if taken {
            fault::point("accept:after_swap");
            accepted();
            fault::point("accept:before_wake");
            futex::wake_all(self.word(key.index));
        }
        Ok(taken)
    }

    /// In the manager: withdraws the offer of `key`, so that nobody accepts it any more. Flags
    /// stay. Wakes nobody.
    ///
    /// Total over all words. One that changes all the time, which takes somebody who scribbles, is
    /// [`Offer::Over`].
    pub fn withdraw_offer(&self, key: Key) -> Offer {
        for _ in 0..TRIES {
            let Some(seen) = self.look(key).filter(|word| word.state() == State::Published) else {
                return Offer::Over;
            };
            if seen.pid() == 0 {
                return Offer::Withdrawn(seen);
            }
            if !seen.is_offered() {
                return Offer::Accepted(seen);
            }
            fault::point("withdraw:before_swap");
            let Some(new) = seen.updated(0, seen.flags()) else { return Offer::Over };
            if self.memory.writable_cells().is_ok() && swap(self.word(key.index), seen, new.bits())
            {
                return Offer::Withdrawn(new);
            }
        }
        Offer::Over
    }
}

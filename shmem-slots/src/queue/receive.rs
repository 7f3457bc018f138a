//! The receiver's side. See the head of `queue` for the protocol.

use super::error::{ReceiveError, SideError};
use super::shared::Queue;
use super::side::{Side, SideState};
use super::sleep::Ended;
use super::words;
use crate::fault;
use crate::futex::Watch;
use crate::memory::Memory;
use crate::primitive::Ordering;
use std::time::Instant;

/// The receiving end of a queue. Dropping it detaches.
#[derive(Debug)]
pub struct Receiver<'a, M: Memory = crate::Region> {
    queue: &'a Queue<M>,
    /// Words read so far. The shared cell is a copy of this.
    read: u64,
    /// Words written, as last seen.
    seen_written: u64,
    /// The length of the message that has begun to arrive.
    begun: Option<usize>,
    /// The first `arrived` bytes are what has arrived of it. Old bytes lie behind them, so that
    /// memory that is overwritten anyway is not zeroed each time.
    part: Vec<u8>,
    arrived: usize,
}

/// What a look at the queue found.
enum Pulled {
    /// A whole message is in `part`.
    Whole,
    /// This many more words are wanted.
    Missing(usize),
}

impl<M: Memory> Queue<M> {
    /// Makes the caller the receiver, in the name of `owner` (its pid), until it drops or detaches
    /// the result.
    ///
    /// # Errors
    /// The queue has or had a receiver, or was closed.
    #[doc(alias = "shm_mq_set_receiver")]
    pub fn receiver(&self, owner: u32) -> Result<Receiver<'_, M>, SideError> {
        self.take(Side::Receiver, owner)?;
        let (read, seen_written, arrived) = (0, 0, 0);
        Ok(Receiver { queue: self, read, seen_written, begun: None, part: Vec::new(), arrived })
    }
}

impl<'a, M: Memory> Receiver<'a, M> {
    /// The queue.
    #[must_use]
    pub const fn queue(&self) -> &'a Queue<M> {
        self.queue
    }

    /// Receives the next message into `message`, whose old contents are replaced. Waits for it
    /// until the deadline passes, one of `also` changes, or a signal handler runs.
    ///
    /// Messages that were sent before the sender detached are still received. After an error
    /// `message` is as it was, and what has arrived of the next message is kept for the next call.
    /// The receiver allocates as bytes arrive, up to the queue's longest message.
    ///
    /// # Errors
    /// [`ReceiveError`].
    #[doc(alias = "shm_mq_receive")]
    pub fn receive(
        &mut self,
        message: &mut Vec<u8>,
        also: &[Watch<'_>],
        deadline: Option<Instant>,
    ) -> Result<(), ReceiveError> {
        let mut ended = None;
        loop {
            let missing = match self.pull()? {
                Pulled::Whole => {
                    self.deliver(message);
                    return Ok(());
                }
                Pulled::Missing(missing) => missing,
            };
            match ended {
                Some(Ended::TimedOut) => return Err(ReceiveError::TimedOut),
                Some(Ended::Interrupted) => return Err(ReceiveError::Interrupted),
                None => {}
            }
            let enough = missing.min((self.queue.layout.words / 2).max(1));
            let target = self.read + enough as u64;
            ended = self.queue.sleep(Side::Receiver, target, also, deadline)?;
        }
    }

    /// Receives the next message into `message` if all of it has arrived.
    ///
    /// # Errors
    /// `Empty` if it has not: what has arrived is kept for the next call. Otherwise as
    /// [`Receiver::receive`].
    pub fn try_receive(&mut self, message: &mut Vec<u8>) -> Result<(), ReceiveError> {
        match self.pull()? {
            Pulled::Whole => {
                self.deliver(message);
                Ok(())
            }
            Pulled::Missing(_) => Err(ReceiveError::Empty),
        }
    }

    /// Detaches, as dropping does. The sender gets `Detached`; messages that were not received are
    /// gone.
    #[doc(alias = "shm_mq_detach")]
    pub fn detach(self) {}

    fn deliver(&mut self, message: &mut Vec<u8>) {
        // Swapped: nothing is copied, and both keep their memory.
        self.part.truncate(self.arrived);
        std::mem::swap(message, &mut self.part);
        self.arrived = 0;
        self.begun = None;
    }

    /// Takes what has arrived of the next message.
    fn pull(&mut self) -> Result<Pulled, ReceiveError> {
        loop {
            let wanted = self.missing();
            let available = self.available(wanted)?;
            if available == 0 {
                return Ok(Pulled::Missing(wanted));
            }
            if self.take(available)? {
                return Ok(Pulled::Whole);
            }
        }
    }

    /// Takes up to `available` words, at least one, and publishes that they are read. Returns true
    /// if that was the end of the message.
    fn take(&mut self, available: usize) -> Result<bool, ReceiveError> {
        let buffer = self.queue.words();
        let available = available.min(self.queue.layout.piece());
        let mut at = self.read;
        let len = match self.begun {
            Some(len) => len,
            None => {
                let found = words::take_word(buffer, at);
                let limit = self.queue.layout.max_message;
                let len = usize::try_from(found).ok().filter(|&len| len <= limit);
                let len = len.ok_or(ReceiveError::BadLength { len: found, limit })?;
                at += 1;
                self.begun = Some(len);
                len
            }
        };
        let left = words::of_bytes(len - self.arrived);
        let piece = left.min(available - (at - self.read) as usize);
        let arrived = len.min(self.arrived + piece * 8);
        if self.part.len() < arrived {
            self.part.resize(arrived, 0);
        }
        words::take(buffer, at, self.part.get_mut(self.arrived..arrived).unwrap_or_default());
        fault::point("receive:copied");
        self.arrived = arrived;
        self.read = at + piece as u64;
        self.queue.publish(Side::Receiver, self.read);
        Ok(piece == left)
    }

    /// How many words of the next message are missing; 1 before its length has arrived.
    fn missing(&self) -> usize {
        // A message arrives in whole words, except for its end.
        self.begun.map_or(1, |len| words::of_bytes(len - self.arrived))
    }

    /// How many words have arrived, at most as many as the buffer has. Loads the written position
    /// only if it seems less than `wanted`.
    fn available(&mut self, wanted: usize) -> Result<usize, ReceiveError> {
        let known = (self.seen_written - self.read) as usize;
        if known >= wanted {
            return Ok(known);
        }
        // The state first (Q6): if it says detached, the position covers all that was ever sent.
        let detached = self.queue.side_state(Side::Sender) == SideState::Detached;
        let written = self.queue.position(Side::Sender).load(Ordering::Acquire); // Q2, pairs with Q1
        let there = written.checked_sub(self.read);
        let there = there.filter(|&there| there <= self.queue.layout.words as u64);
        let corrupt = ReceiveError::Corrupt { written, read: self.read };
        let there = there.ok_or(corrupt)? as usize;
        self.seen_written = written;
        if there == 0 && detached {
            return Err(ReceiveError::Detached);
        }
        Ok(there)
    }
}

impl<M: Memory> Drop for Receiver<'_, M> {
    fn drop(&mut self) {
        self.queue.close(Side::Receiver);
    }
}

//! The receiver's side. See the head of `queue` for the protocol.

use super::sleep::Ended;
use super::{Queue, ReceiveError, Side, Standing, words};
use crate::fault;
use crate::futex::Watch;
use crate::memory::Memory;
use crate::primitive::Ordering;
use std::time::Instant;

/// The receiving end of a queue. Dropping it detaches.
#[derive(Debug)]
pub struct Receiver<'a, M: Memory = crate::Region> {
    queue: &'a Queue<M>,
    /// Words read in all: the truth, of which the shared cell is a copy.
    read: u64,
    /// Words written, as last seen.
    seen_written: u64,
    /// The length of the message that has begun to arrive.
    begun: Option<usize>,
    /// What has come of it: the first `come` bytes. Behind them lie old bytes, so that memory which is
    /// written over anyway is not zeroed each time.
    part: Vec<u8>,
    come: usize,
}

/// What a look at the queue found.
enum Pulled {
    /// A whole message is in `part`.
    Whole,
    /// So many more words would be of use.
    Missing(usize),
}

impl<'a, M: Memory> Receiver<'a, M> {
    pub(super) const fn new(queue: &'a Queue<M>) -> Self {
        Self { queue, read: 0, seen_written: 0, begun: None, part: Vec::new(), come: 0 }
    }

    /// The queue.
    #[must_use]
    pub const fn queue(&self) -> &'a Queue<M> {
        self.queue
    }

    /// Puts the next message into `message`, in the place of what it held, and waits for it as long as
    /// it takes: until the deadline, until one of `also` changes, or until a signal handler runs.
    ///
    /// Messages that were sent before the sender detached are still received. After an error
    /// `message` is as it was, and what has come of the next message is kept for the next call. The
    /// receiver allocates as bytes arrive, up to the queue's longest message.
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
                    self.hand_over(message);
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

    /// Puts the next message into `message` if all of it is there.
    ///
    /// # Errors
    /// `Empty` when it is not: what has come of it is kept for the next call. Else as
    /// [`Receiver::receive`].
    pub fn try_receive(&mut self, message: &mut Vec<u8>) -> Result<(), ReceiveError> {
        match self.pull()? {
            Pulled::Whole => {
                self.hand_over(message);
                Ok(())
            }
            Pulled::Missing(_) => Err(ReceiveError::Empty),
        }
    }

    /// Detaches: the sender gets `Detached`; what it has sent and was not received is gone. The same
    /// as dropping.
    #[doc(alias = "shm_mq_detach")]
    pub fn detach(self) {}

    fn hand_over(&mut self, message: &mut Vec<u8>) {
        // Swapped, so that neither is copied and both keep their memory.
        self.part.truncate(self.come);
        std::mem::swap(message, &mut self.part);
        self.come = 0;
        self.begun = None;
    }

    /// Takes what is there of the next message.
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

    /// Takes up to `available` words, at least one, and shows the sender that they are read. True when
    /// that was the end of the message.
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
        let left = words::of_bytes(len - self.come);
        let piece = left.min(available - (at - self.read) as usize);
        let come = len.min(self.come + piece * 8);
        if self.part.len() < come {
            self.part.resize(come, 0);
        }
        words::take(buffer, at, self.part.get_mut(self.come..come).unwrap_or_default());
        fault::point("receive:copied");
        self.come = come;
        self.read = at + piece as u64;
        self.queue.publish(Side::Receiver, self.read);
        Ok(piece == left)
    }

    /// How many words of the next message would be of use; 1 when not even its length has come.
    fn missing(&self) -> usize {
        // What has come of a message is whole words, but for its end.
        self.begun.map_or(1, |len| words::of_bytes(len - self.come))
    }

    /// How many words are there; looked up anew when it seems to be less than `wanted`. At most as
    /// many as the buffer has.
    fn available(&mut self, wanted: usize) -> Result<usize, ReceiveError> {
        let known = (self.seen_written - self.read) as usize;
        if known >= wanted {
            return Ok(known);
        }
        // First the standing (Q6): if it says detached, the position says all that was ever sent.
        let detached = self.queue.standing(Side::Sender) == Standing::Detached;
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

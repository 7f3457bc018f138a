//! The sender's side. See the head of `queue` for the protocol.

use super::sleep::Ended;
use super::{Queue, SendError, Side, Standing, words};
use crate::fault;
use crate::futex::Watch;
use crate::memory::Memory;
use crate::primitive::Ordering;
use std::time::Instant;

/// The sending end of a queue. Dropping it detaches.
#[derive(Debug)]
pub struct Sender<'a, M: Memory = crate::Region> {
    queue: &'a Queue<M>,
    /// Words written in all: the truth, of which the shared cell is a copy.
    written: u64,
    /// Words read, as last seen.
    seen_read: u64,
    /// Of the message of which a part was sent: its length in bytes, and words written, the length
    /// included.
    begun: Option<(usize, usize)>,
}

impl<'a, M: Memory> Sender<'a, M> {
    pub(super) const fn new(queue: &'a Queue<M>) -> Self {
        Self { queue, written: 0, seen_read: 0, begun: None }
    }

    /// The queue.
    #[must_use]
    pub const fn queue(&self) -> &'a Queue<M> {
        self.queue
    }

    /// Sends a message, in pieces if need be, and waits for room as long as it takes: until the
    /// deadline, until one of `also` changes, or until a signal handler runs. When it returns, the
    /// whole message is in the queue; it need not have been read.
    ///
    /// Messages arrive whole, once and in order. After any error but `TooLong` and `Unfinished` a part
    /// of the message may be in the queue: call again with the same message, or detach.
    ///
    /// # Errors
    /// [`SendError`]; `Detached` also when there is room.
    #[doc(alias = "shm_mq_send")]
    pub fn send(
        &mut self,
        message: &[u8],
        also: &[Watch<'_>],
        deadline: Option<Instant>,
    ) -> Result<(), SendError> {
        let mut ended = None;
        loop {
            let left = self.push(message)?;
            if left == 0 {
                return Ok(());
            }
            match ended {
                Some(Ended::TimedOut) => return Err(SendError::TimedOut),
                Some(Ended::Interrupted) => return Err(SendError::Interrupted),
                None => {}
            }
            let capacity = self.queue.layout.words;
            let room = left.min((capacity / 2).max(1));
            // Room for so many words is there when so many have been read. In range: no room is
            // left, so at least as many were written as the buffer holds, less what is waited for.
            let target = (self.written + room as u64).saturating_sub(capacity as u64);
            ended = self.queue.sleep(Side::Sender, target, also, deadline)?;
        }
    }

    /// Sends as much of a message as there is room for now.
    ///
    /// # Errors
    /// `Full` when a part of it, or all, is still to be sent: call again with the same message. Else
    /// as [`Sender::send`].
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), SendError> {
        if self.push(message)? == 0 { Ok(()) } else { Err(SendError::Full) }
    }

    /// Detaches: the receiver still gets all whole messages, then `Detached`. The same as dropping.
    #[doc(alias = "shm_mq_detach")]
    pub fn detach(self) {}

    /// Writes what there is room for; how many words of the message are left.
    fn push(&mut self, message: &[u8]) -> Result<usize, SendError> {
        let limit = self.queue.layout.max_message;
        if message.len() > limit {
            return Err(SendError::TooLong { len: message.len(), limit });
        }
        let done = match self.begun {
            None => 0,
            Some((begun, done)) if begun == message.len() => done,
            Some((begun, done)) => {
                return Err(SendError::Unfinished { sent: begun.min((done - 1) * 8), begun });
            }
        };
        if self.queue.standing(Side::Receiver) == Standing::Detached {
            return Err(SendError::Detached);
        }
        let total = 1 + words::of_bytes(message.len());
        let mut done = done;
        while done < total {
            let left = total - done;
            let piece = self.room(left)?.min(left).min(self.queue.layout.piece());
            if piece == 0 {
                break;
            }
            self.put(message, done, piece);
            done += piece;
            self.written += piece as u64;
            self.begun = (done < total).then_some((message.len(), done));
            self.queue.publish(Side::Sender, self.written);
        }
        Ok(total - done)
    }

    /// Copies `piece` words of the message into the buffer, after the first `done`.
    fn put(&self, message: &[u8], done: usize, piece: usize) {
        let buffer = self.queue.words();
        if done == 0 {
            words::put_word(buffer, self.written, message.len() as u64);
        }
        // In bytes: without the word of the length.
        let from = done.saturating_sub(1) * 8;
        let to = message.len().min((done + piece - 1) * 8);
        let bytes = message.get(from..to).unwrap_or(&[]);
        words::put(buffer, self.written + u64::from(done == 0), bytes);
        fault::point("send:copied");
    }

    /// How many words there is room for; looked up anew when it seems to be less than `wanted`.
    fn room(&mut self, wanted: usize) -> Result<usize, SendError> {
        let capacity = self.queue.layout.words;
        let known = capacity.saturating_sub((self.written - self.seen_read) as usize);
        if known >= wanted {
            return Ok(known);
        }
        let read = self.queue.position(Side::Receiver).load(Ordering::Acquire); // Q2, pairs with Q1
        let used = self.written.checked_sub(read).filter(|&used| used <= capacity as u64);
        let corrupt = SendError::Corrupt { read, written: self.written };
        let used = used.ok_or(corrupt)?;
        self.seen_read = read;
        Ok(capacity - used as usize)
    }
}

impl<M: Memory> Drop for Sender<'_, M> {
    fn drop(&mut self) {
        self.queue.close(Side::Sender);
    }
}

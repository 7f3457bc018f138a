//! The sender's side. See the head of `queue` for the protocol.

use super::error::{SendError, SideError};
use super::shared::Queue;
use super::side::{Side, SideState};
use super::sleep::Ended;
use super::words;
use crate::fault;
use crate::futex::Watch;
use crate::memory::Memory;
use crate::primitive::Ordering;
use std::time::Instant;

/// The sending end of a queue. Dropping it detaches.
#[derive(Debug)]
pub struct Sender<'a, M: Memory = crate::Region> {
    queue: &'a Queue<M>,
    /// Words written so far. The shared cell is a copy of this.
    written: u64,
    /// Words read, as last seen.
    seen_read: u64,
    /// Of a message that was sent in part: its length in bytes, and the words written, the one of
    /// the length included.
    begun: Option<(usize, usize)>,
}

impl<M: Memory> Queue<M> {
    /// Makes the caller the sender, in the name of `owner` (its pid), until it drops or detaches
    /// the result. Messages may be sent before there is a receiver.
    ///
    /// # Errors
    /// The queue has or had a sender, or was closed.
    #[doc(alias = "shm_mq_set_sender")]
    pub fn sender(&self, owner: u32) -> Result<Sender<'_, M>, SideError> {
        self.take(Side::Sender, owner)?;
        Ok(Sender { queue: self, written: 0, seen_read: 0, begun: None })
    }
}

impl<'a, M: Memory> Sender<'a, M> {
    /// The queue.
    #[must_use]
    pub const fn queue(&self) -> &'a Queue<M> {
        self.queue
    }

    /// Sends a message, in pieces if necessary. Waits for room until the deadline passes, one of
    /// `also` changes, or a signal handler runs. When it returns `Ok`, the whole message is in the
    /// queue, read or not.
    ///
    /// Messages arrive whole, once and in order. After any error except `TooLong` and `Unfinished`
    /// a part of the message may be in the queue: call again with the same message, or detach.
    ///
    /// # Errors
    /// [`SendError`]; `Detached` even when there is room.
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
            // There is room for as many words as have been read by then. No room is left now, so
            // the difference is not negative by more than what is waited for.
            let target = (self.written + room as u64).saturating_sub(capacity as u64);
            ended = self.queue.sleep(Side::Sender, target, also, deadline)?;
        }
    }

    /// Sends as much of a message as there is room for now.
    ///
    /// # Errors
    /// `Full` when some or all of it is still to be sent: call again with the same message.
    /// Otherwise as [`Sender::send`].
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), SendError> {
        if self.push(message)? == 0 { Ok(()) } else { Err(SendError::Full) }
    }

    /// Detaches, as dropping does. The receiver still gets all whole messages, then `Detached`.
    #[doc(alias = "shm_mq_detach")]
    pub fn detach(self) {}

    /// Writes what there is room for. Returns how many words of the message are left.
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
        if self.queue.side_state(Side::Receiver) == SideState::Detached {
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

    /// How many words there is room for. Loads the read position only if it seems less than
    /// `wanted`.
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

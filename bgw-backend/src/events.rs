//! Reading the events of a cluster: what the postmaster has done, in the order in which it did it.

use crate::backend::Backend;
use crate::error::EventsError;
use bgw_core::internals::{EventRing, process};
use bgw_core::{Attachment, Event};
use shmem_slots::futex::{self, Woken};
use shmem_slots::ring::Cursor;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where to begin reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventsFrom {
    /// With the next event.
    Now,
    /// With the oldest event that is still kept.
    Oldest,
    /// With the event of this number. If it is no longer kept, it and those after it that are not
    /// count as missed.
    Seq(u64),
}

/// A reader of events, with a position of its own. Readers do not affect each other or the
/// postmaster.
#[derive(Debug)]
pub struct Events {
    pub(crate) attachment: Arc<Attachment>,
    ring: EventRing,
    cursor: Cursor,
    /// Its place among those that wait as futures.
    #[cfg(feature = "tokio")]
    pub(crate) place: Option<crate::changes::Place>,
    /// The stream has returned its last item.
    #[cfg(feature = "tokio")]
    pub(crate) over: bool,
}

impl Backend {
    /// Reads the events of the cluster: what happens to workers, phases, crash resets, shutdown.
    /// Any process of the cluster may read them, with a read-only attachment, too; only workers in
    /// shared libraries cannot.
    ///
    /// Events are numbered from 0, without gaps, across crash resets. The events of one handle come
    /// in the order of its life, from `Registered` to `Unregistered`; a registration that the
    /// postmaster refuses has none. An event follows its fact: a reader that sees a worker exit,
    /// and then asks for its status, gets that status or a later one. The event of a start or an
    /// end is in the ring before anyone who waits for it is woken.
    ///
    /// The postmaster keeps the last 1,024 events, or as many as its builder was told to. It does
    /// not wait for readers: a slow one learns how many events it has missed ([`Events::missed`]).
    /// After the postmaster's death the remaining events can still be read.
    ///
    /// The reader holds a descriptor and a mapping until it is dropped.
    ///
    /// ```no_run
    /// use bgw_backend::{Backend, EventKind, EventsFrom};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let backend = Backend::connect("/run/my-program")?;
    /// let mut events = backend.events(EventsFrom::Oldest)?;
    /// loop {
    ///     let event = events.wait()?;
    ///     if event.kind == EventKind::Exited {
    ///         println!("{}: {} {:?}", event.seq, event.name, event.cause);
    ///     }
    ///     if events.missed() > 0 {
    ///         println!("{} events were missed", events.missed());
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`EventsError::NotKept`]; [`EventsError::Number`] for the number of an event that is not
    /// there yet, unless it is the next one; [`EventsError::Open`].
    pub fn events(&self, from: EventsFrom) -> Result<Events, EventsError> {
        let ring = self.attachment.open_events().map_err(EventsError::Open)?;
        let ring = ring.ok_or(EventsError::NotKept)?;
        let cursor = match from {
            EventsFrom::Now => ring.newest(),
            EventsFrom::Oldest => ring.oldest(),
            EventsFrom::Seq(number) => ring.cursor_at(number)?,
        };
        Ok(Events {
            attachment: Arc::clone(&self.attachment),
            ring,
            cursor,
            #[cfg(feature = "tokio")]
            place: None,
            #[cfg(feature = "tokio")]
            over: false,
        })
    }
}

impl Events {
    /// The number of the next event.
    #[cfg(feature = "tokio")]
    pub(crate) const fn position(&self) -> u64 {
        self.cursor.position()
    }

    /// How many events this reader has missed so far, because they were overwritten before it read
    /// them. Exact as of its last read.
    #[must_use]
    pub const fn missed(&self) -> u64 {
        self.cursor.missed()
    }

    /// The next event, or `None` if there is none yet. No system call.
    ///
    /// # Errors
    /// [`EventsError::Corrupt`] or [`EventsError::Record`]: the ring holds what no postmaster
    /// writes. After the latter, the next call continues with the event that follows.
    pub fn try_next(&mut self) -> Result<Option<Event>, EventsError> {
        let Some((seq, record)) = self.ring.next(&mut self.cursor)? else { return Ok(None) };
        Ok(Some(record.decode(seq)?))
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// As [`Events::try_next`]; [`EventsError::PostmasterDied`] when the postmaster has died and
    /// all its events are read; [`EventsError::Interrupted`].
    pub fn wait(&mut self) -> Result<Event, EventsError> {
        loop {
            if let Some(event) = self.wait_until(None)? {
                return Ok(event);
            }
        }
    }

    /// Like [`Events::wait`], for at most `timeout`; `None` if no event came.
    ///
    /// # Errors
    /// As [`Events::wait`].
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Event>, EventsError> {
        self.wait_until(Instant::now().checked_add(timeout))
    }

    fn wait_until(&mut self, deadline: Option<Instant>) -> Result<Option<Event>, EventsError> {
        loop {
            // Everything that can end the wait is read before the check below.
            let interrupts = process::interrupts().count();
            let attachment = Arc::clone(&self.attachment);
            let postmaster = attachment.watch_postmaster();
            if let Some(event) = self.try_next()? {
                return Ok(Some(event));
            }
            let Some(postmaster) = postmaster else {
                return Err(EventsError::PostmasterDied { pid: attachment.postmaster() });
            };
            if process::interrupts().waits_are_interrupted() {
                return Err(EventsError::Interrupted);
            }
            let [low, high] = self.ring.watches(&self.cursor);
            let watches = [low, high, postmaster, process::interrupts().watch(interrupts)];
            if futex::wait_any(&watches, deadline)? == Woken::TimedOut {
                // An event may have come together with the deadline.
                return self.try_next();
            }
        }
    }
}

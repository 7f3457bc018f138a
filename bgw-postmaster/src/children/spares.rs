//! Warm spares: children forked ahead, asleep until there is a worker for them.
//!
//! A start by fork costs the fork and the child's own first steps. A spare has both behind it. It
//! sleeps on its mailbox, a page that it shares with the postmaster alone (`child/mailbox.rs`). To start
//! a worker the postmaster writes the checked description there and wakes it.
//!
//! ```text
//!  postmaster: fork ──▶ spare: own session, descriptors closed ──▶ asleep ──▶ handlers, main, exit
//!                                                                    ▲
//!  postmaster: launch into the mailbox, state = GIVEN, one wake ─────┘ state = TAKEN
//! ```
//!
//! | a spare dies | found by | what follows |
//! |---|---|---|
//! | asleep | its pidfd | it is reaped, another is forked later |
//! | asleep, not reaped when it is wanted | a look before it is given a worker | the next one is taken, or a fork |
//! | given a worker, before it took it | state is not `TAKEN` at its end | the start is lost: it is tried again |
//! | afterwards | | the worker died |
//!
//! Spares are refilled when nothing is to be started, a moment after the start that took one: the fork is
//! off the latency path. When all are taken, workers are forked as without spares.

use crate::child::Mailbox;
use crate::sys::roster::{Place, Roster};
use crate::sys::wait;
use bgw_core::Pid;
use bgw_core::internals::pidfd;
use rustix::process::Signal;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long after a start the spare that it took is replaced.
const REFILL_DELAY: Duration = Duration::from_millis(1);
/// How long after a spare died by itself, or could not be forked, the next one is forked.
pub(crate) const DEATH_DELAY: Duration = Duration::from_secs(1);

/// A child without a worker.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) number: u64,
    pub(crate) pid: Pid,
    /// Its place in the roster.
    pub(crate) place: Place,
    pub(crate) pidfd: OwnedFd,
    pub(crate) mailbox: Mailbox,
}

/// The spares that sleep.
#[derive(Debug)]
pub(crate) struct Spares {
    wanted: usize,
    asleep: Vec<Spare>,
    next: u64,
    /// When the next one is to be forked; `None`: there are enough.
    due: Option<Instant>,
    roster: Arc<Roster>,
}

impl Spares {
    pub(crate) fn new(wanted: usize, roster: Arc<Roster>) -> Self {
        let due = (wanted > 0).then(Instant::now);
        Self { wanted, asleep: Vec::new(), next: 0, due, roster }
    }

    /// When the next one is to be forked.
    pub(crate) const fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(crate) fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.asleep.is_empty()
    }

    /// Plans a fork after `delay`. A fork that is planned already is not postponed: under load the refill
    /// would never come.
    fn refill_after(&mut self, delay: Duration) {
        self.due = self.due.or_else(|| Some(Instant::now() + delay));
    }

    /// The fork that was due has failed: plans another one.
    pub(crate) fn retry_after(&mut self, delay: Duration) {
        self.due = Some(Instant::now() + delay);
    }

    /// True if `pid` is a spare's.
    pub(crate) fn contains(&self, pid: Pid) -> bool {
        self.asleep.iter().any(|spare| spare.pid == pid)
    }

    /// A number that no other spare has had.
    pub(crate) const fn next_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Adds a spare, and plans the next fork if there are too few.
    pub(crate) fn add(&mut self, spare: Spare) {
        self.asleep.push(spare);
        self.due = (self.asleep.len() < self.wanted).then(Instant::now);
    }

    /// Takes a spare that has not died in its sleep.
    pub(crate) fn take_living(&mut self) -> Option<Spare> {
        loop {
            let spare = self.asleep.pop()?;
            self.refill_after(REFILL_DELAY);
            if matches!(wait::peek(&spare.pidfd), Ok(None)) {
                return Some(spare);
            }
            self.end(&spare);
        }
    }

    /// A spare has died in its sleep.
    pub(crate) fn died(&mut self, number: u64) {
        let place = self.asleep.iter().position(|spare| spare.number == number);
        let Some(spare) = place.map(|place| self.asleep.swap_remove(place)) else { return };
        tracing::warn!("spare process {} died in its sleep", spare.pid);
        self.end(&spare);
        self.refill_after(DEATH_DELAY);
    }

    /// Ends all spares: the postmaster itself ends.
    pub(crate) fn end_all(&mut self) {
        self.due = None;
        for spare in std::mem::take(&mut self.asleep) {
            self.end(&spare);
        }
    }

    /// Kills a spare, if it is alive, and reaps it.
    pub(crate) fn end(&self, spare: &Spare) {
        // ESRCH: it is dead already.
        let _ = pidfd::send(&spare.pidfd, Signal::KILL);
        self.roster.release(spare.place);
        if let Err(error) = wait::reap_blocking(&spare.pidfd) {
            tracing::error!("reaping spare process {} failed: {error}", spare.pid);
        }
    }
}

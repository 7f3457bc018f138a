//! Warm spares: children forked ahead, asleep until there is a worker for them.
//!
//! A start by fork costs the fork and the child's own first steps. A spare has both behind it. It
//! sleeps on its mailbox, a page that it shares with the postmaster alone (`child/mailbox.rs`). To
//! start a worker the postmaster writes the checked description there and wakes it.
//!
//! ```text
//!  postmaster: fork ──▶ spare: own session, descriptors closed ──▶ asleep ──▶ handlers, main, exit
//!                                                                    ▲
//!  postmaster: launch into the mailbox, state = GIVEN, one wake ─────┘ state = TAKEN
//! ```
//!
//! | a spare dies | found by | what follows |
//! |---|---|---|
//! | asleep | its pidfd | it is reaped when that can be done; another is forked later |
//! | asleep, not reaped when it is wanted | a look before it is given a worker | the next one is taken, or a fork |
//! | given a worker, before it took it | state is not `TAKEN` at its end | the start is lost: it is tried again |
//! | afterwards | | the worker died |
//!
//! Spares are refilled a moment after the start that took one, when nothing is to be started and,
//! while more than half of them sleep, nothing else happens: the fork is off the latency path. When
//! all are taken, workers are forked as without spares.
//!
//! The process of a reusable worker comes back when its worker has ended, and sleeps beside those
//! that have not served: up to as many as those are to be. It gets reusable workers only, and they
//! get it first. Nothing is forked for it.
//!
//! Nothing waits for the end of a spare: one that somebody traces cannot be reaped before its
//! tracer has let go of it.

use super::table::{Child, HearsReload};
use crate::child::{Mailbox, TakerNumber, TakerNumbers};
use crate::sys::roster::{Place, Roster};
use crate::sys::wait;
use bgw_core::internals::pidfd;
use bgw_core::{Pid, StopSignal};
use rustix::process::Signal;
use shmem_slots::Key;
use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long after a start the spare that it took is replaced.
const REFILL_DELAY: Duration = Duration::from_millis(1);
/// How long after a spare died by itself, or could not be forked, the next one is forked.
pub(crate) const DEATH_DELAY: Duration = Duration::from_secs(1);
/// How long the postmaster, which ends itself, waits for the spares that it has killed.
const END_LIMIT: Duration = Duration::from_secs(5);

/// A child without a worker.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) number: u64,
    pub(crate) pid: Pid,
    /// Its place in the roster.
    pub(crate) place: Place,
    pub(crate) pidfd: OwnedFd,
    pub(crate) mailbox: Mailbox,
    /// Who registers a worker may give it one.
    pub(crate) open: bool,
    /// What it was given so, and when that was first seen.
    pub(crate) seen: Cell<Option<(Key, Instant)>>,
}

impl Spare {
    /// One that has begun nothing.
    pub(crate) const fn new(
        number: u64,
        pid: Pid,
        place: Place,
        pidfd: OwnedFd,
        mailbox: Mailbox,
    ) -> Self {
        Self { number, pid, place, pidfd, mailbox, open: false, seen: Cell::new(None) }
    }

    /// The same process with the worker of `key`, a function with this stop signal.
    pub(crate) fn with_worker(
        self,
        (key, berth): (Key, u32),
        stop: StopSignal,
        started: Instant,
    ) -> Child {
        let Self { pid, place, pidfd, mailbox, .. } = self;
        Child {
            key,
            berth,
            pid,
            place,
            pidfd,
            started,
            mailbox: Some(mailbox),
            stop,
            hears_reload: HearsReload::of(false, false, stop),
            invitation: None,
        }
    }
}

/// The spares that sleep.
#[derive(Debug)]
pub(crate) struct Spares {
    wanted: usize,
    /// Those that have had no worker.
    asleep: Vec<Spare>,
    /// Those that have, and may have reusable ones. No more than `wanted`.
    used: Vec<Spare>,
    /// Dead or killed, and not reaped.
    leaving: Vec<Spare>,
    next: u64,
    /// When the next one is to be forked; `None`: there are enough.
    due: Option<Instant>,
    /// Who registers a worker may wake a spare for it: the numbers of those that are woken so.
    takers: Option<TakerNumbers>,
    roster: Arc<Roster>,
}

impl Spares {
    /// With `direct`, who registers a worker may wake a spare for it.
    pub(crate) fn new(wanted: usize, direct: bool, roster: Arc<Roster>) -> Self {
        let due = (wanted > 0).then(Instant::now);
        Self {
            wanted,
            asleep: Vec::new(),
            used: Vec::new(),
            leaving: Vec::new(),
            next: 0,
            due,
            takers: (direct && wanted > 0).then(TakerNumbers::new),
            roster,
        }
    }

    /// When the next one is to be forked.
    pub(crate) const fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(crate) fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.asleep.is_empty() && self.used.is_empty()
    }

    /// Plans a fork after `delay`. A fork that is planned already is not postponed: under load the
    /// refill would never come.
    fn refill_after(&mut self, delay: Duration) {
        self.due = self.due.or_else(|| Some(Instant::now() + delay));
    }

    /// Something has happened, and more may follow at once, such as the end of a worker that was
    /// told to end: a fork that is due waits for a moment in which nothing happens, unless half of
    /// the spares are taken.
    pub(crate) fn put_off(&mut self) {
        if self.is_due() && can_wait(self.asleep.len(), self.wanted) {
            self.due = Some(Instant::now() + REFILL_DELAY);
        }
    }

    /// The fork that was due has failed: plans another one.
    pub(crate) fn retry_after(&mut self, delay: Duration) {
        self.due = Some(Instant::now() + delay);
    }

    /// True if `pid` is a spare's.
    pub(crate) fn contains(&self, pid: Pid) -> bool {
        self.asleep.iter().chain(&self.used).chain(&self.leaving).any(|spare| spare.pid == pid)
    }

    /// True if who registers may wake spares.
    pub(crate) const fn are_direct(&self) -> bool {
        self.takers.is_some()
    }

    /// For the next spare.
    pub(crate) fn next_taker(&self) -> Option<TakerNumber> {
        self.takers.as_ref()?.take()
    }

    /// Those that sleep, and whether each has had a worker.
    pub(crate) fn sleeping(&mut self) -> impl Iterator<Item = (&mut Spare, bool)> {
        let fresh = self.asleep.iter_mut().map(|spare| (spare, false));
        fresh.chain(self.used.iter_mut().map(|spare| (spare, true)))
    }

    /// Those that may be given a worker by who registers it.
    pub(crate) fn open(&self) -> impl Iterator<Item = &Spare> {
        self.asleep.iter().chain(&self.used).filter(|spare| spare.open)
    }

    /// Spare `number`, if it sleeps.
    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut Spare> {
        self.sleeping().map(|(spare, _)| spare).find(|spare| spare.number == number)
    }

    /// Takes spare `number`, which sleeps no longer.
    pub(crate) fn remove(&mut self, number: u64) -> Option<Spare> {
        let has_number = |spare: &Spare| spare.number == number;
        if let Some(place) = self.asleep.iter().position(has_number) {
            self.refill_after(REFILL_DELAY);
            return Some(self.asleep.swap_remove(place));
        }
        self.used.iter().position(has_number).map(|place| self.used.swap_remove(place))
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

    /// Adds a spare that comes back from a worker. One too many is ended.
    pub(crate) fn come_back(&mut self, spare: Spare) {
        if self.used.len() < self.wanted {
            self.used.push(spare);
        } else {
            self.put_away(spare);
        }
    }

    /// Takes a spare that has not died in its sleep; for a reusable worker rather one that has
    /// served before. One that has begun a worker by itself is passed over: `close` says so.
    pub(crate) fn take_living(
        &mut self,
        reusable: bool,
        mut close: impl FnMut(&mut Spare) -> bool,
    ) -> Option<Spare> {
        loop {
            let used = if reusable { take_last(&mut self.used, &mut close) } else { None };
            let spare = match used {
                Some(spare) => spare,
                None => {
                    let spare = take_last(&mut self.asleep, &mut close)?;
                    self.refill_after(REFILL_DELAY);
                    spare
                }
            };
            if matches!(pidfd::wait_for_end(&spare.pidfd, Some(Instant::now())), Ok(false)) {
                return Some(spare);
            }
            self.put_away(spare);
        }
    }

    /// The poller reports spare `number`: it has died in its sleep, or can be reaped now.
    pub(crate) fn ended(&mut self, number: u64) {
        let has_number = |spare: &Spare| spare.number == number;
        if let Some(place) = self.asleep.iter().position(has_number) {
            let spare = self.asleep.swap_remove(place);
            tracing::warn!("spare process {} died in its sleep", spare.pid);
            self.put_away(spare);
            self.refill_after(DEATH_DELAY);
        } else if let Some(place) = self.used.iter().position(has_number) {
            let spare = self.used.swap_remove(place);
            self.put_away(spare);
        } else if let Some(place) = self.leaving.iter().position(has_number) {
            let spare = self.leaving.swap_remove(place);
            self.put_away(spare);
        }
    }

    /// Kills a spare, if it is alive, and reaps it: now, or when the poller reports its end.
    pub(crate) fn put_away(&mut self, spare: Spare) {
        kill(&spare);
        if !self.reap(&spare) {
            self.leaving.push(spare);
        }
    }

    /// Ends those that have had a worker.
    pub(crate) fn end_used(&mut self) {
        std::mem::take(&mut self.used).into_iter().for_each(|spare| self.put_away(spare));
    }

    /// Ends all spares: the postmaster itself ends. One whose tracer holds its end back is left to
    /// the tracer.
    pub(crate) fn end_all(&mut self) {
        self.due = None;
        let mut all = std::mem::take(&mut self.asleep);
        all.append(&mut self.used);
        all.append(&mut self.leaving);
        all.iter().for_each(kill);
        let deadline = Instant::now() + END_LIMIT;
        for spare in all {
            let _ = pidfd::wait_for_end(&spare.pidfd, Some(deadline));
            if !self.reap(&spare) {
                tracing::warn!("spare process {} is traced, and left to its tracer", spare.pid);
            }
        }
    }

    /// False: it has not ended, or its tracer holds its end back.
    fn reap(&self, spare: &Spare) -> bool {
        if matches!(wait::peek(&spare.pidfd), Ok(None)) {
            return false;
        }
        self.roster.release(spare.place);
        if let Err(error) = wait::reap(&spare.pidfd) {
            tracing::error!("reaping spare process {} failed: {error}", spare.pid);
        }
        true
    }
}

/// The last one that `close` lets go of.
fn take_last(spares: &mut Vec<Spare>, mut close: impl FnMut(&mut Spare) -> bool) -> Option<Spare> {
    let place = (0..spares.len()).rev().find(|&at| spares.get_mut(at).is_some_and(&mut close))?;
    Some(spares.remove(place))
}

fn kill(spare: &Spare) {
    // ESRCH: it is dead already.
    let _ = pidfd::send(&spare.pidfd, Signal::KILL);
}

/// Whether a fork of a spare can wait while so many sleep of those that are wanted: more than half.
const fn can_wait(asleep: usize, wanted: usize) -> bool {
    asleep > wanted / 2
}

#[cfg(test)]
mod tests {
    use super::can_wait;

    #[test]
    fn a_fork_waits_while_more_than_half_of_the_spares_sleep() {
        for (asleep, wanted, waits) in [
            (0, 1, false),
            (1, 2, false),
            (1, 3, false),
            (2, 3, true),
            (2, 4, false),
            (3, 4, true),
            (15, 16, true),
        ] {
            assert_eq!(can_wait(asleep, wanted), waits, "{asleep} of {wanted}");
        }
    }
}

//! Spares that who registers a worker wakes for it: the postmaster takes their runs on.
//!
//! It was not rung for them. It looks when it has cause to: at each ring, at the alarm that was set
//! before, at an end, when it takes a spare itself. What it believes is the page that it shares
//! with one spare alone, and what the slot's word says of that very process.
//!
//! | spare's page | slot's word | what follows |
//! |---|---|---|
//! | open | offered | it was given a worker and has not woken: left alone for a moment |
//! | open | offered, for longer | the offer is withdrawn, and the worker started as any other |
//! | begun | offered | left alone for a moment; then the offer is withdrawn and the spare ended |
//! | begun, runs | its pid | the run is taken on: registered and started, in that order |
//! | begun, runs | anything else | the spare is ended |
//!
//! The gate is closed before an event that ends normal service reaches the rules: each page is
//! closed, each cell taken back, each slot looked after. From then on no spare begins.

use super::poller::Token;
use super::starts::{Unwatched, errno_of};
use super::state::Server;
use crate::children::Spare;
use crate::fault;
use crate::rules::Event;
use bgw_core::ExitCause;
use shmem_slots::Key;
use std::time::{Duration, Instant};

/// How long a worker that was given to a spare is left alone.
const PATIENCE: Duration = Duration::from_millis(20);

impl Server {
    /// Before the wait: spares may be given workers while nothing speaks against a start.
    pub(super) fn open_takers(&mut self) {
        if !self.spares.are_direct() || !self.cluster.starts_at_once() {
            return;
        }
        for (spare, used) in self.spares.sleeping().filter(|(spare, _)| !spare.open) {
            self.slot_table.open(spare, used);
        }
    }

    /// Takes on what spares have begun, and takes back what they do not take.
    #[inline(never)]
    pub(super) fn look_at_takers(&mut self) {
        self.takers_due = None;
        let open: Vec<u64> = self.spares.open().map(|spare| spare.number).collect();
        for number in open {
            self.look_at_taker(number);
        }
        self.attend_left();
    }

    fn look_at_taker(&mut self, number: u64) {
        let Some(spare) = self.spares.get_mut(number) else { return };
        let given = self.slot_table.given_to(spare);
        // What was seen there and is gone was overwritten: a cell is taken back by the postmaster.
        let gone = spare.seen.get_mut().take_if(|(seen, _)| given != Some(*seen));
        self.left.extend(gone.map(|(key, _)| key));
        let Some(key) = given else { return };
        let accepted = self.slot_table.runs_in(key, spare);
        let now = Instant::now();
        let since = match spare.seen.get() {
            Some((seen, at)) if seen == key => at,
            _ => now,
        };
        spare.seen.set(Some((key, since)));
        let due = since + PATIENCE;
        if accepted {
            self.settle(number);
        } else if due <= now {
            self.settle_late(number, key);
        } else {
            self.takers_due = Some(self.takers_due.map_or(due, |at| at.min(due)));
        }
    }

    /// Closes all spares: from here on only the postmaster starts workers.
    #[inline(never)]
    fn close_takers(&mut self) {
        let open: Vec<u64> = self.spares.open().map(|spare| spare.number).collect();
        for number in open {
            self.settle(number);
        }
        self.attend_left();
    }

    /// Closes all spares if `event` may end normal service; what ran before it is on the list then.
    pub(super) fn close_takers_before(&mut self, event: &Event) {
        let closes = match event {
            Event::ShutdownRequested(_) | Event::LauncherGone => true,
            Event::ChildExited { exit, .. } => {
                exit.dirty || !matches!(exit.end.cause, ExitCause::Exited(0 | 1))
            }
            _ => false,
        };
        if self.spares.are_direct() {
            if closes {
                self.close_takers();
            } else if matches!(event, Event::ReloadRequested) {
                self.look_at_takers();
            }
        }
    }

    /// Spare `number` has ended: what it had begun is no longer its own.
    pub(super) fn taker_ended(&mut self, number: u64) {
        if self.spares.get_mut(number).is_some_and(|spare| spare.open) {
            self.settle(number);
            self.attend_left();
        }
    }

    /// Spare `number` has not taken `key` for so long that it is started in the ordinary way. If
    /// that is a worker indeed, the spare is stopped, or worse, and is replaced.
    #[cold]
    #[inline(never)]
    fn settle_late(&mut self, number: u64, key: Key) {
        let was_offered = self.slot_table.is_offered(key);
        // Whatever became of its cell: anybody can write there.
        self.left.push(key);
        self.settle(number);
        let is_asleep = self.spares.get_mut(number).is_some();
        if was_offered && is_asleep {
            if let Some(spare) = self.spares.remove(number) {
                tracing::warn!("spare process {} does not wake, and is ended", spare.pid);
                self.spares.put_away(spare);
            }
        }
    }

    /// Closes one spare, and takes its run on if it has one.
    fn settle(&mut self, number: u64) {
        let Some(key) = self.begun_in(number) else { return };
        let Some(spare) = self.spares.remove(number) else { return };
        if self.slot_table.takes_back(key, &spare) {
            // It may still be about to accept, in vain.
            self.spares.put_away(spare);
            self.left.push(key);
        } else {
            self.take_on(spare, key);
        }
    }

    /// Closes one spare. Returns what it has begun, and may run.
    fn begun_in(&mut self, number: u64) -> Option<Key> {
        let (slots, left) = (&self.slot_table, &mut self.left);
        let spare = self.spares.get_mut(number)?;
        let mut begun = None;
        // The second time if it has stepped back meanwhile. A third time it does not: it sleeps.
        for _ in 0..3 {
            let was = slots.close(spare, left)?;
            slots.close_cell(spare, Some(was), left);
            begun = spare.mailbox.taking().look().key();
            if begun != Some(was) {
                // It may be killed before it says so.
                left.push(was);
            }
            if begun.is_some() {
                break;
            }
        }
        begun
    }

    /// Takes on the run that `spare` has begun by itself.
    fn take_on(&mut self, spare: Spare, key: Key) {
        let (children, sessions) = (&self.children, &self.sessions);
        let resolve = |pid| children.target(pid).or_else(|| sessions.target(pid));
        let record = spare.mailbox.record();
        let is_free = self.cluster.registry().at(key.index).is_none()
            && self.slot_table.berth(key.index) == key.index;
        let fits = is_free && self.cluster.accepts_workers();
        let listed = fits.then(|| self.slot_table.take_on(key, record, resolve)).flatten();
        let Some((registered, stop)) = listed else {
            tracing::error!("ending process {}, which runs what it must not", spare.pid);
            self.left.push(key);
            return self.spares.put_away(spare);
        };
        self.step(registered);
        let watched = fault::step("direct:listed")
            .and_then(|()| self.poller.watch_end_anew(&spare.pidfd, Token::Child(key.index)));
        if let Err(error) = watched {
            // Its one run has begun, and ends here. Whether there is another is up to its policy.
            let (started, errno) = (Instant::now(), errno_of(&error));
            let Spare { pid, place, .. } = spare;
            let child = Unwatched { pid, place, started, errno, has_begun: true };
            return self.end_unwatched(key, child);
        }
        let pid = spare.pid;
        self.children.insert(spare.with_worker((key, key.index), stop, Instant::now()));
        let random = self.random.next();
        self.step(Event::Forked { key, pid, random });
        if self.children.says_over(key.index) {
            self.over.push_back(key.index);
        }
    }

    /// Takes in what no spare takes.
    pub(super) fn attend_left(&mut self) {
        while let Some(key) = self.left.pop() {
            // Another spare runs it, which happens when somebody forges cells.
            if self.spares.open().any(|spare| self.slot_table.runs_in(key, spare)) {
                self.takers_due = Some(Instant::now());
                continue;
            }
            let (children, sessions) = (&self.children, &self.sessions);
            let resolve = |pid| children.target(pid).or_else(|| sessions.target(pid));
            let registry = self.cluster.registry();
            let event = self.slot_table.take_in(key, registry, resolve);
            self.queue.extend(event);
            self.run_queue();
        }
    }
}

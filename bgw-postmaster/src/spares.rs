//! Warm spares: children forked ahead, asleep until there is a worker for them.
//!
//! A start by fork costs the fork, and the child's own first steps. A spare has both behind it: it
//! sleeps on a page that it shares with the postmaster alone. To start a worker the postmaster writes
//! the checked description there and wakes it.
//!
//! ```text
//!  postmaster: fork ──▶ spare: own session, descriptors closed ──▶ asleep ──▶ handlers, main, exit
//!                                                                    ▲
//!  postmaster: job into the page, state = GIVEN, one wake ───────────┘ state = TAKEN
//! ```
//!
//! | a spare dies | found by | what follows |
//! |---|---|---|
//! | asleep | its pidfd | it is reaped, another is forked later |
//! | asleep, not reaped yet when it is wanted | a look before the job is given | the next one is taken, or a fork |
//! | after the job was given, before it took it | state is not `TAKEN` at its end | the worker starts once more, as if it never had |
//! | afterwards | | it is the worker that died |
//!
//! Spares are filled up when nothing is to be started, and a moment after the start that took one, so
//! that the fork is on nobody's way. When all are taken, workers are forked as without spares.

use crate::child::{ChildContext, Mailbox, run_spare};
use crate::event_loop::Token;
use crate::fault;
use crate::rules::Stage;
use crate::server::{Child, Server};
use crate::sys::fork::Forked;
use crate::sys::wait;
use bgw_core::shared::ClusterCells;
use bgw_core::shared::WorkerRecord;
use bgw_core::sys::pidfd;
use bgw_core::{EntryPoint, Pid, WorkerHandle};
use nix::sys::epoll::{EpollEvent, EpollFlags};
use shmem_slots::Key;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long after a start the spare that it took is replaced.
const REFILL_DELAY: Duration = Duration::from_millis(1);
/// How long after a spare died for no reason of ours.
const DEATH_DELAY: Duration = Duration::from_secs(1);

/// A child without a worker.
#[derive(Debug)]
struct Spare {
    number: u64,
    pid: Pid,
    pidfd: OwnedFd,
    mailbox: Mailbox,
}

/// The spares that sleep.
#[derive(Debug)]
pub(crate) struct Spares {
    wanted: usize,
    asleep: Vec<Spare>,
    next: u64,
    /// When the next one is to be forked; `None`: there are enough.
    due: Option<Instant>,
}

impl Spares {
    pub(crate) fn new(wanted: usize) -> Self {
        Self { wanted, asleep: Vec::new(), next: 0, due: (wanted > 0).then(Instant::now) }
    }

    /// When [`Server::fill_up_spares`] is wanted next.
    pub(crate) const fn due(&self) -> Option<Instant> {
        self.due
    }

    fn wanted_after(&mut self, delay: Duration) {
        // Not later for each start that follows: there must be an end of it under load.
        self.due = self.due.or_else(|| Some(Instant::now() + delay));
    }
}

impl Server {
    /// Starts the worker of `key` in a spare; `None` when there is none, or it is a command.
    pub(crate) fn hand_to_spare(&mut self, key: Key) -> Option<Pid> {
        if self.spares.asleep.is_empty() {
            return None;
        }
        let entry = self.cluster.registry().get(key)?;
        if matches!(entry.worker.entry(), EntryPoint::Command { .. }) {
            return None;
        }
        let record = WorkerRecord::encode(&entry.worker, self.pid);
        let (main, restarts) = (self.functions.index_of(&entry.worker), entry.next_restarts());
        let spare = self.take_living_spare(key)?;
        let Spare { pid, pidfd, mailbox, .. } = spare;
        let cells = ClusterCells::new(&self.slots);
        cells.mark_cleanup_needed(key.index, false);
        let handle = WorkerHandle::new(key.index, key.generation, cells.incarnation());
        let started = Instant::now();
        fault::point("spare:before_give");
        mailbox.give(&record, main, handle, restarts);
        fault::point("spare:given");
        self.keep_child(Child { key, pid, pidfd, started, mailbox: Some(mailbox) });
        fault::point("spare:kept");
        Some(pid)
    }

    /// A spare that has not died in its sleep, watched as the child of slot `key.index` from now on.
    fn take_living_spare(&mut self, key: Key) -> Option<Spare> {
        loop {
            let spare = self.spares.asleep.pop()?;
            self.spares.wanted_after(REFILL_DELAY);
            let event = &mut EpollEvent::new(EpollFlags::EPOLLIN, Token::Child(key.index).pack());
            let alive = matches!(wait::peek(&spare.pidfd), Ok(None));
            if alive && self.epoll.modify(&spare.pidfd, event).is_ok() {
                return Some(spare);
            }
            end_spare(&spare);
        }
    }

    /// A spare has died in its sleep.
    pub(crate) fn spare_died(&mut self, number: u64) {
        let place = self.spares.asleep.iter().position(|spare| spare.number == number);
        let Some(spare) = place.map(|place| self.spares.asleep.swap_remove(place)) else { return };
        tracing::warn!("spare process {} died in its sleep", spare.pid);
        end_spare(&spare);
        self.spares.wanted_after(DEATH_DELAY);
    }

    /// Forks one spare, if one is due and nothing else is to be started.
    pub(crate) fn fill_up_spares(&mut self) {
        let is_due = self.spares.due.is_some_and(|due| due <= Instant::now());
        let in_service = matches!(self.cluster.stage(), Stage::Accepting | Stage::Draining);
        if !is_due || !in_service || self.cluster.has_more_to_start() {
            return;
        }
        self.spares.due = None;
        match self.fork_spare() {
            Ok(()) if self.spares.asleep.len() < self.spares.wanted => {
                self.spares.due = Some(Instant::now());
            }
            Ok(()) => {}
            Err(error) => {
                tracing::warn!("forking a spare failed: {error}");
                self.spares.wanted_after(DEATH_DELAY);
            }
        }
    }

    fn fork_spare(&mut self) -> io::Result<()> {
        let mailbox = Mailbox::new()?;
        let number = self.spares.next;
        let proof = self.prove_single_threaded()?;
        let pid = match self.forker.fork(&proof)? {
            Forked::Child => {
                let (attachment, functions) = (&self.for_children, &self.functions);
                let (floor, title) = (self.floor, &mut self.title);
                run_spare(ChildContext { attachment, floor, functions, title }, mailbox)
            }
            Forked::Parent(pid) => pid,
        };
        touch_stack();
        let watched = mailbox.hide_from_later_children().and_then(|()| {
            let pidfd = self.floor.move_above(pidfd::open(pid)?)?;
            self.listen_to(&pidfd, Token::Spare(number))?;
            Ok(pidfd)
        });
        match watched {
            Ok(pidfd) => {
                self.spares.next += 1;
                self.spares.asleep.push(Spare { number, pid, pidfd, mailbox });
                Ok(())
            }
            Err(error) => {
                let _ = wait::kill_and_peek(pid).and_then(|_| wait::reap_by_pid(pid));
                Err(error)
            }
        }
    }

    /// Ends all spares: the postmaster itself ends.
    pub(crate) fn end_spares(&mut self) {
        self.spares.due = None;
        for spare in std::mem::take(&mut self.spares.asleep) {
            end_spare(&spare);
        }
    }
}

/// Has the kernel copy, now that nobody waits, the pages of the stack that the fork has left shared with
/// the child, and that the next start will write to. Not inlined: its frame would lie in all others'
/// way.
#[inline(never)]
fn touch_stack() {
    let mut stack = [0u8; 16 << 10];
    std::hint::black_box(&mut stack).fill(1);
}

/// Kills a spare, dead or not, and reaps it.
fn end_spare(spare: &Spare) {
    // ESRCH: it is dead already.
    let _ = pidfd::send(&spare.pidfd, rustix::process::Signal::KILL);
    if let Err(error) = wait::reap_blocking(&spare.pidfd) {
        tracing::error!("reaping spare process {} failed: {error}", spare.pid);
    }
}

//! Starts the workers that are due, in a spare or by a fork, and refills the spares.

use super::log;
use super::poller::Token;
use super::state::Server;
use super::templates::FromTemplate;
use crate::child::RunSetup;
use crate::children::{Child, DEATH_DELAY, HearsReload, Spare, process_end};
use crate::fault;
use crate::rules::{Entry, Event, Exit};
use crate::sys::fork::NewChild;
use crate::sys::roster::Place;
use crate::sys::wait;
use bgw_core::internals::WorkerRecord;
use bgw_core::{EntryPoint, ExitCause, Output, Pid};
use shmem_slots::Key;
use std::io;
use std::time::Instant;

/// How many workers are started before other events are handled.
const STARTS_IN_A_ROW: usize = 100;

/// What came of a start.
enum Started {
    /// A child whose end the poller reports.
    Watched(Pid),
    /// A child that the poller does not report.
    Unwatched(Unwatched),
}

/// A child that the poller does not report: it has no descriptor, say.
pub(super) struct Unwatched {
    pub(super) pid: Pid,
    pub(super) place: Place,
    pub(super) started: Instant,
    /// Why.
    pub(super) errno: i32,
    /// It may have begun its worker, and has said so to others.
    pub(super) has_begun: bool,
}

impl Server {
    /// Starts the workers that are due, a bounded number of them.
    pub(super) fn start_workers(&mut self) {
        for _ in 0..STARTS_IN_A_ROW {
            let Some(key) = self.cluster.next_to_start() else { return };
            if let Some(entry) = self.cluster.registry().get(key) {
                log::starting(&entry.worker, || self.slot_table.handle(key));
            }
            match self.start_from_template(key) {
                Ok(FromTemplate::None) => {}
                Ok(FromTemplate::NotNow) => continue,
                Ok(FromTemplate::Started(pid)) => {
                    let random = self.random.next();
                    self.step(Event::Forked { key, pid, random });
                    continue;
                }
                Err(error) => {
                    let (errno, random) = (errno_of(&error), self.random.next());
                    self.step(Event::ForkFailed { key, errno, random });
                    continue;
                }
            }
            let spare = if self.spares.is_empty() { None } else { self.start_in_spare(key) };
            let started = match spare {
                Some(pid) => Ok(Started::Watched(pid)),
                None => self.start_by_fork(key),
            };
            match started {
                Ok(Started::Watched(pid)) => {
                    let random = self.random.next();
                    self.step(Event::Forked { key, pid, random });
                }
                Ok(Started::Unwatched(child)) => self.end_unwatched(key, child),
                Err(error) => {
                    let (errno, random) = (errno_of(&error), self.random.next());
                    self.step(Event::ForkFailed { key, errno, random });
                }
            }
        }
    }

    #[inline(never)]
    fn start_by_fork(&mut self, key: Key) -> io::Result<Started> {
        let Some(entry) = self.cluster.registry().get(key) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let stop = entry.worker.stop();
        let is_command = matches!(entry.worker.entry(), EntryPoint::Command { .. });
        let hears_reload = HearsReload::of(is_command, entry.worker.is_attached(), stop);
        let beside = self.cluster.starts_beside(key);
        let of = self.slot_table.begin_life(key, &entry.worker, beside);
        let of = of.ok_or(io::ErrorKind::ResourceBusy)?;
        let berth = of.1.index;
        let started = Instant::now();
        let mut setup = RunSetup::default();
        let envelope = self.slot_table.gifts.begin_run(key, &entry.worker, &mut setup);
        let forked = self
            .spawner
            .output_of(&entry.worker, envelope)
            .and_then(|given| {
                self.outputs.begin_run((key, berth), &entry.worker, given, &mut setup)
            })
            .and_then(|()| self.notices.begin_run((key, berth), &entry.worker, &mut setup))
            .and_then(|()| self.spawner.tell_command(entry, of, &mut setup))
            .and_then(|invitation| {
                let (child, place) = self.spawner.start(entry, of, setup)?;
                Ok((child, place, invitation))
            });
        let forked = forked.inspect_err(|_| {
            self.outputs.run_ended(berth);
            self.notices.run_ended(berth);
        });
        let (NewChild { pid, pidfd }, place, invitation) = forked?;
        let watched = fault::step("start:forked").and_then(|()| {
            let pidfd = pidfd?;
            if let Some(channel) = self.notices.started(berth, pid) {
                self.poller.watch(channel, Token::Notify(berth))?;
            }
            self.poller.watch_end(&pidfd, Token::Child(berth))?;
            Ok(pidfd)
        });
        match watched {
            Ok(pidfd) => {
                self.children.insert(Child {
                    key,
                    berth,
                    pid,
                    place,
                    pidfd,
                    started,
                    mailbox: None,
                    stop,
                    hears_reload,
                    invitation,
                });
                fault::point("start:watched");
                Ok(Started::Watched(pid))
            }
            Err(error) => {
                let errno = errno_of(&error);
                let child = Unwatched { pid, place, started, errno, has_begun: false };
                Ok(Started::Unwatched(child))
            }
        }
    }

    /// `None`: there is no spare, or the worker is a command, has an output of its own or is given
    /// descriptors.
    #[inline(never)]
    fn start_in_spare(&mut self, key: Key) -> Option<Pid> {
        let entry = self.cluster.registry().get(key)?;
        // A spare has the postmaster's output, and none of its descriptors.
        let has_own = *entry.worker.output() != Output::Inherit;
        let has_own = has_own || !entry.worker.gifts().is_empty();
        if has_own || matches!(entry.worker.entry(), EntryPoint::Command { .. }) {
            return None;
        }
        let record = WorkerRecord::encode(&entry.worker, self.slot_table.postmaster());
        let (main, restarts) = (self.spawner.main_of(entry), entry.next_restarts());
        let stop = entry.worker.stop();
        let beside = self.cluster.starts_beside(key);
        let of = self.slot_table.begin_life(key, &entry.worker, beside)?;
        let berth = of.1.index;
        let spare = self.take_spare(berth, self.spawner.is_reusable(main))?;
        let (pid, started) = (spare.pid, Instant::now());
        fault::point("spare:before_give");
        spare.mailbox.give(&record, main, of, restarts);
        fault::point("spare:given");
        self.children.insert(spare.with_worker((key, berth), stop, started));
        fault::point("spare:kept");
        Some(pid)
    }

    /// A living spare, whose end the poller reports as that of berth `berth` from now on.
    fn take_spare(&mut self, berth: u32, reusable: bool) -> Option<Spare> {
        loop {
            let slots = &self.slot_table;
            let left = &mut self.left;
            let spare =
                self.spares.take_living(reusable, |spare| slots.close(spare, left).is_none())?;
            if self.poller.watch_end_anew(&spare.pidfd, Token::Child(berth)).is_ok() {
                return Some(spare);
            }
            self.spares.put_away(spare);
        }
    }

    /// Kills a child that cannot be watched. Its start counts as a failed fork, unless it had begun
    /// without the postmaster, has ended by itself meanwhile or holds shared state.
    #[cold]
    #[inline(never)]
    pub(super) fn end_unwatched(&mut self, key: Key, child: Unwatched) {
        let Unwatched { pid, place, started, errno, has_begun } = child;
        let ended = wait::kill_and_peek(pid).map(|ended| {
            let end = process_end(pid, &ended?, started);
            Some(self.with_exec_failure(key, end))
        });
        let beside = self.cluster.starts_beside(key);
        let berth = self.slot_table.berth_beside(key.index).filter(|_| beside);
        let berth = berth.unwrap_or_else(|| self.slot_table.berth(key.index));
        let dirty = self.slot_table.cleanup_needed(berth);
        self.process_gone(pid);
        self.notices.run_ended(berth);
        self.outputs.run_ended(berth);
        let crashed = dirty && self.cluster.registry().get(key).is_some_and(Entry::shares_memory);
        let random = self.random.next();
        match ended {
            Ok(Some(end)) if has_begun || crashed || !was_killed(end.cause) => {
                self.step(Event::Forked { key, pid, random });
                let exit = Exit { end, dirty, group_left: false, random };
                self.step(Event::ChildExited { key, exit });
            }
            Ok(_) => self.step(Event::ForkFailed { key, errno, random }),
            Err(error) => {
                tracing::error!("waitid for worker process {pid} failed: {error}");
                self.step(Event::ForkFailed { key, errno, random });
            }
        }
        self.spawner.release(place);
        if let Err(error) = wait::reap_by_pid(pid) {
            tracing::error!("reaping worker process {pid} failed: {error}");
        }
        self.orphans_behind_ended();
    }

    /// Forks one spare, if one is due and nothing else is to be started.
    pub(super) fn refill_spares(&mut self) {
        let in_service = self.cluster.starts_workers() && !self.cluster.has_more_to_start();
        if !in_service || !self.spares.is_due() {
            return;
        }
        match self.fork_spare() {
            Ok(spare) => self.spares.add(spare),
            Err(error) => {
                tracing::warn!("forking a spare failed: {error}");
                self.spares.retry_after(DEATH_DELAY);
            }
        }
    }

    #[inline(never)]
    fn fork_spare(&mut self) -> io::Result<Spare> {
        let (NewChild { pid, pidfd }, place, mailbox) =
            self.spawner.start_spare(self.spares.next_taker())?;
        self.children.touch(pid);
        let number = self.spares.next_number();
        let watched = mailbox.hide_from_later_children().and_then(|()| {
            let pidfd = pidfd?;
            self.poller.watch_end(&pidfd, Token::Spare(number))?;
            Ok(pidfd)
        });
        match watched {
            Ok(pidfd) => Ok(Spare::new(number, pid, place, pidfd, mailbox)),
            Err(error) => {
                let _ = wait::kill_and_peek(pid);
                self.spawner.release(place);
                let _ = wait::reap_by_pid(pid);
                Err(error)
            }
        }
    }

    /// Forks the guardian.
    #[inline(never)]
    pub(super) fn start_guardian(&mut self) -> io::Result<()> {
        let path = self.runtime_dir.as_ref().map(|dir| dir.path().to_string_lossy());
        let title = ["bgw guardian ", path.as_deref().unwrap_or_default()];
        let spawner = &mut self.spawner;
        let pidfd = self.guardian.start(&title, |keep| spawner.start_companion(keep))?;
        self.poller.watch_end(pidfd, Token::Guardian)
    }

    /// Forks another guardian, if one is due.
    pub(super) fn replace_guardian(&mut self) {
        if !self.guardian.is_due() {
            return;
        }
        if let Err(error) = self.start_guardian() {
            tracing::warn!("forking a guardian failed: {error}");
        }
    }
}

pub(super) fn errno_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

fn was_killed(cause: ExitCause) -> bool {
    matches!(cause, ExitCause::Signaled { signal, .. } if i32::from(signal) == libc::SIGKILL)
}

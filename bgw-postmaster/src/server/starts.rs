//! Starts the workers that are due, in a spare or by a fork, and refills the spares.

use super::poller::Token;
use super::state::Server;
use crate::children::{Child, DEATH_DELAY, Spare, process_end};
use crate::fault;
use crate::rules::{Entry, Event};
use crate::sys::fork::NewChild;
use crate::sys::roster::Place;
use crate::sys::wait;
use bgw_core::internals::WorkerRecord;
use bgw_core::{EntryPoint, ExitCause, Pid};
use shmem_slots::Key;
use std::io;
use std::time::Instant;

/// How many workers are started before other events are handled.
const STARTS_IN_A_ROW: usize = 100;

/// What came of a start.
enum Started {
    /// A child whose end the poller reports.
    Watched(Pid),
    /// A child that the poller does not report: it has no descriptor, say.
    Unwatched { pid: Pid, place: Place, started: Instant, errno: i32 },
}

impl Server {
    /// Starts the workers that are due, a bounded number of them.
    pub(super) fn start_workers(&mut self) {
        for _ in 0..STARTS_IN_A_ROW {
            let Some(key) = self.cluster.next_to_start() else { return };
            let started = match self.start_in_spare(key) {
                Some(pid) => Ok(Started::Watched(pid)),
                None => self.start_by_fork(key),
            };
            match started {
                Ok(Started::Watched(pid)) => self.step(Event::Forked { key, pid }),
                Ok(Started::Unwatched { pid, place, started, errno }) => {
                    self.end_unwatched(key, (pid, place), started, errno);
                }
                Err(error) => self.step(Event::ForkFailed { key, errno: errno_of(&error) }),
            }
        }
    }

    fn start_by_fork(&mut self, key: Key) -> io::Result<Started> {
        let Some(entry) = self.cluster.registry().get(key) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let is_command = matches!(entry.worker.entry(), EntryPoint::Command { .. });
        let handle = self.slot_table.begin_life(key);
        let started = Instant::now();
        let (NewChild { pid, pidfd }, place) = self.spawner.start(entry, handle)?;
        let watched = fault::step("start:forked").and_then(|()| {
            let pidfd = pidfd?;
            self.poller.watch(&pidfd, Token::Child(key.index))?;
            Ok(pidfd)
        });
        match watched {
            Ok(pidfd) => {
                let mailbox = None;
                let child = Child { key, pid, place, pidfd, started, mailbox, is_command };
                self.children.insert(child);
                fault::point("start:watched");
                Ok(Started::Watched(pid))
            }
            Err(error) => Ok(Started::Unwatched { pid, place, started, errno: errno_of(&error) }),
        }
    }

    /// `None`: there is no spare, or the worker is a command.
    fn start_in_spare(&mut self, key: Key) -> Option<Pid> {
        if self.spares.is_empty() {
            return None;
        }
        let entry = self.cluster.registry().get(key)?;
        if matches!(entry.worker.entry(), EntryPoint::Command { .. }) {
            return None;
        }
        let record = WorkerRecord::encode(&entry.worker, self.slot_table.postmaster());
        let (main, restarts) = (self.spawner.main_of(entry), entry.next_restarts());
        let Spare { pid, place, pidfd, mailbox, .. } = self.take_spare(key)?;
        let handle = self.slot_table.begin_life(key);
        let started = Instant::now();
        fault::point("spare:before_give");
        mailbox.give(&record, main, handle, restarts);
        fault::point("spare:given");
        let (mailbox, is_command) = (Some(mailbox), false);
        let child = Child { key, pid, place, pidfd, started, mailbox, is_command };
        self.children.insert(child);
        fault::point("spare:kept");
        Some(pid)
    }

    /// A living spare, whose end the poller reports as that of slot `key.index` from now on.
    fn take_spare(&mut self, key: Key) -> Option<Spare> {
        loop {
            let spare = self.spares.take_living()?;
            if self.poller.rename(&spare.pidfd, Token::Child(key.index)).is_ok() {
                return Some(spare);
            }
            self.spares.end(&spare);
        }
    }

    /// Kills a child that cannot be watched. Its start counts as a failed fork, unless it has ended by
    /// itself meanwhile or holds shared state.
    fn end_unwatched(
        &mut self,
        key: Key,
        (pid, place): (Pid, Place),
        started: Instant,
        errno: i32,
    ) {
        let ended = wait::kill_and_peek(pid).map(|ended| {
            let end = process_end(pid, &ended?, started);
            Some(self.with_exec_failure(key, end))
        });
        let dirty = self.slot_table.cleanup_needed(key.index);
        self.process_gone(pid);
        let crashed = dirty && self.cluster.registry().get(key).is_some_and(Entry::shares_memory);
        match ended {
            Ok(Some(end)) if crashed || !was_killed(end.cause) => {
                self.step(Event::Forked { key, pid });
                self.step(Event::ChildExited { key, end, dirty, group_left: false });
            }
            Ok(_) => self.step(Event::ForkFailed { key, errno }),
            Err(error) => {
                tracing::error!("waitid for worker process {pid} failed: {error}");
                self.step(Event::ForkFailed { key, errno });
            }
        }
        self.spawner.release(place);
        if let Err(error) = wait::reap_by_pid(pid) {
            tracing::error!("reaping worker process {pid} failed: {error}");
        }
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

    fn fork_spare(&mut self) -> io::Result<Spare> {
        let (NewChild { pid, pidfd }, place, mailbox) = self.spawner.start_spare()?;
        let number = self.spares.next_number();
        let watched = mailbox.hide_from_later_children().and_then(|()| {
            let pidfd = pidfd?;
            self.poller.watch(&pidfd, Token::Spare(number))?;
            Ok(pidfd)
        });
        match watched {
            Ok(pidfd) => Ok(Spare { number, pid, place, pidfd, mailbox }),
            Err(error) => {
                let _ = wait::kill_and_peek(pid);
                self.spawner.release(place);
                let _ = wait::reap_by_pid(pid);
                Err(error)
            }
        }
    }

    /// Forks the guardian.
    pub(super) fn start_guardian(&mut self) -> io::Result<()> {
        let path = self.runtime_dir.as_ref().map(|dir| dir.path().to_string_lossy());
        let title = ["bgw guardian ", path.as_deref().unwrap_or_default()];
        let spawner = &mut self.spawner;
        let pidfd = self.guardian.start(&title, |keep| spawner.start_guardian(keep))?;
        self.poller.watch(pidfd, Token::Guardian)
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

fn errno_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

fn was_killed(cause: ExitCause) -> bool {
    matches!(cause, ExitCause::Signaled { signal, .. } if i32::from(signal) == libc::SIGKILL)
}

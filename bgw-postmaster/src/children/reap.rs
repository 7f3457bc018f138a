//! The end of a child: read first, reaped last.
//!
//! While the slot says that a pid runs, the kernel must not give that number to another process. So
//! the end is read without reaping (`WNOWAIT`), the slot is published, waiters and targets are
//! woken, and only then is the child reaped.
//!
//! The kernel reports the end of a traced child to its tracer first. Until the tracer has taken it,
//! detached or died, nobody else can learn how the child ended, and it counts as running.
//!
//! The process of a reusable worker may end its worker and live on (`child/rest.rs`). It says so on
//! the page that it shares with the postmaster alone. The order is the same, with its return to the
//! spares in the place of reaping: it gets no other worker while the slot says its pid.

use super::spares::Spare;
use super::table::Children;
use crate::child::Mailbox;
use crate::fault;
use crate::rules::ProcessEnd;
use crate::sys::wait::{self, Ended};
use bgw_core::internals::pidfd;
use bgw_core::{ExitCause, Pid};
use rustix::process::Signal;
use shmem_slots::Key;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

/// A child that has ended and is not reaped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChildEnd {
    pub(crate) key: Key,
    pub(crate) end: ProcessEnd,
    /// It was a spare, and had not taken its worker yet.
    pub(crate) start_lost: bool,
}

impl Children {
    /// Reads how the child of berth `berth` ended. From here on it is not a notify target. `None`
    /// if it runs, if a tracer holds its end back, or if there is no such child.
    pub(crate) fn ended(&mut self, berth: u32) -> io::Result<Option<ChildEnd>> {
        let Some(child) = self.by_berth.get(berth as usize) else { return Ok(None) };
        let peeked = fault::step("exit:before_peek").and_then(|()| wait::peek(&child.pidfd));
        let peeked = peeked.inspect_err(|error| log_failure("waitid", child.pid, error));
        let Some(ended) = peeked? else { return Ok(None) };
        let start_lost = child.mailbox.as_ref().is_some_and(|mailbox| !mailbox.was_taken());
        let copied_kib = child.mailbox.as_ref().and_then(Mailbox::copied_kib);
        let end = ProcessEnd { copied_kib, ..process_end(child.pid, &ended, child.started) };
        let key = child.key;
        self.by_pid.remove(&end.pid);
        Ok(Some(ChildEnd { key, end, start_lost }))
    }

    /// True if the worker of berth `berth` may have ended while its process lives on.
    pub(crate) fn says_over(&self, berth: u32) -> bool {
        let child = self.by_berth.get(berth as usize);
        child.is_some_and(|child| child.mailbox.as_ref().is_some_and(|page| page.over().is_some()))
    }

    /// How the worker of berth `berth` has ended whose process lives on. It is not a notify target
    /// from here on. `None` if there is no such worker.
    pub(crate) fn life_over(&mut self, berth: u32) -> Option<(Key, ProcessEnd)> {
        let child = self.by_berth.get(berth as usize)?;
        let used = child.mailbox.as_ref()?.over()?;
        let end = ProcessEnd {
            pid: child.pid,
            cause: ExitCause::Exited(0),
            ran_for: child.started.elapsed(),
            user_time: used.user_time,
            system_time: used.system_time,
            max_rss_kib: used.max_rss_kib,
            copied_kib: None,
        };
        let key = child.key;
        self.by_pid.remove(&end.pid);
        Some((key, end))
    }

    /// The process of berth `berth`, whose worker has ended and whose end is published, as a spare.
    /// It gets no signal for that worker any more.
    pub(crate) fn release(&mut self, berth: u32, number: u64) -> Option<Spare> {
        let has_mailbox = self.by_berth.get(berth as usize)?.mailbox.is_some();
        let child = self.by_berth.take(berth as usize).filter(|_| has_mailbox)?;
        let (pid, place, pidfd, mailbox) = (child.pid, child.place, child.pidfd, child.mailbox?);
        Some(Spare::new(number, pid, place, pidfd, mailbox))
    }

    /// Ends the process of berth `berth`, which cannot serve again.
    pub(crate) fn kill(&self, berth: u32) {
        if let Some(child) = self.by_berth.get(berth as usize) {
            // ESRCH: it has ended.
            let _ = pidfd::send(&child.pidfd, Signal::KILL);
        }
    }

    /// The pidfd of the child of berth `berth`, for the poller.
    pub(crate) fn pidfd(&self, berth: u32) -> Option<BorrowedFd<'_>> {
        Some(self.by_berth.get(berth as usize)?.pidfd.as_fd())
    }

    /// Reaps the child of berth `berth`, whose end is published: its pid may be reused from now on.
    pub(crate) fn reap(&mut self, berth: u32) {
        let Some(child) = self.by_berth.take(berth as usize) else { return };
        if !self.has_left_group(child.pid) {
            self.roster.release(child.place);
        }
        let reaped = fault::step("exit:before_reap").and_then(|()| wait::reap(&child.pidfd));
        if let Err(error) = reaped {
            log_failure("reaping", child.pid, &error);
        }
        if let Some(mailbox) = child.mailbox {
            self.spent.add(mailbox);
        }
        fault::point("exit:reaped");
    }
}

/// The end of a process that was started at `started`.
pub(crate) fn process_end(pid: Pid, ended: &Ended, started: Instant) -> ProcessEnd {
    ProcessEnd {
        pid,
        cause: ended.cause,
        ran_for: started.elapsed(),
        user_time: ended.user_time,
        system_time: ended.system_time,
        max_rss_kib: ended.max_rss_kib,
        copied_kib: None,
    }
}

fn log_failure(what: &str, pid: Pid, error: &io::Error) {
    tracing::error!("{what} of worker process {pid} failed: {error}");
}

//! The end of a child: read first, reaped last.
//!
//! While the slot says that a pid runs, the kernel must not give that number to another process. So the
//! end is read without reaping (`WNOWAIT`), the slot is published, waiters and targets are woken, and
//! only then is the child reaped.

use super::table::Children;
use crate::fault;
use crate::rules::ProcessEnd;
use crate::sys::wait::{self, Ended};
use bgw_core::Pid;
use shmem_slots::Key;
use std::io;
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
    /// Reads how the child of slot `index` ended. From here on it is no notify target. `None`: it runs,
    /// or there is none.
    pub(crate) fn ended(&mut self, index: u32) -> Option<ChildEnd> {
        let child = self.by_slot.get(index as usize)?;
        let peeked = fault::step("exit:before_peek").and_then(|()| wait::peek(&child.pidfd));
        let ended = peeked.unwrap_or_else(|error| {
            log_failure("waitid", child.pid, &error);
            None
        })?;
        let start_lost = child.mailbox.as_ref().is_some_and(|mailbox| !mailbox.was_taken());
        let end = process_end(child.pid, &ended, child.started);
        let key = child.key;
        self.by_pid.remove(&end.pid);
        Some(ChildEnd { key, end, start_lost })
    }

    /// Reaps the child of slot `index`, whose end is published: its pid may be reused from now on.
    pub(crate) fn reap(&mut self, index: u32) {
        let Some(child) = self.by_slot.take(index as usize) else { return };
        if !self.has_left_group(child.pid) {
            self.roster.release(child.place);
        }
        let reaped = fault::step("exit:before_reap").and_then(|()| wait::reap(&child.pidfd));
        if let Err(error) = reaped {
            log_failure("reaping", child.pid, &error);
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
    }
}

fn log_failure(what: &str, pid: Pid, error: &io::Error) {
    tracing::error!("{what} of worker process {pid} failed: {error}");
}

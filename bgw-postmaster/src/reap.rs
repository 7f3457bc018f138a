//! The end of a child: looked at, published, told, and only then reaped.
//!
//! While the slot says that a pid runs, that number must not be given to another process. So the end
//! is read without reaping (`WNOWAIT`), the slot is written, whoever waits is told, and the zombie is
//! taken away last.

use crate::child::worker_label;
use crate::failure_log::log_failure;
use crate::fault;
use crate::rules::{Entry, Event, ProcessEnd};
use crate::server::Server;
use crate::sys::wait::{self, Ended};
use bgw_core::shared::ClusterCells;
use bgw_core::{ExitCause, Pid, WorkerHandle};
use shmem_slots::Key;
use std::time::Instant;

fn was_killed(cause: ExitCause) -> bool {
    matches!(cause, ExitCause::Signaled { signal, .. } if i32::from(signal) == libc::SIGKILL)
}

fn end_of(pid: Pid, ended: &Ended, started: Instant) -> ProcessEnd {
    ProcessEnd {
        pid,
        cause: ended.cause,
        ran_for: started.elapsed(),
        user_time: ended.user_time,
        system_time: ended.system_time,
        max_rss_kib: ended.max_rss_kib,
    }
}

impl Server {
    /// Ends a child that cannot be watched. That is a failed fork, unless the child has come so far
    /// that something else is true: it has ended by itself, or it has shared state under its hands.
    pub(crate) fn end_unwatched(&mut self, key: Key, pid: Pid, started: Instant, errno: i32) {
        let ended = wait::kill_and_peek(pid);
        self.say_why_not_a_program(key, pid);
        let dirty = ClusterCells::new(&self.slots).cleanup_needed(key.index);
        self.sweep(pid);
        let shares = |entry: &Entry| entry.shares_memory();
        let crashed = dirty && self.cluster.registry().get(key).is_some_and(shares);
        match ended {
            Ok(Some(ended)) if crashed || !was_killed(ended.cause) => {
                self.step(Event::Forked { key, pid });
                self.step(Event::ChildExited { key, end: end_of(pid, &ended, started), dirty });
            }
            Ok(_) => self.step(Event::ForkFailed { key, errno }),
            Err(error) => {
                tracing::error!("waitid for worker process {pid} failed: {error}");
                self.step(Event::ForkFailed { key, errno });
            }
        }
        if let Err(error) = wait::reap_by_pid(pid) {
            tracing::error!("reaping worker process {pid} failed: {error}");
        }
    }

    /// A child that has ended without having become its program cannot log that itself.
    fn say_why_not_a_program(&mut self, key: Key, pid: Pid) {
        let failure = self.commands.as_mut().and_then(|commands| commands.failure_of(pid));
        let Some(failure) = failure else { return };
        let Some(entry) = self.cluster.registry().get(key) else { return };
        let incarnation = ClusterCells::new(&self.slots).incarnation();
        let handle = WorkerHandle::new(key.index, key.generation, incarnation);
        let label = worker_label(&entry.worker, handle, pid.get());
        log_failure(&format!("{label} ends: {failure}"));
    }

    pub(crate) fn child_ended(&mut self, index: u32) {
        let Some(child) = self.children.get(index as usize) else { return };
        let ended = match fault::step("exit:before_peek").and_then(|()| wait::peek(&child.pidfd)) {
            Ok(Some(ended)) => ended,
            Ok(None) => return,
            Err(error) => {
                tracing::error!("waitid for worker process {} failed: {error}", child.pid);
                return;
            }
        };
        fault::point("exit:seen");
        let (key, pid, started) = (child.key, child.pid, child.started);
        let start_lost = child.mailbox.as_ref().is_some_and(|mailbox| !mailbox.was_taken());
        self.say_why_not_a_program(key, pid);
        self.by_pid.remove(&pid);
        let dirty = ClusterCells::new(&self.slots).cleanup_needed(index);
        self.sweep(pid);
        fault::point("exit:swept");
        self.step(if start_lost {
            Event::StartLost { key }
        } else {
            Event::ChildExited { key, end: end_of(pid, &ended, started), dirty }
        });
        // Only now: while the slot said that this pid runs, the number was not free to be reused.
        if let Some(child) = self.children.take(index as usize) {
            let reaped = fault::step("exit:before_reap").and_then(|()| wait::reap(&child.pidfd));
            if let Err(error) = reaped {
                tracing::error!("reaping worker process {} failed: {error}", child.pid);
            }
            fault::point("exit:reaped");
        }
    }
}

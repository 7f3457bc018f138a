//! Between two workers of one process: whether it may serve again, and how it becomes a spare.
//!
//! ```text
//!  main returned Ok ─▶ looks at itself ─▶ OVER ─▶ waits for IDLE ─▶ puts back what it changed
//!                          │ no                                        │ cannot     │
//!                          ▼                                           ▼            ▼
//!                        exit                                         exit   discards signals,
//!                                                                             sleeps
//! ```
//!
//! What must be gone before anybody learns of the end (threads, children, descriptors) is looked at
//! before `OVER`: if it is not gone the process ends, and its end is the worker's. What only the
//! next worker could notice is put back once the end is published: on one core the postmaster would
//! wait for it.

use super::launch::ChildContext;
use super::mailbox::Mailbox;
use super::settle::end_with_postmaster;
use crate::fault;
use crate::reuse::Reuse;
use crate::sys::footprint::{self, Footprint};
use crate::sys::signals::set_subreaper;
use crate::sys::surroundings::Surroundings;
use crate::sys::usage::Usage;
use bgw_core::internals::{process, signals};
use bgw_core::{WorkerHandle, WorkerResult};
use rustix::process::Signal;
use shmem_slots::Key;
use std::time::Instant;

/// What a spare shows as its title.
pub(super) const TITLE: &str = "bgworker: spare";

/// What a spare was when it first slept, and how long it has served.
#[derive(Debug)]
pub(super) struct Fresh {
    footprint: Footprint,
    surroundings: Surroundings,
    began: Instant,
    /// What it had used when its last worker began.
    used: Usage,
    lives: u32,
    /// It adopts what the children of its workers leave behind.
    adopts: bool,
}

impl Fresh {
    /// In a spare before its first sleep.
    pub(super) fn read() -> std::io::Result<Self> {
        // First, since it opens the folder.
        let surroundings = Surroundings::read()?;
        Ok(Self {
            footprint: Footprint::read(process::kept_descriptors())?,
            surroundings,
            began: Instant::now(),
            used: Usage::read(),
            lives: 0,
            adopts: false,
        })
    }

    /// Before a worker after which the process may serve again: what its children leave behind is
    /// to be found by [`Fresh::objection`].
    pub(super) fn adopt_orphans(&mut self) -> std::io::Result<()> {
        if !self.adopts {
            set_subreaper(true)?;
            self.adopts = true;
        }
        Ok(())
    }

    /// After a worker has ended in good order: why the process cannot serve another one, if so.
    pub(super) fn objection(
        &mut self,
        context: &ChildContext<'_>,
        reuse: &Reuse,
    ) -> Option<String> {
        // It is the worker's, and a descriptor.
        context.attachment.hang_up();
        self.lives = self.lives.saturating_add(1);
        match Footprint::read(process::kept_descriptors()) {
            Ok(now) => now.difference(&self.footprint),
            Err(error) => Some(format!("it cannot look at itself: {error}")),
        }
        .or_else(|| reuse.reached(self.lives, self.began.elapsed(), footprint::memory))
    }

    /// Tells the postmaster that the worker `handle` has ended, and makes the process a spare. Its
    /// next worker may be in the mailbox when this returns.
    ///
    /// # Errors
    /// Something cannot be put back: the process is to end.
    pub(super) fn rest(
        &mut self,
        context: &mut ChildContext<'_>,
        mailbox: &Mailbox,
        handle: WorkerHandle,
    ) -> WorkerResult {
        // No handler of the worker runs any more.
        signals::block_in_worker()?;
        // A spare has nothing to clean up.
        end_with_postmaster(context, Signal::KILL)?;
        mailbox.end(Usage::read().since(self.used));
        fault::point("rest:over");
        let key = Key { index: handle.slot(), generation: handle.generation() };
        let attachment = context.attachment;
        // If either fails, the postmaster is told again.
        let tell = || {
            let _ = attachment.slots().mark_changed(key);
            let _ = attachment.ring();
        };
        tell();
        fault::point("rest:told");
        mailbox.wait_for_rest(tell)?;
        fault::point("rest:released");
        process::end_life()?;
        self.surroundings.restore()?;
        context.title.show(&[TITLE]);
        fault::point("rest:restored");
        process::discard_signals();
        fault::point("rest:done");
        self.used = Usage::read();
        Ok(())
    }
}

//! The postmaster's side of its guardian: it forks one, replaces it when it dies, and ends it.

use super::watch::Watch;
use crate::companion::{Companion, kill};
use crate::sys::fork::NewChild;
use crate::sys::roster::Roster;
use crate::sys::title::Title;
use bgw_core::Pid;
use bgw_core::internals::WorkerSlots;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

/// The guardian of this postmaster.
#[derive(Debug)]
pub(crate) struct Guardian {
    /// On the heap, which its child has.
    watch: Box<Watch>,
    process: Companion,
}

impl Guardian {
    /// None is forked yet.
    pub(crate) fn new(
        roster: Arc<Roster>,
        postmaster: Arc<OwnedFd>,
        slots: Arc<WorkerSlots>,
        lock: Option<Arc<OwnedFd>>,
    ) -> Self {
        let watch = Watch { roster, postmaster, slots, lock };
        Self { watch: Box::new(watch), process: Companion::new("guardian") }
    }

    /// Forks a guardian by `fork`, whose child calls what it gets, and ends with the result.
    pub(crate) fn start(
        &mut self,
        title: &[&str],
        fork: impl FnOnce(&dyn Fn(&mut Title) -> i32) -> io::Result<NewChild>,
    ) -> io::Result<&OwnedFd> {
        self.process.begin();
        self.watch.roster.show_to_next_child()?;
        let watch: &Watch = &self.watch;
        let child = fork(&|shown| watch.keep(shown, title));
        // Before anything else is forked: no worker has the roster.
        let hidden = self.watch.roster.hide_from_later_children();
        let child = child?;
        hidden.inspect_err(|_| kill(child.pid))?;
        self.process.begun(child)
    }

    /// When the next guardian is to be forked.
    pub(crate) const fn due(&self) -> Option<Instant> {
        self.process.due()
    }

    pub(crate) fn is_due(&self) -> bool {
        self.process.is_due()
    }

    /// True if `pid` is the guardian's.
    pub(crate) fn is(&self, pid: Pid) -> bool {
        self.process.is(pid)
    }

    /// The poller reports a guardian. If it has died another one is due.
    pub(crate) fn ended(&mut self) {
        self.process.ended();
    }

    /// Ends it: the postmaster ends in order, and has no children left.
    pub(crate) fn end(&mut self) {
        self.process.end();
    }
}

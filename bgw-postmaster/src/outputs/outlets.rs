//! All descriptors that output goes to. Those that lead to the same are one outlet, so that no
//! worker's line gets into the middle of another's.

use super::file::Dropped;
use super::outlet::Outlet;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

/// The outlets.
#[derive(Debug, Default)]
pub(super) struct Outlets {
    all: BTreeMap<u64, Outlet>,
    next: u64,
}

impl Outlets {
    /// The number of the outlet that `given` leads to.
    ///
    /// # Errors
    /// No lines can be written to it.
    pub(super) fn open(&mut self, given: OwnedFd) -> io::Result<u64> {
        let new = Outlet::new(given)?;
        if let Some((&number, _)) = self.all.iter().find(|(_, outlet)| outlet.is_same(&new)) {
            return Ok(number);
        }
        let number = self.next;
        self.next += 1;
        self.all.insert(number, new);
        Ok(number)
    }

    /// No stream goes to it any more.
    pub(super) fn close(&mut self, number: u64, epoll: &Epoll) {
        if let Some(outlet) = self.all.remove(&number).filter(|outlet| outlet.watched) {
            let _ = epoll.delete(outlet.descriptor());
        }
    }

    /// Writes whole lines of `stream`.
    pub(super) fn append(&mut self, number: u64, stream: u64, lines: &[u8]) -> Option<Dropped> {
        let outlet = self.all.get_mut(&number).filter(|_| !lines.is_empty())?;
        outlet.last = stream;
        outlet.append(lines)
    }

    /// It takes more. Returns the stream whose lines came last, and what was dropped.
    pub(super) fn ready(&mut self, number: u64) -> (u64, Option<Dropped>) {
        let outlet = self.all.get_mut(&number);
        outlet.map_or((number, None), |outlet| (outlet.last, outlet.ready()))
    }

    /// Its streams are to wait.
    pub(super) fn holds_up(&self, number: u64) -> bool {
        self.all.get(&number).is_some_and(Outlet::holds_up)
    }

    /// What its streams are to know: whether something waits, whether they are to wait, and whose
    /// lines came last.
    pub(super) fn state(&self, number: u64) -> Option<(bool, bool, u64)> {
        let state = |outlet: &Outlet| (outlet.is_full(), outlet.holds_up(), outlet.last);
        self.all.get(&number).map(state)
    }

    /// Lines of `stream` wait in it.
    pub(super) fn has_lines_of(&self, number: u64, stream: u64) -> bool {
        self.all.get(&number).is_some_and(|outlet| outlet.is_full() && outlet.last == stream)
    }

    /// Until when one is waited for.
    pub(super) fn waited_for(&self) -> Option<Instant> {
        self.all.values().filter_map(Outlet::waited_for).min()
    }

    /// Those that nobody waits for any more.
    pub(super) fn waited_too_long(&mut self, now: Instant) -> Vec<u64> {
        let over = |outlet: &Outlet| outlet.waited_for().is_some_and(|until| until <= now);
        let all = self.all.iter_mut().filter(|(_, outlet)| over(outlet));
        all.map(|(&number, outlet)| {
            outlet.look(now);
            number
        })
        .collect()
    }

    /// Has `epoll` report as `entry` when it takes more, if something waits for that.
    pub(super) fn watch(&mut self, number: u64, epoll: &Epoll, entry: u64) {
        let Some(outlet) = self.all.get_mut(&number) else { return };
        let watch = outlet.is_full();
        if watch == outlet.watched {
            return;
        }
        // A file cannot be watched. What waits for it is tried again with the next lines.
        let changed = match watch {
            true => epoll.add(outlet.descriptor(), EpollEvent::new(EpollFlags::EPOLLOUT, entry)),
            false => epoll.delete(outlet.descriptor()),
        };
        outlet.watched = watch && changed.is_ok();
    }

    /// Waits until all is written, its reader is not waited for any more, or it is `until`.
    pub(super) fn wait(&mut self, number: u64, until: Instant) -> Option<Dropped> {
        let outlet = self.all.get_mut(&number)?;
        while let Some(patience) = outlet.waited_for() {
            let now = Instant::now();
            let left = patience.min(until).saturating_duration_since(now);
            if left.is_zero() {
                outlet.look(patience);
                break;
            }
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let _ =
                poll(&mut [PollFd::new(outlet.descriptor().as_fd(), PollFlags::POLLOUT)], timeout);
            if let Some(dropped) = outlet.ready() {
                return Some(dropped);
            }
        }
        None
    }

    /// What waits is lost.
    pub(super) fn give_up(&mut self, number: u64) -> Option<Dropped> {
        self.all.get_mut(&number).and_then(Outlet::end)
    }
}

//! An envelope of the postmaster's, and what all of them share.
//!
//! An envelope counts from when it is made until it is closed: also while a closer has it, which
//! may be for long. So nobody gets more of them by giving what is slow to close.

use bgw_core::internals::envelope::{self, Content};
use nix::sys::epoll::Epoll;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

/// The largest number of envelopes in all.
const MOST: u64 = 4096;
/// The share of one session, and of envelopes among the descriptors of the postmaster: one in so
/// many.
const SHARE: u64 = 4;

/// What may take time to close.
#[derive(Debug)]
pub(crate) struct Condemned {
    pub(super) file: Rc<OwnedFd>,
    pub(super) what: What,
}

/// What of it is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// All: an envelope of this session, which is not empty and which nobody opens any more.
    Envelope(u64),
    /// All: the file of a large segment, a socket that is not empty.
    File,
    /// What its first datagram brings. The socket is this run's, which goes on with it.
    FirstOf(Run),
}

/// A run whose notify socket has a datagram that brings descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Its berth.
    pub(crate) berth: u32,
    /// The number of the run, which no other one has.
    pub(crate) number: u64,
}

#[derive(Debug, Default)]
struct Envelopes {
    all: usize,
    of_session: HashMap<u64, usize>,
    condemned: Vec<Condemned>,
    /// The runs whose first datagram a closer was to take out and which has ended, and whether it
    /// has taken it out.
    done: Vec<(Run, bool)>,
}

/// What all envelopes share.
#[derive(Debug)]
pub(crate) struct Office {
    most: usize,
    envelopes: RefCell<Envelopes>,
    /// What watches the files of others.
    watcher: OnceCell<Rc<Epoll>>,
}

impl Office {
    /// For a postmaster that may have `descriptors`.
    pub(crate) fn new(descriptors: u64) -> Rc<Self> {
        let most = usize::try_from(MOST.min(descriptors / SHARE)).unwrap_or(0);
        Rc::new(Self { most, envelopes: RefCell::default(), watcher: OnceCell::new() })
    }

    /// What is condemned from now on may be watched by `epoll`.
    pub(crate) fn set_watcher(&self, epoll: &Rc<Epoll>) {
        let _ = self.watcher.set(Rc::clone(epoll));
    }

    /// Ends the watch of a file that a closer is to close. A closed descriptor is watched as long
    /// as another process has its file open, and the kernel opens a file once more for each look:
    /// where the closer ends meanwhile, that would be the last one, and is closed here.
    pub(super) fn forget(&self, file: impl AsFd) {
        if let Some(epoll) = self.watcher.get() {
            // ENOENT: it was not watched.
            let _ = epoll.delete(file);
        }
    }

    /// Which limit keeps `session` from `count` more.
    pub(crate) fn limit(&self, session: u64, count: usize) -> Option<usize> {
        let envelopes = self.envelopes.borrow();
        let of_session = envelopes.of_session.get(&session).copied().unwrap_or(0);
        let most_of_session = self.most / SHARE as usize;
        if of_session.saturating_add(count) > most_of_session {
            return Some(most_of_session);
        }
        (envelopes.all.saturating_add(count) > self.most).then_some(self.most)
    }

    fn made(&self, session: u64) {
        let mut envelopes = self.envelopes.borrow_mut();
        envelopes.all += 1;
        *envelopes.of_session.entry(session).or_default() += 1;
    }

    /// An envelope of `session` is closed.
    pub(super) fn closed(&self, session: u64) {
        let mut envelopes = self.envelopes.borrow_mut();
        envelopes.all = envelopes.all.saturating_sub(1);
        if let Some(count) = envelopes.of_session.get_mut(&session) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                envelopes.of_session.remove(&session);
            }
        }
    }

    /// Has a file closed that takes time to close.
    pub(crate) fn condemn_file(&self, file: OwnedFd) {
        self.forget(&file);
        self.condemn(Condemned { file: Rc::new(file), what: What::File });
    }

    /// Closes a datagram socket into which others can put descriptors.
    pub(crate) fn close_socket(&self, socket: OwnedFd) {
        if !is_empty(socket.as_fd()) {
            self.condemn_file(socket);
        }
    }

    /// Has the first datagram of a run's socket taken out, whose descriptors take time to close.
    pub(crate) fn condemn_first(&self, run: Run, socket: &Rc<OwnedFd>) {
        self.condemn(Condemned { file: Rc::clone(socket), what: What::FirstOf(run) });
    }

    pub(super) fn closer_ended(&self, what: What, in_order: bool) {
        match what {
            What::Envelope(session) => self.closed(session),
            What::FirstOf(run) => self.envelopes.borrow_mut().done.push((run, in_order)),
            What::File => {}
        }
    }

    pub(super) fn take_done(&self) -> Vec<(Run, bool)> {
        std::mem::take(&mut self.envelopes.borrow_mut().done)
    }

    pub(super) fn condemn(&self, envelope: Condemned) {
        self.envelopes.borrow_mut().condemned.push(envelope);
    }

    /// True if something is to be closed that takes time.
    pub(crate) fn has_condemned(&self) -> bool {
        !self.envelopes.borrow().condemned.is_empty()
    }

    /// What the next closer is to close: all that nobody waits for, or what one run waits for.
    pub(crate) fn take_condemned(&self) -> Vec<Condemned> {
        let condemned = &mut self.envelopes.borrow_mut().condemned;
        let first_of_one = |one: &Condemned| matches!(one.what, What::FirstOf(_));
        match condemned.iter().position(first_of_one) {
            Some(at) => vec![condemned.remove(at)],
            None => std::mem::take(condemned),
        }
    }
}

/// An envelope of the postmaster's. When it is dropped it is closed, or condemned if something is
/// in it.
#[derive(Debug)]
pub(crate) struct Envelope {
    /// `None` once it is dropped.
    socket: Option<OwnedFd>,
    session: u64,
    office: Rc<Office>,
}

impl Envelope {
    /// Of a registration over `session`; `socket` lies where no child asks
    /// for a number.
    pub(crate) fn new(socket: OwnedFd, session: u64, office: Rc<Office>) -> Self {
        office.made(session);
        Self { socket: Some(socket), session, office }
    }

    /// Seals it. True if there is a descriptor in it.
    pub(crate) fn seal(&self) -> io::Result<bool> {
        let Some(socket) = &self.socket else { return Ok(false) };
        envelope::seal(socket)?;
        Ok(envelope::content(socket)? == Content::Descriptor)
    }

    /// `None` once it is dropped.
    pub(crate) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// Its number, which children inherit.
    pub(super) fn number(&self) -> Option<RawFd> {
        Some(self.socket.as_ref()?.as_raw_fd())
    }
}

impl Drop for Envelope {
    fn drop(&mut self) {
        let Some(socket) = self.socket.take() else { return };
        let session = self.session;
        if is_empty(socket.as_fd()) {
            drop(socket);
            self.office.closed(session);
        } else {
            let what = What::Envelope(session);
            self.office.condemn(Condemned { file: Rc::new(socket), what });
        }
    }
}

/// True if nothing is in it, and nothing can be put into it.
fn is_empty(socket: BorrowedFd<'_>) -> bool {
    let content = envelope::seal(socket).and_then(|()| envelope::content(socket));
    matches!(content, Ok(Content::Nothing))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bgw_core::internals::envelope::{pair, put};

    fn made(office: &Rc<Office>, session: u64) -> (Envelope, OwnedFd) {
        let (socket, end) = pair().unwrap();
        (Envelope::new(socket, session, Rc::clone(office)), end)
    }

    /// Fails if an envelope that holds something is closed here, or stops counting before it is.
    #[test]
    fn what_holds_something_counts_until_it_is_closed_elsewhere() {
        let office = Office::new(64);
        let (empty, full) = (made(&office, 1), made(&office, 1));
        put(&full.1, full.1.as_fd()).unwrap();
        assert!(!empty.0.seal().unwrap() && full.0.seal().unwrap());
        assert_eq!((office.limit(1, 2), office.limit(1, 3)), (None, Some(4)));
        drop((empty, full));
        assert_eq!((office.limit(1, 3), office.limit(1, 4)), (None, Some(4)));
        let condemned = office.take_condemned();
        assert_eq!(condemned.iter().map(|one| one.what).collect::<Vec<_>>(), [What::Envelope(1)]);
        assert!(!office.has_condemned());
        office.closed(1);
        assert_eq!(office.limit(1, 4), None);
    }

    /// Fails if a socket is closed here with what somebody has put into it.
    #[test]
    fn a_socket_that_is_not_empty_is_closed_elsewhere() {
        let office = Office::new(64);
        let (empty, _end) = pair().unwrap();
        office.close_socket(empty);
        assert!(!office.has_condemned());
        let (full, end) = pair().unwrap();
        put(&end, end.as_fd()).unwrap();
        office.close_socket(full);
        assert_eq!(office.take_condemned().len(), 1);
    }

    /// Fails if a run could wait for what belongs to another one.
    #[test]
    fn a_closer_has_what_one_run_waits_for_or_all_that_nobody_waits_for() {
        let office = Office::new(64);
        let file = || std::fs::File::open("/dev/null").unwrap().into();
        let run = |number| Run { berth: 1, number };
        office.condemn_file(file());
        office.condemn_first(run(1), &Rc::new(file()));
        office.condemn_file(file());
        office.condemn_first(run(2), &Rc::new(file()));
        let next = || office.take_condemned().iter().map(|one| one.what).collect::<Vec<_>>();
        assert_eq!(next(), [What::FirstOf(run(1))]);
        assert_eq!(next(), [What::FirstOf(run(2))]);
        assert_eq!(next(), [What::File, What::File]);
        office.closer_ended(What::FirstOf(run(1)), true);
        office.closer_ended(What::File, true);
        office.closer_ended(What::FirstOf(run(2)), false);
        assert_eq!(office.take_done(), [(run(1), true), (run(2), false)]);
        assert_eq!(office.take_done(), []);
    }

    #[test]
    fn a_session_has_a_quarter_of_them_and_all_together_the_whole() {
        let office = Office::new(1_000_000);
        assert_eq!((office.limit(1, 1024), office.limit(1, 1025)), (None, Some(1024)));
        let office = Office::new(64);
        let all: Vec<_> = (0..16).map(|at| made(&office, at / 4)).collect();
        assert_eq!((office.limit(0, 1), office.limit(9, 1)), (Some(4), Some(16)));
        drop(all);
        assert_eq!(office.limit(0, 4), None);
    }
}

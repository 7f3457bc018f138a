//! A program's connection to the postmaster, shared by its threads and its futures.
//!
//! Each request has a number, and its reply is found by it. A thread that asks is the one that
//! reads until it has its reply; threads ask one after the other. A future *posts* its request and
//! comes back for the reply. While no thread asks, whichever future is polled reads for all. So a
//! future that is not polled keeps nobody from asking.

use super::client::AskError;
use super::message::{Reply, Request};
use super::transport::{ControlSocket, Received, numbered};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

/// A reply, and the descriptors that came with it.
type Answer = (Reply, Vec<OwnedFd>);

/// The connection to the postmaster.
#[derive(Debug)]
pub(crate) struct Session {
    socket: ControlSocket,
    place: Mutex<Place>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct Place {
    /// A thread asks, and reads.
    is_read: bool,
    /// The number of the last request; never 0, which no request has.
    last: u32,
    /// The requests of futures, by number.
    posted: HashMap<u32, Pending>,
    /// How many replies came with descriptors that nobody waited for any more.
    unclaimed: u64,
    /// The postmaster has closed the connection.
    is_closed: bool,
}

/// What has become of a posted request.
#[derive(Debug, Default)]
struct Pending {
    came: Option<Result<Answer, AskError>>,
    waker: Option<Waker>,
}

impl Session {
    pub(crate) fn new(socket: ControlSocket) -> Self {
        let last = socket.request();
        let place = Mutex::new(Place { last, ..Place::default() });
        Self { socket, place, returned: Condvar::new() }
    }

    /// Ends the connection, whoever else has its descriptor: a fork of this process, say.
    pub(crate) fn end(&self) {
        self.socket.end();
    }

    /// True once the postmaster was seen to have closed the connection.
    pub(crate) fn is_closed(&self) -> bool {
        self.place().is_closed
    }

    /// Asks the postmaster and waits for its answer, which may bring descriptors; first of all for
    /// other threads that ask.
    pub(crate) fn ask(
        &self,
        request: &Request,
        deadline: Option<Instant>,
    ) -> Result<Answer, AskError> {
        let number = self.begin(deadline).ok_or(AskError::TimedOut)?;
        let answer = self.exchange(number, request, deadline);
        self.end_turn();
        answer
    }

    /// Tells the postmaster something that it does not answer. What cannot be sent until `deadline`
    /// is not said.
    pub(crate) fn tell(&self, request: &Request, deadline: Option<Instant>) {
        let number = self.place().next_number();
        let _ = self.socket.send_numbered(number, request, deadline);
    }

    /// Posts a request, whose reply is read by [`Posted::poll`]. Never blocks.
    pub(crate) fn post(self: &Arc<Self>, request: &Request) -> Posted {
        let mut place = self.place();
        let unclaimed = place.unclaimed;
        // The replies to requests that were given up, with their descriptors.
        let woken = self.read_for_all(&mut place);
        let number = place.next_number();
        place.posted.insert(number, Pending::default());
        drop(place);
        woken.into_iter().for_each(Waker::wake);
        let unsent = Some(numbered(number, request.encode()));
        Posted { session: Arc::clone(self), number, unsent, unclaimed }
    }

    /// Waits until no other thread asks. The number of the next request; `None` if the deadline
    /// passed first.
    fn begin(&self, deadline: Option<Instant>) -> Option<u32> {
        let mut place = self.place();
        while place.is_read {
            place = match deadline {
                None => self.returned.wait(place).unwrap_or_else(PoisonError::into_inner),
                Some(end) => {
                    let left = end.checked_duration_since(Instant::now())?;
                    let waited = self.returned.wait_timeout(place, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        place.is_read = true;
        Some(place.next_number())
    }

    /// Lets the next thread ask, or the futures read.
    fn end_turn(&self) {
        let mut place = self.place();
        place.is_read = false;
        // What came since the last look of theirs, and was not read, wakes nobody again.
        let woken: Vec<Waker> =
            place.posted.values_mut().filter_map(|pending| pending.waker.take()).collect();
        drop(place);
        self.returned.notify_one();
        woken.into_iter().for_each(Waker::wake);
    }

    /// Sends a request and receives its answer. Replies to others are handed over.
    fn exchange(
        &self,
        number: u32,
        request: &Request,
        deadline: Option<Instant>,
    ) -> Result<Answer, AskError> {
        let deadline = match self.socket.send_numbered(number, request, deadline) {
            Ok(()) => deadline,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Err(AskError::TimedOut);
            }
            // What the postmaster said before it closed the connection.
            Err(error) if has_closed(&error) => Some(Instant::now()),
            Err(error) => return Err(AskError::Send(error)),
        };
        loop {
            match self.socket.recv_numbered(deadline)? {
                Received::Message { message: (found, bytes), fds } => {
                    if found == number {
                        return answer(&bytes, fds);
                    }
                    let mut place = self.place();
                    let woken = place.deliver(found, &bytes, fds);
                    drop(place);
                    woken.into_iter().for_each(Waker::wake);
                    if found == 0 {
                        return answer(&bytes, Vec::new());
                    }
                }
                Received::WouldBlock => return Err(AskError::TimedOut),
                Received::Closed => {
                    self.place().is_closed = true;
                    return Err(AskError::Closed);
                }
            }
        }
    }

    /// Reads what has come, unless a thread does. Returns those who are to be woken.
    fn read_for_all(&self, place: &mut Place) -> Vec<Waker> {
        let mut woken = Vec::new();
        while !place.is_read && !place.is_closed {
            match self.socket.recv_numbered(Some(Instant::now())) {
                Ok(Received::Message { message: (number, bytes), fds }) => {
                    woken.extend(place.deliver(number, &bytes, fds));
                }
                Ok(Received::WouldBlock) => break,
                Ok(Received::Closed) => place.is_closed = true,
                Err(error) => {
                    // Whose it was is not known; the next look reads on.
                    let first = place.posted.values_mut().find(|pending| pending.came.is_none());
                    if let Some(pending) = first {
                        pending.came = Some(Err(error.into()));
                        woken.extend(pending.waker.take());
                    }
                    break;
                }
            }
        }
        woken
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn next_number(&mut self) -> u32 {
        self.last = self.last.checked_add(1).unwrap_or(1);
        self.last
    }

    /// Gives a reply to the future that has posted its request; a reply with number 0, which
    /// refuses the connection, to all of them. Others are dropped: nobody waits any more.
    fn deliver(&mut self, number: u32, bytes: &[u8], fds: Vec<OwnedFd>) -> Vec<Waker> {
        if number == 0 {
            let all = self.posted.values_mut().filter(|pending| pending.came.is_none());
            return all.filter_map(|pending| pending.come(answer(bytes, Vec::new()))).collect();
        }
        match self.posted.get_mut(&number) {
            Some(pending) => pending.come(answer(bytes, fds)).into_iter().collect(),
            None => {
                self.unclaimed = self.unclaimed.wrapping_add(u64::from(!fds.is_empty()));
                Vec::new()
            }
        }
    }
}

impl Pending {
    fn come(&mut self, answer: Result<Answer, AskError>) -> Option<Waker> {
        self.came = Some(answer);
        self.waker.take()
    }
}

fn answer(bytes: &[u8], fds: Vec<OwnedFd>) -> Result<Answer, AskError> {
    match Reply::decode(bytes).map_err(|error| AskError::Receive(error.into()))? {
        Reply::Refused { reason, detail } => Err(AskError::Refused { reason, detail }),
        reply => Ok((reply, fds)),
    }
}

fn has_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// A request that is posted. Dropping it gives it up: its reply is dropped when it comes.
#[derive(Debug)]
pub struct Posted {
    session: Arc<Session>,
    number: u32,
    /// Until it is sent.
    unsent: Option<Vec<u8>>,
    /// As the session counted when it was posted.
    unclaimed: u64,
}

impl Posted {
    /// The reply, if it has come; else `waker` is woken when another thread or future has read it.
    /// The caller polls again when the descriptor is readable, too, or writable while the request
    /// [is not sent](Posted::is_sent). Never blocks.
    ///
    /// # Errors
    /// [`AskError`]; then it is over.
    pub fn poll(&mut self, waker: &Waker) -> Result<Option<(Reply, Vec<OwnedFd>)>, AskError> {
        if let Some(packet) = &self.unsent {
            match self.session.socket.send_packet(packet) {
                Ok(()) => self.unsent = None,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // What the postmaster said before it closed the connection is read below.
                Err(error) if has_closed(&error) => self.unsent = None,
                Err(error) => return Err(AskError::Send(error)),
            }
        }
        let mut place = self.session.place();
        let woken = self.session.read_for_all(&mut place);
        let is_closed = place.is_closed;
        let found = match place.posted.get_mut(&self.number) {
            None => Some(Err(AskError::Closed)),
            Some(pending) => {
                let found = pending.came.take().or(is_closed.then_some(Err(AskError::Closed)));
                if found.is_none() {
                    pending.waker = Some(waker.clone());
                }
                found
            }
        };
        drop(place);
        // One of these may be a waker of its own.
        woken.into_iter().for_each(Waker::wake);
        found.transpose()
    }

    /// True if descriptors of replies that nobody waited for any more were closed since it was
    /// posted: what the postmaster had no room for, it may have room for now.
    #[must_use]
    pub fn has_made_room(&self) -> bool {
        self.session.place().unclaimed != self.unclaimed
    }

    /// False while the postmaster has no room for the request.
    #[must_use]
    pub const fn is_sent(&self) -> bool {
        self.unsent.is_none()
    }
}

impl AsFd for Posted {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.session.socket.as_fd()
    }
}

impl Drop for Posted {
    fn drop(&mut self) {
        let given_up = self.session.place().posted.remove(&self.number);
        // Its waker, or a reply that nobody wants.
        drop(given_up);
    }
}

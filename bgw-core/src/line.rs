//! The line of a worker to its postmaster: a control connection that is made when it is first
//! needed.
//!
//! A worker inherits the *door*, a descriptor of the control socket's place in the file system,
//! opened so that it can be connected to and nothing else. It leads to the socket whatever has
//! become of its name, and of the network namespace of the worker. It costs a worker that asks
//! nothing no system call.

use crate::control::PROTOCOL;
use crate::control::client::{AskError, exchange};
use crate::control::message::{Reply, Request};
use crate::control::session::{Posted, Session};
use crate::control::transport::ControlSocket;
use crate::shared::LAYOUT_TAG;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// What a worker says first.
const HELLO: Request =
    Request::Hello { protocol: PROTOCOL, layout_tag: LAYOUT_TAG, read_only: false };

/// The way to the control socket, and the connection once there is one.
#[derive(Debug)]
pub(crate) struct Line {
    door: Arc<OwnedFd>,
    session: Mutex<Option<Arc<Session>>>,
}

impl Line {
    pub(crate) const fn new(door: Arc<OwnedFd>) -> Self {
        Self { door, session: Mutex::new(None) }
    }

    pub(crate) fn door(&self) -> BorrowedFd<'_> {
        self.door.as_fd()
    }

    /// Asks the postmaster, over a new connection if there is none.
    pub(crate) fn ask(
        &self,
        request: &Request,
        deadline: Option<Instant>,
    ) -> Result<(Reply, Vec<OwnedFd>), AskError> {
        let session = self.session(deadline)?;
        let answer = session.ask(request, deadline);
        if matches!(answer, Err(AskError::Closed)) {
            self.hang_up();
        }
        answer
    }

    /// Posts a request, over a new connection if there is none. Never blocks.
    pub(crate) fn post(&self, request: &Request) -> Result<Posted, AskError> {
        if let Some(session) = self.known() {
            return Ok(session.post(request));
        }
        let socket = self.dial(Some(Instant::now()))?;
        let session = Arc::new(Session::new(socket));
        // Whoever gets the connection says what it wants behind the hello. The welcome brings
        // nothing that the worker does not have, so nobody waits for it.
        session.tell(&HELLO, Some(Instant::now()));
        let mut place = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let session = Arc::clone(place.get_or_insert(session));
        drop(place);
        Ok(session.post(request))
    }

    /// Tells the postmaster something that it does not answer. Does nothing without a connection.
    pub(crate) fn tell(&self, request: &Request, deadline: Option<Instant>) {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(session) = session {
            session.tell(request, deadline);
        }
    }

    /// Ends the connection, if there is one.
    pub(crate) fn hang_up(&self) {
        if let Some(session) = self.session.lock().unwrap_or_else(PoisonError::into_inner).take() {
            session.end();
        }
    }

    fn session(&self, deadline: Option<Instant>) -> Result<Arc<Session>, AskError> {
        if let Some(session) = self.known() {
            return Ok(session);
        }
        // Without the lock: other threads have deadlines, too. Of two that connect, one is used.
        let session = Arc::new(Session::new(self.connect(deadline)?));
        let mut place = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(place.get_or_insert(session)))
    }

    /// The connection, if there is one and the postmaster has not closed it.
    fn known(&self) -> Option<Arc<Session>> {
        let mut place = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if place.as_ref().is_some_and(|session| session.is_closed()) {
            *place = None;
        }
        place.clone()
    }

    fn connect(&self, deadline: Option<Instant>) -> Result<ControlSocket, AskError> {
        let mut socket = self.dial(deadline)?;
        match exchange(&mut socket, &HELLO, deadline)?.0 {
            // The worker has what comes with it.
            Reply::Welcome { .. } => Ok(socket),
            other => Err(AskError::unexpected(&other)),
        }
    }

    fn dial(&self, deadline: Option<Instant>) -> Result<ControlSocket, AskError> {
        let path = PathBuf::from(format!("/proc/self/fd/{}", self.door.as_raw_fd()));
        ControlSocket::connect(&path, deadline).map_err(|error| match error.kind() {
            std::io::ErrorKind::TimedOut => AskError::TimedOut,
            _ => AskError::Connect(error),
        })
    }
}

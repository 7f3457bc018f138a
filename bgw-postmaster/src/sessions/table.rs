//! All sessions, by number and by pid.
//!
//! A session's number is never used again, so a notification for a closed session reaches nobody,
//! whatever its pid is used for now.

use super::listener::Listener;
use super::protocol::{PeerRequest, Welcome};
use super::session::Session;
use crate::rules::NotifyTarget;
use crate::sys::descriptors::DescriptorFloor;
use bgw_core::internals::pidfd;
use bgw_core::{ControlSocket, Pid};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// All connections.
#[derive(Debug)]
pub(crate) struct Sessions {
    by_number: HashMap<u64, Session>,
    by_pid: HashMap<Pid, Vec<u64>>,
    next: u64,
    limit: usize,
    floor: DescriptorFloor,
    listener: Option<Listener>,
    welcome: Welcome,
    /// The session whose end shuts the postmaster down.
    launcher: Option<u64>,
}

/// A session that was closed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Closed {
    /// The peer, if this was its last session.
    pub(crate) last_of: Option<Pid>,
    /// It had attached.
    pub(crate) attached: bool,
    /// It was the launcher's.
    pub(crate) launcher: bool,
}

impl Sessions {
    pub(crate) fn new(
        limit: usize,
        floor: DescriptorFloor,
        listener: Option<Listener>,
        welcome: Welcome,
    ) -> Self {
        Self {
            by_number: HashMap::new(),
            by_pid: HashMap::new(),
            next: 1,
            limit,
            floor,
            listener,
            welcome,
            launcher: None,
        }
    }

    /// The listening socket, for the poller.
    pub(crate) fn listener(&self) -> Option<BorrowedFd<'_>> {
        Some(self.listener.as_ref()?.descriptor())
    }

    /// The next connection that waits.
    pub(crate) fn accept(&mut self) -> Option<ControlSocket> {
        self.listener.as_mut()?.accept()
    }

    /// Opens a session on a connection. Returns its number, or `None` if it was refused.
    pub(crate) fn open(&mut self, socket: ControlSocket) -> io::Result<Option<u64>> {
        let full = (self.by_number.len() >= self.limit).then_some(self.limit);
        let Some(session) = Session::accept(socket, self.floor, full)? else { return Ok(None) };
        let number = self.next;
        self.next += 1;
        self.by_pid.entry(session.pid).or_default().push(number);
        self.by_number.insert(number, session);
        Ok(Some(number))
    }

    /// When this session closes, the postmaster shuts down.
    pub(crate) const fn shut_down_with(&mut self, number: Option<u64>) {
        self.launcher = number;
    }

    /// A session's descriptor, for the poller.
    pub(crate) fn descriptor(&self, number: u64) -> Option<BorrowedFd<'_>> {
        Some(self.by_number.get(&number)?.socket.as_fd())
    }

    /// Reads one message of a peer. A request that is not answered at once is acknowledged by
    /// [`Sessions::acknowledge`] when the server has done it.
    pub(crate) fn read(&mut self, number: u64, accepts_sessions: bool) -> PeerRequest {
        let Some(session) = self.by_number.get_mut(&number) else { return PeerRequest::Closed };
        session.read(number, &self.welcome, accepts_sessions)
    }

    /// Tells a peer that its request is done. False when it does not take the reply: it is gone, or it
    /// does not read.
    pub(crate) fn acknowledge(&mut self, number: u64) -> bool {
        self.by_number.get_mut(&number).is_none_or(Session::acknowledge)
    }

    /// Closes a session. Closing its descriptor removes it from the poller.
    pub(crate) fn close(&mut self, number: u64) -> Closed {
        let Some(session) = self.by_number.remove(&number) else { return Closed::default() };
        let mut last_of = None;
        if let Some(numbers) = self.by_pid.get_mut(&session.pid) {
            numbers.retain(|&other| other != number);
            if numbers.is_empty() {
                self.by_pid.remove(&session.pid);
                last_of = Some(session.pid);
            }
        }
        let launcher = self.launcher.take_if(|launcher| *launcher == number).is_some();
        Closed { last_of, attached: session.attached, launcher }
    }

    /// The notify target that `pid` means now: the newest attached session of that process.
    pub(crate) fn target(&self, pid: Pid) -> Option<NotifyTarget> {
        let may_be_notified =
            |number: &&u64| self.by_number.get(number).is_some_and(Session::may_be_notified);
        let number = *self.by_pid.get(&pid)?.iter().rev().find(may_be_notified)?;
        Some(NotifyTarget::Session(number))
    }

    /// Sends SIGUSR1 to the process of a session, if it is open.
    pub(crate) fn notify(&self, number: u64) {
        let Some(session) = self.by_number.get(&number) else { return };
        if let Err(error) = pidfd::send(&session.pidfd, rustix::process::Signal::USR1) {
            tracing::debug!("notifying process {} failed: {error}", session.pid);
        }
    }
}

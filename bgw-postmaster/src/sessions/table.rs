//! All sessions, by number.
//!
//! A session's number is never used again, so a notification for a closed session reaches nobody,
//! whatever its pid is used for now.

use super::listener::Listener;
use super::peers::{Gone, Peers};
use super::protocol::{PeerRequest, Welcome};
use super::session::Session;
use crate::failure_log::Occasional;
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
    peers: Peers,
    next: u64,
    limit: usize,
    floor: DescriptorFloor,
    listener: Option<Listener>,
    welcome: Welcome,
    /// The session whose end shuts the postmaster down.
    launcher: Option<u64>,
    refused: Occasional,
    malformed: Occasional,
}

/// A session that was closed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Closed {
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
            peers: Peers::default(),
            next: 1,
            limit,
            floor,
            listener,
            welcome,
            launcher: None,
            refused: Occasional::default(),
            malformed: Occasional::default(),
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

    /// When there is no place for another connection: the one that has been silent for longest, and is
    /// to be closed. Attached programs and the launcher are not.
    pub(crate) fn silent_one(&self) -> Option<u64> {
        if self.by_number.len() < self.limit {
            return None;
        }
        let silent = self.by_number.iter().filter(|(_, session)| !session.attached);
        silent.map(|(&number, _)| number).filter(|&number| self.launcher != Some(number)).min()
    }

    /// Opens a session on a connection. Returns its number, or `None` if it was refused.
    pub(crate) fn open(&mut self, socket: ControlSocket) -> io::Result<Option<u64>> {
        // Processes that closed their last connection keep a descriptor here until they end.
        let is_full = self.by_number.len() >= self.limit || self.peers.len() >= 2 * self.limit;
        let full = is_full.then_some(self.limit);
        let accepted = Session::accept(socket, self.floor, full, &mut self.refused)?;
        let Some((mut session, pidfd)) = accepted else { return Ok(None) };
        let number = self.next;
        self.next += 1;
        session.peer = self.peers.add_session(session.pid, pidfd, number);
        self.by_number.insert(number, session);
        Ok(Some(number))
    }

    /// The number of a session's process, and its pidfd, for the poller.
    pub(crate) fn peer(&self, number: u64) -> Option<(u64, BorrowedFd<'_>)> {
        let peer = self.by_number.get(&number)?.peer;
        Some((peer, self.peers.pidfd(peer)?))
    }

    /// The process of peer `number` has ended. Its sessions are still to be closed.
    pub(crate) fn peer_ended(&mut self, number: u64) -> Option<Gone> {
        self.peers.ended(number)
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
        let request = session.read(number, &self.welcome, accepts_sessions, &mut self.malformed);
        if session.may_be_notified() {
            self.peers.gets_slots(session.peer);
        }
        request
    }

    /// Tells a peer that its request is done. False when it does not take the reply: it is gone, or it
    /// does not read.
    pub(crate) fn acknowledge(&mut self, number: u64) -> bool {
        self.by_number.get_mut(&number).is_none_or(Session::acknowledge)
    }

    /// Closes a session. Closing its descriptor removes it from the poller.
    pub(crate) fn close(&mut self, number: u64) -> Closed {
        let Some(session) = self.by_number.remove(&number) else { return Closed::default() };
        self.peers.remove_session(session.peer, number);
        let launcher = self.launcher.take_if(|launcher| *launcher == number).is_some();
        Closed { attached: session.attached, launcher }
    }

    /// The notify target that `pid` means now: the newest attached session of that process.
    pub(crate) fn target(&self, pid: Pid) -> Option<NotifyTarget> {
        let may_be_notified =
            |number: &&u64| self.by_number.get(number).is_some_and(Session::may_be_notified);
        let number = *self.peers.sessions_of(pid).iter().rev().find(may_be_notified)?;
        Some(NotifyTarget::Session(number))
    }

    /// Sends SIGUSR1 to the process of a session, if it is open.
    pub(crate) fn notify(&self, number: u64) {
        let Some(session) = self.by_number.get(&number) else { return };
        let Some(process) = self.peers.pidfd(session.peer) else { return };
        if let Err(error) = pidfd::send(process, rustix::process::Signal::USR1) {
            tracing::debug!("notifying process {} failed: {error}", session.pid);
        }
    }
}

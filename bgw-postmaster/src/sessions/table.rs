//! All sessions, by number.
//!
//! A session's number is never used again, so a notification for a closed session reaches nobody,
//! whatever its pid is used for now.

use super::listener::Listener;
use super::peers::{Gone, Peers};
use super::protocol::{PeerRequest, Welcome};
use super::session::Session;
use crate::failure_log::Occasional;
use crate::gifts::Office;
use crate::rules::NotifyTarget;
use crate::sys::descriptors::DescriptorFloor;
use bgw_core::internals::{Reply, pidfd};
use bgw_core::{ControlSocket, Pid, Refusal};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

/// The largest number of connections of one worker.
const MOST_OF_WORKER: usize = 4;

/// All connections.
#[derive(Debug)]
pub(crate) struct Sessions {
    by_number: HashMap<u64, Session>,
    peers: Peers,
    /// How many of them are of workers, which do not count as attached programs.
    of_workers: usize,
    next: u64,
    limit: usize,
    floor: DescriptorFloor,
    office: Rc<Office>,
    listener: Option<Listener>,
    welcome: Welcome,
    /// The session whose end shuts the postmaster down.
    launcher: Option<u64>,
    refused: Occasional,
    failed: Occasional,
    malformed: Occasional,
}

/// Who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A worker of this postmaster.
    Worker,
    /// A program that may attach.
    Program,
    /// A program that may not: the socket is for workers alone.
    Stranger,
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
        office: Rc<Office>,
        listener: Option<Listener>,
        welcome: Welcome,
    ) -> Self {
        Self {
            by_number: HashMap::new(),
            peers: Peers::default(),
            of_workers: 0,
            next: 1,
            limit,
            floor,
            office,
            listener,
            welcome,
            launcher: None,
            refused: Occasional::default(),
            failed: Occasional::default(),
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

    /// When there is no place for another connection: the one that has been silent for longest, and
    /// is to be closed. Attached programs and the launcher are not.
    pub(crate) fn silent_one(&self) -> Option<u64> {
        if self.programs() < self.limit {
            return None;
        }
        let silent =
            self.by_number.iter().filter(|(_, session)| !session.attached && !session.worker);
        silent.map(|(&number, _)| number).filter(|&number| self.launcher != Some(number)).min()
    }

    fn programs(&self) -> usize {
        self.by_number.len().saturating_sub(self.of_workers)
    }

    /// Opens a session on a connection of a process of this `kind`. Returns its number, or `None`
    /// if it was refused.
    pub(crate) fn open(
        &mut self,
        socket: ControlSocket,
        kind: impl Fn(Pid) -> Kind,
    ) -> io::Result<Option<u64>> {
        // Processes that closed their last connection keep a descriptor here until they end.
        let is_full = self.programs() >= self.limit
            || self.peers.len() >= 2 * self.limit + 2 * self.of_workers;
        let (limit, peers) = (self.limit, &self.peers);
        let objection = |pid| match kind(pid) {
            Kind::Stranger => {
                let detail = "this postmaster has no runtime folder: only workers attach";
                Some((Refusal::NotAllowed, detail.to_owned()))
            }
            Kind::Program => {
                is_full.then(|| (Refusal::TooManyPeers, format!("{limit} programs are attached")))
            }
            Kind::Worker => (peers.sessions_of(pid).len() >= MOST_OF_WORKER).then(|| {
                let detail = format!("this worker has {MOST_OF_WORKER} connections");
                (Refusal::TooManyPeers, detail)
            }),
        };
        let accepted =
            Session::accept(socket, self.floor, &self.office, objection, &mut self.refused)?;
        let Some((mut session, pidfd)) = accepted else { return Ok(None) };
        session.worker = kind(session.pid) == Kind::Worker;
        self.of_workers += usize::from(session.worker);
        let number = self.next;
        self.next += 1;
        session.peer = self.peers.add_session(session.pid, pidfd, number);
        self.by_number.insert(number, session);
        Ok(Some(number))
    }

    /// No session could be opened on a connection.
    pub(crate) fn not_opened(&mut self, error: &io::Error) {
        if let Some(count) = self.failed.count() {
            tracing::warn!(count, "a connection could not be accepted: {error}");
        }
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
        // A smart shutdown waits for attached programs, but not for workers.
        let request = match request {
            PeerRequest::Attached if session.worker => PeerRequest::Nothing,
            other => other,
        };
        if session.may_be_notified() {
            self.peers.gets_slots(session.peer);
        }
        request
    }

    /// Tells a peer that its request is done. False when it does not take the reply: it is gone, or
    /// it does not read.
    pub(crate) fn acknowledge(&mut self, number: u64) -> bool {
        self.by_number.get_mut(&number).is_none_or(Session::acknowledge)
    }

    /// The number of a session's last request, to reply to it later.
    pub(crate) fn request(&self, number: u64) -> Option<u32> {
        Some(self.by_number.get(&number)?.socket.request())
    }

    /// Replies to an earlier request of a session. A peer that does not take it is gone, or does
    /// not read; its next request shows that.
    pub(crate) fn reply_late(&self, number: u64, request: u32, reply: &Reply) {
        if let Some(session) = self.by_number.get(&number) {
            let _ = session.socket.send_late_reply(request, reply);
        }
    }

    /// Answers the request that a peer has sent last. False when it does not take the reply.
    pub(crate) fn reply(&mut self, number: u64, reply: &Reply, fds: &[BorrowedFd<'_>]) -> bool {
        let session = self.by_number.get_mut(&number);
        session.is_none_or(|session| session.reply(reply, fds).is_ok())
    }

    /// What lies above is closed in children.
    pub(crate) const fn floor(&self) -> DescriptorFloor {
        self.floor
    }

    /// The process of a session.
    pub(crate) fn pid(&self, number: u64) -> Option<Pid> {
        self.by_number.get(&number).map(|session| session.pid)
    }

    /// Closes a session. Closing its descriptor removes it from the poller.
    pub(crate) fn close(&mut self, number: u64) -> Closed {
        let Some(session) = self.by_number.remove(&number) else { return Closed::default() };
        self.peers.remove_session(session.peer, number);
        self.of_workers -= usize::from(session.worker);
        let launcher = self.launcher.take_if(|launcher| *launcher == number).is_some();
        Closed { attached: session.attached && !session.worker, launcher }
    }

    /// The notify target that `pid` means now: the newest attached session of that process.
    pub(crate) fn target(&self, pid: Pid) -> Option<NotifyTarget> {
        self.newest_of(pid).map(NotifyTarget::Session)
    }

    /// The newest attached session of the process that has `pid` now, unless it may only look.
    pub(crate) fn newest_of(&self, pid: Pid) -> Option<u64> {
        let may_be_notified =
            |number: &&u64| self.by_number.get(number).is_some_and(Session::may_be_notified);
        self.peers.sessions_of(pid).iter().rev().find(may_be_notified).copied()
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

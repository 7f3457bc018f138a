//! One connection: credentials, requests, replies.
//!
//! A peer is trusted with nothing but its own attachment: a message that cannot be read, or a reply
//! that it does not take, ends the connection.

use super::protocol::{PeerRequest, Welcome};
use crate::failure_log::Occasional;
use crate::gifts::{Office, PeerSocket};
use crate::sys::descriptors::DescriptorFloor;
use bgw_core::internals::{ClusterCells, LAYOUT_TAG, PROTOCOL, Received, Reply, Request};
use bgw_core::{ControlSocket, Pid, Refusal};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;

/// One connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) socket: PeerSocket,
    pub(super) pid: Pid,
    /// The number of its process.
    pub(super) peer: u64,
    /// It is a worker of this postmaster.
    pub(super) worker: bool,
    pub(super) attached: bool,
    pub(super) read_only: bool,
}

impl Session {
    /// Takes a connection, and the pidfd of its process, while the connection proves that it lives.
    /// `None`: it was refused, because of its user or by `objection`, which is asked about its
    /// process.
    pub(super) fn accept(
        socket: ControlSocket,
        floor: DescriptorFloor,
        office: &Rc<Office>,
        objection: impl FnOnce(Pid) -> Option<(Refusal, String)>,
        refused: &mut Occasional,
    ) -> io::Result<Option<(Self, OwnedFd)>> {
        let socket = ControlSocket::from(floor.move_above(socket)?);
        let socket = PeerSocket::new(socket, office);
        socket.set_nonblocking(true)?;
        let (pid, uid, _) = socket.peer_credentials()?;
        let ours = nix::unistd::geteuid().as_raw();
        let refusal = if uid != ours && uid != 0 {
            Some((Refusal::NotAllowed, format!("this postmaster runs for user {ours}, not {uid}")))
        } else {
            objection(pid)
        };
        if let Some((reason, detail)) = refusal {
            if let Some(count) = refused.count() {
                tracing::warn!(count, "process {pid} of user {uid} may not attach: {detail}");
            }
            socket.refuse(reason, detail);
            return Ok(None);
        }
        let pidfd = floor.move_above(socket.peer_pidfd()?)?;
        let (peer, worker) = (0, false);
        let session = Self { socket, pid, peer, worker, attached: false, read_only: true };
        Ok(Some((session, pidfd)))
    }

    /// True when it may be a notify target.
    pub(super) const fn may_be_notified(&self) -> bool {
        self.attached && !self.read_only
    }

    /// Reads one message. Answers it at once if the server has nothing to do for it.
    pub(super) fn read(
        &mut self,
        number: u64,
        welcome: &Welcome,
        accepts_sessions: bool,
        malformed: &mut Occasional,
    ) -> PeerRequest {
        let received = if self.socket.brings_descriptors() {
            Err("it brings descriptors".to_owned())
        } else {
            self.socket.recv_request().map_err(|error| error.to_string())
        };
        let request = match received {
            Ok(Received::Message { message, .. }) => message,
            Ok(Received::WouldBlock) => return PeerRequest::Nothing,
            Ok(Received::Closed) => return PeerRequest::Closed,
            Err(error) => {
                if let Some(count) = malformed.count() {
                    tracing::warn!(
                        count,
                        "a message of process {} cannot be read: {error}",
                        self.pid
                    );
                }
                let _ = self.refuse(Refusal::Malformed, error);
                return PeerRequest::Closed;
            }
        };
        // An error: the peer does not take its reply. It is gone, or it does not read.
        self.handle(number, &request, welcome, accepts_sessions).unwrap_or(PeerRequest::Closed)
    }

    /// False when the peer does not take the reply.
    pub(super) fn acknowledge(&mut self) -> bool {
        self.socket.send_reply(&Reply::Done, &[]).is_ok()
    }

    fn handle(
        &mut self,
        number: u64,
        request: &Request,
        welcome: &Welcome,
        accepts_sessions: bool,
    ) -> io::Result<PeerRequest> {
        if let Request::Hello { protocol, layout_tag, read_only } = *request {
            // Workers end with the postmaster: they hold up nothing.
            let accepts = accepts_sessions || self.worker;
            if let Some((reason, detail)) = self.objection(protocol, layout_tag, accepts) {
                return self.refuse(reason, detail);
            }
            return self.attach(number, read_only, welcome);
        }
        if !self.attached {
            return self.refuse(Refusal::NotAttached, "say hello first".to_owned());
        }
        let not_allowed = |session: &mut Self| {
            let detail = "this attachment is read-only".to_owned();
            session.refuse(Refusal::NotAllowed, detail)
        };
        match *request {
            Request::Ping | Request::Hello { .. } => Ok(PeerRequest::Ping),
            Request::LastLines(worker) => Ok(PeerRequest::LastLines(worker)),
            Request::Functions { from } => self.list_functions(from, &welcome.functions),
            Request::Left { from } => Ok(PeerRequest::Left(from)),
            _ if self.read_only => not_allowed(self),
            Request::Shutdown(mode) => Ok(PeerRequest::Shutdown(mode)),
            Request::Advance(phase) => Ok(PeerRequest::Phase(phase)),
            Request::Reload => Ok(PeerRequest::Reload),
            Request::RestartNow(worker) => Ok(PeerRequest::RestartNow(worker)),
            Request::Queue { waits, gifts } => Ok(PeerRequest::Queue { waits, gifts }),
            Request::Kill(worker) => Ok(PeerRequest::Kill(worker)),
            Request::Segment(request) => Ok(PeerRequest::Segment(request)),
            Request::Refork(ref name) => Ok(PeerRequest::Refork(name.clone())),
            Request::ToRoll(ref part) => Ok(PeerRequest::ToRoll((**part).clone())),
            Request::Roll(ref roll) => Ok(PeerRequest::Roll((**roll).clone())),
        }
    }

    fn objection(
        &self,
        protocol: u32,
        layout_tag: u64,
        accepts_sessions: bool,
    ) -> Option<(Refusal, String)> {
        if self.attached {
            return Some((Refusal::Malformed, "attached already".to_owned()));
        }
        if protocol != PROTOCOL {
            let detail = format!("this postmaster speaks protocol {PROTOCOL}, not {protocol}");
            return Some((Refusal::Protocol, detail));
        }
        if layout_tag != LAYOUT_TAG {
            let detail = format!("slot layout {LAYOUT_TAG:016x}, not {layout_tag:016x}");
            return Some((Refusal::Layout, detail));
        }
        let detail = "this postmaster shuts down".to_owned();
        (!accepts_sessions).then_some((Refusal::ShuttingDown, detail))
    }

    fn attach(
        &mut self,
        number: u64,
        read_only: bool,
        welcome: &Welcome,
    ) -> io::Result<PeerRequest> {
        let reply = Reply::Welcome {
            protocol: PROTOCOL,
            postmaster: welcome.postmaster,
            owner: self.pid,
            liveness: ClusterCells::liveness_of_session(number),
            read_only,
        };
        self.reply(&reply, &welcome.descriptors(read_only))?;
        self.attached = true;
        self.read_only = read_only;
        Ok(PeerRequest::Attached)
    }

    fn list_functions(&mut self, from: u32, all: &[String]) -> io::Result<PeerRequest> {
        self.reply(&Reply::functions(all, from), &[])?;
        Ok(PeerRequest::Nothing)
    }

    fn refuse(&mut self, reason: Refusal, detail: String) -> io::Result<PeerRequest> {
        self.reply(&Reply::Refused { reason, detail }, &[])?;
        Ok(PeerRequest::Nothing)
    }

    pub(super) fn reply(
        &mut self,
        reply: &Reply,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        self.socket.send_reply(reply, descriptors)
    }
}

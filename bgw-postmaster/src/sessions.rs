//! Attached programs: who they are, what they ask, when they go.
//!
//! A session is one connection on the control socket. Its number is never used again, so a
//! notification for a session that has gone finds nobody, whatever its pid is used for now. The
//! peer's pidfd is taken when it connects, while the connection proves that it lives.

use crate::rules::NotifyTarget;
use crate::sys::descriptors::DescriptorFloor;
use bgw_core::Pid;
use bgw_core::control::codec::MAX_PACKET;
use bgw_core::control::{ControlSocket, PROTOCOL, Received, Refusal, Reply, Request, ShutdownMode};
use bgw_core::shared::ClusterCells;
use bgw_core::shared::LAYOUT_TAG;
use bgw_core::{StartTime, sys::pidfd};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What a peer gets with its welcome.
#[derive(Debug)]
pub(crate) struct Gifts<'a> {
    pub(crate) region: BorrowedFd<'a>,
    pub(crate) region_read_only: BorrowedFd<'a>,
    pub(crate) postmaster_pidfd: BorrowedFd<'a>,
    pub(crate) doorbell: BorrowedFd<'a>,
    pub(crate) postmaster: Pid,
    pub(crate) functions: &'a [String],
    pub(crate) accepting: bool,
}

/// What the loop has to do after a peer was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Nothing.
    Nothing,
    /// It belongs to the cluster now.
    Attached,
    /// It wants to know that all rings before this were heard.
    Ping,
    /// It wants a shutdown.
    Shutdown(ShutdownMode),
    /// It says that a phase is reached.
    Phase(StartTime),
    /// It wants the settings read again.
    Reload,
    /// The connection is over; close the session.
    Gone,
}

#[derive(Debug)]
struct Session {
    socket: ControlSocket,
    pidfd: OwnedFd,
    pid: Pid,
    attached: bool,
    read_only: bool,
}

/// All connections.
#[derive(Debug)]
pub(crate) struct Sessions {
    by_number: HashMap<u64, Session>,
    by_pid: HashMap<Pid, Vec<u64>>,
    next: u64,
    limit: usize,
}

impl Sessions {
    pub(crate) fn new(limit: usize) -> Self {
        Self { by_number: HashMap::new(), by_pid: HashMap::new(), next: 1, limit }
    }

    /// Takes a new connection; its number, or `None` when it was turned away.
    pub(crate) fn open(
        &mut self,
        socket: ControlSocket,
        floor: DescriptorFloor,
    ) -> io::Result<Option<u64>> {
        let mut socket = ControlSocket::from(floor.move_above(socket)?);
        socket.set_nonblocking(true)?;
        let (pid, uid, _) = socket.peer_credentials()?;
        let ours = nix::unistd::geteuid().as_raw();
        let refusal = if uid != ours && uid != 0 {
            Some((Refusal::NotAllowed, format!("this postmaster runs for user {ours}, not {uid}")))
        } else if self.by_number.len() >= self.limit {
            Some((Refusal::TooManyPeers, format!("{} programs are attached", self.limit)))
        } else {
            None
        };
        if let Some((reason, detail)) = refusal {
            // A peer that does not read its refusal learns of it by the closed connection.
            let _ = socket.send_reply(&Reply::Refused { reason, detail }, &[]);
            return Ok(None);
        }
        let pidfd = floor.move_above(socket.peer_pidfd()?)?;
        let number = self.next;
        self.next += 1;
        self.by_pid.entry(pid).or_default().push(number);
        let session = Session { socket, pidfd, pid, attached: false, read_only: true };
        self.by_number.insert(number, session);
        Ok(Some(number))
    }

    /// The connection's descriptor, to listen to.
    pub(crate) fn descriptor(&self, number: u64) -> Option<BorrowedFd<'_>> {
        Some(self.by_number.get(&number)?.socket.as_fd())
    }

    /// Closes a session. Returns the peer's pid if this was its last one (so that what it had half
    /// done is to be swept), and whether it had attached.
    pub(crate) fn close(&mut self, number: u64) -> (Option<Pid>, bool) {
        let Some(session) = self.by_number.remove(&number) else { return (None, false) };
        let mut last = None;
        if let Some(numbers) = self.by_pid.get_mut(&session.pid) {
            numbers.retain(|&other| other != number);
            if numbers.is_empty() {
                self.by_pid.remove(&session.pid);
                last = Some(session.pid);
            }
        }
        (last, session.attached)
    }

    /// The notify target that `pid` means now: the newest attached session of that process.
    pub(crate) fn target(&self, pid: Pid) -> Option<NotifyTarget> {
        let attached = |number: &&u64| {
            self.by_number.get(number).is_some_and(|session| session.attached && !session.read_only)
        };
        let number = *self.by_pid.get(&pid)?.iter().rev().find(attached)?;
        Some(NotifyTarget::Session(number))
    }

    /// SIGUSR1 to the process of a session; nobody when it has gone.
    pub(crate) fn notify(&self, number: u64) {
        if let Some(session) = self.by_number.get(&number) {
            if let Err(error) = pidfd::send(&session.pidfd, rustix::process::Signal::USR1) {
                tracing::debug!("notifying process {} failed: {error}", session.pid);
            }
        }
    }

    /// Tells a peer that what it asked for is done. False when it does not take the answer: it is gone,
    /// or it does not read.
    pub(crate) fn done(&mut self, number: u64) -> bool {
        let Some(session) = self.by_number.get_mut(&number) else { return true };
        session.socket.send_reply(&Reply::Done, &[]).is_ok()
    }

    /// Reads one message of a peer. What can be answered at once is; the rest is for the loop to do,
    /// and to say [`Sessions::done`] afterwards.
    pub(crate) fn hear(&mut self, number: u64, gifts: &Gifts<'_>) -> Heard {
        let Some(session) = self.by_number.get_mut(&number) else { return Heard::Gone };
        let request = match session.socket.recv_request() {
            Ok(Received::Message { message, .. }) => message,
            Ok(Received::WouldBlock) => return Heard::Nothing,
            Ok(Received::Closed) => return Heard::Gone,
            Err(error) => {
                tracing::warn!("a message of process {} cannot be read: {error}", session.pid);
                let detail = error.to_string();
                let _ = session.refuse(Refusal::Malformed, detail);
                return Heard::Gone;
            }
        };
        let answer = session.answer(number, &request, gifts);
        match answer {
            Ok(heard) => heard,
            // The peer does not take its answer: it is gone, or it does not read.
            Err(_) => Heard::Gone,
        }
    }
}

impl Session {
    fn refuse(&mut self, reason: Refusal, detail: String) -> Result<Heard, io::Error> {
        self.socket
            .send_reply(&Reply::Refused { reason, detail }, &[])
            .map_err(io::Error::other)?;
        Ok(Heard::Nothing)
    }

    fn answer(
        &mut self,
        number: u64,
        request: &Request,
        gifts: &Gifts<'_>,
    ) -> Result<Heard, io::Error> {
        if let Request::Hello { protocol, layout_tag, read_only } = *request {
            return self.welcome(number, protocol, layout_tag, read_only, gifts);
        }
        if !self.attached {
            return self.refuse(Refusal::NotAttached, "say hello first".to_owned());
        }
        match *request {
            Request::Ping => return Ok(Heard::Ping),
            Request::Functions { from } => return self.tell_functions(from, gifts.functions),
            _ if self.read_only => {
                let detail = "this attachment may only look".to_owned();
                return self.refuse(Refusal::NotAllowed, detail);
            }
            _ => {}
        }
        Ok(match *request {
            Request::Shutdown(mode) => Heard::Shutdown(mode),
            Request::Advance(phase) => Heard::Phase(phase),
            Request::Reload => Heard::Reload,
            Request::Hello { .. } | Request::Ping | Request::Functions { .. } => Heard::Ping,
        })
    }

    fn tell_functions(&mut self, from: u32, all: &[String]) -> Result<Heard, io::Error> {
        let rest = usize::try_from(from).ok().and_then(|from| all.get(from..)).unwrap_or(&[]);
        // No more than fit into a packet, since the rest would be copied in vain.
        let some = rest.iter().take(MAX_PACKET / 2).cloned().collect();
        self.socket.send_reply(&Reply::Functions(some), &[]).map_err(io::Error::other)?;
        Ok(Heard::Nothing)
    }

    fn welcome(
        &mut self,
        number: u64,
        protocol: u32,
        layout_tag: u64,
        read_only: bool,
        gifts: &Gifts<'_>,
    ) -> Result<Heard, io::Error> {
        if self.attached {
            return self.refuse(Refusal::Malformed, "attached already".to_owned());
        }
        if protocol != PROTOCOL {
            let detail = format!("this postmaster speaks protocol {PROTOCOL}, not {protocol}");
            return self.refuse(Refusal::Protocol, detail);
        }
        if layout_tag != LAYOUT_TAG {
            let detail = format!("slot layout {LAYOUT_TAG:016x}, not {layout_tag:016x}");
            return self.refuse(Refusal::Layout, detail);
        }
        if !gifts.accepting {
            return self.refuse(Refusal::ShuttingDown, "this postmaster shuts down".to_owned());
        }
        let reply = Reply::Welcome {
            protocol: PROTOCOL,
            postmaster: gifts.postmaster,
            owner: self.pid,
            liveness: ClusterCells::liveness_of_session(number),
            read_only,
        };
        let region = if read_only { gifts.region_read_only } else { gifts.region };
        let mut fds = vec![region, gifts.postmaster_pidfd];
        if !read_only {
            fds.push(gifts.doorbell);
        }
        self.socket.send_reply(&reply, &fds).map_err(io::Error::other)?;
        self.attached = true;
        self.read_only = read_only;
        Ok(Heard::Attached)
    }
}

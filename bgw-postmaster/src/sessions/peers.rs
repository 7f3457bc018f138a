//! The processes behind the sessions.
//!
//! A peer's life is its process, not its connection. A fork may hold a connection of a process that
//! has ended, and a process may close a connection while it claims a slot over another one, or over
//! what it inherited as a worker. So each process has one pidfd, which the poller watches from its
//! first session to its end. Its claims are given back only then.
//!
//! A peer is found by a number that is never used again: its pid may be reused.

use crate::quick_map::QuickMap;
use bgw_core::Pid;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A process that has attached, or tries to.
#[derive(Debug)]
struct Peer {
    pid: Pid,
    pidfd: OwnedFd,
    /// Its open sessions.
    sessions: Vec<u64>,
    /// It has had the slots writable: it may hold a claim without a session.
    may_claim: bool,
}

/// The processes of all sessions.
#[derive(Debug, Default)]
pub(super) struct Peers {
    by_number: QuickMap<u64, Peer>,
    /// The newest peer of each pid.
    by_pid: QuickMap<Pid, u64>,
    last: u64,
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Gone {
    pub(crate) pid: Pid,
    /// The sessions that it leaves open.
    pub(crate) sessions: Vec<u64>,
}

impl Peers {
    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }

    /// Adds a session of process `pid`, which `pidfd` was opened for. Returns the peer's number.
    pub(super) fn add_session(&mut self, pid: Pid, pidfd: OwnedFd, session: u64) -> u64 {
        let known = self.by_pid.get(&pid).copied();
        let living = known.and_then(|number| {
            let peer = self.by_number.get_mut(&number)?;
            // One that has ended keeps its number; this is another process with its pid.
            is_running(&peer.pidfd).then_some((number, peer))
        });
        if let Some((number, peer)) = living {
            peer.sessions.push(session);
            return number;
        }
        self.last += 1;
        let peer = Peer { pid, pidfd, sessions: vec![session], may_claim: false };
        self.by_number.insert(self.last, peer);
        self.by_pid.insert(pid, self.last);
        self.last
    }

    /// The pidfd of a peer.
    pub(super) fn pidfd(&self, number: u64) -> Option<BorrowedFd<'_>> {
        Some(self.by_number.get(&number)?.pidfd.as_fd())
    }

    /// The peer gets the slots writable.
    pub(super) fn gets_slots(&mut self, number: u64) {
        if let Some(peer) = self.by_number.get_mut(&number) {
            peer.may_claim = true;
        }
    }

    /// Removes a session. Forgets the peer with its last one, unless it may hold a claim: then it
    /// is watched until it ends.
    pub(super) fn remove_session(&mut self, number: u64, session: u64) {
        let Some(peer) = self.by_number.get_mut(&number) else { return };
        peer.sessions.retain(|&other| other != session);
        if peer.sessions.is_empty() && !peer.may_claim {
            self.forget(number);
        }
    }

    /// The process of peer `number` has ended.
    pub(super) fn ended(&mut self, number: u64) -> Option<Gone> {
        let Peer { pid, sessions, .. } = self.forget(number)?;
        Some(Gone { pid, sessions })
    }

    /// The open sessions of the process that has `pid` now, oldest first.
    pub(super) fn sessions_of(&self, pid: Pid) -> &[u64] {
        let peer = self.by_pid.get(&pid).and_then(|number| self.by_number.get(number));
        peer.map_or(&[], |peer| &peer.sessions)
    }

    /// Closes the pidfd, which removes it from the poller.
    fn forget(&mut self, number: u64) -> Option<Peer> {
        let peer = self.by_number.remove(&number)?;
        if self.by_pid.get(&peer.pid) == Some(&number) {
            self.by_pid.remove(&peer.pid);
        }
        Some(peer)
    }
}

/// False once the process has ended. True if the kernel cannot say: its end is reported later.
fn is_running(pidfd: &OwnedFd) -> bool {
    let mut ended = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut ended, PollTimeout::ZERO) != Ok(1)
}

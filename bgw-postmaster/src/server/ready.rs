//! What each token means.
//!
//! | token | owner | events |
//! |---|---|---|
//! | signals | poller; children (`children/groups.rs`) | `ShutdownRequested`, `ReloadRequested`, `GroupEnded` |
//! | doorbell | slot table (`slot_table/intake.rs`) | `Registered`, `TerminateRequested` |
//! | child | children (`children/reap.rs`) | `ChildExited`, `StartLost` |
//! | spare | spares | none |
//! | listener, session | sessions | `SessionOpened`, `SessionClosed`, what a peer requests |
//! | guardian | guardian | none |
//! | peer | sessions (`sessions/peers.rs`) | `SessionClosed` for each session that its process had |

use super::log;
use super::poller::Token;
use super::state::Server;
use crate::fault;
use crate::rules::{Event, ProcessEnd};
use crate::sessions::PeerRequest;
use bgw_core::{ControlSocket, ExitCause, NotStarted, Pid, ShutdownMode};
use nix::sys::signal::Signal;
use shmem_slots::Key;
use std::io;

/// How many connections are accepted before other events are handled. The rest waits in the queue.
const CONNECTIONS_IN_A_ROW: usize = 16;
/// How many signals are read before other events are handled.
const SIGNALS_IN_A_ROW: usize = 8;

impl Server {
    pub(super) fn ready(&mut self, token: Token) {
        match token {
            Token::Signals => self.signals_arrived(),
            Token::Doorbell => {
                if let Err(error) = self.poller.take_rings() {
                    tracing::error!("reading the doorbell failed: {error}");
                }
                self.take_in_changes();
            }
            Token::Listener => self.connections_arrived(),
            Token::Session(number) => self.peer_wrote(number),
            Token::Child(index) => self.child_ended(index),
            Token::Spare(number) => self.spares.died(number),
            Token::Peer(number) => self.peer_ended(number),
            Token::Guardian => self.guardian.died(),
        }
    }

    fn signals_arrived(&mut self) {
        // The kernel keeps one of each; whoever sends faster than we read waits for the next pass.
        for _ in 0..SIGNALS_IN_A_ROW {
            let Some(signal) = self.poller.next_signal() else { return };
            let event = match signal {
                Signal::SIGTERM => Event::ShutdownRequested(ShutdownMode::Smart),
                Signal::SIGINT => Event::ShutdownRequested(ShutdownMode::Fast),
                Signal::SIGQUIT => Event::ShutdownRequested(ShutdownMode::Immediate),
                Signal::SIGHUP => Event::ReloadRequested,
                Signal::SIGCHLD => {
                    self.orphans_ended();
                    continue;
                }
                _ => continue,
            };
            self.step(event);
        }
    }

    /// A child has ended. Its end is published before it is reaped, because until then the slot says
    /// that its pid runs.
    fn child_ended(&mut self, index: u32) {
        let Some(ended) = self.children.ended(index) else { return };
        fault::point("exit:seen");
        let key = ended.key;
        let end = self.with_exec_failure(key, ended.end);
        let dirty = self.slot_table.cleanup_needed(index);
        self.process_gone(end.pid);
        fault::point("exit:swept");
        let group_left = self.children.leaves_group(index);
        self.step(if ended.start_lost {
            Event::StartLost { key }
        } else {
            Event::ChildExited { key, end, dirty, group_left }
        });
        self.children.reap(index);
        if self.children.orphan_may_wait() {
            self.orphans_ended();
        }
    }

    /// A process has ended that the postmaster did not start: it belonged to a worker and has outlived
    /// its parent. Workers that are functions do not send SIGCHLD; programs do, and are left to their
    /// pidfds.
    fn orphans_ended(&mut self) {
        for leader in self.children.ended_groups() {
            self.step(Event::GroupEnded { leader });
        }
        let (spares, guardian) = (&self.spares, &self.guardian);
        self.children.reap_orphans(|pid| spares.contains(pid) || guardian.is(pid));
    }

    /// A process that may have claimed slots has ended.
    pub(super) fn process_gone(&mut self, pid: Pid) {
        self.slot_table.sweep(pid);
        // What it had published without ringing.
        self.take_in_changes();
    }

    /// The end of a child, which is another one if it never became its program. Such a child cannot log
    /// that itself.
    pub(super) fn with_exec_failure(&mut self, key: Key, end: ProcessEnd) -> ProcessEnd {
        let Some(failure) = self.spawner.exec_failure(end.pid) else { return end };
        let entry = self.cluster.registry().get(key);
        if let (Some(entry), Some(text)) = (entry, &failure.text) {
            log::exec_failure(&entry.worker, self.slot_table.handle(key), end.pid, text);
        }
        if failure.errno == 0 {
            return end;
        }
        let cause = ExitCause::NotStarted(NotStarted::ExecFailed { errno: failure.errno });
        ProcessEnd { cause, ..end }
    }

    fn connections_arrived(&mut self) {
        for _ in 0..CONNECTIONS_IN_A_ROW {
            let Some(socket) = self.sessions.accept() else { return };
            if let Some(silent) = self.sessions.silent_one() {
                self.close_session(silent);
            }
            if let Err(error) = self.open_session(socket) {
                tracing::warn!("a connection could not be accepted: {error}");
            }
        }
    }

    /// Returns the session's number, or `None` if the peer was refused.
    pub(super) fn open_session(&mut self, socket: ControlSocket) -> io::Result<Option<u64>> {
        let Some(number) = self.sessions.open(socket)? else { return Ok(None) };
        let watched = self.watch_session(number);
        if let Err(error) = watched {
            self.sessions.close(number);
            return Err(error);
        }
        Ok(Some(number))
    }

    fn watch_session(&self, number: u64) -> io::Result<()> {
        if let Some(fd) = self.sessions.descriptor(number) {
            self.poller.watch(fd, Token::Session(number))?;
        }
        match self.sessions.peer(number) {
            Some((peer, pidfd)) => self.poller.watch_once(pidfd, Token::Peer(peer)),
            None => Ok(()),
        }
    }

    fn peer_wrote(&mut self, number: u64) {
        match self.sessions.read(number, self.cluster.accepts_sessions()) {
            PeerRequest::Nothing => return,
            PeerRequest::Attached => return self.step(Event::SessionOpened),
            PeerRequest::Closed => return self.close_session(number),
            PeerRequest::Ping => self.take_in_changes(),
            PeerRequest::Shutdown(mode) => self.step(Event::ShutdownRequested(mode)),
            PeerRequest::Phase(phase) => self.step(Event::PhaseReached(phase)),
            PeerRequest::Reload => self.step(Event::ReloadRequested),
        }
        // The fact before the reply.
        if !self.sessions.acknowledge(number) {
            self.close_session(number);
        }
    }

    fn close_session(&mut self, number: u64) {
        let closed = self.sessions.close(number);
        if closed.attached {
            self.step(Event::SessionClosed);
        }
        if closed.launcher {
            self.step(Event::LauncherGone);
        }
    }

    /// An attached process has ended. A fork of it may still hold its connections.
    fn peer_ended(&mut self, number: u64) {
        let Some(gone) = self.sessions.peer_ended(number) else { return };
        self.process_gone(gone.pid);
        for session in gone.sessions {
            self.close_session(session);
        }
    }
}

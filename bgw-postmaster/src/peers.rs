//! Connections of other programs: coming, speaking, going.
//!
//! The sessions themselves are kept in `sessions.rs`; here they meet the loop.

use crate::event_loop::Token;
use crate::rules::Event;
use crate::server::Server;
use crate::sessions::{Gifts, Heard};
use bgw_core::control::{ControlSocket, ShutdownMode};
use std::io;
use std::os::fd::AsFd;

impl Server {
    /// Takes all connections that wait. When there is no descriptor for one, the one kept in reserve
    /// takes it, only to close it: it must not stay in the queue and wake the loop for ever.
    pub(crate) fn connections_came(&mut self) {
        loop {
            let Some(folder) = &self.folder else { return };
            match folder.listener.accept_nonblocking() {
                Ok(Some(socket)) => {
                    if let Err(error) = self.open_session(socket) {
                        tracing::warn!("a connection could not be taken: {error}");
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!("accepting a connection failed: {error}");
                    if self.reserve.take().is_none() {
                        return;
                    }
                    let refused = folder.listener.accept_nonblocking();
                    // Closed before the reserve is opened again: it may be the only number.
                    let went_on = matches!(&refused, Ok(Some(_)));
                    drop(refused);
                    self.reserve = self.floor.reserve().ok();
                    if !went_on {
                        return;
                    }
                }
            }
        }
    }

    pub(crate) fn open_session(&mut self, socket: ControlSocket) -> io::Result<Option<u64>> {
        let Some(number) = self.sessions.open(socket, self.floor)? else { return Ok(None) };
        let listening = match self.sessions.descriptor(number) {
            Some(fd) => self.listen_to(fd, Token::Session(number)),
            None => Ok(()),
        };
        if let Err(error) = listening {
            self.sessions.close(number);
            return Err(error);
        }
        Ok(Some(number))
    }

    pub(crate) fn peer_spoke(&mut self, number: u64) {
        let gifts = Gifts {
            region: self.slots.region().as_fd(),
            region_read_only: self.region_read_only.as_fd(),
            postmaster_pidfd: self.pidfd.as_fd(),
            doorbell: self.doorbell.as_fd(),
            postmaster: self.pid,
            functions: &self.function_names,
            accepting: self.cluster.accepts_sessions(),
        };
        match self.sessions.hear(number, &gifts) {
            Heard::Nothing => return,
            Heard::Attached => return self.step(Event::SessionOpened),
            Heard::Gone => return self.session_gone(number),
            Heard::Ping => self.look_at_changes(),
            Heard::Shutdown(mode) => self.step(Event::ShutdownRequested(mode)),
            Heard::Phase(phase) => self.step(Event::PhaseReached(phase)),
            Heard::Reload => self.step(Event::ReloadRequested),
        }
        // The fact before the answer.
        if !self.sessions.done(number) {
            self.session_gone(number);
        }
    }

    fn session_gone(&mut self, number: u64) {
        // Closing the descriptor takes it out of the epoll set.
        let (last_of, attached) = self.sessions.close(number);
        if let Some(pid) = last_of {
            self.sweep(pid);
        }
        if attached {
            self.step(Event::SessionClosed);
        }
        if self.launcher == Some(number) {
            self.launcher = None;
            self.step(Event::ShutdownRequested(ShutdownMode::Fast));
        }
    }
}

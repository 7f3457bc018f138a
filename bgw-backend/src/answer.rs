//! An answer that takes its time: it comes on a connection of its own, so that the session is free
//! for other requests meanwhile.

use crate::backend::{Backend, ConnectOptions};
use bgw_core::internals::{Received, Reply, process, wait_for_events};
use bgw_core::{AskError, ControlSocket, Pid, SocketInterest, WaitError, WaitEvents};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

/// Where it will come.
#[derive(Debug)]
pub(crate) struct Answer(ControlSocket);

/// Why it does not come.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    Ask(AskError),
    PostmasterDied { pid: Pid },
    Interrupted,
    Wait(WaitError),
}

impl Answer {
    /// By what the postmaster has replied at once.
    pub(crate) fn of(reply: &Reply, sockets: Vec<OwnedFd>) -> Result<Self, AskError> {
        let socket = sockets.into_iter().next().filter(|_| *reply == Reply::Done);
        socket.map(ControlSocket::from).map(Self).ok_or_else(|| AskError::unexpected(reply))
    }

    /// Waits for it, however long it takes.
    pub(crate) fn wait(mut self, backend: &Backend) -> Result<Reply, NoAnswer> {
        self.wait_until_there(backend)?;
        let deadline = Instant::now().checked_add(ConnectOptions::default().timeout);
        let received = self.0.recv_reply(deadline).map_err(AskError::Receive);
        match received.map_err(NoAnswer::Ask)? {
            Received::Message { message, .. } => Ok(message),
            Received::WouldBlock => Err(NoAnswer::Ask(AskError::TimedOut)),
            Received::Closed => Err(NoAnswer::Ask(AskError::Closed)),
        }
    }

    fn wait_until_there(&self, backend: &Backend) -> Result<(), NoAnswer> {
        let events = WaitEvents::SOCKET_READABLE | WaitEvents::POSTMASTER_DEATH;
        loop {
            let interrupts = process::interrupts().count();
            if process::interrupts().waits_are_interrupted() {
                return Err(NoAnswer::Interrupted);
            }
            let mut sockets = [SocketInterest::readable(self.0.as_fd())];
            let attachment = &backend.attachment;
            let come = wait_for_events(attachment, events, &mut sockets, None, interrupts);
            let come = come.map_err(NoAnswer::Wait)?;
            if come.contains(WaitEvents::SOCKET_READABLE) {
                return Ok(());
            }
            if come.contains(WaitEvents::POSTMASTER_DEATH) {
                return Err(NoAnswer::PostmasterDied { pid: attachment.postmaster() });
            }
        }
    }
}

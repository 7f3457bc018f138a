//! An answer that takes its time: it comes on a connection of its own, so that the session is free
//! for other requests meanwhile.

use crate::backend::{Backend, ConnectOptions};
use bgw_core::internals::{Received, Reply, Request, process, wait_for_events};
use bgw_core::{AskError, ControlSocket, Pid, SocketInterest, WaitError, WaitEvents};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

/// Why the answer to a request that takes its time did not come.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// The postmaster has refused and begun nothing, or cannot be asked.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The postmaster has died.
    #[error("postmaster {pid} has died before it answered")]
    PostmasterDied {
        /// The postmaster.
        pid: Pid,
    },
    /// As [`WaitError::Interrupted`](crate::WaitError::Interrupted). What was asked for goes on.
    #[error("a signal interrupted the wait for an answer; what was asked for goes on")]
    Interrupted,
    /// The system call failed. What was asked for goes on.
    #[error("waiting for an answer failed")]
    Wait(#[from] WaitError),
}

bgw_core::debug_as_chain!(AnswerError);

/// Where it will come.
#[derive(Debug)]
pub(crate) struct Answer(ControlSocket);

impl Answer {
    /// Asks. The postmaster says at once whether it begins, and where the answer will come.
    pub(crate) fn to(request: &Request, backend: &Backend) -> Result<Self, AskError> {
        let deadline = Instant::now().checked_add(ConnectOptions::default().timeout);
        let (reply, sockets) = backend.attachment.ask_for(request, deadline)?;
        let socket = sockets.into_iter().next().filter(|_| reply == Reply::Done);
        socket.map(ControlSocket::from).map(Self).ok_or_else(|| AskError::unexpected(&reply))
    }

    /// Waits for it, however long it takes. Descriptors may come with it.
    pub(crate) fn wait(mut self, backend: &Backend) -> Result<(Reply, Vec<OwnedFd>), AnswerError> {
        self.wait_until_there(backend)?;
        let deadline = Instant::now().checked_add(ConnectOptions::default().timeout);
        let received = self.0.recv_reply(deadline).map_err(AskError::Receive);
        match received.map_err(AnswerError::Ask)? {
            Received::Message { message, fds } => Ok((message, fds)),
            Received::WouldBlock => Err(AnswerError::Ask(AskError::TimedOut)),
            Received::Closed => Err(AnswerError::Ask(AskError::Closed)),
        }
    }

    fn wait_until_there(&self, backend: &Backend) -> Result<(), AnswerError> {
        let events = WaitEvents::SOCKET_READABLE | WaitEvents::POSTMASTER_DEATH;
        loop {
            let interrupts = process::interrupts().count();
            if process::interrupts().waits_are_interrupted() {
                return Err(AnswerError::Interrupted);
            }
            let mut sockets = [SocketInterest::readable(self.0.as_fd())];
            let attachment = &backend.attachment;
            let come = wait_for_events(attachment, events, &mut sockets, None, interrupts);
            let come = come.map_err(AnswerError::Wait)?;
            if come.contains(WaitEvents::SOCKET_READABLE) {
                return Ok(());
            }
            if come.contains(WaitEvents::POSTMASTER_DEATH) {
                return Err(AnswerError::PostmasterDied { pid: attachment.postmaster() });
            }
        }
    }
}

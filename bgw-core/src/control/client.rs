//! A program's first requests on a new control connection, each with a deadline, and why a request
//! fails.

use super::message::{Refusal, Reply, Request};
use super::transport::{ControlSocket, Received, RecvError};
use crate::pid::Pid;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

/// Why the postmaster did not do what it was asked for.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// This process is a forked child of the one that attached.
    #[error(
        "this process is a forked child of backend {owner}; it must connect to the postmaster itself"
    )]
    ForkedChild {
        /// The process that attached.
        owner: Pid,
    },
    /// This process is a worker whose postmaster has no control socket that it could connect to.
    #[error(
        "this worker has no way to a control socket; build the postmaster with runtime_dir(path)"
    )]
    NoControlSocket,
    /// This process is a worker, and connecting to the control socket failed.
    #[error("the worker could not connect to the postmaster's control socket")]
    Connect(#[source] io::Error),
    /// The postmaster refused.
    #[error("the postmaster refused: {reason} ({detail})")]
    Refused {
        /// The rule by which it refused.
        reason: Refusal,
        /// The postmaster's explanation.
        detail: String,
    },
    /// The postmaster did not answer in time.
    #[error("the postmaster did not answer in time; it may be stopped")]
    TimedOut,
    /// The postmaster closed the connection.
    #[error("the postmaster closed the connection; it has died, or dropped this process")]
    Closed,
    /// The request could not be sent.
    #[error("sending the request to the postmaster failed")]
    Send(#[source] io::Error),
    /// The answer could not be received.
    #[error("receiving the postmaster's answer failed")]
    Receive(#[from] RecvError),
    /// The answer does not fit the request.
    #[error("the postmaster's answer does not fit the request: {found}")]
    Unexpected {
        /// The answer that came.
        found: String,
    },
}

impl AskError {
    /// For an answer that does not fit its request.
    pub fn unexpected(found: &impl fmt::Debug) -> Self {
        Self::Unexpected { found: format!("{found:?}") }
    }
}

shmem_slots::debug_as_chain!(AskError);

/// Sends `request` and receives its answer.
pub(crate) fn exchange(
    socket: &mut ControlSocket,
    request: &Request,
    deadline: Option<Instant>,
) -> Result<(Reply, Vec<OwnedFd>), AskError> {
    let sent = socket.send_request(request, deadline);
    let closed = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
    };
    let deadline = match sent {
        Ok(()) => deadline,
        Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(AskError::TimedOut),
        // What the postmaster said before it closed the connection.
        Err(error) if closed(&error) => Some(Instant::now()),
        Err(error) => return Err(AskError::Send(error)),
    };
    match socket.recv_reply(deadline)? {
        Received::Message { message: Reply::Refused { reason, detail }, .. } => {
            Err(AskError::Refused { reason, detail })
        }
        Received::Message { message, fds } => Ok((message, fds)),
        Received::WouldBlock => Err(AskError::TimedOut),
        Received::Closed => Err(AskError::Closed),
    }
}

/// The lines of all functions, some in each packet. A postmaster whose functions never end is cut
/// off.
pub(crate) fn ask_functions(
    socket: &mut ControlSocket,
    deadline: Option<Instant>,
) -> Result<Vec<String>, AskError> {
    const MOST: usize = 1 << 16;
    let mut names: Vec<String> = Vec::new();
    while names.len() < MOST {
        let from = u32::try_from(names.len()).unwrap_or(u32::MAX);
        match exchange(socket, &Request::Functions { from }, deadline)?.0 {
            Reply::Functions(more) if more.is_empty() => break,
            Reply::Functions(more) => names.extend(more),
            other => return Err(AskError::unexpected(&other)),
        }
    }
    Ok(names)
}

//! What can be said on the control socket. Closed enums.

use crate::pid::Pid;
use crate::worker::StartTime;
use std::fmt;
use std::str::FromStr;

/// How strictly to shut down. A stricter mode overrides a milder one, never the reverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ShutdownMode {
    /// Attached programs may finish, then the workers are told to end.
    #[doc(alias = "SmartShutdown")]
    Smart,
    /// The workers are told to end at once.
    #[doc(alias = "FastShutdown")]
    Fast,
    /// The workers are told to quit without tidying up, and killed after 5 seconds.
    #[doc(alias = "ImmediateShutdown")]
    Immediate,
}

impl fmt::Display for ShutdownMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Smart => "smart",
            Self::Fast => "fast",
            Self::Immediate => "immediate",
        })
    }
}

/// A text that is no shutdown mode; the message shows at most 80 characters of it, escaped.
#[derive(Clone, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no shutdown mode; it is smart, fast or immediate")]
pub struct ParseModeError(String);

shmem_slots::debug_as_chain!(ParseModeError);

impl FromStr for ShutdownMode {
    type Err = ParseModeError;

    fn from_str(text: &str) -> Result<Self, ParseModeError> {
        match text {
            "smart" => Ok(Self::Smart),
            "fast" => Ok(Self::Fast),
            "immediate" => Ok(Self::Immediate),
            other => Err(ParseModeError(other.chars().take(80).collect())),
        }
    }
}

/// From a peer to the postmaster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Wants to join. The first message; answered by `Welcome` or `Refused`.
    Hello {
        /// The version of the messages that it speaks.
        protocol: u32,
        /// The layout of slots that it knows.
        layout_tag: u64,
        /// It only wants to look.
        read_only: bool,
    },
    /// Wants the postmaster to shut down.
    Shutdown(ShutdownMode),
    /// Says that the cluster has reached a phase.
    Advance(StartTime),
    /// Wants the settings read again: SIGHUP to every worker.
    Reload,
    /// Wants an answer, nothing else.
    Ping,
    /// Wants the names of the functions that workers may run, from this number on.
    Functions {
        /// How many it knows already.
        from: u32,
    },
}

/// From the postmaster to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Belongs to the cluster now. Comes with descriptors: the region, the postmaster's pidfd, and
    /// for those who may write the doorbell.
    Welcome {
        /// The version of the messages.
        protocol: u32,
        /// The postmaster.
        postmaster: Pid,
        /// The peer, as the postmaster knows it: in whose name it claims slots.
        owner: Pid,
        /// Which liveness word it is to wait on.
        liveness: u32,
        /// It may only look.
        read_only: bool,
    },
    /// Names of functions, sorted; as many as fit. None: there are no more.
    Functions(Vec<String>),
    /// It is done.
    Done,
    /// It is not done.
    Refused {
        /// Which rule.
        reason: Refusal,
        /// In words (at most 200 bytes).
        detail: String,
    },
}

/// Why the postmaster refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another version of the messages.
    Protocol,
    /// Another layout of the slots.
    Layout,
    /// Not for this peer.
    NotAllowed,
    /// The postmaster is shutting down.
    ShuttingDown,
    /// As many peers as there may be.
    TooManyPeers,
    /// The message makes no sense.
    Malformed,
    /// The peer has not said hello.
    NotAttached,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Protocol => "another protocol version",
            Self::Layout => "another slot layout",
            Self::NotAllowed => "not allowed",
            Self::ShuttingDown => "shutting down",
            Self::TooManyPeers => "too many peers",
            Self::Malformed => "malformed message",
            Self::NotAttached => "not attached",
        })
    }
}

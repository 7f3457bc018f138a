//! What can be said on the control socket. Closed enums.

use super::segment::SegmentRequest;
use crate::handle::WorkerHandle;
use crate::pid::Pid;
use crate::roll::{RollOutcome, RollPart, RollRequest};
use crate::segment::SegmentHandle;
use crate::shutdown_mode::ShutdownMode;
use crate::worker::StartTime;
use std::fmt;

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
    /// Wants a worker restarted now that is in its pause.
    RestartNow(WorkerHandle),
    /// Wants a worker killed now.
    Kill(WorkerHandle),
    /// Wants the last lines of a worker's output.
    LastLines(WorkerHandle),
    /// Wants a slot, by a socket of its own, which the answer brings.
    Queue {
        /// It waits until there is one.
        waits: bool,
        /// How many envelopes it wants, for descriptors that the worker is given.
        gifts: u8,
    },
    /// Wants to know who is left of a shutdown, from this slot on.
    Left {
        /// The slot.
        from: u32,
    },
    /// Names workers that are to be rolled by a later request.
    ToRoll(Box<RollPart>),
    /// Wants workers rolled. Answered by `Done` with a socket, on which `Rolled` or `RolledIn`
    /// comes.
    Roll(Box<RollRequest>),
    /// Wants something of a segment.
    Segment(SegmentRequest),
    /// Wants the template of this name loaded anew. Answered by `Done` with a socket, on which
    /// `Done` comes when the new one forks, or `Refused` with the reason.
    Refork(String),
    /// Wants the functions that workers may run, from this number on.
    Functions {
        /// How many it knows already.
        from: u32,
    },
}

/// A worker that a shutdown still waits for. Times are in milliseconds, from when it was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// The worker.
    pub worker: WorkerHandle,
    /// Its process; 0 if only others of its group are left.
    pub pid: u32,
    /// How long ago it was told to end; the largest number if it was not yet.
    pub told_for: u64,
    /// When it is killed; the largest number: never.
    pub killed_in: u64,
}

/// From the postmaster to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Belongs to the cluster now. Comes with descriptors: the region, the postmaster's pidfd, for
    /// those who may write the doorbell, and the events if the postmaster keeps any.
    Welcome {
        /// The version of the messages.
        protocol: u32,
        /// The postmaster's pid.
        postmaster: Pid,
        /// The peer, as the postmaster knows it: in whose name it claims slots.
        owner: Pid,
        /// Which liveness word it is to wait on.
        liveness: u32,
        /// It may only look.
        read_only: bool,
    },
    /// A place to wait for a slot. Comes with a socket: the description goes there as it would lie
    /// in a slot, and the answer comes back. Behind it come the envelopes.
    Queue,
    /// The workers that a shutdown still waits for, by slot; as many as fit. None: there are no
    /// more.
    Left(Vec<Left>),
    /// The worker has a slot.
    Granted(WorkerHandle),
    /// Functions, as lines; as many as fit. An empty list: there are no more.
    Functions(Vec<String>),
    /// The last lines of a worker's output, each but the last with its newline.
    LastLines(String),
    /// What became of each worker of a roll, in the order of the request.
    Rolled(Vec<RollOutcome>),
    /// What became of so many workers of a roll. Comes with a file that has it.
    RolledIn {
        /// The number of outcomes in the file.
        count: u32,
    },
    /// A segment. Comes with its descriptor.
    Segment {
        /// The handle of the segment.
        segment: SegmentHandle,
        /// Its size.
        bytes: u64,
    },
    /// It is done.
    Done,
    /// It is not done.
    Refused {
        /// The rule that forbids it.
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
    /// As many wait for a slot as may.
    QueueFull,
    /// A crash reset came while the peer waited for a slot.
    ClusterReset,
    /// No slot is free now.
    NoFreeSlot,
    /// As many descriptors are kept for workers as may be.
    TooManyDescriptors,
    /// There is no such segment any more.
    NoSegment,
    /// As many segments, or as many bytes in them, as there may be.
    TooManySegments,
    /// A template could not be loaded.
    TemplateFailed,
    /// A worker is not registered, or no longer.
    NotRegistered,
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
            Self::QueueFull => "the queue is full",
            Self::ClusterReset => "the cluster was reset",
            Self::NoFreeSlot => "no free slot",
            Self::TooManyDescriptors => "too many descriptors",
            Self::NoSegment => "no such segment",
            Self::TooManySegments => "too many segments",
            Self::TemplateFailed => "the template failed",
            Self::NotRegistered => "not registered",
        })
    }
}

//! The control socket: how a program attaches to the cluster, and what it may ask.
//!
//! A `SOCK_SEQPACKET` socket: one message is one packet, so there is no framing. A peer says `Hello`,
//! gets `Welcome` with descriptors, and may then ask; each request gets one reply. The connection is
//! the membership: when it closes, the postmaster sweeps what the peer had half done.
//!
//! Files: [`message`] (what can be said), [`codec`] (as bytes; pure), [`transport`] (over a socket).

pub mod codec;
pub mod message;
pub mod transport;

pub use codec::CodecError;
pub use message::{Refusal, Reply, Request, ShutdownMode};
pub use transport::{ControlSocket, Received, RecvError, SendError};

/// The version of the messages.
pub const PROTOCOL: u32 = 1;

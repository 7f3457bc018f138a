//! The control socket: how a program attaches to the cluster, and what it may ask.
//!
//! A `SOCK_SEQPACKET` socket: one message is one packet, so there is no framing. Each packet begins
//! with the number of its request. A peer says `Hello`, gets `Welcome` with descriptors, and may
//! then ask; each request gets one reply. The connection is the attachment: when it closes, the
//! postmaster sweeps what the peer had half done.
//!
//! Files: `message` (what can be said), `codec` (as bytes; pure), `transport` (over a socket),
//! `client` (a program's first requests), `session` (its later ones).

pub(crate) mod client;
pub(crate) mod codec;
pub(crate) mod left;
pub(crate) mod message;
pub(crate) mod reader;
mod roll;
pub(crate) mod segment;
pub(crate) mod session;
pub(crate) mod transport;

/// The version of the messages.
pub const PROTOCOL: u32 = 15;

/// The name of the control socket in a runtime folder.
pub const CONTROL_SOCKET: &str = "control.sock";

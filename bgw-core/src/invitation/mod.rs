//! How a program that was started as a command becomes its worker.
//!
//! A command whose description asks for it inherits one socket, its *invitation*. All that it needs
//! lies in the socket's queue before the command is started: the descriptors of the cluster, its
//! description, its handle. So the program asks nobody, and the postmaster waits for nobody.
//!
//! ```text
//!  postmaster: socket pair ── packets ──▶ queue of the one end ── clone, execve ──▶ program
//!              closes its own end                                  BGW_ATTACH=number: reads them
//! ```
//!
//! | file | |
//! |---|---|
//! | `packet` | the packets as bytes; pure |
//! | `invite` | the postmaster's side |
//! | `accept` | the program's side |
//!
//! Trust. The program takes what the kernel says is from its parent, after a look at the first
//! bytes: any socket could have the number, or none.

pub(crate) mod accept;
mod invite;
mod packet;

/// The variable with the number of the socket.
pub const ATTACH_VARIABLE: &str = "BGW_ATTACH";

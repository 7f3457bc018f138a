//! How commands report their state: by `NOTIFY_SOCKET`, as systemd has it, or by a newline on a
//! descriptor, as s6 has it.
//!
//! Each run of a command that declares its readiness so has a socket of its own in the runtime
//! folder, or a pipe. The kernel says with each message to a socket which process has sent it;
//! messages of others than the command's process, or its process group if the description allows
//! that, are dropped. Whoever has inherited a pipe can write into it.
//!
//! | file | |
//! |---|---|
//! | `message` | what a message says; pure |
//! | `newline` | one run's pipe |
//! | `socket` | one run's socket |
//! | `notices` | all of them, by slot |

mod message;
mod newline;
mod notices;
mod socket;

pub(crate) use message::{Said, parse};
pub(crate) use notices::Notices;

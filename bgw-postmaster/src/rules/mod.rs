//! The rules: what follows from what. Pure: no system call, no shared memory, no clock.
//!
//! [`Cluster::step`] takes an [`Event`] and the time, changes the private state, and returns the
//! [`Action`]s that follow, in order. The server performs them and feeds back what came of them (a
//! fork's pid, a fork's failure, the slots after a reset) as further events. So every rule of start,
//! restart, crash and shutdown is tested by a table, without a process.
//!
//! As in PostgreSQL's postmaster, *where* the cluster is ([`Stage`]) is kept apart from *why* (the
//! requested shutdown, the crash).
//!
//! ```text
//!             smart, sessions attached        last session closed
//!  Accepting ──────────────────────▶ Draining ───────────────▶ Stopping ──▶ Over(code)
//!      │  fast, immediate; smart without sessions                 ▲
//!      └──────────────────────────────────────────────────────────┘
//!      crash: `crashed` is set and all workers get SIGQUIT. When the last has ended, the slots are
//!      reset and `crashed` is cleared; or, with a shutdown requested or no restart wanted: Over(1)
//! ```
//!
//! | file | what follows from |
//! |---|---|
//! | `exit` | the end of a worker process |
//! | `group` | the end of the last process of a worker's group |
//! | `shutdown` | a shutdown request, a closed session, the end of the last process |
//! | `reset` | a crash that leaves shared state in doubt, and the slots made anew |
//! | `start` | a registration, a phase, a fork, a due restart |
//! | `reload` | a reload request |
//! | `terminate` | a terminate request, a grace time that is over |
//!
//! Each calls only those below it. `cluster` is the state, `registry` the list of workers, `timers` the
//! deadlines; `event` and `action` are the two closed lists; `ending` is what they say of an end.

mod action;
mod cluster;
mod ending;
mod event;
mod exit;
mod group;
mod registry;
mod reload;
mod reset;
mod shutdown;
mod start;
mod step;
mod terminate;
#[cfg(test)]
mod tests;
mod timers;

pub(crate) use action::{Action, News, Note};
pub(crate) use cluster::{Cluster, Policy, Stage};
pub(crate) use ending::{Ending, ProcessEnd};
pub(crate) use event::Event;
pub(crate) use registry::{Entry, NotifyTarget, Registry, StopSignal};

//! The rules: what follows from what. Pure: no system call, no shared memory, no clock.
//!
//! [`Cluster::step`] takes an [`Event`] and the time, changes the private state, and returns the
//! [`Action`]s that follow, in order. The server performs them and feeds back what came of them (a
//! fork's pid, a fork's failure, the slots after a reset) as further events. So every rule of
//! start, restart, crash and shutdown is tested by a table, without a process.
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
//! | `exit` | the end of a worker process (by `verdict` and `streak`) |
//! | `group` | the end of the last process of a worker's group |
//! | `shutdown` | a shutdown request, a closed session, the end of the last process |
//! | `reset` | a crash that leaves shared state in doubt, and the slots made anew |
//! | `start` | a registration, a phase, a fork, a due restart |
//! | `heartbeat` | a worker that falls silent |
//! | `lateness` | a start that takes too long |
//! | `supervision` | a change of a member of a named group |
//! | `after` | a change of a worker that others start after |
//! | `reload` | a reload request |
//! | `recycle` | a run that has reached a limit |
//! | `roll` | a roll under way, and each event meanwhile |
//! | `hand_over` | a next run beside the present one, which is ready |
//! | `beside` | the end of the second process of a worker |
//! | `terminate` | a terminate request, a grace time that is over |
//!
//! Each calls only those below it. `cluster` is the state, `registry` the list of workers, `timers`
//! the deadlines, `names` who has which name, `members` who is in a named group; `event` and
//! `action` are the two closed lists; `ending` is what they say of an end.

mod action;
mod after;
mod beside;
mod cluster;
mod ending;
mod event;
mod exit;
mod group;
mod hand_over;
mod heartbeat;
mod lapse;
mod lateness;
mod lending;
mod members;
mod names;
mod overlap;
mod pulse;
mod recycle;
mod registry;
mod reload;
mod reset;
mod roll;
mod rolls;
mod run_limits;
mod shutdown;
mod shutdown_order;
mod start;
mod step;
mod stop_level;
mod stop_order;
mod streak;
mod subject;
mod supervision;
mod terminate;
#[cfg(test)]
mod tests;
mod timers;
mod verdict;

pub(crate) use action::{Action, News, Note};
pub(crate) use cluster::{Cluster, Policy, Stage};
pub(crate) use ending::{Culprit, Ending, Exit, ProcessEnd};
pub(crate) use event::Event;
pub(crate) use pulse::{Beats, Look};
pub(crate) use registry::{Entry, NotifyTarget, Progress, Registry};
pub(crate) use roll::RollObjection;
pub(crate) use rolls::Roll;
pub use shutdown_order::ShutdownOrder;
pub(crate) use stop_level::StopLevel;
pub(crate) use subject::Subject;

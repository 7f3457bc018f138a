//! What runs in a child: from the fork to the worker's main, and to its exit.
//!
//! ```text
//!  postmaster: signals blocked ── fork ──▶ entry ──▶ settle: close, setsid, parent-death signal
//!                                            │          └─▶ work: title, handlers, main
//!                                            │          └─▶ exec: a command's program
//!                                            ▼
//!                                          _exit
//! ```
//!
//! Reading order: `launch` (what a child gets), `entry`, `settle`, `work`, `exec`, `command_gifts`,
//! `panics`, `mailbox` (where a spare sleeps), `rest` (how a worker's process becomes a spare
//! again), `taker` (how a spare takes a worker by itself), `taker_number` (which cell it has),
//! `functions` (the table of entry points); for templates `template` (its life), `said` (what it
//! says), `line` (the descriptors of what it has forked).
//!
//! All signals stay blocked until the worker unblocks them, except SIGQUIT and the postmaster's
//! death, which are delivered from the moment their handlers are installed. The child never drops
//! anything of the postmaster's: it leaves by `_exit`, and closes the postmaster's descriptors by
//! number.
//!
//! Commands usually start without any of this (`sys/exec.rs`).

mod command_gifts;
mod entry;
mod exec;
mod functions;
mod launch;
mod line;
mod mailbox;
mod panics;
mod rest;
mod said;
mod settle;
mod taker;
mod taker_number;
mod template;
mod work;

pub(crate) use entry::{run_spare, run_worker};
pub(crate) use functions::Functions;
pub(crate) use launch::{ChildContext, Launch, RunSetup};
pub(crate) use line::send as send_descriptors;
pub(crate) use mailbox::Mailbox;
pub(crate) use panics::{log_panics_of_workers, worker_label};
pub(crate) use said::{LIMIT as SAID_LIMIT, Said};
pub(crate) use taker_number::{TakerNumber, TakerNumbers};
pub(crate) use template::live as live_as_template;

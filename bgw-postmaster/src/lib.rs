//! The postmaster: forks, reaps, restarts and reports worker processes.
//!
//! A program builds a [`Postmaster`], names the functions that workers may run, and launches it
//! early in `main`. From then on the program is a backend like any other: it registers workers at
//! run time and asks for their status, through the crate `bgw-backend`.
//!
//! ```no_run
//! use bgw_postmaster::Postmaster;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut launched = Postmaster::builder()
//!     .max_workers(64)
//!     .function("greet", |me| {
//!         println!("worker {} says hello", me.worker.main_arg());
//!         Ok(())
//!     })
//!     .build()?
//!     .launch()?;
//! let control = launched.take_control(); // pass this to a backend
//! # let _ = control;
//! # Ok(())
//! # }
//! ```
//!
//! [`PostmasterBuilder`] has the settings. [`Postmaster`] runs in a process of its own
//! ([`Postmaster::launch`], which returns a [`Launched`]) or in the calling one
//! ([`Postmaster::run`]).
//!
//! | guarantee | how |
//! |---|---|
//! | it never forks while a second thread runs | threads are counted before each fork |
//! | it never mistakes one process for another | pidfds; an end is published before the process is reaped |
//! | nothing in shared memory harms it | it copies once and checks; its own list is the truth |
//! | idle, it sleeps | no timer runs but the earliest deadline |
//! | when it is killed, no process of the cluster is left after a few seconds | a guardian: a child that sleeps until the postmaster is dead |
//! | the fact comes before the news | report, word, free; then wake-ups and SIGUSR1 |
//!
//! It does not run workers as threads, poll, or restart itself.
//!
//! | feature | adds |
//! |---|---|
//! | `dylib` | workers whose main is in a shared library, loaded in the child |
//! | `fault` | named points at which tests make a process die, stop or fail |
//!
//! Reading order: `postmaster` (launch, run), `server` (the loop, and what it calls), `rules` (what
//! follows from what), then the owners `slot_table`, `children` and `sessions`, `child` (what runs
//! in a child), and `guardian` (what outlives a killed postmaster).

mod builder;
mod door;
mod error;
mod named_group;
mod postmaster;
mod reuse;
mod settings;
mod template;

mod server;

mod children;
mod companion;
mod gifts;
mod guardian;
mod notify;
mod outputs;
mod segments;
mod sessions;
mod slot_table;
mod templates;

mod child;
mod rules;

mod events;
mod failure_log;
#[cfg(not(feature = "fault"))]
mod fault;
#[cfg(feature = "fault")]
pub mod fault;
mod folder;
#[doc(hidden)]
pub mod internals;
mod quick_map;
mod runtime_dir;
mod sys;

pub use bgw_core::CONTROL_SOCKET;
pub use builder::{MAX_WORKERS_LIMIT, PostmasterBuilder};
pub use error::{BuildError, RunError, StaticError};
pub use named_group::{Group, Strategy};
pub use postmaster::{Launched, Postmaster};
pub use reuse::Reuse;
pub use rules::ShutdownOrder;
pub use sys::libc_version::UnsupportedLibc;
pub use template::Template;

/// The examples of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct ReadMe;

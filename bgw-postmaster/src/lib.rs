//! The postmaster: forks, reaps, restarts and reports worker processes.
//!
//! A program builds a [`Postmaster`], names the functions that workers may run, and launches it
//! early in `main`. From then on the program is a backend like any other: it registers workers at
//! run time and asks how they are, by the `bgw-backend` crate.
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
//! let control = launched.take_control(); // hand this to a backend
//! # let _ = control;
//! # Ok(())
//! # }
//! ```
//!
//! | guarantee | how |
//! |---|---|
//! | never forks with a second thread about | counted before each fork, refused with a reason |
//! | no pid is ever mistaken for another | pidfds; the fact is published before the process is reaped |
//! | nothing in shared memory harms it | one checked copy; its own list is the truth |
//! | idle means asleep | no timer runs but the earliest deadline |
//! | the fact comes before the news | report, free, then wake and signal |
//!
//! It does not: run workers as threads, poll, restart itself.
//!
//! Reading order: `postmaster` (launch, run), `server` (the loop, and what it calls), `rules` (what
//! follows from what), then the owners: `slot_table`, `children`, `sessions`; `child` (what runs in a
//! child).

mod builder;
mod error;
mod postmaster;
mod settings;

mod server;

mod children;
mod sessions;
mod slot_table;

mod child;
mod rules;

mod failure_log;
#[cfg(not(feature = "fault"))]
mod fault;
#[cfg(feature = "fault")]
pub mod fault;
mod runtime_dir;
mod sys;

pub use builder::{MAX_WORKERS_LIMIT, PostmasterBuilder};
pub use error::{BuildError, RunError, StaticError};
pub use postmaster::{Launched, Postmaster};
pub use runtime_dir::CONTROL_SOCKET;

/// The examples of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct ReadMe;

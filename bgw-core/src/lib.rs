//! The types that a postmaster and its backends agree on.
//!
//! A postmaster forks and reaps worker processes; backends register them at run time, ask how they
//! are and wait for them. The two sides meet in this crate alone: in the description of a worker,
//! in the handle that names one registration, in what lies in shared memory, and in the messages of
//! the control socket. Neither side is in here.
//!
//! ```
//! use bgw_core::{BackgroundWorker, RestartPolicy, WorkerFlags};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let worker = BackgroundWorker::builder("counter 1")
//!     .worker_type("counter")
//!     .function("count")
//!     .main_arg(1)
//!     .flags(WorkerFlags::empty())
//!     .restart(RestartPolicy::after_secs(5))
//!     .build()?;
//! assert_eq!(worker.worker_type(), "counter");
//! # Ok(())
//! # }
//! ```
//!
//! Types that matter: [`BackgroundWorker`] says what to run, [`WorkerHandle`] names one
//! registration of it, [`WorkerStatus`] and [`ExitReport`] say what became of it, [`Latch`] wakes a
//! process, and [`Attachment`] is what a process of the cluster holds.
//!
//! | guarantee | how |
//! |---|---|
//! | bytes from shared memory or a socket give a value or an error | decoded copies only, see `shared` and [`control`] |
//! | a wait ends on its event, its deadline or the postmaster's death | `futex_waitv` on the word, the latch and a liveness word that the kernel marks |
//! | no signal goes to a process by number alone | pidfds, and a look at the slot between opening and sending |
//!
//! Reading order: [`worker`], [`handle`], [`status`], [`exit`], `shared`,
//! [`wait_set`], [`attachment`], [`process`], [`control`].

pub mod worker;

pub mod exit;
pub mod handle;
pub mod pid;
pub mod status;

pub mod shared;

pub mod wait_set;

pub mod attachment;
pub mod control;
pub mod process;

pub mod sys;

#[cfg(feature = "fault")]
pub mod fault;

pub use attachment::{AttachError, Attachment};
pub use exit::{ExitCause, ExitReport, NotStarted};
pub use handle::WorkerHandle;
pub use pid::Pid;
pub use process::{EntryFn, WorkerProcess, WorkerResult};
pub use shmem_slots::{Latch, Wake, chain, debug_as_chain};
pub use status::WorkerStatus;
pub use wait_set::{Ready, SocketInterest, WaitError, WaitEvents};
pub use worker::{
    BackgroundWorker, BackgroundWorkerBuilder, EntryPoint, InvalidWorker, RestartPolicy, StartTime,
    WorkerFlags,
};

/// The example of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct ReadMe;

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
//! Reading order: [`worker`], [`handle`], [`status`], [`exit`], [`shared`], [`latch`],
//! [`wait_set`], [`attachment`], [`process`], [`control`].
#![cfg_attr(loom, allow(dead_code, unused_imports, rustdoc::broken_intra_doc_links))]

#[cfg(not(loom))]
pub mod worker;

#[cfg(not(loom))]
pub mod exit;
#[cfg(not(loom))]
pub mod handle;
#[cfg(not(loom))]
pub mod pid;
#[cfg(not(loom))]
pub mod status;

#[cfg(not(loom))]
pub mod shared;

pub mod latch;
#[cfg(not(loom))]
pub mod wait_set;

#[cfg(not(loom))]
pub mod attachment;
#[cfg(not(loom))]
pub mod control;
#[cfg(not(loom))]
pub mod process;

#[cfg(not(loom))]
pub mod sys;

#[cfg(all(feature = "fault", not(loom)))]
pub mod fault;

#[cfg(not(loom))]
pub use attachment::{AttachError, Attachment};
#[cfg(not(loom))]
pub use exit::{ExitCause, ExitReport, NotStarted};
#[cfg(not(loom))]
pub use handle::WorkerHandle;
pub use latch::{Latch, Wake};
#[cfg(not(loom))]
pub use pid::Pid;
#[cfg(not(loom))]
pub use process::{EntryFn, WorkerProcess, WorkerResult};
pub use shmem_slots::{chain, debug_as_chain};
#[cfg(not(loom))]
pub use status::WorkerStatus;
#[cfg(not(loom))]
pub use wait_set::{Ready, SocketInterest, WaitError, WaitEvents};
#[cfg(not(loom))]
pub use worker::{
    BackgroundWorker, BackgroundWorkerBuilder, EntryPoint, InvalidWorker, RestartPolicy, StartTime,
    WorkerFlags,
};

/// The example of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct ReadMe;

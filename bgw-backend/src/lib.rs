//! Register background workers at run time, ask how they are, wait for them, end them.
//!
//! A process that belongs to a cluster (a worker, the program that launched the
//! postmaster, another program that attached) is a *backend*. It registers a worker and gets a
//! handle that tells the truth: which may be stored, passed on, and asked long after the worker and
//! its slot have gone.
//!
//! ```no_run
//! use bgw_backend::{Backend, BackgroundWorker, WorkerStatus};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let backend = Backend::connect("/run/my-program")?;
//! let worker = BackgroundWorker::builder("tidy up").function("tidy").main_arg(7).build()?;
//! let handle = backend.register(&worker)?;
//! if let WorkerStatus::Started(pid) = handle.wait_for_startup()? {
//!     println!("worker {handle} runs as process {pid}");
//! }
//! handle.terminate()?;
//! println!("{}", handle.wait_for_shutdown()?);
//! # Ok(())
//! # }
//! ```
//!
//! Types that matter: [`Backend`] (membership), [`Handle`] (one registration), and inside a worker
//! [`Worker`] (latch, signals, connection).
//!
//! | guarantee | how |
//! |---|---|
//! | asking costs one load, never a lock | the slot's word says it all |
//! | a wait ends on its event, its deadline or the postmaster's death | one futex wait on all three |
//! | a stale handle never answers for another worker, nor ends it | the generation is compared in the same load or swap |
//! | a process that dies while it registers leaves nothing | the slot names its owner from the first instruction |
//!
//! It does not: start processes (the postmaster does), poll, or touch the program's signal handlers
//! unless asked to.
//!
//! Features: `sqlite` gives workers a connection to an embedded database, `postgres` one to a
//! PostgreSQL server; both may be on.
//!
//! Reading order: [`backend`], [`handle`], [`waiting`], [`worker`], [`connection`].

pub mod backend;
pub mod connection;
pub mod error;
#[cfg(feature = "fault")]
pub mod fault;
pub mod handle;
pub mod sys;
pub mod waiting;
pub mod worker;

#[cfg(not(feature = "fault"))]
mod fault;

pub use backend::{Backend, ConnectOptions, TagRelease, WorkerInfo};
pub use bgw_core::control::ShutdownMode;
pub use bgw_core::process::{interrupt_waits, set_latch, take_interrupt};
pub use bgw_core::{
    AttachError, BackgroundWorker, BackgroundWorkerBuilder, EntryPoint, ExitCause, ExitReport,
    InvalidWorker, NotStarted, Pid, RestartPolicy, SocketInterest, StartTime, WaitEvents,
    WorkerFlags, WorkerHandle, WorkerProcess, WorkerResult, WorkerStatus,
};
pub use error::{Error, WaitError};
pub use handle::Handle;
pub use waiting::{wait_all, wait_any};
pub use worker::{Worker, WorkerError, entry};

/// The examples of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct ReadMe;

//! Register background workers at run time, ask for their status, wait for them, terminate them.
//!
//! A process of a cluster (a worker, the program that launched the postmaster, another program that
//! attached) is a *backend*. It registers a worker and gets a handle. The handle answers for that
//! registration alone, long after the worker has ended and its slot has another tenant; its id can
//! be stored and passed on.
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
//! println!("{}", handle.wait_for_end()?);
//! # Ok(())
//! # }
//! ```
//!
//! The types that matter: [`Backend`] (an attachment), [`Handle`] (one registration), and inside a
//! worker [`Worker`] (latch, signals, database connection).
//!
//! | guarantee | how |
//! |---|---|
//! | a status costs one load and no lock | the slot's word holds all of it |
//! | a wait ends at its event, its deadline or the postmaster's death | one futex wait on all three |
//! | a stale handle neither answers for another worker nor terminates it | the same load or swap compares the generation |
//! | a process that dies while it registers leaves nothing behind | a claimed slot names its owner from the first instruction |
//!
//! It does not start processes (the postmaster does), does not poll, and does not touch the
//! program's signal handlers unless asked to.
//!
//! | to read about | see |
//! |---|---|
//! | attaching and registering | [`Backend`] |
//! | asking and terminating | [`Handle`] |
//! | waiting | [`Handle::wait_for_startup`], [`Handle::wait_for_end`], [`wait_any`], [`wait_all`] |
//! | waiting for a slot | [`Backend::register_timeout`], `Backend::register_when_free` (feature `tokio`) |
//! | waiting in a loop of one's own, or as futures | [`Backend::change_fd`], `Handle::ended` (feature `tokio`) |
//! | a job's one answer | [`Outcome`], [`Handle::wait_for_outcome`] |
//! | typed calls | `call`, `Backend::call` (feature `serde`) |
//! | many small jobs | `Pool`, `pooled` (feature `serde`) |
//! | what happens in the cluster | [`Backend::events`] |
//! | a worker's main | [`entry`], [`Worker`], [`export_worker`] |
//! | its database | [`Worker::initialize_connection`], [`Tx`] |
//!
//! Features: `sqlite` gives workers a connection to an embedded database, `postgres` to a
//! PostgreSQL server; both may be enabled. `tokio` has the waits as futures and streams.
//! `serde` has typed calls.

mod answer;
mod backend;
mod cached;
#[cfg(feature = "serde")]
mod calls;
mod changes;
mod events;
mod handle;
mod keep;
mod notifications;
mod outcome;
#[cfg(feature = "serde")]
pub mod pool;
mod progress;
mod queue;
#[cfg(feature = "tokio")]
mod queue_future;
mod relations;
mod requests;
mod rolling;
mod segment;
mod templates;
mod until;
mod waiting;
mod workers;

mod metrics;
mod worker;

mod connection;
mod error;
mod interrupt;

mod sys;

#[cfg(not(feature = "fault"))]
mod fault;
#[cfg(feature = "fault")]
#[doc(hidden)]
pub mod fault;

pub use answer::AnswerError;
pub use backend::{Backend, ConnectOptions};
pub use bgw_core::AskedBy;
pub use bgw_core::ShutdownMode;
pub use bgw_core::{
    After, AskError, AttachError, BackgroundWorker, BackgroundWorkerBuilder, CrashReset,
    EntryPoint, Event, EventKind, ExitCause, ExitReport, FromEnvError, GivenUp, Grace, Input,
    InvalidWorker, LAST_WORDS_LIMIT, LastWords, MetricKind, NotStarted, NotifyFrom, Orphaned,
    Output, OutputDescriptor, OutputFile, Pid, RESULT_LIMIT, Ready, Recycle, Recycled, Refusal,
    RelationError, RestartOn, RestartPolicy, Returned, RollOutcome, Schedule, SegmentHandle,
    SocketInterest, StartTime, StopSignal, TakeError, WaitEvents, WorkerFlags, WorkerHandle,
    WorkerProcess, WorkerResult, WorkerStatus,
};
pub use bgw_core::{interrupt_waits, set_latch, take_interrupt};
#[cfg(feature = "serde")]
pub use calls::{Bytes, Call, CallError, CallValue, MappedBytes, call};
pub use changes::ChangeFd;
#[cfg(feature = "tokio")]
pub use changes::WorkerWait;
pub use connection::{DatabaseError, Tx, Value, is_on_a_server};
pub use error::{
    EventsError, LatchError, NotWritable, RegisterError, SignalsError, TerminateError, WaitError,
};
pub use events::{Events, EventsFrom};
pub use handle::Handle;
pub use interrupt::Interrupt;
pub use metrics::{Counter, Gauge, MetricError, MetricReading, MetricValue, Metrics};
pub use outcome::{NoOutput, Outcome};
#[cfg(feature = "serde")]
pub use pool::{
    Histogram, Map, MapError, Pool, PoolError, PoolJob, PoolOptions, PoolStats, SubmitError,
    pooled, pooled_with,
};
pub use progress::StillThere;
pub use rolling::{Roll, RollError, RollReport};
pub use segment::{Segment, SegmentError};
pub use templates::ReforkError;
pub use waiting::{wait_all, wait_all_ends, wait_any, wait_any_end};
#[cfg(feature = "tokio")]
pub use worker::{LatchSets, Terminated};
pub use worker::{PrivilegeError, ResultError, Worker, WorkerError, entry};
pub use workers::{TagRelease, WorkerInfo};

/// For [`export_worker`] alone.
#[doc(hidden)]
pub mod __private {
    pub use bgw_core::internals::{LibraryContext, run_in_library};
}

/// The examples of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct ReadMe;

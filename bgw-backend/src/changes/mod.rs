//! Waiting without a blocked thread: for futures, and for the loop of another library.
//!
//! ```text
//!  postmaster ── bell ──▶ the waiting thread ──┬── wakes ──▶ the futures whose wait is over
//!                         of this process      └── rings ──▶ change descriptors
//! ```
//!
//! A process that has such waits has one more thread, for all of them and for all its connections.
//! It sleeps in one `futex_waitv` on: the bell of each cluster, the liveness word of each
//! postmaster, the interrupt count, and a cell by which the other threads wake it. The thread comes
//! with the first wait and goes with the last connection that had one.
//!
//! The postmaster rings the bell only for workers that are waited for (`shmem_slots::bells`).
//! Workers share interests, so the thread looks at the few that share one with the worker that has
//! changed: 10,000 waits cost a change no more than ten do, but for a load for each interest.
//! Nothing is registered with the postmaster, and a process that dies leaves it nothing to clean.
//!
//! A read-only connection cannot ask for its bell to be rung. Its thread sleeps on the cluster's
//! count of changes, and looks at all its waits at each change.
//!
//! Why a thread, and not a descriptor that the postmaster rings: the postmaster would hold one for
//! each process, a worker has no connection on which to ask for one, and futures would be tied to
//! the runtime that polls it. A future here may be awaited on any runtime, and outlive one.

mod cluster;
mod descriptor;
#[cfg(feature = "tokio")]
mod events;
#[cfg(feature = "tokio")]
mod future;
mod interests;
#[cfg(feature = "tokio")]
mod readers;
mod shared;
mod subscriber;
mod thread;
mod waiter;

#[cfg(feature = "tokio")]
pub(crate) use cluster::places;
pub(crate) use cluster::{named, registered};
pub use descriptor::ChangeFd;
#[cfg(feature = "tokio")]
pub use future::WorkerWait;
#[cfg(feature = "tokio")]
pub(crate) use readers::Place;

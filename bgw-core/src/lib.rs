//! The types that a postmaster and its backends agree on.
//!
//! A postmaster forks and reaps worker processes. Backends register them at run time, ask for their
//! status and wait for them. The two sides meet in this crate: in the description of a worker, the
//! handle of a registration, what lies in shared memory, and the messages of the control socket.
//! Neither side is here.
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
//! [`BackgroundWorker`] says what to run, and [`WorkerHandle`] names one registration of it.
//! [`WorkerStatus`] and [`ExitReport`] say what became of it. A process of the cluster holds an
//! [`Attachment`].
//!
//! | guarantee | how |
//! |---|---|
//! | bytes from shared memory or a socket give a value or an error | they are copied once, then decoded and checked |
//! | a wait ends on its event, its deadline or the postmaster's death | one `futex_waitv`, also on a liveness word that the kernel marks |
//! | no signal goes to a process by its number alone | pidfds; the slot is checked between opening and sending |
//!
//! It starts no process and registers no worker: see `bgw-postmaster` and `bgw-backend`.
//!
//! Reading order: `worker` (what to run), `handle`, `status`, `exit`, `shared` (what lies in the
//! region), `attachment` and `control` (how a process joins), `process` (this process as a worker),
//! `wait_set`, `ffi` (workers in libraries), `sys`.

mod worker;

mod exit;
mod handle;
mod pid;
mod status;

mod shared;

mod attachment;
mod control;
mod latch_set;
mod process;
mod wait_set;

mod ffi;
mod sys;

#[cfg(feature = "fault")]
#[doc(hidden)]
pub mod fault;

pub use crate::{
    attachment::{AttachError, Attachment},
    control::{
        CONTROL_SOCKET,
        client::AskError,
        codec::CodecError,
        message::{ParseModeError, Refusal, ShutdownMode},
        transport::{ControlSocket, RecvError},
    },
    exit::{ExitCause, ExitReport, NotStarted},
    handle::{ParseHandleError, WorkerHandle},
    pid::{Pid, PidError},
    process::{EntryFn, WorkerProcess, WorkerResult, interrupt_waits, set_latch, take_interrupt},
    status::WorkerStatus,
    wait_set::{SocketInterest, WaitError, WaitEvents},
    worker::{
        builder::BackgroundWorkerBuilder,
        description::BackgroundWorker,
        policy::{EntryPoint, RestartPolicy, StartTime, WorkerFlags},
        validate::InvalidWorker,
    },
};
pub use shmem_slots::{chain, debug_as_chain};

/// What `bgw-postmaster` and `bgw-backend` share and their users do not need. It may change in any
/// release.
#[doc(hidden)]
pub mod internals {
    pub use crate::{
        control::{
            PROTOCOL,
            message::{Reply, Request},
            transport::Received,
        },
        ffi::{
            abi::{LibraryContext, LibraryMain},
            guest::run_in_library,
            host::{LogLevel, call_library},
        },
        shared::{
            cluster_cells::ClusterCells,
            corrupt::CorruptRecord,
            layout::{LAYOUT_TAG, WorkerSlots},
            postmaster_cells::PostmasterCells,
            record::WorkerRecord,
            report::ReportRecord,
            run_state::{RunState, flag, run_state},
        },
        sys::{
            eventfd, exit,
            interrupts::{Interrupts, Pending},
            libc_version::{UnsupportedLibc, check_libc},
            pidfd,
            robust::HeldLiveness,
            signals,
        },
        wait_set::{wait_for_events, wait_in_worker},
        worker::{entry_kinds::EntryKinds, limits::FUNCTION_LIMIT},
    };

    /// This process as a worker or a postmaster.
    pub mod process {
        pub use crate::process::{
            FormerProcess, become_postmaster, current, enter, handle_notify, handle_reload,
            interrupts, rehearse,
        };
        pub use crate::sys::role::is_postmaster;
    }
}

/// The example of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct ReadMe;

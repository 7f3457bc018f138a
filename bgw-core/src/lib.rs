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
//! | a wait ends at its event, its deadline or the postmaster's death | one `futex_waitv`, also on a liveness word that the kernel marks |
//! | no signal goes to a process by its number alone | pidfds; the slot is checked between opening and sending |
//!
//! It starts no process and registers no worker: see `bgw-postmaster` and `bgw-backend`.
//!
//! Reading order: `worker` (what to run), `handle`, `status`, `exit`, `shared` (what lies in the
//! region), `attachment` and `control` (how a process joins), `process` (this process as a worker),
//! `wait_set`, `ffi` (workers in libraries), `sys`.

mod worker;

mod crash_reset;
mod event;
mod exit;
mod function;
mod handed_down;
mod handle;
mod metric;
mod pid;
mod returned;
mod segment;
mod shutdown_mode;
mod status;
mod tied;

mod shared;

mod asked_by;
mod attach_error;
mod attachment;
mod berth;
mod call_entry;
mod control;
mod gifts;
mod invitation;
mod jobs;
mod latch_set;
mod line;
mod process;
mod ring_soon;
mod roll;
mod template;
mod wait_set;

mod ffi;
mod sys;

pub use crate::{
    asked_by::AskedBy,
    attach_error::AttachError,
    attachment::Attachment,
    berth::Berth,
    call_entry::CallEntry,
    control::{
        CONTROL_SOCKET,
        client::AskError,
        message::Refusal,
        reader::CodecError,
        transport::{ControlSocket, RecvError},
    },
    crash_reset::CrashReset,
    event::{Event, EventKind},
    exit::{ExitCause, ExitReport, GivenUp, NotStarted, Recycled},
    gifts::TakeError,
    handle::{ParseHandleError, WorkerHandle},
    invitation::accept::FromEnvError,
    metric::{Metric, MetricKind},
    pid::{Pid, PidError},
    process::{EntryFn, WorkerProcess, WorkerResult, interrupt_waits, set_latch, take_interrupt},
    returned::{LAST_WORDS_LIMIT, LastWords, RESULT_LIMIT, Returned},
    roll::RollOutcome,
    segment::{ParseSegmentError, SegmentHandle},
    shutdown_mode::{ParseModeError, ShutdownMode},
    status::WorkerStatus,
    wait_set::{SocketInterest, WaitError, WaitEvents},
    worker::{
        builder::BackgroundWorkerBuilder,
        clocks::NotifyFrom,
        description::BackgroundWorker,
        invalid::InvalidWorker,
        job::Orphaned,
        output::{Output, OutputDescriptor, OutputFile},
        policy::{EntryPoint, Ready, RestartOn, RestartPolicy, StartTime, WorkerFlags},
        recycle::Recycle,
        relations::After,
        schedule::Schedule,
        stop::{Grace, ParseStopSignalError, StopSignal},
        surroundings::Input,
        targets::RelationError,
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
            message::{Left, Reply, Request},
            segment::SegmentRequest,
            session::Posted,
            transport::Received,
        },
        ffi::{
            abi::{LibraryContext, LibraryMain},
            guest::run_in_library,
            host::{LogLevel, call_library},
        },
        function::{CallType, Function},
        gifts::Gifts,
        invitation::{ATTACH_VARIABLE, accept::enter_from_env},
        metric::objection as metrics_objection,
        returned::VALUE_LIMIT,
        roll::{RollPart, RollRequest},
        shared::{
            cached_cells::{CACHED_SEGMENTS, CachedCell},
            cluster_cells::ClusterCells,
            corrupt::CorruptRecord,
            event_record::{EVENTS_TAG, EventName, EventRecord, EventRing},
            layout::{LAYOUT_TAG, MOST_TAKERS, WorkerSlots},
            metric_cells::{MetricPlan, add_to_counter, bank_of},
            postmaster_cells::PostmasterCells,
            record::WorkerRecord,
            report::ReportRecord,
            run_cells::said,
            run_state::{RunState, flag, run_state},
            slot_classes::{SlotClass, SlotClasses, objection as reserve_objection},
            taker_cells::may_start_directly,
        },
        sys::{
            alarm, early_code, envelope, eventfd, exit::exit_now, inherited_socket::is_emptied,
            interrupts::Pending, pidfd, robust::HeldLiveness, scm, signals,
        },
        template::{keep_loaded, leave_template},
        wait_set::{wait_for_events, wait_in_worker},
        worker::{
            call::CallInput,
            entry_kinds::EntryKinds,
            gift::{GIFTS_LIMIT, Gift},
            limits::{FUNCTION_LIMIT, GROUP_LIMIT, TEMPLATE_LIMIT},
            restarts::brake,
            surroundings::{SURROUNDINGS_LIMIT, Surroundings},
            targets::{check_targets, start_order},
        },
    };

    /// This process as a worker or a postmaster.
    pub mod process {
        pub use crate::process::{
            become_postmaster, current, discard_signals, end_life, enter, hand_down, handed_down,
            handle_notify, handle_reload, interrupts, kept_descriptors, rehearse, worker_pid,
        };
        pub use crate::sys::role::is_postmaster;
    }
}

/// The example of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct ReadMe;

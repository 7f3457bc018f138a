//! Errors of a backend: one enum for each kind of request.

use bgw_core::internals::{CallType, EntryKinds};
use bgw_core::{AskError, Attachment, EntryPoint, Pid, RelationError, debug_as_chain};
use shmem_slots::{ClaimError, ClaimLost, FlagError};
use std::error::Error;
use std::io;

/// Why this process may not change the cluster.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotWritable {
    /// The attachment is read-only.
    #[error("this attachment is read-only; connect without read_only to change the cluster")]
    ReadOnly,
    /// This process is a forked child of the one that attached.
    #[error(
        "this process is a forked child of backend {owner}; it must connect to the postmaster itself"
    )]
    ForkedChild {
        /// The process that attached.
        owner: Pid,
    },
    /// The shared region is shorter than it was.
    #[error("the shared region was truncated; stop this cluster and start it anew")]
    Damaged,
}

impl NotWritable {
    /// Fails unless this process may change the cluster of `attachment`. One system call.
    pub(crate) fn check(attachment: &Attachment) -> Result<(), Self> {
        if attachment.is_read_only() {
            return Err(Self::ReadOnly);
        }
        if !attachment.is_mine() {
            return Err(Self::ForkedChild { owner: attachment.owner() });
        }
        Ok(())
    }
}

impl From<shmem_slots::NotWritable> for NotWritable {
    fn from(reason: shmem_slots::NotWritable) -> Self {
        match reason {
            shmem_slots::NotWritable::ReadOnly => Self::ReadOnly,
            shmem_slots::NotWritable::Damaged => Self::Damaged,
        }
    }
}

/// Why a worker could not be registered. Nothing is half registered then, except where a variant
/// says so.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// All slots are taken.
    #[error(
        "no free worker slot: {in_use} of {capacity} are in use; wait for a worker to end, or raise max_workers"
    )]
    NoFreeSlot {
        /// How many slots there are.
        capacity: u32,
        /// How many are taken.
        in_use: u32,
    },
    /// All slots of the parallel class are taken.
    #[error(
        "no free slot for a parallel worker: {in_use} of {limit} are in use; go on with fewer, wait for one to end, or raise max_parallel_workers"
    )]
    NoParallelSlot {
        /// How many there are.
        limit: u32,
        /// How many are taken.
        in_use: u32,
    },
    /// The postmaster has no such function.
    #[error("function: the postmaster has no \"{name}\"; it has {known}")]
    UnknownFunction {
        /// The name in the description.
        name: String,
        /// The names that the postmaster has.
        known: String,
    },
    /// No slots are reserved for the worker's class.
    #[error(
        "class: the postmaster reserves no slots for \"{class}\", but for {known}; build it with reserve(class, n)"
    )]
    UnknownClass {
        /// The class.
        class: String,
        /// The classes that slots are reserved for.
        known: String,
    },
    /// The postmaster does not let backends register workers of this kind.
    #[error(
        "backends of this cluster may not register {kind}; use a function, or build the postmaster with {setting}(true)"
    )]
    NotAllowed {
        /// The kind.
        kind: &'static str,
        /// The setting of the postmaster's builder that allows it.
        setting: &'static str,
    },
    /// The worker's output is to go to a file, and this cluster has no folder for those.
    #[error(
        "output: there is no folder for the file \"{file}\"; build the postmaster with output_dir(path)"
    )]
    NoOutputDir {
        /// The file.
        file: String,
    },
    /// The notify target is another process than the caller.
    #[error(
        "notify: the description names process {asked}, but a backend can only be notified itself; it is {own}"
    )]
    NotifyTarget {
        /// The process in the description.
        asked: Pid,
        /// The caller.
        own: Pid,
    },
    /// The notification would end this process.
    #[error(
        "notify: this process does not handle SIGUSR1, so the notification would end it; call enable_notifications() first, or install a handler"
    )]
    NotifyUnhandled,
    /// The function has other types than it is called with, or is not a call.
    #[error(
        "function \"{function}\" of this postmaster is {takes}, and was to run as {called}; build both programs from the same types"
    )]
    CallType {
        /// Its name.
        function: String,
        /// The type that it takes and returns, or that it is not a call.
        takes: String,
        /// What it was called as.
        called: String,
    },
    /// The worker does not go together with those that are registered.
    #[error(transparent)]
    Relation(#[from] RelationError),
    /// This process may not change the cluster.
    #[error(transparent)]
    NotWritable(#[from] NotWritable),
    /// This process is the postmaster.
    #[error(
        "this process is a postmaster and cannot register workers dynamically; register static ones before it runs, or let another process do it"
    )]
    Postmaster,
    /// The postmaster is dead.
    #[error("postmaster {pid} has died; connect to its successor")]
    PostmasterDied {
        /// Its pid.
        pid: Pid,
    },
    /// A reset or the sweeper took the claimed slot away.
    #[error("the cluster was reset while the worker was being registered; register it again")]
    ClaimLost(#[from] ClaimLost),
    /// No slot could be claimed, for a reason not listed above.
    #[error("claiming a worker slot failed")]
    Claim(#[source] ClaimError),
    /// No slot became free in time. No worker was registered.
    #[error("no worker slot became free in time; wait for longer, or raise max_workers")]
    TimedOut,
    /// A signal handler called `interrupt_waits`, or this worker is to end. No worker was
    /// registered.
    #[error("the wait for a worker slot was interrupted")]
    Interrupted,
    /// The wait for a slot failed. No worker was registered.
    #[error("waiting for a worker slot failed")]
    Wait(#[source] bgw_core::WaitError),
    /// The future is awaited outside of tokio, or there is no room for a descriptor.
    #[error("the tokio runtime cannot wait for a worker slot")]
    Runtime(#[source] io::Error),
    /// A descriptor that the worker is given could not be sent. No worker was registered.
    #[error("give: the descriptor \"{name}\" could not be sent to the postmaster")]
    Give {
        /// Its name.
        name: String,
        /// The system's error: `ETOOMANYREFS` when this user has as many descriptors on their way
        /// as it may have open.
        #[source]
        source: io::Error,
    },
    /// What the postmaster gets apart from the slot was to be registered together with others. It
    /// registers each such worker by itself, so all or none of a batch would be no promise.
    #[error("worker \"{name}\" has {field}, and is registered by itself, not with others")]
    GivenTogether {
        /// The worker.
        name: String,
        /// Why: `give`, `env`, `env_remove`, `env_clear`, `current_dir` or `stdin`.
        field: &'static str,
    },
    /// The postmaster could not be asked for a slot, or refused.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The doorbell could not be rung. The worker is registered: the postmaster sees it the next
    /// time that anybody rings.
    #[error("the worker is registered, but ringing the postmaster's doorbell failed")]
    Doorbell(#[source] io::Error),
    /// The handler of SIGUSR1 could not be read or installed.
    #[error(transparent)]
    Signals(#[from] SignalsError),
}

impl RegisterError {
    /// The entry point is of a kind that may not be registered.
    pub(crate) const fn not_allowed(entry: &EntryPoint) -> Self {
        let (kind, setting) = EntryKinds::setting_for(entry);
        Self::NotAllowed { kind, setting }
    }

    /// The function `takes` calls of this type, or none, and is called by another one, or as a
    /// plain worker.
    #[cold]
    pub(crate) fn call_type(function: &str, takes: Option<&CallType>, called: Option<u64>) -> Self {
        let takes =
            takes.map_or_else(|| "no call".to_owned(), |takes| format!("a call of type {takes}"));
        let called = called.map_or("a plain worker", |_| "a call of another type").to_owned();
        Self::CallType { function: function.to_owned(), takes, called }
    }

    /// The same, with what it was called as.
    #[cfg(feature = "serde")]
    pub(crate) fn called_as(self, signature: &str) -> Self {
        match self {
            Self::CallType { function, takes, .. } => {
                Self::CallType { function, takes, called: format!("a call of type {signature}") }
            }
            other => other,
        }
    }

    pub(crate) fn of_claim(error: ClaimError, parallel: bool) -> Self {
        match error {
            ClaimError::Full { capacity, in_use } if parallel => {
                Self::NoParallelSlot { limit: capacity, in_use }
            }
            ClaimError::Full { capacity, in_use } => Self::NoFreeSlot { capacity, in_use },
            ClaimError::NotWritable(reason) => NotWritable::from(reason).into(),
            other => Self::Claim(other),
        }
    }
}

/// Why a worker could not be terminated.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum TerminateError {
    /// This process may not change the cluster.
    #[error(transparent)]
    NotWritable(#[from] NotWritable),
    /// The worker's slot could not be flagged, for a reason not listed above.
    #[error("flagging the worker's slot failed")]
    Flag(#[source] FlagError),
    /// The doorbell could not be rung. The flag is set: the postmaster sees it the next time that
    /// anybody rings.
    #[error("the worker is flagged, but ringing the postmaster's doorbell failed")]
    Doorbell(#[source] io::Error),
}

impl From<FlagError> for TerminateError {
    fn from(error: FlagError) -> Self {
        match error {
            FlagError::NotWritable(reason) => NotWritable::from(reason).into(),
            other => Self::Flag(other),
        }
    }
}

/// Why a worker's latch could not be set.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum LatchError {
    /// This process may not change the cluster.
    #[error(transparent)]
    NotWritable(#[from] NotWritable),
    /// The worker polls and could not be signalled. Its latch is set: it sees that at its next
    /// wake-up.
    #[error("the latch is set, but signalling its worker, which polls, failed")]
    Signal(#[source] io::Error),
}

/// Why a wait ended without an answer.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The deadline passed first.
    #[error("the wait timed out")]
    TimedOut,
    /// The waiting process must not wait any longer. It is a worker that must end or whose
    /// statement is cancelled ([`crate::Worker::check_interrupts`] returns which), or a handler of
    /// the program called [`crate::interrupt_waits`].
    #[error("a signal interrupted the wait")]
    Interrupted,
    /// There are no handles, so nothing could end the wait.
    #[error("no handle was given, so nothing could end the wait")]
    NoHandles,
    /// The handles come from more connections than one wait can watch.
    #[error("the handles come from {clusters} connections; one wait can watch {limit}")]
    TooManyClusters {
        /// How many there are.
        clusters: usize,
        /// The largest number of connections that one wait can watch.
        limit: usize,
    },
    /// The system call failed.
    #[error("futex_waitv failed")]
    Futex(#[from] shmem_slots::futex::WaitError),
    /// This process is a forked child of the one that attached. Its futures and change descriptors
    /// have nobody who waits for them.
    #[error(
        "this process is a forked child of backend {owner}; it must connect to the postmaster itself"
    )]
    ForkedChild {
        /// The process that attached.
        owner: Pid,
    },
    /// The handle is of another connection than the change descriptor.
    #[error("the handle is of another connection than the change descriptor")]
    OtherCluster,
    /// The thread that waits for this process's futures and change descriptors could not be started
    /// or could not sleep, or the descriptor not be made.
    #[error("this process cannot wait for changes of workers in the background")]
    Thread(#[source] io::Error),
    /// The wait on latch and sockets failed.
    #[error(transparent)]
    WaitSet(#[from] bgw_core::WaitError),
    /// The call has ended well, but its report does not hold an output of its type: somebody has
    /// overwritten it.
    #[error("the output of the call cannot be read; somebody has overwritten it")]
    BadOutput(#[source] Box<dyn Error + Send + Sync>),
    /// The deadline passed, and the job could not be cancelled.
    #[error("the job is late, and could not be cancelled")]
    Cancel(#[source] TerminateError),
}

/// Why events could not be read.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum EventsError {
    /// The postmaster keeps no events, or this is a worker in a shared library.
    #[error(
        "there are no events here: the postmaster was built with events(0), or this is a worker in a shared library"
    )]
    NotKept,
    /// The ring of events could not be mapped.
    #[error("the ring of events could not be opened")]
    Open(#[source] shmem_slots::AttachError),
    /// There is no event of this number yet.
    #[error(transparent)]
    Number(#[from] shmem_slots::ring::CursorError),
    /// The postmaster has died, and all its events are read.
    #[error("postmaster {pid} has died, and all its events are read")]
    PostmasterDied {
        /// The postmaster.
        pid: Pid,
    },
    /// As [`WaitError::Interrupted`].
    #[error("a signal interrupted the wait")]
    Interrupted,
    /// The ring holds what no postmaster writes.
    #[error("the ring of events cannot be read")]
    Corrupt(#[from] shmem_slots::ring::RingError),
    /// A future cannot wait in this process.
    #[error(transparent)]
    Wait(WaitError),
    /// An event holds what no postmaster writes.
    #[error("an event cannot be read")]
    Record(#[from] bgw_core::internals::CorruptRecord),
    /// The system call failed.
    #[error("futex_waitv failed")]
    Futex(#[from] shmem_slots::futex::WaitError),
}

/// Why a signal handler or the signal mask could not be set.
#[derive(thiserror::Error)]
#[error("{what} failed")]
pub struct SignalsError {
    /// The step that failed.
    pub what: &'static str,
    /// The system's error.
    #[source]
    pub source: io::Error,
}
impl SignalsError {
    pub(crate) fn at(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { what, source }
    }
}

debug_as_chain!(
    NotWritable,
    RegisterError,
    TerminateError,
    LatchError,
    WaitError,
    EventsError,
    SignalsError,
);

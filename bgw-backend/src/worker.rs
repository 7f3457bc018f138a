//! Inside a worker: its arguments, its latch, its signals, its connection.
//!
//! A worker's main gets a [`Worker`]. Its signals are blocked until it calls
//! [`Worker::unblock_signals`], so that it can first say what it wants to handle itself:
//!
//! ```no_run
//! use bgw_backend::{Worker, WorkerError};
//! use std::time::Duration;
//!
//! fn count(worker: &mut Worker) -> Result<(), WorkerError> {
//!     worker.handle_terminate(); // ask should_stop() instead of being ended by a wait
//!     worker.unblock_signals()?;
//!     while !worker.should_stop() {
//!         // ... work ...
//!         worker.sleep(Some(Duration::from_secs(10)))?;
//!     }
//!     Ok(())
//! }
//! # let _ = bgw_backend::entry(count);
//! ```
//!
//! | SIGTERM | a wait of the worker | its main |
//! |---|---|---|
//! | as it starts | fails with [`WorkerError::Terminated`] | passes it on by `?`: logged, exit 1 |
//! | after `handle_terminate` | ends with `LATCH_SET` | asks `should_stop` and returns: exit 0 |
//!
//! Either way nothing happens in signal context but a flag and a wake-up.

use crate::backend::Backend;
use crate::connection::{ConnectError, Connection, Tx};
use crate::error::WaitError;
use crate::fault;
use bgw_core::process::{self, Pending};
use bgw_core::shared::flag;
use bgw_core::sys::signals;
use bgw_core::wait_set::{self, SocketInterest, WaitEvents};
use bgw_core::{WorkerFlags, WorkerHandle, WorkerProcess, WorkerResult};
use shmem_slots::Key;
use shmem_slots::futex::Watch;
use std::error::Error as StdError;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Why a worker's work ended. Passed on out of its main it is logged, and becomes exit code 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// SIGTERM came, and the worker had not said that it handles it.
    #[error("terminating background worker \"{kind}\" due to administrator command")]
    Terminated {
        /// The worker's type.
        kind: String,
    },
    /// The running statement was cancelled by SIGINT.
    #[error("canceling statement due to user request")]
    Canceled,
    /// The postmaster has died.
    #[error("the postmaster has died")]
    PostmasterDied,
    /// A wait failed.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// The connection could not be made, or was used in a wrong way.
    #[error(transparent)]
    Connection(#[from] ConnectError),
    /// A registration or request failed.
    #[error(transparent)]
    Backend(#[from] crate::Error),
    /// A signal handler or mask could not be set.
    #[error("setting up signals failed")]
    Signals(#[source] io::Error),
    /// Anything else that the worker's own code reports.
    #[error(transparent)]
    Other(Box<dyn StdError + Send + Sync>),
}

impl From<io::Error> for WorkerError {
    fn from(error: io::Error) -> Self {
        Self::Other(Box::new(error))
    }
}

impl From<bgw_core::WaitError> for WorkerError {
    fn from(error: bgw_core::WaitError) -> Self {
        Self::Wait(error.into())
    }
}

impl From<String> for WorkerError {
    fn from(text: String) -> Self {
        Self::Other(text.into())
    }
}

impl From<&str> for WorkerError {
    fn from(text: &str) -> Self {
        Self::Other(text.into())
    }
}

/// Makes a worker's main out of a function over [`Worker`], to be named to the postmaster.
pub fn entry<F, E>(main: F) -> impl Fn(&'static WorkerProcess) -> WorkerResult + 'static
where
    F: Fn(&mut Worker) -> Result<(), E> + 'static,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    move |me| main(&mut Worker::new(me)).map_err(Into::into)
}

/// A worker, seen from inside. One a process.
#[derive(Debug)]
pub struct Worker {
    me: &'static WorkerProcess,
    handles_terminate: bool,
    wait_event: Option<String>,
    connection: Option<Connection>,
}

impl Worker {
    pub(crate) const fn new(me: &'static WorkerProcess) -> Self {
        Self { me, handles_terminate: false, wait_event: None, connection: None }
    }

    /// The argument it was registered with.
    #[doc(alias = "bgw_main_arg")]
    #[must_use]
    pub fn main_arg(&self) -> u64 {
        self.me.worker.main_arg()
    }

    /// The extra bytes it was registered with.
    #[doc(alias = "bgw_extra")]
    #[must_use]
    pub fn extra(&self) -> &[u8; 128] {
        self.me.worker.extra()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.me.worker.name()
    }

    /// Its type.
    #[must_use]
    pub fn worker_type(&self) -> &str {
        self.me.worker.worker_type()
    }

    /// Its own handle.
    #[must_use]
    pub const fn handle(&self) -> WorkerHandle {
        self.me.handle
    }

    /// How many times it was started before this start.
    #[must_use]
    pub const fn restarts(&self) -> u32 {
        self.me.restarts
    }

    /// Its membership in the attachment: to register other workers.
    #[must_use]
    pub fn backend(&self) -> Backend {
        Backend::from_attachment(Arc::clone(&self.me.attachment))
    }

    /// A descriptor that the postmaster passes to its workers under `name`.
    #[must_use]
    pub fn descriptor(&self, name: &str) -> Option<BorrowedFd<'static>> {
        self.me.attachment.descriptor(name)
    }

    /// From now on signals are delivered. Say before what you want to handle yourself.
    ///
    /// # Errors
    /// The error of `pthread_sigmask`.
    #[doc(alias = "BackgroundWorkerUnblockSignals")]
    pub fn unblock_signals(&self) -> Result<(), WorkerError> {
        fault::step("worker:before_unblock").map_err(WorkerError::Signals)?;
        signals::unblock_all().map_err(WorkerError::Signals)?;
        fault::point("worker:unblocked");
        Ok(())
    }

    /// Blocks all signals again.
    ///
    /// # Errors
    /// The error of `pthread_sigmask`.
    #[doc(alias = "BackgroundWorkerBlockSignals")]
    pub fn block_signals(&self) -> Result<(), WorkerError> {
        signals::block_all().map(drop).map_err(WorkerError::Signals)
    }

    /// From now on SIGTERM does not fail the worker's waits: it ends them, and
    /// [`Worker::should_stop`] says so.
    pub const fn handle_terminate(&mut self) {
        self.handles_terminate = true;
    }

    /// From now on SIGHUP ends the worker's waits, and [`Worker::reload_requested`] says so. Before,
    /// it is ignored.
    ///
    /// # Errors
    /// The error of `sigaction`.
    pub fn handle_reload(&self) -> Result<(), WorkerError> {
        signals::handle_reload().map_err(WorkerError::Signals)
    }

    /// True once the worker was told to end, or the postmaster has died.
    #[doc(alias = "ShutdownRequestPending")]
    #[must_use]
    pub fn should_stop(&self) -> bool {
        let told = process::pending().intersects(Pending::TERMINATE | Pending::POSTMASTER_DIED);
        if told && self.handles_terminate {
            process::acknowledge_end();
        }
        told || !self.me.attachment.postmaster_is_alive()
    }

    /// True once after each SIGHUP (several may have come as one).
    #[doc(alias = "ConfigReloadPending")]
    #[must_use]
    pub fn reload_requested(&self) -> bool {
        process::take_pending(Pending::RELOAD)
    }

    /// Fails if the worker was told to end and does not handle that itself, or a statement was to
    /// be cancelled. For long computations that do not wait.
    ///
    /// # Errors
    /// [`WorkerError::Terminated`], [`WorkerError::Canceled`], [`WorkerError::PostmasterDied`].
    #[doc(alias = "CHECK_FOR_INTERRUPTS")]
    pub fn check_interrupts(&self) -> Result<(), WorkerError> {
        if process::pending().contains(Pending::TERMINATE) && !self.handles_terminate {
            return Err(WorkerError::Terminated { kind: self.worker_type().to_owned() });
        }
        if process::take_pending(Pending::CANCEL) {
            return Err(WorkerError::Canceled);
        }
        if process::pending().contains(Pending::POSTMASTER_DIED) {
            return Err(WorkerError::PostmasterDied);
        }
        Ok(())
    }

    /// Says that the worker does its work now: ends `wait_for_ready` of whoever waits for it.
    pub fn ready(&self) {
        let handle = self.me.handle;
        let key = Key { index: handle.slot(), generation: handle.generation() };
        fault::point("worker:before_ready");
        // Stale only after a reset that this worker does not outlive.
        let _ = self.me.attachment.slots().set_flags_and_wake(key, flag::READY);
        fault::point("worker:ready");
    }

    /// Gives the worker's waits a name (at most 40 bytes, longer ones are cut), which views show while
    /// it waits; `None` takes it away.
    #[doc(alias = "WaitEventExtensionNew")]
    pub fn name_waits(&mut self, name: Option<&str>) {
        self.wait_event = name.map(str::to_owned);
    }

    /// Sleeps until the latch is set, `timeout` passes, or a signal of the worker's comes; ends the
    /// process if the postmaster dies. The latch is reset before this returns, so whatever the
    /// setter did is seen by a look that follows.
    ///
    /// # Errors
    /// [`WorkerError::Terminated`] as the head of this module says.
    pub fn sleep(&self, timeout: Option<Duration>) -> Result<WaitEvents, WorkerError> {
        let events =
            WaitEvents::LATCH_SET | WaitEvents::TIMEOUT | WaitEvents::EXIT_ON_POSTMASTER_DEATH;
        self.wait(events, &mut [], timeout)
    }

    /// Waits for `events`, `sockets` included, and says what has happened. A set latch is reset
    /// before this returns.
    ///
    /// # Errors
    /// [`WorkerError::Terminated`]; a wait that is wrong in itself, or a failing system call.
    #[doc(alias = "WaitLatchOrSocket")]
    pub fn wait(
        &self,
        events: WaitEvents,
        sockets: &mut [SocketInterest<'_>],
        timeout: Option<Duration>,
    ) -> Result<WaitEvents, WorkerError> {
        let interrupts = process::interrupts();
        self.check_terminate()?;
        if process::told_to_end() {
            // Told since the worker last asked should_stop(): it is not to sleep over it, whatever
            // it waits for.
            return Ok(WaitEvents::INTERRUPTED);
        }
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let latch = self.me.latch();
        let attachment = &self.me.attachment;
        let name = self.wait_event.as_deref();
        let slot = self.me.handle.slot();
        if name.is_some() {
            attachment.cells().set_wait_event(slot, name);
        }
        let ready =
            wait_set::wait(attachment, latch.as_ref(), events, sockets, deadline, interrupts);
        if name.is_some() {
            attachment.cells().set_wait_event(slot, None);
        }
        let ready = ready?;
        if ready.contains(WaitEvents::LATCH_SET) {
            if let Some(latch) = latch {
                latch.reset();
            }
        }
        self.check_terminate()?;
        Ok(ready)
    }

    /// What a futex wait of the worker's own, on cells of shared memory (a queue's, say), is to watch
    /// besides, so that it ends with a signal of the worker's or with the postmaster.
    ///
    /// Take them first, then look at [`Worker::should_stop`] and the like, then wait: what comes after
    /// the first step ends the wait. Take new ones for each wait.
    ///
    /// # Errors
    /// [`WorkerError::Terminated`] as the head of this module says; [`WorkerError::PostmasterDied`].
    pub fn watches(&self) -> Result<[Watch<'_>; 2], WorkerError> {
        let interrupts = process::watch_interrupts(process::interrupts());
        self.check_terminate()?;
        let postmaster = self.me.attachment.watch_postmaster();
        let Some(postmaster) = postmaster else {
            self.me.attachment.pass_on_postmaster_death();
            return Err(WorkerError::PostmasterDied);
        };
        Ok([interrupts, postmaster])
    }

    fn check_terminate(&self) -> Result<(), WorkerError> {
        if process::pending().contains(Pending::TERMINATE) && !self.handles_terminate {
            return Err(WorkerError::Terminated { kind: self.worker_type().to_owned() });
        }
        Ok(())
    }

    /// Connects to a database. Once in the life of a worker, and only if it was registered with
    /// [`WorkerFlags::DATABASE_CONNECTION`].
    ///
    /// A `dbname` that begins with `postgres://` or `postgresql://` names a database on a PostgreSQL
    /// server and says where that is: `postgres:///counts?host=/run/postgresql&port=5433` (a folder
    /// of sockets) or `postgres://10.0.0.7/counts`. `username` is the role, and goes before the one
    /// in the URL. Where neither names one, the role is that of the operating system's user, and the
    /// database that of the role. No environment variable is read; TLS is not spoken. The server
    /// shows the worker's name as its application.
    ///
    /// Any other `dbname` is the path of an SQLite file (`None`: a private database in memory);
    /// `username` has no effect, since SQLite knows no users.
    ///
    /// PostgreSQL's own workers may bypass a database's ban on connections and a role's ban on
    /// logins (`BGWORKER_BYPASS_ALLOWCONN`, `BGWORKER_BYPASS_ROLELOGINCHECK`). No client of a server
    /// can: it refuses, and this is an error.
    ///
    /// # Errors
    /// [`ConnectError`]: without the flag, a second time, no such database, refused by the server; a
    /// signal came while the server was waited for, a SIGTERM that the worker handles itself
    /// included.
    #[doc(alias = "BackgroundWorkerInitializeConnection")]
    pub fn initialize_connection(
        &mut self,
        dbname: Option<&str>,
        username: Option<&str>,
    ) -> Result<(), WorkerError> {
        if !self.me.worker.flags().contains(WorkerFlags::DATABASE_CONNECTION) {
            return Err(ConnectError::WithoutFlag { worker: self.name().to_owned() }.into());
        }
        if self.connection.is_some() {
            return Err(ConnectError::Twice.into());
        }
        match Connection::open(dbname, username, self.name()) {
            Ok(connection) => self.connection = Some(connection),
            Err(error) => return Err(self.why_interrupted(error)),
        }
        Ok(())
    }

    /// Runs `work` in one transaction: committed if it returns `Ok`, rolled back if it fails,
    /// panics, or the process dies. A SIGINT, a SIGTERM that the worker does not handle itself, or
    /// the postmaster's death cancels the running statement. The connection is good for a further
    /// transaction afterwards, unless it was lost.
    ///
    /// # Errors
    /// What `work` fails with; [`WorkerError::Canceled`]; [`WorkerError::Terminated`];
    /// [`WorkerError::PostmasterDied`]; a failing begin or commit; [`ConnectError::Lost`].
    pub fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, WorkerError>,
    ) -> Result<T, WorkerError> {
        self.check_interrupts()?;
        let done = match self.connection.as_mut() {
            Some(connection) => connection.transaction(!self.handles_terminate, work),
            None => return Err(ConnectError::NotConnected.into()),
        };
        done.map_err(|error| self.why_interrupted(error))
    }

    /// What was cut short says so in the database's words; this says why.
    fn why_interrupted(&self, error: WorkerError) -> WorkerError {
        match error {
            WorkerError::Connection(ConnectError::Interrupted) => {
                self.check_interrupts().err().unwrap_or(error)
            }
            other => other,
        }
    }
}

//! Inside a worker: its arguments, latch, signals and database connection.
//!
//! The worker's main gets a [`Worker`]. Signals are blocked until it calls
//! [`Worker::unblock_signals`], so that it can first choose which ones it handles itself:
//!
//! ```no_run
//! use bgw_backend::{Worker, WorkerError};
//! use std::time::Duration;
//!
//! fn count(worker: &mut Worker) -> Result<(), WorkerError> {
//!     worker.handle_terminate(); // SIGTERM makes should_stop() true, and waits do not fail
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
//! | SIGTERM | the worker's wait | its main |
//! |---|---|---|
//! | by default | fails with [`Interrupt::Terminated`] | passes it on by `?`: logged, exit 1 |
//! | after `handle_terminate` | ends with `LATCH_SET` | calls `should_stop` and returns: exit 0 |
//!
//! Either way the signal handler only sets a flag and wakes the worker.

mod database;
mod error;
mod privileges;

pub use error::{PrivilegeError, WorkerError};

use crate::backend::Backend;
use crate::connection::Connection;
use crate::error::SignalsError;
use crate::fault;
use crate::interrupt::{self, Interrupt};
use bgw_core::internals::{Pending, flag, process, signals, wait_in_worker};
use bgw_core::{SocketInterest, WaitEvents, WorkerHandle, WorkerProcess, WorkerResult};
use shmem_slots::Key;
use shmem_slots::futex::Watch;
use std::error::Error;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Makes a worker's main out of a function over [`Worker`], for the postmaster's `function`.
#[doc(alias = "proc_exit")]
pub fn entry<F, E>(main: F) -> impl Fn(&'static WorkerProcess) -> WorkerResult + 'static
where
    F: Fn(&mut Worker) -> Result<(), E> + 'static,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    move |me| main(&mut Worker::new(me)).map_err(Into::into)
}

/// The worker that this process is.
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

    /// The main argument of its registration.
    #[doc(alias = "bgw_main_arg")]
    #[must_use]
    pub fn main_arg(&self) -> u64 {
        self.me.worker.main_arg()
    }

    /// The extra bytes of its registration.
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

    /// How many times it was restarted.
    #[must_use]
    pub const fn restarts(&self) -> u32 {
        self.me.restarts
    }

    /// Its attachment to the cluster, to register other workers.
    #[must_use]
    pub fn backend(&self) -> Backend {
        Backend::from_attachment(Arc::clone(&self.me.attachment))
    }

    /// The descriptor that the postmaster passes to its workers under `name`.
    #[must_use]
    pub fn descriptor(&self, name: &str) -> Option<BorrowedFd<'static>> {
        let all = self.me.attachment.descriptors();
        all.iter().find(|(other, _)| other == name).map(|(_, fd)| fd.as_fd())
    }

    /// Unblocks all signals. Choose the handlers first.
    ///
    /// # Errors
    /// `pthread_sigmask` failed.
    #[doc(alias = "BackgroundWorkerUnblockSignals")]
    pub fn unblock_signals(&self) -> Result<(), SignalsError> {
        fault::step("worker:before_unblock")
            .and_then(|()| signals::unblock_all())
            .map_err(SignalsError::at("unblocking the worker's signals"))?;
        fault::point("worker:unblocked");
        Ok(())
    }

    /// Blocks all signals again, but fault signals, SIGQUIT, SIGPWR and SIGURG.
    ///
    /// # Errors
    /// `pthread_sigmask` failed.
    #[doc(alias = "BackgroundWorkerBlockSignals")]
    pub fn block_signals(&self) -> Result<(), SignalsError> {
        let blocked = signals::block_in_worker();
        blocked.map_err(SignalsError::at("blocking the worker's signals"))
    }

    /// From here on the worker handles SIGTERM itself: its waits end without an error, and
    /// [`Worker::should_stop`] returns true.
    pub const fn handle_terminate(&mut self) {
        self.handles_terminate = true;
    }

    /// From here on SIGHUP ends the worker's waits and makes [`Worker::reload_requested`] return
    /// true. Before this call it is ignored.
    ///
    /// # Errors
    /// `sigaction` failed.
    pub fn handle_reload(&self) -> Result<(), SignalsError> {
        process::handle_reload().map_err(SignalsError::at("installing the handler of SIGHUP"))
    }

    /// True once SIGTERM has arrived or the postmaster has died.
    #[doc(alias = "ShutdownRequestPending")]
    #[must_use]
    pub fn should_stop(&self) -> bool {
        let stop = process::interrupts()
            .pending()
            .intersects(Pending::TERMINATE | Pending::POSTMASTER_DIED);
        if stop && self.handles_terminate {
            process::interrupts().acknowledge_end();
        }
        stop || !self.me.attachment.postmaster_is_alive()
    }

    /// True once after each SIGHUP (several may have arrived as one).
    #[doc(alias = "ConfigReloadPending")]
    #[must_use]
    pub fn reload_requested(&self) -> bool {
        process::interrupts().take(Pending::RELOAD)
    }

    /// Fails if the postmaster has died, SIGINT cancelled a statement, or SIGTERM arrived and the
    /// worker does not handle it itself. For long computations without a wait.
    ///
    /// # Errors
    /// [`Interrupt`].
    #[doc(alias = "CHECK_FOR_INTERRUPTS")]
    pub fn check_interrupts(&self) -> Result<(), Interrupt> {
        interrupt::check(!self.handles_terminate)
    }

    /// Reports that the worker is ready: ends every `wait_for_ready` on it.
    pub fn ready(&self) {
        let handle = self.me.handle;
        let key = Key { index: handle.slot(), generation: handle.generation() };
        fault::point("worker:before_ready");
        // Stale only after a crash reset, which this worker does not survive.
        let _ = self.me.attachment.slots().set_flags_and_wake(key, flag::READY);
        fault::point("worker:ready");
    }

    /// Names the worker's waits; views show the name while it waits. At most 40 bytes, longer names
    /// are cut. `None` removes the name.
    #[doc(alias = "WaitEventExtensionNew")]
    pub fn name_waits(&mut self, name: Option<&str>) {
        self.wait_event = name.map(str::to_owned);
    }

    /// Sleeps until the latch is set, `timeout` passes, or a signal of the worker arrives. Ends the
    /// process if the postmaster dies. Resets the latch before it returns, so a check that follows
    /// sees whatever the setter did.
    ///
    /// # Errors
    /// [`Interrupt::Terminated`], unless the worker handles SIGTERM itself.
    pub fn sleep(&self, timeout: Option<Duration>) -> Result<WaitEvents, WorkerError> {
        let events =
            WaitEvents::LATCH_SET | WaitEvents::TIMEOUT | WaitEvents::EXIT_ON_POSTMASTER_DEATH;
        self.wait(events, &mut [], timeout)
    }

    /// Waits for `events` and `sockets`, and returns what happened. Resets a set latch before it
    /// returns.
    ///
    /// # Errors
    /// [`Interrupt::Terminated`], unless the worker handles SIGTERM itself; an invalid set of events;
    /// a failing system call.
    #[doc(alias = "WaitLatchOrSocket")]
    pub fn wait(
        &self,
        events: WaitEvents,
        sockets: &mut [SocketInterest<'_>],
        timeout: Option<Duration>,
    ) -> Result<WaitEvents, WorkerError> {
        let interrupts = process::interrupts().count();
        interrupt::check_terminate(!self.handles_terminate)?;
        if process::interrupts().end_requested() {
            // SIGTERM came after the last should_stop(): the worker must not sleep through it,
            // whatever it waits for.
            return Ok(WaitEvents::INTERRUPTED);
        }
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let name = self.wait_event.as_deref();
        if name.is_some() {
            self.me.set_wait_event(name);
        }
        let ready = wait_in_worker(self.me, events, sockets, deadline, interrupts);
        if name.is_some() {
            self.me.set_wait_event(None);
        }
        let ready = ready?;
        interrupt::check_terminate(!self.handles_terminate)?;
        Ok(ready)
    }

    /// Watches that a futex wait of the worker's own (on a queue, say) adds, so that a signal of the
    /// worker or the postmaster's death ends it.
    ///
    /// Take them first, then check [`Worker::should_stop`] and the like, then wait: whatever happens
    /// after the first step ends the wait. Take new ones for each wait.
    ///
    /// # Errors
    /// [`Interrupt::PostmasterDied`]; [`Interrupt::Terminated`], unless the worker handles SIGTERM
    /// itself.
    pub fn watches(&self) -> Result<[Watch<'_>; 2], Interrupt> {
        let interrupts = process::interrupts().watch(process::interrupts().count());
        interrupt::check_terminate(!self.handles_terminate)?;
        let postmaster = self.me.attachment.watch_postmaster();
        let Some(postmaster) = postmaster else {
            return Err(Interrupt::PostmasterDied);
        };
        Ok([interrupts, postmaster])
    }
}

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
//! A worker whose description names another stop signal gets that one in its place, with the same
//! effect. Either way the signal handler only sets a flag and wakes the worker.

mod database;
mod entry;
mod error;
mod from_env;
mod given;
mod privileges;
#[cfg(feature = "tokio")]
mod tasks;
mod template;

pub use entry::entry;
pub use error::{PrivilegeError, ResultError, WorkerError};
#[cfg(feature = "tokio")]
pub use tasks::{LatchSets, Terminated};

use crate::backend::Backend;
use crate::connection::Connection;
use crate::error::SignalsError;
use crate::fault;
use crate::interrupt::{self, Interrupt};
use bgw_core::internals::{Pending, process, signals, wait_in_worker};
use bgw_core::{RESULT_LIMIT, SocketInterest, WaitEvents, WorkerHandle, WorkerProcess};
use shmem_slots::futex::Watch;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The worker that this process is.
#[derive(Debug)]
pub struct Worker {
    me: &'static WorkerProcess,
    handles_terminate: bool,
    wait_event: Option<String>,
    connection: Option<Connection>,
    /// It is a command's, and inside shared state.
    clears_mark: bool,
}

impl Worker {
    pub(crate) const fn new(me: &'static WorkerProcess) -> Self {
        Self {
            me,
            handles_terminate: false,
            wait_event: None,
            connection: None,
            clears_mark: false,
        }
    }

    pub(crate) const fn process(&self) -> &'static WorkerProcess {
        self.me
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

    /// Blocks all signals again, except fault signals, SIGQUIT, SIGPWR and SIGURG.
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
    /// SIGHUP is the stop signal of this worker; `sigaction` failed.
    pub fn handle_reload(&self) -> Result<(), SignalsError> {
        process::handle_reload().map_err(SignalsError::at("installing the handler of SIGHUP"))
    }

    /// True once SIGTERM, or the worker's own stop signal, has arrived or the postmaster has died.
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

    /// True once after each SIGHUP. Several that arrive together count as one.
    #[doc(alias = "ConfigReloadPending")]
    #[must_use]
    pub fn reload_requested(&self) -> bool {
        process::interrupts().take(Pending::RELOAD)
    }

    /// Fails if the postmaster has died, if SIGINT has cancelled a statement, or if SIGTERM has
    /// arrived and the worker does not handle it itself. For long computations without a wait.
    ///
    /// # Errors
    /// [`Interrupt`].
    #[doc(alias = "CHECK_FOR_INTERRUPTS")]
    pub fn check_interrupts(&self) -> Result<(), Interrupt> {
        interrupt::check(!self.handles_terminate)
    }

    /// Reports that the worker is ready: every `wait_for_ready` on it ends. If the worker's
    /// description [declares](bgw_core::BackgroundWorkerBuilder::ready) that it reports so, the
    /// postmaster is told, too.
    pub fn ready(&self) {
        fault::point("worker:before_ready");
        self.me.say_ready();
        fault::point("worker:said_ready");
        self.me.ring_when_ready();
        fault::point("worker:ready");
    }

    /// Counts a job. A worker that is [recycled](bgw_core::Recycle::jobs) after a number of jobs
    /// gets its stop signal soon after the last of them, may finish what it has begun since, and is
    /// replaced by its next run. In other workers this has no effect.
    ///
    /// Costs one addition. The postmaster is told once, at the limit.
    pub fn job_done(&self) {
        self.me.job_done();
    }

    /// Sets what the worker gives back: whoever reads how it ended finds it as
    /// [`ExitReport::result`](bgw_core::ExitReport::result). At most 128 bytes, of any values.
    ///
    /// The last one counts, and with a good end only: exit 0, with shared state left in order. An
    /// error, a panic, a signal or another exit code leaves no result, whatever was set before. A
    /// worker that is killed in the middle of this call and restarted begins without one. Costs one
    /// copy and one swap; nobody is woken.
    ///
    /// ```
    /// # fn work(worker: &mut bgw_backend::Worker) -> Result<(), bgw_backend::WorkerError> {
    /// let sum: u64 = (1..=worker.main_arg()).sum();
    /// worker.set_result(&sum.to_le_bytes())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// A result that is too long; a process that was forked from the worker, and is not a worker
    /// itself.
    pub fn set_result(&mut self, result: &[u8]) -> Result<(), ResultError> {
        if result.len() > RESULT_LIMIT {
            return Err(ResultError::TooLong { len: result.len() });
        }
        if !self.me.attachment.is_mine() {
            return Err(ResultError::NotTheWorker { worker: self.me.attachment.owner() });
        }
        fault::point("result:before_write");
        self.me.set_result(result, || fault::point("result:written"));
        fault::point("result:set");
        Ok(())
    }

    /// Sets a text that tells people what the worker is doing. It is shown as
    /// [`WorkerInfo::status_text`](crate::WorkerInfo::status_text) until the worker says something
    /// else, or its process ends. At most 127 bytes, longer texts are cut; control characters
    /// become `?`. An empty text removes it.
    ///
    /// ```
    /// # fn work(worker: &mut bgw_backend::Worker) -> Result<(), std::io::Error> {
    /// worker.set_status_text("1,200 of 5,000 files read");
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_status_text(&self, text: &str) {
        self.me.set_status_text(text);
    }

    /// Reports that the worker is alive. A worker with a
    /// [`heartbeat`](bgw_core::BackgroundWorkerBuilder::heartbeat) must call this at least that
    /// often, wherever it makes progress. Does nothing in any other worker. Costs one relaxed store
    /// into a cell of its own; nobody is woken.
    ///
    /// ```
    /// use bgw_backend::{Worker, WorkerError};
    /// use std::time::Duration;
    ///
    /// fn serve(worker: &mut Worker) -> Result<(), WorkerError> {
    ///     worker.handle_terminate();
    ///     worker.unblock_signals()?;
    ///     while !worker.should_stop() {
    ///         worker.beat();
    ///         worker.sleep(Some(Duration::from_secs(3)))?; // with a heartbeat of 10 s
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn beat(&self) {
        self.me.beat();
    }

    /// Asks for more time to become ready: until `time` from now, if that is later than the limit
    /// so far. In all a worker can have at most ten times its
    /// [`start_timeout`](bgw_core::BackgroundWorkerBuilder::start_timeout), or 600 s in a run that
    /// starts [beside](bgw_core::Recycle::overlap) another one and has none; the time of a
    /// [roll](crate::Roll) stays as it is. Does nothing in a run that may take any time. Costs one
    /// store; nobody is woken.
    ///
    /// ```
    /// use bgw_backend::Worker;
    /// use std::time::Duration;
    ///
    /// fn serve(worker: &mut Worker) -> Result<(), std::io::Error> {
    ///     for part in ["users", "orders"] {
    ///         worker.extend_start(Duration::from_secs(10)); // each part may take that long
    ///         load(part)?;
    ///     }
    ///     worker.ready();
    ///     Ok(())
    /// }
    /// # fn load(_: &str) -> Result<(), std::io::Error> { Ok(()) }
    /// ```
    pub fn extend_start(&self, time: Duration) {
        self.me.extend_start(time);
    }

    /// Names the worker's waits: [`WorkerInfo::wait_event`](crate::WorkerInfo::wait_event) is this
    /// name while it waits. At most 40 bytes, longer names are cut. `None` removes the name.
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
    /// [`Interrupt::Terminated`], unless the worker handles SIGTERM itself; an invalid set of
    /// events; a failing system call.
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

    /// Watches to add to a futex wait of the worker's own, on a queue for instance: a signal to the
    /// worker, or the postmaster's death, then ends that wait.
    ///
    /// Take them first, then check [`Worker::should_stop`] and the like, then wait: whatever
    /// happens after the first step ends the wait. Take new ones for each wait.
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

//! The worker of a program that was started as a command.

use super::Worker;
use bgw_core::internals::enter_from_env;
use bgw_core::{FromEnvError, WorkerFlags};

impl Worker {
    /// Makes this process, which a postmaster has started as a command with
    /// [`attach`](bgw_core::BackgroundWorkerBuilder::attach), its worker. From then on
    /// [`Backend::current`](crate::Backend::current) answers, too.
    ///
    /// Call it first in `main`, once. It installs the handlers of a worker: the stop signal is a
    /// request now, as for any worker, SIGHUP, SIGUSR1, SIGUSR2, SIGINT and SIGPIPE are ignored. No
    /// signal is blocked, as in any program. From then on a [reload](crate::Backend::reload)
    /// reaches it, which it may [handle](Worker::handle_reload). What it was
    /// [given](bgw_core::BackgroundWorkerBuilder::give) lies under the numbers that `LISTEN_FDS`
    /// announces; [`take`](Self::take) finds nothing.
    ///
    /// ```no_run
    /// use bgw_backend::{Worker, WorkerError};
    /// use std::time::Duration;
    ///
    /// fn main() -> Result<(), WorkerError> {
    ///     let mut worker = Worker::from_env()?;
    ///     worker.handle_terminate();
    ///     worker.ready();
    ///     while !worker.should_stop() {
    ///         // ... work ...
    ///         worker.beat();
    ///         worker.sleep(Some(Duration::from_secs(3)))?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// With [`SHMEM_ACCESS`](WorkerFlags::SHMEM_ACCESS) the program is inside shared state until
    /// the worker is dropped: if it exits before, by [`std::process::exit`] even, it has crashed.
    ///
    /// # Errors
    /// [`FromEnvError`]: this process was not started so, it is not the one that the postmaster has
    /// started but a child of that, it is a worker already, or the postmaster has another version.
    pub fn from_env() -> Result<Self, FromEnvError> {
        let me = enter_from_env()?;
        let mut worker = Self::new(me);
        if me.worker.flags().contains(WorkerFlags::SHMEM_ACCESS) {
            me.mark_cleanup_needed(true);
            worker.clears_mark = true;
        }
        Ok(worker)
    }
}

/// A function's mark is cleared by the child that runs it.
impl Drop for Worker {
    fn drop(&mut self) {
        if self.clears_mark {
            self.me.mark_cleanup_needed(false);
        }
    }
}

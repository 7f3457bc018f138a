//! The descriptors that a worker has besides its own: those of the program, and those that it is
//! given with its registration.

use super::Worker;
use bgw_core::TakeError;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

impl Worker {
    /// The descriptor that the postmaster passes to its workers under `name`.
    #[must_use]
    pub fn descriptor(&self, name: &str) -> Option<BorrowedFd<'static>> {
        let all = self.me.attachment.descriptors();
        all.iter().find(|(other, _)| other == name).map(|(_, fd)| fd.as_fd())
    }

    /// Takes the descriptor that the worker was
    /// [given](bgw_core::BackgroundWorkerBuilder::give) as `name` with its registration: a
    /// connection, a listener, a file. It is close-on-exec, and from now on nobody else in the
    /// cluster has it: when the worker closes it, the other end of a connection sees that.
    ///
    /// Each can be taken once. What a run has not taken when it ends is there for the next one,
    /// whatever ended it; what was taken is gone.
    ///
    /// ```no_run
    /// use bgw_backend::{Worker, WorkerError};
    /// use std::io::Write;
    /// use std::os::unix::net::UnixStream;
    ///
    /// fn greet(worker: &mut Worker) -> Result<(), WorkerError> {
    ///     worker.unblock_signals()?;
    ///     let mut conn = UnixStream::from(worker.take("conn")?);
    ///     conn.write_all(b"hello\n")?;
    ///     Ok(())
    /// }
    /// # let _ = bgw_backend::entry(greet);
    /// ```
    ///
    /// # Errors
    /// [`TakeError`]: it was given none of this name, or it was taken before.
    pub fn take(&self, name: &str) -> Result<OwnedFd, TakeError> {
        self.me.take(name)
    }
}

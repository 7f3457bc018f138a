//! Requests to the postmaster over the control socket.

use crate::backend::{Backend, ConnectOptions};
use crate::handle::Handle;
use bgw_core::internals::{Reply, Request};
use bgw_core::{AskError, Attachment, ShutdownMode, StartTime};
use std::time::Instant;

impl Backend {
    /// Requests a shutdown. Returns once the postmaster has accepted it.
    ///
    /// # Errors
    /// [`AskError`].
    pub fn shutdown(&self, mode: ShutdownMode) -> Result<(), AskError> {
        self.ask(&Request::Shutdown(mode))
    }

    /// Reports to the postmaster that the cluster has reached `phase`.
    ///
    /// # Errors
    /// [`AskError`].
    pub fn advance(&self, phase: StartTime) -> Result<(), AskError> {
        self.ask(&Request::Advance(phase))
    }

    /// Requests a reload: the postmaster sends SIGHUP to all workers that are functions or attached
    /// commands. Those that do not [handle](crate::Worker::handle_reload) it ignore it. Any other
    /// command would end, and gets none, nor does a worker whose stop signal is SIGHUP.
    ///
    /// # Errors
    /// [`AskError`].
    #[doc(alias = "pg_reload_conf")]
    pub fn reload(&self) -> Result<(), AskError> {
        self.ask(&Request::Reload)
    }

    /// Returns once the postmaster has answered. By then it has processed all earlier doorbell
    /// rings.
    ///
    /// # Errors
    /// [`AskError`].
    pub fn ping(&self) -> Result<(), AskError> {
        self.ask(&Request::Ping)
    }

    fn ask(&self, request: &Request) -> Result<(), AskError> {
        ask(&self.attachment, request)
    }
}

impl Handle {
    /// Restarts the worker now, if it is in its pause, and forgets its failures: the next pause is
    /// the first one again, and earlier restarts no longer count towards
    /// [`give_up`](bgw_core::BackgroundWorkerBuilder::give_up). Returns once the postmaster has
    /// queued the start; [`Handle::wait_for_next_start`] waits until it runs. Processes that an
    /// earlier run left behind must end first.
    ///
    /// Does nothing if the worker is not in its pause, or if its registration is over.
    ///
    /// # Errors
    /// [`AskError`]: this attachment is read-only; the postmaster does not answer.
    pub fn restart_now(&self) -> Result<(), AskError> {
        ask(&self.attachment, &Request::RestartNow(self.id()))
    }

    /// Kills the worker now: its process group gets SIGKILL, and it goes off the list as after
    /// [`Handle::terminate`], whether that was called before or not. A worker that has no process
    /// never starts. Returns once the signal is sent; [`Handle::wait_for_end`] waits for the end.
    ///
    /// No reset follows, even if the worker has
    /// [`SHMEM_ACCESS`](bgw_core::WorkerFlags::SHMEM_ACCESS): what it shares with others may be
    /// left half done. Does nothing if its registration is over.
    ///
    /// # Errors
    /// [`AskError`]: this attachment is read-only; the postmaster does not answer.
    pub fn kill(&self) -> Result<(), AskError> {
        ask(&self.attachment, &Request::Kill(self.id()))
    }

    /// The last lines of the worker's output, oldest first, as many as its description
    /// [says](bgw_core::BackgroundWorkerBuilder::last_lines), over all its runs. After its end they
    /// hold what it has written until then; a line without a newline counts. What is not UTF-8 is
    /// replaced.
    ///
    /// They are remembered while the worker has an output, and for the last 1,024 workers whose
    /// output has ended. A crash reset, or a kill of the output collector, forgets them.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let backend = bgw_backend::Backend::connect("/run/user/1000/jobs")?;
    /// use bgw_backend::{BackgroundWorker, Output};
    ///
    /// let import = BackgroundWorker::builder("import").command("import", ["--all"]);
    /// let import = backend.register(&import.output(Output::Null).last_lines(20).build()?)?;
    /// let status = import.wait_for_shutdown()?;
    /// println!("{status}; it said last:\n{}", import.last_lines()?.join("\n"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AskError`]: the postmaster does not answer.
    pub fn last_lines(&self) -> Result<Vec<String>, AskError> {
        match self.attachment.ask(&Request::LastLines(self.id()), deadline())? {
            Reply::LastLines(text) => Ok(text.lines().map(str::to_owned).collect()),
            other => Err(AskError::unexpected(&other)),
        }
    }
}

/// Until when the postmaster is to answer, or to take what it is told.
pub(crate) fn deadline() -> Option<Instant> {
    Instant::now().checked_add(ConnectOptions::default().timeout)
}

fn ask(attachment: &Attachment, request: &Request) -> Result<(), AskError> {
    match attachment.ask(request, deadline())? {
        Reply::Done => Ok(()),
        other => Err(AskError::unexpected(&other)),
    }
}

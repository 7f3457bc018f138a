//! The outcome of a job: the one answer that its submitter gets, whatever dies.
//!
//! It follows from the last exit report alone, by one table, and from whether the submitter has
//! cancelled the job. Any registration has an outcome; that of a
//! [job](bgw_core::BackgroundWorkerBuilder::job) is kept until somebody has looked.

use crate::error::{TerminateError, WaitError};
use crate::handle::Handle;
use crate::until::{Until, has_ended};
use bgw_core::{AskedBy, ExitCause, ExitReport, LastWords, NotStarted, WorkerStatus};
use nix::sys::signal::Signal;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

/// How a job has ended. Each job has one outcome, and the handles of its submitter always give the
/// same one.
///
/// It is that of the last run, and comes when the registration has ended for good: a job with a
/// restart policy has none in a pause. Most jobs have no such policy, and run at most once.
///
/// | the last run | outcome |
/// |---|---|
/// | ended well: exit 0, nothing shared left half done; and it gave back a value, or nobody had asked for its end | `Output` |
/// | was asked to end by this submitter's [`cancel`](Handle::cancel), or never ran for that reason | `Cancelled` |
/// | its main returned an error | `Failed` |
/// | it panicked, by exit 1 or SIGABRT | `Panicked` |
/// | never came to be | `NotStarted` |
/// | ended in any other way, also after it had set a result | `Died` |
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome<T = Vec<u8>> {
    /// It ended well.
    Output {
        /// What it gave back. The result that it set last, if it is not a typed call; empty if it
        /// has set none.
        value: T,
        /// The report of its end.
        report: ExitReport,
    },
    /// Its main returned an error.
    Failed {
        /// What the error says.
        text: String,
        /// What its sources say, the nearest first.
        causes: Vec<String>,
        /// The report of its end.
        report: ExitReport,
    },
    /// It panicked.
    Panicked {
        /// The message.
        message: String,
        /// File, line and column; empty if they are not known.
        place: String,
        /// The report of its end.
        report: ExitReport,
    },
    /// Its process ended in another way.
    Died(ExitReport),
    /// It never ran, or not again.
    NotStarted {
        /// Why it did not start.
        reason: NotStarted,
        /// The report of its end.
        report: ExitReport,
    },
    /// The submitter cancelled it before or during its run. The report says how it ended.
    Cancelled(ExitReport),
    /// It has ended, and nobody knows how: the report was overwritten. Never for a
    /// [job](bgw_core::BackgroundWorkerBuilder::job) that this process has registered; any other
    /// end gives way when no slot is free, see [`Handle::exit_report`]. For a job of a pool it
    /// means that the process died, and the next run of its worker, too, before anybody had looked.
    Lost,
    /// The postmaster has died, so nobody can know.
    PostmasterDied,
}

impl<T> Outcome<T> {
    /// The report of its end.
    #[must_use]
    pub const fn report(&self) -> Option<&ExitReport> {
        match self {
            Self::Output { report, .. }
            | Self::Failed { report, .. }
            | Self::Panicked { report, .. }
            | Self::Died(report)
            | Self::NotStarted { report, .. }
            | Self::Cancelled(report) => Some(report),
            Self::Lost | Self::PostmasterDied => None,
        }
    }

    /// How many processes have run for it; `None` if nobody knows. More than 1 only with a restart
    /// policy. A fork that failed does not count.
    #[must_use]
    pub fn runs(&self) -> Option<u32> {
        let report = self.report()?;
        let ran = report.pid.is_some() || report.restarts > 0;
        Some(if ran { report.restarts.saturating_add(1) } else { 0 })
    }

    /// The same with another output.
    #[must_use]
    pub fn map<U>(self, output: impl FnOnce(T) -> U) -> Outcome<U> {
        match self.split() {
            Ok((value, report)) => Outcome::Output { value: output(value), report },
            Err(other) => other.widen(),
        }
    }

    /// The output, or why there is none, as an error.
    ///
    /// # Errors
    /// [`NoOutput`]: any other outcome.
    pub fn into_output(self) -> Result<T, NoOutput> {
        self.split().map(|(value, _)| value).map_err(NoOutput)
    }

    pub(crate) fn split(self) -> Result<(T, ExitReport), Box<Outcome<Infallible>>> {
        match self {
            Self::Output { value, report } => Ok((value, report)),
            other => {
                other.without_output().map_or_else(|output| Ok(*output), |other| Err(other.into()))
            }
        }
    }

    /// The same as an outcome of any type, or the output that it has.
    fn without_output<U>(self) -> Result<Outcome<U>, Box<(T, ExitReport)>> {
        Ok(match self {
            Self::Output { value, report } => return Err(Box::new((value, report))),
            Self::Failed { text, causes, report } => Outcome::Failed { text, causes, report },
            Self::Panicked { message, place, report } => {
                Outcome::Panicked { message, place, report }
            }
            Self::Died(report) => Outcome::Died(report),
            Self::NotStarted { reason, report } => Outcome::NotStarted { reason, report },
            Self::Cancelled(report) => Outcome::Cancelled(report),
            Self::Lost => Outcome::Lost,
            Self::PostmasterDied => Outcome::PostmasterDied,
        })
    }
}

impl Outcome<Infallible> {
    /// The same as the outcome of a job that has an output.
    pub(crate) fn widen<U>(self) -> Outcome<U> {
        self.without_output().unwrap_or_else(|output| match output.0 {})
    }
}

impl<T> fmt::Display for Outcome<T> {
    /// Says of the job how it ended, without what it gave back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Output { .. } => f.write_str("the job has ended well"),
            Self::Failed { text, causes, .. } => {
                write!(f, "the job failed: {text}")?;
                causes.iter().try_for_each(|cause| write!(f, ": {cause}"))
            }
            Self::Panicked { message, place, .. } if place.is_empty() => {
                write!(f, "the job panicked: {message}")
            }
            Self::Panicked { message, place, .. } => {
                write!(f, "the job panicked at {place}: {message}")
            }
            Self::Died(report) | Self::NotStarted { report, .. } => {
                write!(f, "the job {}", of_job(report))
            }
            Self::Cancelled(report) => write!(f, "the job was cancelled, and {}", of_job(report)),
            Self::Lost => f.write_str("the job has ended, and its report was overwritten"),
            Self::PostmasterDied => {
                f.write_str("the postmaster died, so nobody knows how the job ends")
            }
        }
    }
}

/// The report of a worker as that of its job, which nobody runs again: a worker of a pool may be
/// restarted, for other jobs.
fn of_job(report: &ExitReport) -> ExitReport {
    let mut report = report.clone();
    report.unregistered = true;
    report
}

/// Why a job has no output.
#[derive(Clone, PartialEq, Eq)]
pub struct NoOutput(Box<Outcome<Infallible>>);

impl NoOutput {
    /// The outcome of the job, which is any but `Output`.
    #[must_use]
    pub const fn outcome(&self) -> &Outcome<Infallible> {
        &self.0
    }
}

bgw_core::debug_as_chain!(NoOutput);

impl fmt::Display for NoOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for NoOutput {}

/// The outcome that the report of a last end stands for. Pure.
pub(crate) fn of(report: ExitReport, cancelled: bool) -> Outcome<()> {
    let has_value = report.result().is_some() || report.returned.value().is_some();
    let asked = report.asked_by.is_some() || report.reset;
    let aborted = matches!(report.cause, ExitCause::Signaled { signal, .. }
        if i32::from(signal) == Signal::SIGABRT as i32);
    let cancelled =
        cancelled && matches!(report.asked_by, Some(AskedBy::Terminate | AskedBy::Kill));
    match (report.cause, report.last_words().cloned()) {
        (ExitCause::Exited(0), _) if has_value || !asked => Outcome::Output { value: (), report },
        _ if cancelled => Outcome::Cancelled(report),
        (ExitCause::Exited(1), Some(LastWords::Error { text, causes })) => {
            Outcome::Failed { text, causes, report }
        }
        (cause, Some(LastWords::Panic { message, place }))
            if cause == ExitCause::Exited(1) || aborted =>
        {
            Outcome::Panicked { message, place, report }
        }
        (ExitCause::NotStarted(reason), _) => Outcome::NotStarted { reason, report },
        _ => Outcome::Died(report),
    }
}

impl Handle {
    /// The outcome, if the registration has ended or the postmaster is dead; otherwise `None`. Does
    /// not wait.
    ///
    /// The first call after the end frees the slot; the handle and its clones keep the outcome.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        if self.is_unknown() {
            return Some(Outcome::PostmasterDied);
        }
        let is_open = || self.word().is_some_and(|word| !has_ended(word));
        if is_open() {
            if self.attachment.postmaster_is_alive() {
                return None;
            }
            // It may have published the end before it died.
            if is_open() {
                return Some(self.unknown());
            }
        }
        Some(self.decided())
    }

    /// Waits for the outcome. Any process may wait, by any handle; see [`Handle::wait_for_end`].
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use bgw_backend::{Backend, BackgroundWorker, Orphaned, Outcome};
    ///
    /// let backend = Backend::connect("/run/app")?;
    /// let job = BackgroundWorker::builder("sum").function("sum").main_arg(100);
    /// let handle = backend.register(&job.job(Orphaned::Terminate).build()?)?;
    /// match handle.wait_for_outcome()? {
    ///     Outcome::Output { value, .. } => println!("{} bytes", value.len()),
    ///     other => eprintln!("{other}"), // the job failed: no such file: …
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`WaitError::Interrupted`].
    pub fn wait_for_outcome(&self) -> Result<Outcome, WaitError> {
        self.wait_until_decided(None)
    }

    /// Like [`Handle::wait_for_outcome`], for at most `timeout`. The job goes on after that, and
    /// its outcome can be asked for again.
    ///
    /// # Errors
    /// [`WaitError::Interrupted`]; [`WaitError::TimedOut`].
    pub fn wait_for_outcome_timeout(&self, timeout: Duration) -> Result<Outcome, WaitError> {
        self.wait_until_decided(Instant::now().checked_add(timeout))
    }

    /// Like [`Handle::wait_for_outcome`], but when `timeout` is over, [cancels](Handle::cancel) the
    /// job and waits until it has ended: usually `Cancelled`, or `Output` if the job was quicker.
    ///
    /// A job that does not end at its stop signal is killed after its
    /// [grace](bgw_core::BackgroundWorkerBuilder::grace); without one, this waits as long as the
    /// job likes.
    ///
    /// # Errors
    /// [`WaitError::Interrupted`]; [`WaitError::Cancel`].
    pub fn wait_for_outcome_or_cancel(&self, timeout: Duration) -> Result<Outcome, WaitError> {
        match self.wait_for_outcome_timeout(timeout) {
            Err(WaitError::TimedOut) => {}
            done => return done,
        }
        self.cancel().map_err(WaitError::Cancel)?;
        self.wait_for_outcome()
    }

    /// Terminates the job, as [`Handle::terminate`] does, because nobody wants its output. If it
    /// has not ended well by then, its outcome is `Cancelled` for the handle that
    /// [`Backend::register`](crate::Backend::register) returned and its clones. After the end it
    /// has no effect.
    ///
    /// # Errors
    /// As [`Handle::terminate`].
    pub fn cancel(&self) -> Result<(), TerminateError> {
        if let Some(keep) = self.keep() {
            keep.cancel();
        }
        self.terminate()
    }

    fn wait_until_decided(&self, deadline: Option<Instant>) -> Result<Outcome, WaitError> {
        if self.is_unknown() {
            return Ok(Outcome::PostmasterDied);
        }
        Ok(match self.wait(Until::Ended, deadline)? {
            WorkerStatus::PostmasterDied => self.unknown(),
            _ => self.decided(),
        })
    }

    fn is_unknown(&self) -> bool {
        self.keep().is_some_and(|keep| keep.is_unknown())
    }

    fn unknown(&self) -> Outcome {
        if let Some(keep) = self.keep() {
            keep.postmaster_died();
        }
        Outcome::PostmasterDied
    }

    /// The outcome of a registration that has ended.
    fn decided(&self) -> Outcome {
        let Some(report) = self.exit_report().filter(|report| report.unregistered) else {
            return Outcome::Lost;
        };
        let cancelled = self.keep().is_some_and(|keep| keep.was_cancelled());
        let result = report.result().unwrap_or_default().to_vec();
        of(report, cancelled).map(|()| result)
    }
}

#[cfg(test)]
mod tests;

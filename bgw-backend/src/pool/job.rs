//! One job of a pool, as its submitter has it: asks for its outcome, waits for it, cancels it.

use super::raw::{Look, Raw};
use super::shared::Shared;
use super::wait::wait_for_one;
use crate::calls::CallValue;
use crate::calls::format;
use crate::error::{TerminateError, WaitError};
use crate::outcome::Outcome;
use crate::segment::Segment;
use shmem_slots::jobs::JobKey;
use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A job that was submitted to a [`Pool`](crate::Pool).
///
/// It has exactly one outcome, and every call gives the same one. A job that is dropped goes on,
/// and nobody learns how it ends; if it still waits in the queue, and its input is in a segment, it
/// is cancelled.
pub struct PoolJob<O> {
    pub(super) raw: Raw,
    output: PhantomData<fn() -> O>,
}

impl<O> PoolJob<O> {
    pub(super) fn new(shared: Arc<Shared>, key: JobKey, input: Option<Segment>) -> Self {
        Self { raw: Raw::new(shared, key, input), output: PhantomData }
    }

    /// Cancels the job, and returns at once. One that waits in the queue never runs. The worker of
    /// one that runs is terminated, as by [`Handle::terminate`](crate::Handle::terminate): it takes
    /// no other job, and another worker takes its place. A job that goes on all the same is killed
    /// after the [grace](crate::PoolOptions::grace) of the pool. The outcome is `Cancelled`, unless
    /// the job was quicker.
    ///
    /// # Errors
    /// As [`Handle::terminate`](crate::Handle::terminate).
    pub fn cancel(&self) -> Result<(), TerminateError> {
        self.raw.cancel()
    }
}

impl<O: CallValue> PoolJob<O> {
    /// Waits for the outcome.
    ///
    /// The report of a job that did not take its worker with it is of the job alone: its process is
    /// the worker's, it ran as long as the job did, and its CPU times are 0.
    ///
    /// # Errors
    /// [`WaitError::Interrupted`]; [`WaitError::BadOutput`].
    pub fn wait(&self) -> Result<Outcome<O>, WaitError> {
        self.wait_until(None)
    }

    /// Like [`PoolJob::wait`], for at most `timeout`. The job goes on after that, and can be asked
    /// again.
    ///
    /// # Errors
    /// As [`PoolJob::wait`]; [`WaitError::TimedOut`].
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Outcome<O>, WaitError> {
        self.wait_until(Instant::now().checked_add(timeout))
    }

    fn wait_until(&self, deadline: Option<Instant>) -> Result<Outcome<O>, WaitError> {
        wait_for_one(&[&self.raw], deadline)?;
        typed(self.raw.outcome().unwrap_or(Outcome::Lost))
    }

    /// Like [`PoolJob::wait`], but when `timeout` is over, cancels the job and waits until it has
    /// ended.
    ///
    /// # Errors
    /// As [`PoolJob::wait`]; [`WaitError::Cancel`].
    pub fn wait_or_cancel(&self, timeout: Duration) -> Result<Outcome<O>, WaitError> {
        match self.wait_timeout(timeout) {
            Err(WaitError::TimedOut) => {}
            done => return done,
        }
        self.cancel().map_err(WaitError::Cancel)?;
        self.wait()
    }

    /// The outcome, if there is one. Does not wait.
    ///
    /// # Errors
    /// [`WaitError::BadOutput`].
    pub fn outcome(&self) -> Result<Option<Outcome<O>>, WaitError> {
        match self.raw.look() {
            Look::Over => self.raw.outcome().map(typed).transpose(),
            Look::Waits | Look::Runs(_) => Ok(None),
        }
    }
}

/// The outcome with the value that the function returned.
pub(super) fn typed<O: CallValue>(outcome: Outcome) -> Result<Outcome<O>, WaitError> {
    match outcome.split() {
        Ok((value, report)) => {
            let value = format::decode(&value).map_err(bad_output)?;
            Ok(Outcome::Output { value, report })
        }
        Err(other) => Ok(other.widen()),
    }
}

fn bad_output(error: impl Error + Send + Sync + 'static) -> WaitError {
    WaitError::BadOutput(error.into())
}

impl<O> fmt::Debug for PoolJob<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PoolJob").field(&self.raw.key).finish()
    }
}

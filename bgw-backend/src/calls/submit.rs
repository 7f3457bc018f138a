//! The caller's side: submits a call, and waits for its outcome.

use super::error::CallError;
use super::format::{self, Carried};
use super::segments::read_value;
use super::types::{self, CallValue, Unsupported};
use crate::backend::Backend;
use crate::error::{RegisterError, TerminateError, WaitError};
use crate::handle::Handle;
use crate::outcome::Outcome;
use crate::segment::{Segment, SegmentError};
use bgw_core::internals::VALUE_LIMIT;
use bgw_core::{BackgroundWorker, BackgroundWorkerBuilder, InvalidWorker, Orphaned, SegmentHandle};
use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A call that was submitted: the handle of its job, and the type of its output.
///
/// Cheap to clone. The outcome is kept until the last clone is dropped, and with it a large input
/// and output: each lies in a segment, which counts towards the cluster's budget. A call that is
/// dropped goes on; [`Call::cancel`] ends it.
pub struct Call<O> {
    shared: Arc<Shared>,
    output: PhantomData<fn() -> O>,
}

/// What the clones of a call share.
struct Shared {
    handle: Handle,
    /// The segment of a large input. The worker maps it, in each of its runs.
    _input: Option<Segment>,
    /// The segment of a large output, once somebody has looked.
    output: OnceLock<Segment>,
}

impl Backend {
    /// Calls function `name` of the postmaster's program with `input`, in a worker of its own, and
    /// returns at once.
    ///
    /// It is a [job](bgw_core::BackgroundWorkerBuilder::job) that is terminated when this process
    /// has ended, runs at most once, and has exactly one outcome. [`Backend::call_as`] says more.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use bgw_backend::Backend;
    ///
    /// let backend = Backend::connect("/run/app")?;
    /// let words = ["a", "few", "words"].map(str::to_owned).to_vec();
    /// let call = backend.call::<Vec<String>, String>("longest", &words)?;
    /// let longest: String = call.wait()?.into_output()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`CallError`]. A function of other types is refused here, not in the worker.
    pub fn call<I: CallValue, O: CallValue>(
        &self,
        name: &str,
        input: &I,
    ) -> Result<Call<O>, CallError> {
        self.call_as(BackgroundWorker::builder(name), name, input, None)
    }

    /// Like [`Backend::call`], in a worker of this description: with a restart policy, a grace, a
    /// name of its own. Whatever entry point it has is replaced by the function. Unless it says
    /// what becomes of the [job](bgw_core::BackgroundWorkerBuilder::job) when this process has
    /// ended, it is terminated.
    ///
    /// With `wait`, waits so long for a slot, as [`Backend::register_timeout`] does.
    ///
    /// An input of up to 1,024 bytes, encoded, lies in the slot, in the place of extra bytes and
    /// behind the names in the description (`after`, `group`, `give`); a longer one in a
    /// [segment](Backend::create_segment), which this process holds as long as it keeps the call.
    ///
    /// # Errors
    /// As [`Backend::call`].
    pub fn call_as<I: CallValue, O: CallValue>(
        &self,
        description: BackgroundWorkerBuilder,
        name: &str,
        input: &I,
        wait: Option<Duration>,
    ) -> Result<Call<O>, CallError> {
        let function = || name.to_owned();
        let tag = types::tag::<I, O>();
        let tag =
            tag.map_err(|Unsupported(name)| CallError::Unsupported { function: function(), name })?;
        let takes = self.function(name)?.call.as_ref();
        if takes.map(|takes| takes.tag) != Some(tag) {
            let error = RegisterError::call_type(name, takes, Some(tag));
            return Err(error.called_as(&types::signature::<I, O>()).into());
        }
        let input = format::encode(input);
        let input = input.map_err(|source| CallError::Encode { function: function(), source })?;
        let job = description.function(name).job_by_default(Orphaned::Terminate);
        let (worker, segment) = self.with_input(job, tag, input)?;
        let handle = match wait {
            None => self.register(&worker)?,
            Some(wait) => self.register_timeout(&worker, wait)?,
        };
        let shared = Shared { handle, _input: segment, output: OnceLock::new() };
        Ok(Call { shared: Arc::new(shared), output: PhantomData })
    }

    /// The description with its input, or with a reference to it.
    fn with_input(
        &self,
        job: BackgroundWorkerBuilder,
        tag: u64,
        input: Vec<u8>,
    ) -> Result<(BackgroundWorker, Option<Segment>), CallError> {
        if input.len() <= VALUE_LIMIT {
            match job.clone().call(tag, input.clone()).build() {
                Err(InvalidWorker::TooLong { field: "input", .. }) => {}
                built => return Ok((built?, None)),
            }
        }
        let (segment, reference) = self.put_value(&input)?;
        Ok((job.call(tag, reference).build()?, Some(segment)))
    }
}

impl<O: CallValue> Call<O> {
    /// Waits for the outcome.
    ///
    /// # Errors
    /// [`WaitError::Interrupted`]; [`WaitError::BadOutput`].
    pub fn wait(&self) -> Result<Outcome<O>, WaitError> {
        self.typed(self.shared.handle.wait_for_outcome()?)
    }

    /// Like [`Call::wait`], for at most `timeout`. The call goes on after that, and can be asked
    /// again.
    ///
    /// # Errors
    /// As [`Call::wait`]; [`WaitError::TimedOut`].
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Outcome<O>, WaitError> {
        self.typed(self.shared.handle.wait_for_outcome_timeout(timeout)?)
    }

    /// Like [`Call::wait`], but when `timeout` is over, cancels the call and waits until it has
    /// ended; see [`Handle::wait_for_outcome_or_cancel`].
    ///
    /// # Errors
    /// As [`Call::wait`]; [`WaitError::Cancel`].
    pub fn wait_or_cancel(&self, timeout: Duration) -> Result<Outcome<O>, WaitError> {
        self.typed(self.shared.handle.wait_for_outcome_or_cancel(timeout)?)
    }

    /// The outcome, if there is one. Does not wait.
    ///
    /// # Errors
    /// [`WaitError::BadOutput`].
    pub fn outcome(&self) -> Result<Option<Outcome<O>>, WaitError> {
        self.shared.handle.outcome().map(|outcome| self.typed(outcome)).transpose()
    }

    /// The outcome with the value that the function returned.
    fn typed(&self, outcome: Outcome) -> Result<Outcome<O>, WaitError> {
        let (_, report) = match outcome.split() {
            Ok(output) => output,
            Err(other) => return Ok(other.widen()),
        };
        // It has exited with 0 by itself: the function has not returned.
        let Some(value) = report.returned.value() else { return Ok(Outcome::Died(report)) };
        let value = match Carried::of(value) {
            Carried::Inline(value) => format::decode(value).map_err(bad_output),
            Carried::InSegment { segment, len } => {
                let value = self.shared.read_output(segment, len).map_err(bad_output)?;
                format::decode(&value).map_err(bad_output)
            }
        };
        Ok(Outcome::Output { value: value?, report })
    }
}

fn bad_output(error: impl Error + Send + Sync + 'static) -> WaitError {
    WaitError::BadOutput(error.into())
}

impl Shared {
    /// Each look finds it where the first one has mapped it.
    fn read_output(&self, segment: SegmentHandle, len: u64) -> Result<Vec<u8>, SegmentError> {
        if let Some(mapped) = self.output.get() {
            return read_value(mapped, len);
        }
        let mapped = self.backend().segment(segment)?;
        read_value(self.output.get_or_init(|| mapped), len)
    }

    fn backend(&self) -> Backend {
        Backend::from_attachment(Arc::clone(&self.handle.attachment))
    }
}

/// Gives up a large output that nobody has read, or that does not count.
impl Drop for Shared {
    fn drop(&mut self) {
        if self.output.get().is_some() || !self.handle.attachment.is_mine() {
            return;
        }
        let outcome = self.handle.outcome();
        let value =
            outcome.as_ref().and_then(Outcome::report).and_then(|report| report.returned.value());
        if let Some(Carried::InSegment { segment, .. }) = value.map(Carried::of) {
            self.backend().give_up_segment(segment);
        }
    }
}

impl<O> Call<O> {
    /// Cancels the call, as [`Handle::cancel`] does.
    ///
    /// # Errors
    /// As [`Handle::cancel`].
    pub fn cancel(&self) -> Result<(), TerminateError> {
        self.shared.handle.cancel()
    }

    /// The handle of its worker.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.shared.handle
    }
}

impl<O> Clone for Call<O> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), output: PhantomData }
    }
}

impl<O> fmt::Debug for Call<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Call").field(&self.shared.handle).finish()
    }
}

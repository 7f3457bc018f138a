//! A job for each value of an iterator, a bounded number of them at a time.

use super::error::{MapError, SubmitError};
use super::job::{PoolJob, typed};
use super::submit::Pool;
use super::wait::wait_for_one;
use crate::calls::CallValue;
use crate::error::WaitError;
use crate::outcome::Outcome;
use std::borrow::Borrow;
use std::collections::VecDeque;
use std::fmt;
use std::iter::{Enumerate, FusedIterator};
use std::time::Duration;

/// The outcomes of one job for each input, as an iterator: see [`Pool::map`].
///
/// It yields the number of the input, from 0, and the outcome of its job. After an error it ends.
#[must_use = "no job is submitted before the first outcome is asked for"]
pub struct Map<'p, V: Iterator, I, O> {
    pool: &'p Pool<I, O>,
    inputs: Enumerate<V>,
    /// The next input, for which there was no room.
    held: Option<(usize, V::Item)>,
    jobs: VecDeque<(usize, PoolJob<O>)>,
    /// Why no more is submitted; said once the jobs in hand are over.
    refused: Option<MapError>,
    class: u32,
    at_once: usize,
    as_they_come: bool,
    stops_at_failure: bool,
    is_over: bool,
}

impl<I: CallValue, O: CallValue> Pool<I, O> {
    /// Runs a job for each input, and yields the outcomes in the order of the inputs.
    ///
    /// Nothing is submitted before the first outcome is asked for. At most
    /// [`at_once`](Map::at_once) jobs are in hand at a time: that many outputs wait in the pool,
    /// and the inputs are taken one by one as there is room. While others fill the pool it waits
    /// for room. When it is dropped, jobs of it that still wait in the queue are cancelled, and
    /// those that run go on.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use bgw_backend::{Backend, PoolOptions};
    /// # let backend = Backend::connect("/run/app")?;
    /// let pool = backend.create_pool::<u64, bool>(&PoolOptions::new("is_prime").workers(2..=4))?;
    /// let mut primes = 0;
    /// for done in pool.map(1..1000).at_once(32) {
    ///     let (_, outcome) = done?;
    ///     primes += u64::from(outcome.into_output()?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn map<V>(&self, inputs: V) -> Map<'_, V::IntoIter, I, O>
    where
        V: IntoIterator,
        V::Item: Borrow<I>,
    {
        let most = self.shared.settings.max as usize;
        Map {
            pool: self,
            inputs: inputs.into_iter().enumerate(),
            held: None,
            jobs: VecDeque::new(),
            refused: None,
            class: 0,
            at_once: most.saturating_mul(2).max(1),
            as_they_come: false,
            stops_at_failure: false,
            is_over: false,
        }
    }
}

impl<V: Iterator, I, O> Map<'_, V, I, O> {
    /// How many jobs are in hand at a time; 0 counts as 1. By default twice as many as the pool may
    /// have workers, so that each finds its next job waiting.
    pub fn at_once(mut self, jobs: usize) -> Self {
        self.at_once = jobs.max(1);
        self
    }

    /// Submits the jobs in this class; by default in class 0.
    pub const fn class(mut self, class: u32) -> Self {
        self.class = class;
        self
    }

    /// Yields each outcome once it is there, whatever its input's place.
    pub const fn as_they_come(mut self) -> Self {
        self.as_they_come = true;
        self
    }

    /// Ends after the first outcome that is not an output. Jobs that still wait in the queue then
    /// are cancelled, those that run go on, and no more input is taken. By default it goes on.
    pub const fn stop_at_failure(mut self) -> Self {
        self.stops_at_failure = true;
        self
    }

    fn end(&mut self) {
        self.is_over = true;
        self.held = None;
        for (_, job) in self.jobs.drain(..) {
            job.raw.withdraw();
        }
    }
}

impl<V, I: CallValue, O: CallValue> Map<'_, V, I, O>
where
    V: Iterator,
    V::Item: Borrow<I>,
{
    /// Submits jobs until as many are in hand as may be, or there is no room.
    fn submit(&mut self) {
        while self.refused.is_none() && self.jobs.len() < self.at_once {
            let Some((place, input)) = self.held.take().or_else(|| self.inputs.next()) else {
                return;
            };
            // With a job in hand, its end makes room.
            let wait = self.jobs.is_empty().then_some(Duration::MAX);
            match self.pool.submit_to(self.class, input.borrow(), wait) {
                Ok(job) => self.jobs.push_back((place, job)),
                Err(SubmitError::Full { .. }) if !self.jobs.is_empty() => {
                    self.held = Some((place, input));
                    return;
                }
                Err(source) => self.refused = Some(MapError::Submit { place, source }),
            }
        }
    }

    /// Waits for the next outcome; `None` after the last one.
    fn step(&mut self) -> Result<Option<(usize, Outcome<O>)>, MapError> {
        self.submit();
        let (in_order, all);
        let jobs = if self.as_they_come {
            all = self.jobs.iter().map(|(_, job)| &job.raw).collect::<Vec<_>>();
            all.as_slice()
        } else {
            in_order = self.jobs.front().map(|(_, job)| &job.raw);
            in_order.as_slice()
        };
        if jobs.is_empty() {
            return self.refused.take().map_or(Ok(None), Err);
        }
        let failed = |place: usize| {
            let place = self.jobs.get(place).map_or(0, |(place, _)| *place);
            move |source: WaitError| MapError::Wait { place, source }
        };
        let found = wait_for_one(jobs, None).map_err(failed(0))?;
        let Some((place, job)) = self.jobs.remove(found) else { return Ok(None) };
        let outcome = typed(job.raw.into_outcome().unwrap_or(Outcome::Lost));
        outcome
            .map(|outcome| Some((place, outcome)))
            .map_err(|source| MapError::Wait { place, source })
    }
}

impl<V, I: CallValue, O: CallValue> Iterator for Map<'_, V, I, O>
where
    V: Iterator,
    V::Item: Borrow<I>,
{
    type Item = Result<(usize, Outcome<O>), MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let done = self.step().transpose();
        let goes_on = match &done {
            Some(Ok((_, Outcome::Output { .. }))) => true,
            Some(Ok(_)) => !self.stops_at_failure,
            Some(Err(_)) | None => false,
        };
        if !goes_on {
            self.end();
        }
        done
    }
}

impl<V, I: CallValue, O: CallValue> FusedIterator for Map<'_, V, I, O>
where
    V: Iterator,
    V::Item: Borrow<I>,
{
}

impl<V: Iterator, I, O> Drop for Map<'_, V, I, O> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<V: Iterator, I, O> fmt::Debug for Map<'_, V, I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("pool", self.pool).field("in_hand", &self.jobs.len()).finish()
    }
}

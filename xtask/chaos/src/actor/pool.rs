//! What an actor does with the pool of the round: it submits a job, waits, cancels and looks.

use super::{Actor, HUNG};
use crate::journal::NOBODY;
use crate::pool;
use bgw_backend::{PoolError, SubmitError, WaitError};
use rand::Rng;
use std::time::Duration;

impl Actor {
    /// Its job has one outcome, whatever becomes of the workers.
    pub(super) fn use_pool(&mut self) {
        let (Some(id), Some(backend)) = (self.journal.pool(), self.backend()) else { return };
        if self.pool.is_none() {
            match backend.open_pool(id) {
                Ok(pool) => self.pool = Some(pool),
                Err(PoolError::TooManySubmitters { .. }) => return,
                Err(error) => {
                    return self.broken_at(NOBODY, &format!("opening the pool failed: {error:?}"));
                }
            }
        }
        let Some(pool) = &self.pool else { return };
        let number: u64 = self.random.random();
        let job = match pool.submit(&number) {
            Ok(job) => job,
            // Its workers may have been killed again and again before they were ready.
            Err(SubmitError::Full { .. } | SubmitError::GivenUp { .. }) => return,
            Err(error) => {
                return self.broken_at(NOBODY, &format!("submitting failed: {error:?}"));
            }
        };
        let pause = Duration::from_micros(self.random.random_range(0..20_000));
        let first = job.wait_timeout(pause);
        let cancelled = matches!(first, Err(WaitError::TimedOut | WaitError::Interrupted));
        if cancelled && let Err(error) = job.cancel() {
            return self.broken_at(NOBODY, &format!("cancelling job {number} failed: {error:?}"));
        }
        let outcome = loop {
            match job.wait_timeout(HUNG) {
                Ok(outcome) => break outcome,
                Err(WaitError::Interrupted) => {}
                Err(error) => {
                    return self.broken_at(NOBODY, &format!("job {number}: {error:?}"));
                }
            }
        };
        let again = job.outcome();
        let same = matches!(&again, Ok(Some(again)) if *again == outcome)
            && first.is_ok_and(|first| first == outcome) != cancelled;
        if !same || !pool::is_possible(number, &outcome, cancelled, true) {
            let what = format!("job {number}, cancelled {cancelled}: {outcome:?}, then {again:?}");
            self.broken_at(NOBODY, &what);
        }
    }
}

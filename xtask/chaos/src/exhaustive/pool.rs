//! A pool, whose jobs have one outcome each.

use super::registrant::{Gone, LONG, Registrant};
use crate::{pool, sys};
use bgw_backend::{Backend, Pool, PoolJob, PoolOptions, SegmentHandle, SubmitError};
use process_test::{Ended, fork_child};
use shmem_slots::fault::arm;
use std::time::Duration;

const JOBS: u64 = 12;
const CANCELLED: u64 = 7;
/// A job that comes after all others.
const LAST: u64 = 100;

impl Registrant {
    /// Submits jobs to a pool of two workers at most, and looks at all outcomes.
    pub(super) fn use_pool(&self) -> Result<(), Gone> {
        let options = PoolOptions::new(pool::FUNCTION)
            .workers(1..=2)
            .queue(JOBS as u32)
            .launch_interval(Duration::from_millis(1));
        let pool: Pool<u64, u64> = match self.backend.create_pool(&options) {
            Ok(pool) => pool,
            Err(error) => return self.excuse(&format!("creating a pool failed: {error}")),
        };
        let mut jobs = Vec::new();
        for number in 0..JOBS {
            jobs.push(self.submit(&pool, number)?);
            // Some find their worker asleep.
            if number.is_multiple_of(4) {
                let _ = jobs.last().map(|job| job.wait_timeout(Duration::from_millis(5)));
            }
        }
        if let Some(Err(error)) = jobs.get(CANCELLED as usize).map(PoolJob::cancel) {
            self.excuse(&format!("cancelling failed: {error}"))?;
        }
        // By now the worker that follows one that died has closed its job, most often.
        std::thread::sleep(Duration::from_millis(20));
        for (number, job) in (0..).zip(&jobs) {
            self.has_one_outcome(number, job)?;
        }
        drop(jobs);
        // Whoever opens the pool next takes the place of one that died, and gives up its jobs.
        self.one_submits_and_dies(pool.handle())?;
        let again: Pool<u64, u64> = match self.backend.open_pool(pool.handle()) {
            Ok(again) => again,
            Err(error) => return self.excuse(&format!("opening the pool failed: {error}")),
        };
        let last = self.submit(&again, LAST)?;
        self.has_one_outcome(LAST, &last)?;
        if let Err(error) = pool.drain(Some(LONG)) {
            self.excuse(&format!("draining failed: {error}"))?;
        }
        Ok(())
    }

    fn submit(&self, pool: &Pool<u64, u64>, number: u64) -> Result<PoolJob<u64>, Gone> {
        match pool.submit(&number) {
            Ok(job) => Ok(job),
            Err(SubmitError::PostmasterDied) => Err(Gone),
            Err(error) => {
                self.excuse(&format!("submitting failed: {error}"))?;
                Err(Gone)
            }
        }
    }

    fn one_submits_and_dies(&self, pool: SegmentHandle) -> Result<(), Gone> {
        let folder = self.folder.clone();
        let mut child = fork_child(|| {
            // The fault is the registrant's: nobody would let this process go on.
            arm("");
            let Ok(backend) = Backend::connect(&folder) else { return };
            let Ok(pool) = backend.open_pool::<u64, u64>(pool) else { return };
            let jobs: Vec<_> = (200..210).map(|number| pool.submit(&number)).collect();
            // Nothing is dropped.
            sys::exit_now(i32::from(!jobs.iter().all(Result::is_ok)));
        });
        match child.wait() {
            Ended::Code(0) | Ended::Signal(_) => Ok(()),
            ended => self.excuse(&format!("submitting as another process ended by {ended:?}")),
        }
    }

    fn has_one_outcome(&self, number: u64, job: &PoolJob<u64>) -> Result<(), Gone> {
        let outcome = match job.wait_timeout(LONG) {
            Ok(outcome) => outcome,
            Err(error) => return Err(self.broken(&format!("job {number}: {error}"))),
        };
        let again = job.outcome();
        if !matches!(&again, Ok(Some(again)) if *again == outcome) {
            return Err(self.broken(&format!("job {number}: {outcome:?}, and then {again:?}")));
        }
        if outcome == bgw_backend::Outcome::PostmasterDied {
            return Err(Gone);
        }
        if pool::is_possible(number, &outcome, number == CANCELLED, self.faulty) {
            return Ok(());
        }
        Err(self.broken(&format!("job {number}: {outcome:?}")))
    }
}

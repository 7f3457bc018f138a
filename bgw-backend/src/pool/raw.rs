//! One job of a pool, as its submitter has it, without its type: its outcome, its cancel, its end.
//!
//! A dead worker's job is over: a look at its slot says so, or what its successor has written down.

use super::answer::job_report;
use super::answer::{DIED, Death, ENDED_AT, FAILED, Failure, OUTPUT, RUN_PID, SEGMENT, TAKEN_AT};
use super::cells::Count;
use super::place::Run;
use super::shared::Shared;
use crate::calls::format::{self, Carried};
use crate::calls::segments::read_value;
use crate::error::TerminateError;
use crate::fault;
use crate::outcome::{self, Outcome};
use crate::segment::Segment;
use bgw_core::{ExitCause, ExitReport, NotStarted, Pid, SegmentHandle};
use shmem_slots::jobs::{Cancel, JobKey, JobState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// A job without its type.
pub(super) struct Raw {
    pub(super) shared: Arc<Shared>,
    pub(super) key: JobKey,
    /// The segment of a large input.
    input: Option<Segment>,
    cancelled: AtomicBool,
    /// Once it is known.
    outcome: Mutex<Option<Outcome>>,
}

/// What a look at a job finds.
pub(super) enum Look {
    /// The outcome is known.
    Over,
    Waits,
    /// The run of its worker, if that is known.
    Runs(Option<Run>),
}

impl Raw {
    pub(super) fn new(shared: Arc<Shared>, key: JobKey, input: Option<Segment>) -> Self {
        let (cancelled, outcome) = (AtomicBool::new(false), Mutex::new(None));
        Self { shared, key, input, cancelled, outcome }
    }

    fn known(&self) -> MutexGuard<'_, Option<Outcome>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The outcome that a look has found.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.known().clone()
    }

    /// Like [`Raw::outcome`], for the last who asks.
    pub(super) fn into_outcome(mut self) -> Option<Outcome> {
        let known = self.outcome.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Something stays, which says to the drop that there is nothing to give up.
        known.as_mut().map(|outcome| std::mem::replace(outcome, Outcome::Lost))
    }

    pub(super) fn look(&self) -> Look {
        let mut known = self.known();
        if known.is_some() {
            return Look::Over;
        }
        let over = |known: &mut Option<Outcome>, outcome: Outcome| {
            *known = Some(outcome);
            Look::Over
        };
        let jobs = &self.shared.jobs;
        let Some(word) = jobs.look(self.key) else { return over(&mut known, Outcome::Lost) };
        match word.state() {
            JobState::Ended => {
                let outcome = self.collect();
                over(&mut known, outcome)
            }
            JobState::Queued if self.shared.backend.postmaster_is_alive() => Look::Waits,
            JobState::Taken | JobState::Closing => {
                let run = self.shared.cells().run(word.party());
                // The cells are those of whoever has the job, as long as it has it.
                if jobs.look(self.key).map(|now| (now.state(), now.party()))
                    != Some((word.state(), word.party()))
                {
                    return Look::Runs(None);
                }
                let over_now = run.filter(|&run| self.shared.is_over(run));
                if let Some(run) = over_now {
                    // It may have ended the job before it ended itself.
                    if jobs.look(self.key).is_some_and(|word| word.state() == JobState::Ended) {
                        let outcome = self.collect();
                        return over(&mut known, outcome);
                    }
                    let outcome = self.died(self.shared.report(run));
                    self.give_up_output();
                    jobs.abandon(self.key);
                    self.shared.freed(self.key);
                    return over(&mut known, outcome);
                }
                if self.shared.backend.postmaster_is_alive() {
                    return Look::Runs(run);
                }
                over(&mut known, Outcome::PostmasterDied)
            }
            JobState::Queued => over(&mut known, Outcome::PostmasterDied),
            JobState::Free | JobState::Filling | JobState::Corrupt => {
                over(&mut known, Outcome::Lost)
            }
        }
    }

    fn note(&self, number: usize) -> u64 {
        self.shared.jobs.note(self.key, number).map_or(0, |at| at.load(Ordering::Relaxed))
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// The report of a job that its worker has ended.
    fn report(&self, cause: ExitCause) -> ExitReport {
        let (taken, ended) = (self.note(TAKEN_AT), self.note(ENDED_AT));
        let ended_at = self.shared.wall_clock.at(ended);
        let pid = u32::try_from(self.note(RUN_PID)).ok().and_then(Pid::new);
        let ran_for = Duration::from_nanos(ended.saturating_sub(taken));
        job_report(cause, pid, ran_for, ended_at)
    }

    /// Frees the cell of a job that has ended, and says how it has.
    fn collect(&self) -> Outcome {
        // Before the cell is another job's.
        let good = self.report(ExitCause::Exited(0));
        let bad = |good| ExitReport { cause: ExitCause::Exited(1), ..good };
        let mut bytes = Vec::new();
        fault::point("order:answered");
        let Some(code) = self.shared.jobs.collect(self.key, &mut bytes) else {
            return Outcome::Lost;
        };
        fault::point("order:collected");
        self.shared.freed(self.key);
        match code {
            OUTPUT => match self.value(bytes) {
                Some(value) => Outcome::Output { value, report: good },
                None => Outcome::Lost,
            },
            FAILED if self.is_cancelled() => {
                self.shared.cells().count(Count::Cancelled);
                Outcome::Cancelled(bad(good))
            }
            FAILED => match format::decode::<Failure>(&bytes) {
                Ok(Failure { text, causes }) => Outcome::Failed { text, causes, report: bad(good) },
                Err(_) => Outcome::Lost,
            },
            DIED => {
                let death = format::decode::<Option<Death>>(&bytes).ok().flatten();
                self.died(death.map(Death::report))
            }
            _ => Outcome::Lost,
        }
    }

    /// The encoded output, wherever it lies. An output that cannot be had is lost.
    fn value(&self, bytes: Vec<u8>) -> Option<Vec<u8>> {
        let Carried::InSegment { segment, len } = Carried::of(&bytes) else { return Some(bytes) };
        let segment = self.shared.backend.segment_once(segment).ok()?;
        read_value(&segment, len).ok()
    }

    /// The outcome of a job whose worker has ended without it.
    fn died(&self, report: Option<ExitReport>) -> Outcome {
        let Some(report) = report else {
            self.shared.cells().count(Count::Died);
            return Outcome::Lost;
        };
        let outcome = match outcome::of(report, self.is_cancelled()) {
            // It has exited with 0 by itself: the function has not returned.
            Outcome::Output { report, .. } => Outcome::Died(report),
            other => other.map(|()| Vec::new()),
        };
        let cancelled = matches!(outcome, Outcome::Cancelled(_));
        self.shared.cells().count(if cancelled { Count::Cancelled } else { Count::Died });
        outcome
    }

    /// A large output that the worker had passed on before it died counts no more.
    fn give_up_output(&self) {
        let segment = self.note(SEGMENT);
        if segment != 0 {
            self.shared.backend.give_up_segment(SegmentHandle::from_bits(segment));
        }
    }

    fn never_started(&self, reason: NotStarted, report: ExitReport) -> Outcome {
        Outcome::NotStarted { reason, report }
    }

    pub(super) fn cancel(&self) -> Result<(), TerminateError> {
        let mut known = self.known();
        if known.is_some() {
            return Ok(());
        }
        self.cancelled.store(true, Ordering::Relaxed);
        let jobs = &self.shared.jobs;
        match jobs.cancel(self.key) {
            Cancel::Cancelled => {
                *known = Some(self.was_cancelled());
                Ok(())
            }
            Cancel::Taken { taker } => {
                let run = self.shared.cells().run(taker);
                // A worker that has ended the job takes no other: its word says so.
                run.map_or(Ok(()), |run| self.shared.backend.handle(run.handle).terminate())
            }
            Cancel::Over => Ok(()),
        }
    }

    /// Cancels the job if it still waits in the queue.
    pub(super) fn withdraw(&self) {
        let mut known = self.known();
        if known.is_none() && self.shared.jobs.cancel(self.key) == Cancel::Cancelled {
            *known = Some(self.was_cancelled());
        }
    }

    /// The outcome of a job that was cancelled in the queue just now.
    fn was_cancelled(&self) -> Outcome {
        self.shared.freed(self.key);
        self.shared.cells().count(Count::Cancelled);
        let cause = ExitCause::NotStarted(NotStarted::Terminated);
        Outcome::Cancelled(job_report(cause, None, Duration::ZERO, SystemTime::now()))
    }

    /// Ends a job that waits for workers which are all given up.
    /// True if it is over.
    pub(super) fn give_up(&self) -> bool {
        let Some(report) = self.shared.given_up() else { return false };
        let mut known = self.known();
        if known.is_none() && self.shared.jobs.cancel(self.key) == Cancel::Cancelled {
            self.shared.freed(self.key);
            self.shared.cells().count(Count::NotStarted);
            *known = Some(self.never_started(NotStarted::GroupGivenUp, report));
        }
        known.is_some()
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if self.known().is_some() || !self.shared.is_mine() {
            return;
        }
        let jobs = &self.shared.jobs;
        if self.input.is_some() && jobs.cancel(self.key) == Cancel::Cancelled {
            self.shared.freed(self.key);
            return;
        }
        let over = jobs.look(self.key).is_some_and(|word| word.state() == JobState::Ended);
        if over {
            // Gives up a large output, too.
            drop(self.collect());
        } else {
            jobs.detach(self.key);
        }
    }
}

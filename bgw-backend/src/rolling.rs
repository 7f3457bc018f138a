//! Rolling replacement of workers.

use crate::answer::{Answer, AnswerError};
use crate::backend::{Backend, ConnectOptions};
use crate::handle::Handle;
use bgw_core::internals::{Reply, Request, RollPart, RollRequest};
use bgw_core::{AskError, ExitReport, RecvError, Refusal, RollOutcome, WorkerHandle};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How workers are replaced by a roll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roll {
    at_once: u32,
    ready_within: Duration,
    stop_first: bool,
}

impl Roll {
    /// Each next run starts beside the old one, and takes its place once it is ready; only then is
    /// the old one told to end. So no fewer workers are ready than before, at any time. `at_once`
    /// workers are in hand at a time, no more than the postmaster has room for (`overlap` of its
    /// builder); the next one is taken in hand when an old run has ended. Each next run must be
    /// ready within `ready_within` of its start: 1 ms to a day, in whole milliseconds. One that is
    /// not, or that fails, is not tried again, and the old one goes on serving.
    #[must_use]
    pub const fn new(at_once: u32, ready_within: Duration) -> Self {
        Self { at_once, ready_within, stop_first: false }
    }

    /// Each worker ends before its next run starts, so nobody does its work in between. `at_once`
    /// workers are in hand at a time. Each next run must be ready within `ready_within` of the end
    /// of the old one: 1 ms to a day, in whole milliseconds.
    #[must_use]
    pub const fn stop_first(at_once: u32, ready_within: Duration) -> Self {
        Self { at_once, ready_within, stop_first: true }
    }
}

/// What became of the workers of a roll. Each list keeps the order in which they were named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RollReport {
    /// Their next runs are ready.
    pub done: Vec<WorkerHandle>,
    /// Those in hand that failed: why, and how the last run that ended did so, if any has.
    pub failed: Vec<(WorkerHandle, RollOutcome, Option<ExitReport>)>,
    /// Those that were not touched, because another one failed before their turn.
    pub not_begun: Vec<WorkerHandle>,
}

impl RollReport {
    /// True if the next run of every worker is ready.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty() && self.not_begun.is_empty()
    }
}

/// Why a roll was not begun, or its answer did not come.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum RollError {
    /// A number that no roll may have.
    #[error("{field} is {value}, the limit is {limit}")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// The values that it may have.
        limit: &'static str,
    },
    /// No registered worker is a member of the group.
    #[error("no worker is a member of group \"{group}\"")]
    NoMembers {
        /// The name of the group.
        group: String,
    },
    /// The postmaster has begun nothing, or its answer did not come. A refusal names the worker;
    /// its reason is [`Refusal::NotRegistered`](bgw_core::Refusal::NotRegistered) if that is gone.
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

bgw_core::debug_as_chain!(RollError);

impl Backend {
    /// Replaces the present run of each of `workers` by its next one, in this order, a few at a
    /// time, and returns what became of them. Any number of workers, at least one.
    ///
    /// The next run of a worker in hand starts, and takes the place of the present one once it is
    /// ready, or starts when that has ended: see [`Roll`]. The old run gets its stop signal and may
    /// finish what it has begun: it has its grace, or 60 s where that is for ever. This is not a
    /// restart; the report of the old run says [`Recycled::Roll`](bgw_core::Recycled::Roll). A
    /// worker in a pause starts at once.
    ///
    /// After the first failure no other worker is begun, and those in hand are finished: a roll
    /// that breaks one worker breaks no others, except those already in hand. The postmaster does
    /// the work, so the roll goes on when the caller ends.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let backend = bgw_backend::Backend::connect("/run/user/1000/jobs")?;
    /// use bgw_backend::Roll;
    /// use std::time::Duration;
    ///
    /// let fleet = backend.find("web");
    /// let report = backend.roll(&fleet, Roll::new(1, Duration::from_secs(10)))?;
    /// for (worker, why, last) in &report.failed {
    ///     println!("{worker}: {why:?}, {last:?}; {} keep their run", report.not_begun.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`RollError`]. Refused by the name of the worker: one that is not registered, is never
    /// restarted, does not declare that it [says ready](bgw_core::BackgroundWorkerBuilder::ready),
    /// is named twice, or is in another roll; and more at once than the cluster has room for. No
    /// workers at all are out of range, so that a misspelt name, of which [`find`](Backend::find)
    /// knows nobody, does not pass for a roll.
    pub fn roll(&self, workers: &[Handle], roll: Roll) -> Result<RollReport, RollError> {
        let ready_within = checked(workers, roll)?;
        let answer = self.ask_for_roll(workers, roll, ready_within);
        let (reply, files) = answer.map_err(AnswerError::Ask)?.wait(self)?;
        let outcomes = outcomes(reply, files, workers.len()).map_err(AnswerError::Ask)?;
        let mut report = RollReport::default();
        for (worker, outcome) in workers.iter().zip(outcomes) {
            match outcome {
                RollOutcome::Done => report.done.push(worker.id()),
                RollOutcome::NotBegun => report.not_begun.push(worker.id()),
                RollOutcome::Ended => {
                    report.failed.push((worker.id(), outcome, worker.exit_report()));
                }
                _ => report.failed.push((worker.id(), outcome, None)),
            }
        }
        Ok(report)
    }

    /// [Rolls](Backend::roll) all members of a group
    /// ([`group`](bgw_core::BackgroundWorkerBuilder::group)), as
    /// [`find_group`](Backend::find_group) lists them. Whoever joins the group later is not rolled.
    /// A roll of a member does not count as its failure: no other member stops with it, and it does
    /// not count towards the intensity of the group.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let backend = bgw_backend::Backend::connect("/run/user/1000/jobs")?;
    /// use bgw_backend::Roll;
    /// use std::time::Duration;
    ///
    /// let report = backend.roll_group("web", Roll::stop_first(2, Duration::from_secs(10)))?;
    /// println!("{} of the group are replaced", report.done.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`roll`](Backend::roll), for any member; a group without members, which may be a misspelt
    /// name.
    pub fn roll_group(&self, name: &str, roll: Roll) -> Result<RollReport, RollError> {
        for _ in 0..LOOKS_AT_A_GROUP {
            match self.roll_members(name, roll) {
                // A member has ended since the look: nothing is begun.
                Err(RollError::Answer(AnswerError::Ask(AskError::Refused {
                    reason: Refusal::NotRegistered,
                    ..
                }))) => {}
                done => return done,
            }
        }
        self.roll_members(name, roll)
    }

    fn roll_members(&self, name: &str, roll: Roll) -> Result<RollReport, RollError> {
        let members = self.find_group(name);
        if members.is_empty() {
            return Err(RollError::NoMembers { group: name.to_owned() });
        }
        self.roll(&members, roll)
    }

    /// Names the workers, in as many requests as it takes. The last one begins the roll.
    fn ask_for_roll(
        &self,
        workers: &[Handle],
        roll: Roll,
        ready_within: u32,
    ) -> Result<Answer, AskError> {
        let list = NEXT_LIST.fetch_add(1, Ordering::Relaxed);
        let mut parts = workers
            .chunks(RollPart::IN_A_PACKET)
            .map(|part| RollPart { list, workers: part.iter().map(Handle::id).collect() });
        let last = parts.next_back().unwrap_or_else(|| RollPart { list, workers: Vec::new() });
        let mut before = 0_usize;
        for part in parts {
            before += part.workers.len();
            let deadline = Instant::now().checked_add(ConnectOptions::default().timeout);
            let reply = self.attachment.ask(&Request::ToRoll(Box::new(part)), deadline)?;
            if reply != Reply::Done {
                return Err(AskError::unexpected(&reply));
            }
        }
        // No cluster has as many workers as do not fit.
        let before = u32::try_from(before).unwrap_or(u32::MAX);
        let Roll { at_once, stop_first, .. } = roll;
        let request = RollRequest { at_once, ready_within, stop_first, before, last };
        Answer::to(&Request::Roll(Box::new(request)), self)
    }
}

/// How often the members of a group are looked up while some of them end.
const LOOKS_AT_A_GROUP: usize = 5;

/// Lists of workers have numbers, so that threads which roll at the same time do not mix theirs.
static NEXT_LIST: AtomicU32 = AtomicU32::new(0);

/// What became of each worker, of which there are `count`.
fn outcomes(reply: Reply, files: Vec<OwnedFd>, count: usize) -> Result<Vec<RollOutcome>, AskError> {
    match (reply, files.into_iter().next()) {
        (Reply::Rolled(outcomes), _) if outcomes.len() == count => Ok(outcomes),
        (Reply::RolledIn { count: said }, Some(file)) if usize::try_from(said) == Ok(count) => {
            let read = RollOutcome::from_file(file, count);
            read.map_err(|error| AskError::Receive(RecvError::System(error)))
        }
        (reply, _) => Err(AskError::unexpected(&reply)),
    }
}

/// How long each next run may take, in milliseconds.
fn checked(workers: &[Handle], roll: Roll) -> Result<u32, RollError> {
    let out_of_range = |field, value, limit| Err(RollError::OutOfRange { field, value, limit });
    if roll.at_once == 0 {
        return out_of_range("at_once", "0".to_owned(), "1 up");
    }
    let day = Duration::from_secs(86_400);
    if roll.ready_within < Duration::from_millis(1) || roll.ready_within > day {
        return out_of_range("ready_within", format!("{:?}", roll.ready_within), "1ms to a day");
    }
    if workers.is_empty() {
        return out_of_range("workers", "0".to_owned(), "1 up");
    }
    // A day fits.
    Ok(u32::try_from(roll.ready_within.as_millis()).unwrap_or(u32::MAX))
}

//! Jobs of a pool: what they do, and which outcomes they may have.
//!
//! A job is a number. Most return the double of it, some fail, some take their process with them.
//! Each notes that it runs: none runs twice, whoever dies.

use crate::journal::{Deed, Event, Journal, Kind, NOBODY};
use crate::worker::WORKER;
use bgw_backend::{Outcome, Worker, pooled};
use bgw_postmaster::PostmasterBuilder;
use std::collections::HashMap;

/// The pool's function.
pub(crate) const FUNCTION: &str = "double";
/// Of so many numbers in a row, one fails and one dies.
const ROUND: u64 = 16;
const FAILS: u64 = 3;
const DIES: u64 = 5;

/// Names the pool's function to a postmaster.
pub(crate) fn functions(builder: PostmasterBuilder, journal: Journal) -> PostmasterBuilder {
    let double = move |_: &mut Worker, job: u64| {
        let about = [Deed::RanJob as u64, job, 0];
        journal.note(journal.ticket(), WORKER, Kind::Did, NOBODY, about);
        match job % ROUND {
            FAILS => Err(std::io::Error::other("this job fails on purpose")),
            DIES => std::process::abort(),
            _ => Ok(job.wrapping_mul(2)),
        }
    };
    builder.call(FUNCTION, pooled(double))
}

/// Whether `job` may have come to this. Its worker may have been killed, or not started, if
/// `disturbed`.
pub(crate) fn is_possible(
    job: u64,
    outcome: &Outcome<u64>,
    cancelled: bool,
    disturbed: bool,
) -> bool {
    match outcome {
        Outcome::Output { value, .. } => {
            *value == job.wrapping_mul(2) && !matches!(job % ROUND, FAILS | DIES)
        }
        Outcome::Failed { .. } => job % ROUND == FAILS,
        Outcome::Panicked { .. } => job % ROUND == DIES,
        Outcome::Died(_) => job % ROUND == DIES || disturbed,
        Outcome::Cancelled(_) => cancelled,
        Outcome::NotStarted { .. } => disturbed,
        // The worker that follows the one which died has died as well, before it said so.
        Outcome::Lost => disturbed,
        _ => false,
    }
}

/// A job that was run more than once.
pub(crate) fn ran_twice(events: &[Event]) -> Option<u64> {
    let mut runs: HashMap<u64, u32> = HashMap::new();
    let ran = |event: &&Event| event.kind == Kind::Did && event.a == Deed::RanJob as u64;
    events.iter().filter(ran).for_each(|event| *runs.entry(event.b).or_default() += 1);
    runs.into_iter().find(|&(_, count)| count > 1).map(|(job, _)| job)
}

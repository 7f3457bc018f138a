//! Waiting for jobs.
//!
//! A wait sleeps on the jobs' words, this process's interrupts, the postmaster, and on the slot of
//! the worker that has the job; while nobody has it, or for several jobs, on the cluster's count of
//! changes. So it ends with a job, and with its worker's death.

use super::launch::WAKES_WITHIN;
use super::raw::{Look, Raw};
use super::shared::instant_of;
use crate::error::WaitError;
use bgw_core::internals::process;
use shmem_slots::futex::{self, Watch, Woken};
use std::time::Instant;

/// Waits until one of the jobs is over, and has its outcome; returns its place.
pub(super) fn wait_for_one(all: &[&Raw], deadline: Option<Instant>) -> Result<usize, WaitError> {
    /// Two watches for each job, and the others.
    const WATCHED: usize = 60;
    let shared = &all.first().ok_or(WaitError::NoHandles)?.shared;
    let attachment = &shared.backend.attachment;
    // Most often one is over already, while many are in flight.
    if let Some(place) = over(all) {
        return Ok(place);
    }
    let mut first_sleep = true;
    loop {
        // Everything that can end the wait is read before the looks below.
        let interrupts = process::interrupts().count();
        let changes = attachment.cells().watch_changes();
        let postmaster = attachment.watch_postmaster();
        let mut watches: Vec<Watch<'_>> = Vec::with_capacity(8);
        watches.push(process::interrupts().watch(interrupts));
        watches.extend(postmaster);
        let (mut waiting, mut run) = (None, None);
        let mut over_meanwhile = false;
        for (place, raw) in all.iter().enumerate() {
            match raw.look() {
                Look::Over => return Ok(place),
                Look::Waits => waiting = waiting.or(Some(*raw)),
                Look::Runs(found) => run = found,
            }
            if place < WATCHED {
                match shared.jobs.watches(raw.key) {
                    Some(own) => watches.extend(own),
                    None => over_meanwhile = true,
                }
            }
        }
        if over_meanwhile {
            continue;
        }
        if let Some(raw) = waiting {
            if raw.give_up() {
                let place = all.iter().position(|other| std::ptr::eq(*other, raw));
                return Ok(place.unwrap_or(0));
            }
        }
        // Whoever waits starts what others need, too.
        let class = all.first().map_or(0, |raw| shared.jobs.class_of(raw.key));
        let next_launch = shared.launch_if_needed(class);
        let taken_over = waiting.and_then(|_| shared.take_over_launch(class));
        let next_launch = [next_launch, taken_over].into_iter().flatten().min();
        if process::interrupts().waits_are_interrupted() {
            return Err(WaitError::Interrupted);
        }
        // The slot of its worker, if that is all there is to know.
        let word = run.filter(|_| all.len() == 1).and_then(|run| Some((run, shared.word_of(run)?)));
        match word {
            Some((run, word)) => {
                if shared.is_over(run) {
                    continue;
                }
                watches.extend(attachment.slots().watches(run.handle.slot(), word));
            }
            None => watches.extend(changes),
        }
        let look_again = if first_sleep && waiting.is_some() {
            // Then it wakes all workers: the one that it woke may be stopped.
            Instant::now().checked_add(WAKES_WITHIN)
        } else {
            next_launch.and_then(instant_of)
        };
        let until = [deadline, look_again].into_iter().flatten().min();
        let woken = futex::wait_any(&watches, until)?;
        if woken == Woken::TimedOut {
            if let (true, Some(raw)) = (first_sleep, waiting) {
                first_sleep = false;
                shared.jobs.wake_all_takers(shared.jobs.class_of(raw.key));
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                // It may have ended together with the deadline.
                return over(all).ok_or(WaitError::TimedOut);
            }
        }
    }
}

/// The first that is over.
fn over(all: &[&Raw]) -> Option<usize> {
    all.iter().position(|raw| matches!(raw.look(), Look::Over))
}

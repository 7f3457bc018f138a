//! How a pool is to be.

use super::answer::LEAST_ROOM;
use super::cells::Settings;
use super::error::PoolError;
use bgw_core::Grace;
use bgw_core::internals::FUNCTION_LIMIT;
use shmem_slots::jobs::{MAX_CLASSES, MAX_JOBS, MAX_ROOM, MAX_TAKERS};
use std::ops::RangeInclusive;
use std::time::Duration;

/// How many processes can have one pool open at a time.
pub(super) const SUBMITTERS: u32 = 256;

const MAX_GRACE: Duration = Duration::from_secs(86_400);

/// Settings of a new pool.
///
/// ```
/// use bgw_backend::PoolOptions;
/// use std::time::Duration;
///
/// let options = PoolOptions::new("resize") // registered by `call("resize", pooled(resize))`
///     .workers(2..=8)
///     .queue(1_000)
///     .idle(Duration::from_secs(30))
///     .class(0, 3) // class 0: three of four turns
///     .class(1, 1); // class 1: one of four, and a worker that serves no other class
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct PoolOptions {
    pub(super) function: String,
    workers: RangeInclusive<u32>,
    queue: u32,
    idle: Duration,
    launch_interval: Duration,
    start_attempts: u32,
    grace: Grace,
    inline: u32,
    classes: Vec<(u32, u32)>,
}

impl PoolOptions {
    /// A pool whose workers run this function of the postmaster's program: one worker, 1,024 jobs
    /// at a time, one class.
    pub fn new(function: impl Into<String>) -> Self {
        Self {
            function: function.into(),
            workers: 1..=1,
            queue: 1_024,
            idle: Duration::from_secs(10),
            launch_interval: Duration::from_millis(100),
            start_attempts: 5,
            grace: Grace::Bounded,
            inline: LEAST_ROOM,
            classes: Vec::new(),
        }
    }

    /// How many workers there are, at least and at most, 1 to 512. The least number starts with the
    /// pool; others when jobs wait and all workers are busy. They are started by a process that
    /// submits, or waits for a job: while all that have the pool open do neither, no more are
    /// started.
    pub const fn workers(mut self, workers: RangeInclusive<u32>) -> Self {
        self.workers = workers;
        self
    }

    /// How many jobs of a class there can be at a time, from their submission until somebody has
    /// looked at their outcome: 1 to 65,536. Beyond that a submission is refused as `Full`, or
    /// waits.
    pub const fn queue(mut self, jobs: u32) -> Self {
        self.queue = jobs;
        self
    }

    /// How long a worker above the minimum may have nothing to do before it ends. Default: 10 s.
    /// After this time without a job all end if no process has the pool open any more.
    pub const fn idle(mut self, time: Duration) -> Self {
        self.idle = time;
        self
    }

    /// The shortest time between two starts of workers because jobs wait. At least 1 ms; default
    /// 100 ms.
    pub const fn launch_interval(mut self, time: Duration) -> Self {
        self.launch_interval = time;
        self
    }

    /// How often a worker may fail without ever being ready for a job, before it is given up: 1 to
    /// 100. Default: 5.
    pub const fn start_attempts(mut self, attempts: u32) -> Self {
        self.start_attempts = attempts;
        self
    }

    /// How long the job in hand may go on once its worker is told to stop, because the job is
    /// cancelled or the cluster shuts down; then the worker is killed. Default:
    /// [`Grace::Bounded`], the postmaster's `terminate_grace`, or 60 s where that is for ever.
    ///
    /// A job that looks at [`Worker::should_stop`](crate::Worker::should_stop) now and then can end
    /// sooner.
    pub const fn grace(mut self, grace: Grace) -> Self {
        self.grace = grace;
        self
    }

    /// How many bytes of an encoded input or output fit into the job's cell: 1,216, the default, to
    /// 65,536. Longer ones are put into segments.
    pub const fn inline(mut self, bytes: u32) -> Self {
        self.inline = bytes;
        self
    }

    /// Adds a class: `reserve` workers serve no other, and the rest serve it `weight` times while
    /// they serve the other classes as often as their weights say. At most 8; without any there is
    /// one, class 0.
    pub fn class(mut self, reserve: u32, weight: u32) -> Self {
        self.classes.push((reserve, weight));
        self
    }

    pub(super) fn check(&self) -> Result<Checked, PoolError> {
        let (min, max) = (*self.workers.start(), *self.workers.end());
        let classes = if self.classes.is_empty() { vec![(0, 1)] } else { self.classes.clone() };
        let reserved = classes.iter().fold(0_u32, |all, &(reserve, _)| all.saturating_add(reserve));
        let wrong =
            |field, value: String, allowed| Err(PoolError::Options { field, value, allowed });
        if min > max || !(1..=MAX_TAKERS).contains(&max) {
            return wrong("workers", format!("{min} to {max}"), "at most 512, and 1 or more");
        }
        if !(1..=MAX_JOBS).contains(&self.queue) {
            return wrong("queue", self.queue.to_string(), "1 to 65,536");
        }
        if !(LEAST_ROOM..=MAX_ROOM).contains(&self.inline) {
            return wrong("inline", self.inline.to_string(), "1,216 to 65,536");
        }
        if !(1..=100).contains(&self.start_attempts) {
            return wrong("start_attempts", self.start_attempts.to_string(), "1 to 100");
        }
        if matches!(self.grace, Grace::After(time) if time > MAX_GRACE) {
            return wrong("grace", format!("{:?}", self.grace), "at most a day");
        }
        if self.idle < Duration::from_millis(1) {
            return wrong("idle", format!("{:?}", self.idle), "1 ms up");
        }
        if classes.len() > MAX_CLASSES as usize || classes.iter().any(|&(_, weight)| weight == 0) {
            return wrong("classes", format!("{classes:?}"), "at most 8, each with a weight");
        }
        let unreserved = max.saturating_sub(reserved);
        let unserved = classes.iter().any(|&(reserve, _)| reserve == 0) && unreserved == 0;
        if reserved > max || unserved {
            let allowed = "no more than there are workers, and one left for classes without";
            return wrong("reserves", reserved.to_string(), allowed);
        }
        if self.function.len() > FUNCTION_LIMIT {
            return wrong("function", self.function.clone(), "at most 95 bytes");
        }
        let settings = Settings {
            function: self.function.clone(),
            // Reserved workers are there from the beginning.
            min: min.max(reserved),
            max,
            idle: self.idle,
            interval: self.launch_interval,
            attempts: self.start_attempts,
            grace: self.grace,
            classes,
        };
        Ok(Checked { settings, queue: self.queue, room: self.inline })
    }
}

/// Settings that a pool can have.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) settings: Settings,
    pub(super) queue: u32,
    pub(super) room: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_named() {
        let good = || PoolOptions::new("f").workers(1..=4);
        assert!(good().check().is_ok() && good().class(4, 1).check().is_ok());
        #[allow(clippy::reversed_empty_ranges)]
        let wrong = [
            ("workers", good().workers(0..=0)),
            ("workers", good().workers(3..=2)),
            ("workers", good().workers(1..=513)),
            ("queue", good().queue(0)),
            ("inline", good().inline(8)),
            ("start_attempts", good().start_attempts(0)),
            ("grace", good().grace(Grace::After(Duration::from_secs(86_401)))),
            ("idle", good().idle(Duration::ZERO)),
            ("classes", good().class(0, 0)),
            ("reserves", good().class(3, 1).class(2, 1)),
            ("reserves", good().class(4, 1).class(0, 1)),
            ("function", PoolOptions::new("f".repeat(96))),
        ];
        for (named, options) in wrong {
            let Err(PoolError::Options { field, .. }) = options.check() else {
                panic!("{named} was taken")
            };
            assert_eq!(field, named);
        }
        assert_eq!(good().class(2, 1).class(0, 1).check().unwrap().settings.min, 2);
    }
}

//! When a worker that works is replaced by its next run, in the numbers that a slot holds. Pure.
//!
//! Each run draws its own limits at random, at most the jitter below those of the description, so
//! that workers that started together are not replaced together.

use super::caller::Caller;
use super::invalid::InvalidWorker;
use super::policy::RestartPolicy;
use super::restarts::{THOUSANDTHS, millis};
use super::validate_restart::{out_of_range, share_is_allowed, thousandths, unfit};
use std::time::Duration;

const LIFETIMES: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);
const LEAST_RSS: u64 = 1 << 20;

/// When a worker is replaced by its next run although nothing is wrong: for workers that leak, or
/// that work best while they are young.
///
/// A run that reaches a limit gets its stop signal and may finish its current work, within its
/// [grace](crate::BackgroundWorkerBuilder::grace), or 60 s if that is for ever. The next run starts
/// when it has ended, however it ended; with [`overlap`](Recycle::overlap) before. This counts
/// neither as a restart nor as a failure, and there is no pause.
/// [`ExitReport::recycled`](crate::ExitReport::recycled) says which limit it was.
///
/// ```
/// use bgw_core::{BackgroundWorker, Recycle, RestartPolicy};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), bgw_core::InvalidWorker> {
/// let hour = Duration::from_secs(3600);
/// let worker = BackgroundWorker::builder("web")
///     .function("serve")
///     .restart(RestartPolicy::after_secs(1))
///     .recycle(Recycle::new().jobs(10_000).lifetime(6 * hour).rss(512 << 20))
///     .build()?;
/// assert_eq!(worker.recycle().map(|recycle| recycle.jitter), Some(0.1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Recycle {
    /// After this many jobs.
    pub jobs: Option<u32>,
    /// This long after its start.
    pub lifetime: Option<Duration>,
    /// When it uses this many bytes.
    pub rss: Option<u64>,
    /// The limits of each run are lower by a random share, at most this one.
    pub jitter: f64,
    /// The next run starts, and is ready, before the present one is told to end.
    pub overlap: bool,
}

impl Recycle {
    /// No limit yet, and a jitter of 0.1.
    #[must_use]
    pub const fn new() -> Self {
        Self { jobs: None, lifetime: None, rss: None, jitter: 0.1, overlap: false }
    }

    /// After this many jobs, at least 1. The worker counts them by `Worker::job_done`. Refused for
    /// a command, which cannot call it.
    #[must_use]
    pub const fn jobs(self, count: u32) -> Self {
        Self { jobs: Some(count), ..self }
    }

    /// This long after the start of its process: a second to 30 days, in whole milliseconds.
    #[must_use]
    pub const fn lifetime(self, time: Duration) -> Self {
        Self { lifetime: Some(time), ..self }
    }

    /// When it uses this many bytes of memory, at least 1 MiB. Only the resident memory of its own
    /// process that is anonymous and not shared counts: `RssAnon` in `/proc/PID/status`. The
    /// postmaster looks every 5 s, and sooner, down to every 0.1 s, at a worker that would reach
    /// the limit before that if it went on growing as it has. One that [beats](
    /// crate::BackgroundWorkerBuilder::heartbeat) is also looked at with its beats, at most twice a
    /// second, unless more than 64 workers beat at its interval.
    #[must_use]
    pub const fn rss(self, bytes: u64) -> Self {
        Self { rss: Some(bytes), ..self }
    }

    /// Lowers the limits of each run by a random share of them, up to this one: 0 to 0.5, in
    /// thousandths.
    #[must_use]
    pub const fn jitter(self, share: f64) -> Self {
        Self { jitter: share, ..self }
    }

    /// The next run starts beside the present one, and takes its place once it is ready; only then
    /// is the former told to end. Handle, slot and generation stay, and the worker is never seen
    /// [stopped](crate::WorkerStatus::Stopped). A next run that fails before that is tried again
    /// after a pause, as often as needed, while the present one goes on serving. One that is not
    /// ready within the [`start_timeout`](crate::BackgroundWorkerBuilder::start_timeout), or 60 s
    /// where there is none, is stopped, and has failed. As many of the cluster's workers are
    /// replaced at a time as the postmaster has room for (`overlap` of its builder); the others
    /// wait their turn.
    ///
    /// Refused for a worker that does not declare that it [says
    /// ready](crate::BackgroundWorkerBuilder::ready).
    #[must_use]
    pub const fn overlap(self) -> Self {
        Self { overlap: true, ..self }
    }
}

impl Default for Recycle {
    fn default() -> Self {
        Self::new()
    }
}

/// The same; validated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) jobs: Option<u32>,
    /// Milliseconds.
    pub(crate) lifetime: Option<u32>,
    pub(crate) rss: Option<u64>,
    /// 0 without a limit.
    pub(crate) jitter: u16,
    /// False without a limit.
    pub(crate) overlap: bool,
}

impl Limits {
    pub(crate) fn recycle(&self) -> Recycle {
        let jitter = f64::from(self.jitter) / f64::from(THOUSANDTHS);
        let lifetime = self.lifetime.map(millis);
        Recycle { jobs: self.jobs, lifetime, rss: self.rss, jitter, overlap: self.overlap }
    }

    const fn are_none(&self) -> bool {
        self.jobs.is_none() && self.lifetime.is_none() && self.rss.is_none()
    }

    /// The limit of one run: `random` out of 2³² of the jitter below `limit`, and at least 1.
    pub(super) fn drawn(&self, limit: u64, random: u32) -> u64 {
        let most = u128::from(limit) * u128::from(self.jitter);
        let less = ((most * u128::from(random)) >> 32) / u128::from(THOUSANDTHS);
        limit.saturating_sub(u64::try_from(less).unwrap_or(u64::MAX)).max(1)
    }
}

pub(super) fn check_recycle(
    draft: Option<&Recycle>,
    restart: RestartPolicy,
    caller: Caller,
    declared: bool,
) -> Result<Limits, InvalidWorker> {
    let Some(draft) = draft else { return Ok(Limits::default()) };
    let field = "recycle";
    let Recycle { jobs, lifetime, rss, jitter, overlap } = *draft;
    if jobs == Some(0) {
        return Err(out_of_range(field, "0 jobs", "1 job up"));
    }
    if let Some(time) = lifetime.filter(|time| !LIFETIMES.contains(time)) {
        return Err(out_of_range(field, format!("a lifetime of {time:?}"), "1s to 30 days"));
    }
    if let Some(bytes) = rss.filter(|&bytes| bytes < LEAST_RSS) {
        return Err(out_of_range(field, format!("an rss of {bytes} bytes"), "1 MiB up"));
    }
    if !share_is_allowed(jitter) {
        return Err(out_of_range(field, format!("a jitter of {jitter}"), "0 to 0.5"));
    }
    let limits = Limits {
        jobs,
        // 30 days are within 32 bits of milliseconds.
        lifetime: lifetime.map(|time| u32::try_from(time.as_millis()).unwrap_or(u32::MAX)),
        rss,
        jitter: thousandths(jitter),
        overlap,
    };
    if limits.are_none() {
        return Ok(Limits::default());
    }
    if restart == RestartPolicy::Never {
        let needs = "a restart other than Never";
        return Err(unfit(field, limits_in_words(&limits), needs));
    }
    if let (Some(jobs), Caller::Command) = (jobs, caller) {
        return Err(unfit(
            field,
            format!("{jobs} jobs"),
            "a function, or an attached command, which can count them",
        ));
    }
    if overlap && !declared {
        return Err(unfit(
            field,
            "an overlap".to_owned(),
            "a worker that declares that it says ready",
        ));
    }
    Ok(limits)
}

fn limits_in_words(limits: &Limits) -> String {
    let jobs = limits.jobs.map(|jobs| format!("{jobs} jobs"));
    let lifetime = limits.lifetime.map(|time| format!("a lifetime of {:?}", millis(time)));
    let rss = limits.rss.map(|rss| format!("an rss of {rss} bytes"));
    [jobs, lifetime, rss].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks if a run may go beyond the limit, below the limit less the jitter, or if the limits
    /// of a fleet are one.
    #[test]
    fn the_limits_of_runs_differ_and_never_exceed_the_limit() {
        let limits = |jitter| Limits { jitter, ..Limits::default() };
        for limit in [1, 2, 1_000, u64::from(u32::MAX), u64::MAX] {
            for jitter in [0, 1, 100, 500] {
                let least = limit - (u128::from(limit) * u128::from(jitter) / 1_000) as u64;
                assert_eq!(limits(jitter).drawn(limit, 0), limit);
                for random in [1, 1 << 31, u32::MAX] {
                    let drawn = limits(jitter).drawn(limit, random);
                    assert!((least.max(1)..=limit).contains(&drawn), "{limit}, {jitter}, {random}");
                }
            }
        }
        let drawn = [0, 1 << 30, 2 << 30, 3 << 30].map(|random| limits(500).drawn(1_000, random));
        assert_eq!(drawn, [1_000, 875, 750, 625]);
    }
}

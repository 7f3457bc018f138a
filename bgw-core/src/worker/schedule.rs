//! The delays of a worker that fails again and again.

use super::description::BackgroundWorker;
use super::policy::RestartPolicy;
use super::restarts::{Delays, Restarts};
use super::validate_restart::{RestartDraft, nearest};
use std::time::Duration;

/// The delays before the restarts of a worker that fails at once each time, the first one first and
/// without jitter. From [`BackgroundWorker::schedule`] or [`RestartPolicy::schedule`].
///
/// Ends where the worker is given up; without such a limit it never ends.
#[derive(Clone, Debug)]
pub struct Schedule {
    restarts: Restarts,
    /// How many delays have been returned.
    streak: u32,
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.restarts.limit().is_some_and(|limit| self.streak >= limit) {
            return None;
        }
        self.streak = self.streak.saturating_add(1);
        self.restarts.delay(self.streak)
    }
}

impl std::iter::FusedIterator for Schedule {}

impl BackgroundWorker {
    /// The delays before its restarts, if it fails at once each time.
    ///
    /// ```
    /// use bgw_core::{BackgroundWorker, RestartPolicy};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), bgw_core::InvalidWorker> {
    /// let millis = Duration::from_millis;
    /// let worker = BackgroundWorker::builder("fetcher")
    ///     .function("fetch")
    ///     .restart(RestartPolicy::backoff(millis(100), millis(2_000)))
    ///     .give_up(6, millis(60_000))
    ///     .build()?;
    /// let delays: Vec<_> = worker.schedule().map(|delay| delay.as_millis()).collect();
    /// assert_eq!(delays, [100, 200, 400, 800, 1600, 2000]); // the seventh failure gives it up
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub const fn schedule(&self) -> Schedule {
        Schedule { restarts: self.restarts, streak: 0 }
    }

    /// The delay after its `streak`-th failure in a row, without jitter; `None` if it is never
    /// restarted.
    #[must_use]
    pub fn delay(&self, streak: u32) -> Option<Duration> {
        self.restarts.delay(streak)
    }

    /// `delay` with a share of the jitter: `random` out of 2³² of it.
    #[doc(hidden)]
    #[must_use]
    pub fn spread(&self, delay: Duration, random: u32) -> Duration {
        self.restarts.spread(delay, random)
    }
}

impl RestartPolicy {
    /// The delays before the restarts of a worker that has this policy, no limit, and fails at once
    /// each time. Empty for [`RestartPolicy::Never`], else it never ends. A number that no
    /// description may hold counts as the nearest one that it may.
    ///
    /// ```
    /// use bgw_core::RestartPolicy;
    ///
    /// // At once five times, then ever slower.
    /// let delays = RestartPolicy::after_secs(0).schedule().map(|delay| delay.as_millis());
    /// assert_eq!(delays.take(8).collect::<Vec<_>>(), [0, 0, 0, 0, 0, 100, 200, 400]);
    /// ```
    #[must_use]
    pub fn schedule(self) -> Schedule {
        let delays: Option<Delays> = nearest(self);
        Schedule { restarts: RestartDraft::default().resolved(delays), streak: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(restart: RestartPolicy) -> crate::BackgroundWorkerBuilder {
        BackgroundWorker::builder("w").function("f").restart(restart)
    }

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// Every policy at its limits, and some between.
    fn policies() -> Vec<RestartPolicy> {
        let times = [1, 2, 99, 100, 999, 1_000, 30_000, 86_399_999, 86_400_000].map(millis);
        let mut all = vec![RestartPolicy::Fixed(Duration::ZERO)];
        all.extend(times.map(RestartPolicy::Fixed));
        for (at, &min) in times.iter().enumerate() {
            for &max in &times[at..] {
                for factor in [1.0, 1.001, 1.1, 1.5, 2.0, 3.333, 9.999, 10.0] {
                    all.push(RestartPolicy::Backoff { min, max, factor });
                }
            }
        }
        all
    }

    /// d(k) by the letter, with wide numbers.
    fn by_the_letter(policy: RestartPolicy, count: usize) -> Vec<u128> {
        let mut delays = Vec::new();
        for k in 1..=count as u32 {
            delays.push(match policy {
                RestartPolicy::Never => return delays,
                RestartPolicy::Fixed(d) if d < millis(1_000) && k > 5 => {
                    let brake = 100u128.saturating_mul(1 << (k - 6).min(64)).min(30_000);
                    d.as_millis().max(brake)
                }
                RestartPolicy::Fixed(d) => d.as_millis(),
                RestartPolicy::Backoff { min, .. } if k == 1 => min.as_millis(),
                RestartPolicy::Backoff { max, factor, .. } => {
                    let thousandths = (factor * 1000.0).round() as u128;
                    let longer = (delays[k as usize - 2] * thousandths).div_ceil(1000);
                    longer.min(max.as_millis())
                }
            });
        }
        delays
    }

    #[test]
    fn each_delay_is_that_of_the_schedule_up_to_the_thousandth() {
        for policy in policies() {
            let expected = by_the_letter(policy, 1_000);
            let worker = worker(policy).build().unwrap();
            let schedule: Vec<_> =
                worker.schedule().take(1_000).map(|delay| delay.as_millis()).collect();
            assert_eq!(schedule, expected, "{policy:?}");
            let policys: Vec<_> =
                policy.schedule().take(1_000).map(|delay| delay.as_millis()).collect();
            assert_eq!(policys, expected, "{policy:?}");
            for k in [1, 2, 5, 6, 7, 14, 15, 100, 999, 1_000] {
                let delay = worker.delay(k).unwrap();
                assert_eq!(delay.as_millis(), expected[k as usize - 1], "{policy:?}, d({k})");
            }
            assert!(worker.delay(u32::MAX).unwrap() <= Duration::from_secs(86_400));
        }
        assert_eq!(RestartPolicy::Never.schedule().next(), None);
    }

    #[test]
    fn a_pause_is_never_below_its_delay_nor_above_it_and_its_jitter() {
        for policy in policies() {
            for jitter in [0.0, 0.001, 0.1, 0.25, 0.5] {
                let worker = worker(policy).jitter(jitter).build().unwrap();
                for k in [1, 2, 10, 1_000] {
                    let delay = worker.delay(k).unwrap();
                    let most = delay.as_millis() * (jitter * 1000.0) as u128;
                    let mut last = Duration::ZERO;
                    for random in [0, 1, 1 << 20, 1 << 31, u32::MAX - 1, u32::MAX] {
                        let pause = worker.spread(delay, random);
                        let more = (pause - delay).as_millis() * 1000;
                        assert!(more <= most, "{policy:?}, jitter {jitter}, {random}: {pause:?}");
                        assert!(pause >= last, "a larger number is a longer pause");
                        last = pause;
                    }
                    assert_eq!(worker.spread(delay, 0), delay);
                }
            }
        }
        // Half of the jitter for half of the numbers.
        let worker = worker(RestartPolicy::after_secs(10)).jitter(0.5).build().unwrap();
        assert_eq!(worker.spread(millis(10_000), 1 << 31), millis(12_500));
    }

    /// As many as the limits grant, and none after them.
    #[test]
    fn the_schedule_ends_where_the_worker_is_given_up() {
        let at_once = RestartPolicy::Fixed(Duration::ZERO);
        let minute = Duration::from_secs(60);
        let count = |builder: crate::BackgroundWorkerBuilder| {
            builder.build().unwrap().schedule().take(200).count()
        };
        assert_eq!(count(worker(at_once)), 200);
        assert_eq!(count(worker(at_once).give_up(7, minute)), 7);
        let declared = || worker(at_once).ready(crate::Ready::Call);
        assert_eq!(count(declared().start_attempts(1)), 0);
        assert_eq!(count(declared().start_attempts(4)), 3);
        assert_eq!(count(declared().start_attempts(4).give_up(2, minute)), 2);
        assert_eq!(count(declared().start_attempts(4).give_up(9, minute)), 3);
        // The limit takes the place of the brake.
        let limited = worker(at_once).give_up(100, minute).build().unwrap();
        assert!(limited.schedule().all(|delay| delay.is_zero()));
        let unbraked = worker(at_once).unbraked().build().unwrap();
        assert!(unbraked.schedule().take(1_000).all(|delay| delay.is_zero()));
    }

    #[test]
    fn a_policy_beyond_the_limits_has_the_delays_of_the_nearest_one() {
        let day = Duration::from_secs(86_400);
        let first = |policy: RestartPolicy| policy.schedule().next();
        assert_eq!(first(RestartPolicy::Fixed(Duration::MAX)), Some(day));
        for factor in [f64::NAN, f64::NEG_INFINITY, -1.0, f64::INFINITY] {
            let policy = RestartPolicy::Backoff { min: Duration::MAX, max: Duration::ZERO, factor };
            assert!(policy.schedule().take(1_000).all(|delay| delay <= day));
        }
    }
}

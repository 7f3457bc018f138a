//! When a worker is restarted and after how long, in the numbers that a slot holds. Pure.
//!
//! Times are whole milliseconds, factor and jitter thousandths, so that the same description gives
//! the same delays in every process. d(k) is the delay after the k-th failure in a row:
//!
//! | policy | d(k) |
//! |---|---|
//! | `Fixed` | the interval |
//! | `Fixed` with the brake | the interval five times, then at least 100 ms, doubled each time, up to 30 s |
//! | `Backoff` | the minimum, then each time the last one times the factor, up to the maximum |
//!
//! The brake holds for an interval below a second, unless the worker is given up or is unbraked.

use super::policy::{Ready, RestartOn, RestartPolicy};
use std::time::Duration;

/// From this interval on there is no brake.
pub(crate) const BRAKED_BELOW: u32 = 1_000;
/// How many restarts the brake lets pass.
const UNBRAKED_RESTARTS: u32 = 5;
/// Its first delay.
const BRAKE_FIRST: u32 = 100;
/// Its longest delay.
const BRAKE_LONGEST: u32 = 30_000;

/// A factor or a share of 1.
pub(crate) const THOUSANDTHS: u16 = 1_000;

/// The delays of a policy that restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delays {
    /// Always the same.
    Fixed(u32),
    /// Longer each time.
    Backoff { min: u32, max: u32, factor: u16 },
}

/// Up to how many restarts in which time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GiveUp {
    pub(crate) restarts: u8,
    pub(crate) within: u32,
}

/// Exit codes, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExitCodes(pub(crate) [u64; 4]);

impl ExitCodes {
    pub(crate) fn add(&mut self, code: u8) {
        if let Some(word) = self.0.get_mut(usize::from(code / 64)) {
            *word |= 1 << (code % 64);
        }
    }

    pub(crate) fn contains(&self, code: u8) -> bool {
        self.0.get(usize::from(code / 64)).is_some_and(|word| word >> (code % 64) & 1 != 0)
    }

    /// The smallest one from `least` on.
    pub(crate) fn first_from(&self, least: u8) -> Option<u8> {
        let mut base = 0;
        for word in self.0 {
            let below = u32::from(least).saturating_sub(base);
            let left = word & u64::MAX.checked_shl(below).unwrap_or(0);
            if left != 0 {
                // At most 192 + 63.
                return Some((base + left.trailing_zeros()) as u8);
            }
            base += 64;
        }
        None
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        (0..=u8::MAX).filter(|&code| self.contains(code))
    }
}

/// Whether, when and for how long a worker is restarted; validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Restarts {
    /// `None`: it never is.
    pub(crate) delays: Option<Delays>,
    pub(crate) on: RestartOn,
    pub(crate) final_codes: ExitCodes,
    pub(crate) jitter: u16,
    /// 0 if it is never restarted.
    pub(crate) reset_after: u32,
    pub(crate) give_up: Option<GiveUp>,
    pub(crate) start_attempts: Option<u8>,
    pub(crate) unbraked: bool,
    pub(crate) ready: Option<Ready>,
}

impl Delays {
    pub(crate) fn policy(self) -> RestartPolicy {
        match self {
            Self::Fixed(interval) => RestartPolicy::Fixed(millis(interval)),
            Self::Backoff { min, max, factor } => RestartPolicy::Backoff {
                min: millis(min),
                max: millis(max),
                factor: f64::from(factor) / f64::from(THOUSANDTHS),
            },
        }
    }

    /// d(k + 1), after d(k).
    fn longer(self, last: u32) -> u32 {
        match self {
            Self::Fixed(interval) => interval,
            Self::Backoff { max, factor, .. } => {
                let product = u64::from(last) * u64::from(factor);
                let longer = product.div_ceil(u64::from(THOUSANDTHS));
                u32::try_from(longer).unwrap_or(u32::MAX).min(max)
            }
        }
    }

    fn first(self) -> u32 {
        match self {
            Self::Fixed(interval) => interval,
            Self::Backoff { min, .. } => min,
        }
    }
}

impl Restarts {
    /// True if the brake slows its restarts.
    pub(crate) fn is_braked(&self) -> bool {
        let short = matches!(self.delays, Some(Delays::Fixed(interval)) if interval < BRAKED_BELOW);
        short && self.give_up.is_none() && !self.unbraked
    }

    /// d(streak); `None` if it is never restarted. 0 counts as 1.
    pub(crate) fn delay(&self, streak: u32) -> Option<Duration> {
        let delays = self.delays?;
        let delay = if self.is_braked() {
            delays.first().max(brake_millis(streak))
        } else {
            let mut delay = delays.first();
            for _ in 1..streak {
                let longer = delays.longer(delay);
                // It has reached its longest, or does not grow.
                if longer == delay {
                    break;
                }
                delay = longer;
            }
            delay
        };
        Some(millis(delay))
    }

    /// `delay`, lengthened by a share of the jitter: `random` out of 2³². Never below `delay`, and
    /// never as much as the whole jitter above it.
    pub(crate) fn spread(&self, delay: Duration, random: u32) -> Duration {
        let most = delay.as_millis().saturating_mul(u128::from(self.jitter));
        let more = (most.saturating_mul(u128::from(random)) >> 32) / u128::from(THOUSANDTHS);
        delay.saturating_add(Duration::from_millis(u64::try_from(more).unwrap_or(u64::MAX)))
    }

    /// After how many delays a worker that fails at once is given up.
    pub(crate) fn limit(&self) -> Option<u32> {
        let attempts = self.start_attempts.map(|attempts| u32::from(attempts).saturating_sub(1));
        let restarts = self.give_up.map(|limit| u32::from(limit.restarts));
        match (attempts, restarts) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }
}

/// The delay of the brake after so many failures in a row; 0 while it lets pass.
pub fn brake(streak: u32) -> Duration {
    millis(brake_millis(streak))
}

fn brake_millis(streak: u32) -> u32 {
    match streak.checked_sub(UNBRAKED_RESTARTS + 1) {
        None => 0,
        Some(doublings) => {
            BRAKE_FIRST.saturating_mul(2u32.saturating_pow(doublings)).min(BRAKE_LONGEST)
        }
    }
}

pub(crate) fn millis(count: u32) -> Duration {
    Duration::from_millis(count.into())
}

#[cfg(test)]
mod tests {
    use super::ExitCodes;

    #[test]
    fn the_first_code_from_one_on_is_the_smallest_that_is_there() {
        let mut codes = ExitCodes::default();
        assert_eq!(codes.first_from(0), None);
        for code in [0, 1, 63, 64, 200, 255] {
            codes.add(code);
        }
        for least in 0..=u8::MAX {
            let found = codes.iter().find(|&code| code >= least);
            assert_eq!(codes.first_from(least), found, "from {least} on");
        }
        assert_eq!(codes.iter().collect::<Vec<_>>(), [0, 1, 63, 64, 200, 255]);
    }
}

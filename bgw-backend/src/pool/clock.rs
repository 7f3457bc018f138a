//! The monotonic clock, and its times as times of the wall clock without a look at either for each.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Nanoseconds of the monotonic clock, which all processes of a machine have in common.
pub(super) fn now() -> u64 {
    let clock = nix::time::ClockId::CLOCK_MONOTONIC;
    let now = nix::time::clock_gettime(clock).map(Duration::from);
    now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

/// So far from the last look the clocks are not looked at again: whoever sets the wall clock is
/// noticed after that.
const NEAR: u64 = 1_000_000;

/// What the wall clock showed when the monotonic clock was looked at last.
#[derive(Debug, Default)]
pub(super) struct WallClock {
    looked_at: AtomicU64,
    /// The wall clock's nanoseconds since 1970 less the monotonic clock's.
    ahead: AtomicU64,
}

impl WallClock {
    /// The wall clock's time when the monotonic clock showed `nanos`; now, if that is to come.
    pub(super) fn at(&self, nanos: u64) -> SystemTime {
        let mut ahead = self.ahead.load(Ordering::Relaxed);
        // Two threads may mix their looks, each of which is good for both times.
        if self.looked_at.load(Ordering::Relaxed).abs_diff(nanos) > NEAR {
            let (time, wall) = (now(), SystemTime::now());
            let since = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            ahead = (since.as_nanos() as u64).wrapping_sub(time);
            self.ahead.store(ahead, Ordering::Relaxed);
            self.looked_at.store(time, Ordering::Relaxed);
            if nanos > time {
                return wall;
            }
        }
        SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos.wrapping_add(ahead))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_as_long_ago_by_both_clocks_and_none_is_to_come() {
        let clock = WallClock::default();
        let (time, wall) = (now(), SystemTime::now());
        for ago in [0, 5, NEAR, 3 * NEAR, 1_000 * NEAR] {
            let at = clock.at(time.saturating_sub(ago));
            let expected = wall - Duration::from_nanos(ago.min(time));
            let apart = at.duration_since(expected).unwrap_or_else(|error| error.duration());
            assert!(apart < Duration::from_secs(1), "{ago}: {apart:?}");
        }
        assert!(clock.at(u64::MAX) <= SystemTime::now());
        assert!(clock.at(0) >= SystemTime::UNIX_EPOCH);
    }
}

//! The monotonic clock as a number that other processes can compare.

use nix::time::ClockId;
use std::time::Duration;

/// The nanoseconds of `CLOCK_MONOTONIC`. No system call.
pub(crate) fn monotonic_nanos() -> u64 {
    // The kernel has that clock, so the call does not fail.
    let now = ClockId::CLOCK_MONOTONIC.now().map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

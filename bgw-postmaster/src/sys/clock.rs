//! The monotonic clock as a number that other processes can compare.

use nix::time::ClockId;
use std::time::Duration;

/// The time by `CLOCK_MONOTONIC`. No system call.
pub(crate) fn monotonic() -> Duration {
    // The kernel has that clock, so the call does not fail.
    ClockId::CLOCK_MONOTONIC.now().map_or(Duration::ZERO, Duration::from)
}

//! CLOCK_MONOTONIC, which the servers write into their logs, too.

use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Since the machine began to run.
pub(crate) fn now() -> Duration {
    // The clock always exists.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

//! Waiting for a condition in a test.

use std::thread;
use std::time::{Duration, Instant};

/// Waits until `condition` holds, looking every millisecond.
///
/// A convenience for tests alone: it polls, which the crates under test never do.
///
/// # Panics
/// Names `what` when it has not come within `limit`.
#[track_caller]
#[allow(clippy::panic, reason = "a panic is how a test fails")]
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() >= limit {
            panic!("waited {limit:?} in vain until {what}");
        }
        thread::sleep(Duration::from_millis(1));
    }
}

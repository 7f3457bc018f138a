//! Log lines that must never be lost (how a worker fails, why a postmaster ends) and log lines that
//! must not fill the log (what hostile peers do).
//!
//! Failures go to the program's log. In a program without a `tracing` subscriber they go to
//! standard error, each line by one write.

use std::io::Write;

/// Logs a failure where people see it.
pub(crate) fn log_failure(text: &str) {
    if tracing::dispatcher::has_been_set() {
        tracing::error!("{text}");
        return;
    }
    let line = format!("{text}\n");
    // If standard error is closed, the line is lost.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Counts what others can cause as often as they like, so that it cannot fill the log: it is logged
/// the first time, and then each time that the count is a power of two.
#[derive(Debug, Default)]
pub(crate) struct Occasional(u64);

impl Occasional {
    pub(crate) const fn new() -> Self {
        Self(0)
    }

    /// Counts one. The count, if it is to be logged.
    pub(crate) const fn count(&mut self) -> Option<u64> {
        self.0 = self.0.saturating_add(1);
        if self.0.is_power_of_two() { Some(self.0) } else { None }
    }
}

//! What must never be silent: how a worker fails, and why a postmaster ends.
//!
//! Failures go to the program's log. In a program without a `tracing` subscriber they go to standard
//! error, each line by one write.

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

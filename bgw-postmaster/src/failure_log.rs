//! What must never be silent: how a worker fails, and why a postmaster ends.
//!
//! It goes to the program's log. In a program that never installed a `tracing` subscriber it goes to
//! standard error, one write a line.

use std::io::Write;

/// Logs a failure, wherever somebody can see it.
pub(crate) fn log_failure(text: &str) {
    if tracing::dispatcher::has_been_set() {
        tracing::error!("{text}");
        return;
    }
    let line = format!("{text}\n");
    // If standard error is closed, there is nobody to tell.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

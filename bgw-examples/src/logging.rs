//! Where the programs' log lines go: standard error, one `write` a line.
//!
//! Set up before the postmaster is forked, it serves all its children too. (A subscriber that
//! writes from a thread of its own would lose the children's lines: threads do not survive a fork.)

use tracing_subscriber::EnvFilter;

/// Logs to standard error what `RUST_LOG` asks for, or else what is at least as grave as `default`.
pub fn to_stderr(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
}

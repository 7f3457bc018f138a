//! Log lines of the programs go to standard error, with one `write` for each line.
//!
//! Install the subscriber before the postmaster is forked: then the postmaster and its workers
//! inherit it. A subscriber that writes from a thread of its own loses their lines, since threads
//! do not survive a fork.

use tracing_subscriber::EnvFilter;

/// Logs what `RUST_LOG` selects, or the levels from `default` upwards if it is not set.
pub fn to_stderr(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
}

//! All `unsafe` code of this crate.

mod export;
#[cfg(any(feature = "postgres", feature = "tokio"))]
pub(crate) mod poll_wakeups;

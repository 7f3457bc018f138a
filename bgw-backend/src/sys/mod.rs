//! All `unsafe` code of this crate.

mod export;
#[cfg(feature = "postgres")]
pub(crate) mod poll_wakeups;

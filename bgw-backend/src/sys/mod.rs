//! All `unsafe` code of this crate.

mod export;
pub(crate) mod library;
#[cfg(feature = "postgres")]
pub(crate) mod poll_wakeups;

//! Everything `unsafe` of this crate lies below this module.

pub mod library;
#[cfg(feature = "postgres")]
pub(crate) mod poll_wakeups;

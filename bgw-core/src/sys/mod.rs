//! System calls that the rest of the crate needs, each behind a safe face.
//!
//! Everything `unsafe` of this crate lies below this module.

pub mod eventfd;
pub mod exit;
pub mod library;
pub mod pidfd;
pub mod robust;
pub(crate) mod scm;
#[cfg(feature = "fault")]
pub(crate) mod shared_count;
pub mod signals;

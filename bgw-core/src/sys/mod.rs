//! System calls that the rest of the crate needs, each behind a safe face. It names nothing above it.
//!
//! All `unsafe` code of this crate lies here, but that of foreign functions (`ffi`).

pub(crate) mod descriptors;
pub mod eventfd;
pub mod exit;
pub(crate) mod interrupts;
pub(crate) mod libc_version;
pub mod pidfd;
pub(crate) mod poll_wake_up;
pub(crate) mod proc_files;
pub(crate) mod ready;
pub(crate) mod robust;
pub(crate) mod role;
pub(crate) mod scm;
#[cfg(feature = "fault")]
pub(crate) mod shared_count;
pub mod signals;

//! System calls that the rest of the crate needs, each behind a safe face. It names nothing above
//! it.
//!
//! All `unsafe` code of this crate lies here, but that of foreign functions (`ffi`).

pub mod alarm;
pub(crate) mod clock;
pub(crate) mod descriptors;
pub mod early_code;
pub mod envelope;
pub mod eventfd;
pub(crate) mod exit;
pub(crate) mod inherited_socket;
pub(crate) mod interrupts;
pub(crate) mod latch_seen;
pub(crate) mod latest;
pub mod pidfd;
pub(crate) mod poll_wake_up;
pub(crate) mod proc_files;
pub(crate) mod ready;
pub(crate) mod robust;
pub(crate) mod role;
pub mod scm;
pub mod signals;

//! Whether this process is a postmaster.

use std::sync::atomic::{AtomicU32, Ordering};

/// The pid of this process while it is a postmaster, else 0. A forked child has another pid.
static POSTMASTER: AtomicU32 = AtomicU32::new(0);

/// True in a running postmaster, false in its children.
#[must_use]
pub fn is_postmaster() -> bool {
    let pid = POSTMASTER.load(Ordering::Relaxed);
    pid != 0 && pid == std::process::id()
}

pub(crate) fn set_postmaster(is_one: bool) {
    let pid = if is_one { std::process::id() } else { 0 };
    POSTMASTER.store(pid, Ordering::Relaxed);
}

//! Descriptors of ours are never 0, 1 or 2.
//!
//! A program may run with its standard streams closed. A region that became descriptor 2 would be
//! overwritten by the first message to standard error.

use rustix::io::fcntl_dupfd_cloexec;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// `descriptor`, or a duplicate of it above the standard streams. Close-on-exec.
pub(crate) fn above_standard(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    if descriptor.as_raw_fd() > libc::STDERR_FILENO {
        return Ok(descriptor);
    }
    Ok(fcntl_dupfd_cloexec(&descriptor, libc::STDERR_FILENO + 1)?)
}

//! Which descriptors a child must not have, and how it gets rid of them.
//!
//! A child keeps what the embedding program had open (its log file is still its log file), and loses
//! what the postmaster opened for itself. Closing *everything* instead would be wrong: objects of
//! the program that own a descriptor live on in the child, and would write to whatever gets the
//! number next.
//!
//! So the postmaster keeps its own descriptors above a [`Fence`]: above everything that was open when
//! it started. A child closes what is above, with one system call.

use nix::fcntl::{FcntlArg, fcntl};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// The lowest number of the postmaster's own descriptors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fence(RawFd);

impl Fence {
    /// Above everything that is open now.
    pub(crate) fn above_all_open() -> io::Result<Self> {
        let mut highest = 2;
        for entry in std::fs::read_dir("/proc/self/fd")? {
            let number = entry?.file_name().to_str().and_then(|name| name.parse().ok());
            highest = number.map_or(highest, |number: RawFd| highest.max(number));
        }
        Ok(Self(highest + 1))
    }

    /// The same descriptor, above the fence and close-on-exec.
    pub(crate) fn raise(self, fd: impl Into<OwnedFd>) -> io::Result<OwnedFd> {
        let fd: OwnedFd = fd.into();
        let raised = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(self.0))?;
        // SAFETY: F_DUPFD_CLOEXEC has just made this descriptor, and nobody else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(raised) })
    }

    /// In a child: closes everything above the fence. The owners of those descriptors must never be
    /// dropped or used afterwards.
    pub(crate) fn close_above(self) -> io::Result<()> {
        // SAFETY: the child leaves by `_exit` and never touches the postmaster's own state again
        // (`spawn.rs`), so no owner of a closed descriptor runs.
        let done = unsafe { libc::syscall(libc::SYS_close_range, self.0, u32::MAX, 0) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

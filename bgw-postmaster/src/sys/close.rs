//! Which descriptors a child must not have, and how it gets rid of them.
//!
//! A child keeps what the embedding program had open (its log file is still its log file), and loses
//! what the postmaster opened for itself. Closing *everything* instead would be wrong: objects of
//! the program that own a descriptor live on in the child, and would write to whatever gets the
//! number next.
//!
//! So the postmaster keeps its own descriptors above a [`Fence`]: above everything that was open when
//! it started. Numbers that were free below it are taken by placeholders, so that whatever is opened
//! later gets a number above. A child closes what is above and the placeholders, by one system call
//! each.
//!
//! The child of a worker's fork shares the postmaster's table of descriptors until then (`fork.rs`):
//! the call that closes also makes the table its own, and copies only what stays open. So a start
//! costs the same however many children and sessions the postmaster has a descriptor for.

use nix::fcntl::{FcntlArg, fcntl};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

/// The lowest number of the postmaster's own descriptors, and what was free below it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fence {
    lowest: RawFd,
    /// First and last number of each run of placeholders.
    placeholders: &'static [(RawFd, RawFd)],
}

impl Fence {
    /// Above everything that is open now.
    pub(crate) fn above_all_open() -> io::Result<Self> {
        let mut highest = 2;
        for entry in std::fs::read_dir("/proc/self/fd")? {
            let number = entry?.file_name().to_str().and_then(|name| name.parse().ok());
            highest = number.map_or(highest, |number: RawFd| highest.max(number));
        }
        Ok(Self { lowest: highest + 1, placeholders: &[] })
    }

    /// Takes the numbers that are free below, for the life of the process: whatever is opened from now
    /// on is above without being raised.
    pub(crate) fn close_gaps(self) -> io::Result<Self> {
        let mut runs: Vec<(RawFd, RawFd)> = Vec::new();
        loop {
            let placeholder = File::open("/dev/null")?;
            let number = placeholder.as_raw_fd();
            if number >= self.lowest {
                break;
            }
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                _ => runs.push((number, number)),
            }
            // Kept open, and owned by nobody from now on.
            let _ = placeholder.into_raw_fd();
        }
        Ok(Self { placeholders: Vec::leak(runs), ..self })
    }

    /// The same descriptor, above the fence and close-on-exec. It is there already, unless the program
    /// has closed one below meanwhile.
    pub(crate) fn raise(self, fd: impl Into<OwnedFd>) -> io::Result<OwnedFd> {
        let fd: OwnedFd = fd.into();
        if fd.as_raw_fd() >= self.lowest {
            return Ok(fd);
        }
        let raised = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(self.lowest))?;
        // SAFETY: F_DUPFD_CLOEXEC has just made this descriptor, and nobody else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(raised) })
    }

    /// The lowest number above it.
    pub(super) const fn lowest(self) -> RawFd {
        self.lowest
    }

    /// A descriptor of nothing, to be given up when numbers are short.
    pub(crate) fn reserve(self) -> io::Result<OwnedFd> {
        self.raise(File::open("/dev/null")?)
    }

    /// In a child, before anything else: takes the table of descriptors for its own, without what is
    /// above the fence, and closes the placeholders. The owners of those descriptors must never be
    /// dropped or used afterwards.
    pub(crate) fn close_above(self) -> io::Result<()> {
        close_range(self.lowest, RawFd::MAX, libc::CLOSE_RANGE_UNSHARE)?;
        self.placeholders.iter().try_for_each(|&(first, last)| close_range(first, last, 0))
    }
}

fn close_range(first: RawFd, last: RawFd, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: the child leaves by `_exit` and never touches the postmaster's own state again
    // (`spawn.rs`), so no owner of a closed descriptor runs; placeholders have no owner.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

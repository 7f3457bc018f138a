//! Which descriptors a child must not have, and how it closes them.
//!
//! A child keeps what the embedding program had open (its log file is still its log file) and
//! closes what the postmaster opened for itself. Closing *everything* would be wrong: objects of
//! the program that own a descriptor live on in the child, and would write to whatever gets the
//! number next.
//!
//! So the postmaster keeps its own descriptors above a [`DescriptorFloor`]: above everything that
//! was open when it started. Placeholders take the numbers that were free below, so whatever opens
//! later gets a number above. A child closes everything above the floor with one system call, and
//! each run of placeholders with another.
//!
//! The child of a worker's fork shares the postmaster's descriptor table until then (`fork.rs`).
//! The call that closes also unshares the table, and copies only what stays open. So a start costs
//! the same however many children and sessions the postmaster has a descriptor for.

use super::descriptor_limit::RaisedLimit;
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

/// The lowest number of the postmaster's own descriptors, and the placeholders below it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DescriptorFloor {
    lowest: RawFd,
    /// First and last number of each run of placeholders.
    placeholders: &'static [(RawFd, RawFd)],
    /// The limit that a child sets again.
    limit: Option<RaisedLimit>,
}

impl DescriptorFloor {
    /// A floor above everything that is open now.
    pub(crate) fn above_all_open() -> io::Result<Self> {
        let mut highest = 2;
        for entry in std::fs::read_dir("/proc/self/fd")? {
            let number = entry?.file_name().to_str().and_then(|name| name.parse().ok());
            highest = number.map_or(highest, |number: RawFd| highest.max(number));
        }
        Ok(Self { lowest: highest + 1, placeholders: &[], limit: None })
    }

    /// How many descriptors a postmaster with so many spares has at the least: everything below the
    /// floor, its own, one for each spare, one for a worker.
    pub(crate) fn needed_for(self, spares: usize) -> u64 {
        const OWN: u64 = 16;
        (self.lowest.unsigned_abs() as u64).saturating_add(OWN).saturating_add(spares as u64)
    }

    /// The same, for a postmaster that has raised its limit.
    pub(crate) const fn with_raised_limit(self, limit: Option<RaisedLimit>) -> Self {
        Self { limit, ..self }
    }

    /// Opens a placeholder for each free number below the floor, for the life of the process:
    /// whatever opens from now on is above without being moved.
    pub(crate) fn fill_gaps(self) -> io::Result<Self> {
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
            // Stays open, without an owner.
            let _ = placeholder.into_raw_fd();
        }
        Ok(Self { placeholders: Vec::leak(runs), ..self })
    }

    /// Moves a descriptor above the floor, close-on-exec. Does nothing if it is above already, which
    /// it is unless the program has closed one of its own meanwhile.
    pub(crate) fn move_above(self, fd: impl Into<OwnedFd>) -> io::Result<OwnedFd> {
        let fd: OwnedFd = fd.into();
        if fd.as_raw_fd() >= self.lowest {
            return Ok(fd);
        }
        let moved = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(self.lowest))?;
        // SAFETY: F_DUPFD_CLOEXEC has just created this descriptor; nothing else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(moved) })
    }

    /// The limit that a child sets again, as the kernel wants it.
    pub(super) fn raw_limit(self) -> Option<libc::rlimit64> {
        self.limit.map(RaisedLimit::as_raw)
    }

    /// The lowest number above the floor.
    pub(super) const fn lowest(self) -> RawFd {
        self.lowest
    }

    /// A descriptor to give up when numbers run out.
    pub(crate) fn reserve(self) -> io::Result<OwnedFd> {
        self.move_above(File::open("/dev/null")?)
    }

    /// In a child, before anything else: unshares the descriptor table, without what is above the
    /// floor, and closes the placeholders. The owners of those descriptors must never be dropped or
    /// used afterwards. Sets the program's limit of descriptors again.
    pub(crate) fn close_above(self) -> io::Result<()> {
        close_range(self.lowest, RawFd::MAX, libc::CLOSE_RANGE_UNSHARE)?;
        self.placeholders.iter().try_for_each(|&(first, last)| close_range(first, last, 0))?;
        self.limit.map_or(Ok(()), RaisedLimit::restore)
    }
}

/// In a child that has nothing to do with the program: closes all descriptors but `kept`. The standard
/// streams become `/dev/null`. The owners of the others must never be dropped or used afterwards.
pub(crate) fn keep_only<'a>(kept: impl Iterator<Item = BorrowedFd<'a>>) -> io::Result<()> {
    let mut kept: Vec<RawFd> = kept.map(|fd| fd.as_raw_fd()).filter(|&fd| fd > 2).collect();
    kept.sort_unstable_by(|a, b| b.cmp(a));
    let mut last = RawFd::MAX;
    for fd in kept.into_iter().chain([2]) {
        if fd < last {
            // Each call but the first finds the table unshared already.
            close_range(fd + 1, last, libc::CLOSE_RANGE_UNSHARE)?;
        }
        last = fd - 1;
    }
    let Ok(null) = File::options().read(true).write(true).open("/dev/null") else {
        return close_range(0, 2, 0);
    };
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    Ok(nix::unistd::dup2_stderr(&null)?)
}

fn close_range(first: RawFd, last: RawFd, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: the child leaves by `_exit` and never touches the postmaster's own state again
    // (`child/entry.rs`, `guardian/watch.rs`), so no owner of a closed descriptor runs; placeholders have no owner.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

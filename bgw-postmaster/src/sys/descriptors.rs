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
use super::placements::{HIGHEST_NUMBER, Placements, Steps};
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

    /// The highest number that was open.
    pub(crate) const fn highest_open(self) -> RawFd {
        self.lowest - 1
    }

    /// The fewest descriptors that a postmaster with this many spares needs above the floor: its
    /// own, one for each spare, one for a worker.
    pub(crate) const fn needed_for(spares: usize) -> u64 {
        const OWN: u64 = 16;
        OWN.saturating_add(spares as u64)
    }

    /// The same, for a postmaster that has raised its limit.
    pub(crate) const fn with_raised_limit(self, limit: Option<RaisedLimit>) -> Self {
        Self { limit, ..self }
    }

    /// Opens a placeholder for each free number below the floor: whatever opens from now on is
    /// above without being moved.
    pub(crate) fn fill_gaps(self) -> io::Result<Placeholders> {
        let mut gaps = Placeholders { runs: Vec::new() };
        loop {
            let placeholder = File::open("/dev/null")?;
            let number = placeholder.as_raw_fd();
            if number >= self.lowest {
                break;
            }
            match gaps.runs.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                _ => gaps.runs.push((number, number)),
            }
            // `gaps` owns the number from here on.
            let _ = placeholder.into_raw_fd();
        }
        Ok(gaps)
    }

    /// The same, for a process that has these placeholders.
    pub(crate) fn with_placeholders(self, gaps: &Placeholders) -> Self {
        // A child has this for as long as it lives; a few numbers.
        Self { placeholders: gaps.runs.clone().leak(), ..self }
    }

    /// Moves a descriptor above the floor, close-on-exec. Does nothing if it is above already,
    /// which it is unless the program has closed one of its own meanwhile.
    pub(crate) fn move_above(self, fd: impl Into<OwnedFd>) -> io::Result<OwnedFd> {
        let fd: OwnedFd = fd.into();
        if fd.as_raw_fd() >= self.lowest {
            return Ok(fd);
        }
        let moved = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(self.lowest))?;
        // SAFETY: F_DUPFD_CLOEXEC has just created this descriptor; nothing else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(moved) })
    }

    /// Moves a descriptor of the postmaster's to a number that no child asks for, close-on-exec.
    pub(crate) fn move_clear(self, fd: impl Into<OwnedFd>) -> io::Result<OwnedFd> {
        let lowest = self.lowest.max(HIGHEST_NUMBER + 1);
        Self { lowest, ..self }.move_above(fd)
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
    ///
    /// `placements` get their numbers.
    pub(crate) fn close_above(self, placements: &Placements) -> io::Result<()> {
        let unshare = libc::CLOSE_RANGE_UNSHARE;
        let close_placeholders =
            || self.placeholders.iter().try_for_each(|&(first, last)| close_range(first, last, 0));
        match placements.steps(self.lowest) {
            None => {
                close_range(self.lowest, RawFd::MAX, unshare)?;
                close_placeholders()?;
            }
            Some(Steps { unshare_above, place, close }) => {
                close_range(unshare_above + 1, RawFd::MAX, unshare)?;
                // First: some may get such a number.
                close_placeholders()?;
                place.into_iter().try_for_each(|(from, to)| place_descriptor(from, to))?;
                close.into_iter().try_for_each(|(first, last)| close_range(first, last, 0))?;
            }
        }
        self.limit.map_or(Ok(()), RaisedLimit::restore)
    }
}

/// A descriptor that this child was given under its own number, close-on-exec again.
pub(crate) fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: it is open: the postmaster had it placed (`close_above`). Its owner there is never
    // dropped in a child, and the child calls this once for each.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC)?;
    Ok(descriptor)
}

/// A duplicate with a number that no child asks for, close-on-exec.
pub(crate) fn duplicate_clear(descriptor: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(descriptor, HIGHEST_NUMBER + 1)?)
}

/// A duplicate of the descriptor that has this number here, close-on-exec.
pub(crate) fn duplicate_number(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointers.
    let duplicate = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if duplicate == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just created this descriptor; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(duplicate) })
}

/// In a child that leaves by `_exit`: closes a descriptor whose owner is the parent's, and is not
/// dropped or used here.
pub(crate) fn close_number(number: RawFd) -> io::Result<()> {
    close_range(number, number, 0)
}

/// The numbers below a floor that were free. Closed when this is dropped, which no child does.
#[derive(Debug)]
pub(crate) struct Placeholders {
    runs: Vec<(RawFd, RawFd)>,
}

impl Drop for Placeholders {
    fn drop(&mut self) {
        for &(first, last) in &self.runs {
            // It cannot fail: the numbers are open, or were closed by the program itself.
            let _ = close_range(first, last, 0);
        }
    }
}

/// In a child that has nothing to do with the program: closes all descriptors but `kept`. The
/// standard streams become `/dev/null`. The owners of the others must never be dropped or used
/// afterwards.
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

/// In a child that has a table of its own. Whatever had the number `to` is closed.
pub(crate) fn place_descriptor(from: RawFd, to: RawFd) -> io::Result<()> {
    let done = if from == to {
        // Not close-on-exec.
        // SAFETY: the call takes no pointers.
        unsafe { libc::fcntl(from, libc::F_SETFD, 0) }
    } else {
        // SAFETY: no pointers. What is closed belongs to the program that embeds the postmaster, as
        // with any redirection; a child never uses the postmaster's own again.
        unsafe { libc::dup2(from, to) }
    };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn close_range(first: RawFd, last: RawFd, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: a child leaves by `_exit` and never touches the postmaster's own state again
    // (`child/entry.rs`, `guardian/watch.rs`), so no owner of a closed descriptor runs.
    // Placeholders have no other owner than `Placeholders`.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

//! Keeps the numbers 0, 1 and 2 out of use.
//!
//! A program may have closed its standard streams. The next descriptor that it opens gets such a
//! number, and whatever still writes to "standard error" writes to it: into the header of a region,
//! say. So whoever opens descriptors for this workspace holds a [`StandardStreams`] meanwhile.

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::sys::stat::Mode;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// The highest number of a standard stream.
const LAST: i32 = 2;

/// Holds `/dev/null` on each of the numbers 0, 1 and 2 that was free, until it is dropped.
#[derive(Debug)]
pub struct StandardStreams {
    held: Vec<OwnedFd>,
}

impl StandardStreams {
    /// Occupies the free ones. Costs one `open` and one `close` when none is free.
    ///
    /// # Errors
    /// The error of opening `/dev/null`.
    pub fn occupy() -> io::Result<Self> {
        let mut held = Vec::new();
        loop {
            let fd = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
            if fd.as_raw_fd() > LAST {
                return Ok(Self { held });
            }
            held.push(fd);
        }
    }

    /// Has the programs that this process executes inherit them, too.
    ///
    /// # Errors
    /// The error of `fcntl`.
    pub fn pass_to_commands(&self) -> io::Result<()> {
        for fd in &self.held {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        Ok(())
    }
}

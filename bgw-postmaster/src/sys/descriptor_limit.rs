//! How many descriptors the postmaster may have open: as many as the hard limit allows.
//!
//! It has one for each worker, so the usual soft limit of 1,024 would soon be reached. The
//! postmaster raises its own; its children get the program's back.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io;

/// The program's soft limit, which the postmaster has raised.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RaisedLimit {
    soft: u64,
    hard: u64,
}

impl RaisedLimit {
    /// Raises the soft limit to the hard one. `None` if there is nothing to raise.
    pub(crate) fn raise() -> io::Result<Option<Self>> {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        if soft >= hard {
            return Ok(None);
        }
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        Ok(Some(Self { soft, hard }))
    }

    /// Sets the program's limit again: in a child, or when the process is a postmaster no longer.
    pub(crate) fn restore(self) -> io::Result<()> {
        Ok(setrlimit(Resource::RLIMIT_NOFILE, self.soft, self.hard)?)
    }

    /// The program's limit as the kernel wants it.
    pub(super) const fn as_raw(self) -> libc::rlimit64 {
        libc::rlimit64 { rlim_cur: self.soft, rlim_max: self.hard }
    }
}

/// The limit that a postmaster raises itself to.
pub(crate) fn highest_limit() -> io::Result<u64> {
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?.1)
}

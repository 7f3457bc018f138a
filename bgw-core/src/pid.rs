//! A process id.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

/// A process id: 1 to [`Pid::MAX`]. Names a process only for as long as nobody has reaped it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pid(u32);

impl Pid {
    /// The largest that Linux gives out.
    pub const MAX: u32 = shmem_slots::MAX_PID;

    /// A pid, if the number can be one.
    #[inline]
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        if number == 0 || number > Self::MAX { None } else { Some(Self(number)) }
    }

    /// The number.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number as system calls take it.
    #[must_use]
    pub const fn as_raw(self) -> i32 {
        // At most 2^22, so it fits.
        self.0 as i32
    }

    /// The calling process.
    #[must_use]
    pub fn this() -> Self {
        // The kernel gives no process a number outside the range (PID_MAX_LIMIT is 2^22). Without
        // the C library: each start makes this call, and a page of its code costs more.
        Self(rustix::process::getpid().as_raw_nonzero().get().unsigned_abs())
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a text or number is not a pid.
#[derive(Clone, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PidError {
    /// No number, or none of 64 bits.
    #[error("a pid is a number")]
    NotANumber(#[from] ParseIntError),
    /// Out of range.
    #[error("{found} is no pid: it must be 1 to {limit}", limit = Pid::MAX)]
    OutOfRange {
        /// The number.
        found: i64,
    },
}

shmem_slots::debug_as_chain!(PidError);

impl FromStr for Pid {
    type Err = PidError;

    fn from_str(text: &str) -> Result<Self, PidError> {
        let number: i64 = text.parse()?;
        let pid = u32::try_from(number).ok().and_then(Self::new);
        pid.ok_or(PidError::OutOfRange { found: number })
    }
}

impl From<Pid> for i32 {
    fn from(pid: Pid) -> Self {
        pid.as_raw()
    }
}

impl TryFrom<i32> for Pid {
    type Error = PidError;

    fn try_from(number: i32) -> Result<Self, PidError> {
        let pid = u32::try_from(number).ok().and_then(Self::new);
        pid.ok_or(PidError::OutOfRange { found: number.into() })
    }
}

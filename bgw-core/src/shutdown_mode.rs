//! How strictly a cluster shuts down, as a value, a text and a number.

use std::fmt;
use std::str::FromStr;

/// How strictly to shut down. A stricter mode overrides a milder one, never the reverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ShutdownMode {
    /// Attached programs may finish, then the workers are told to end. The program that launched
    /// the postmaster is one of them as long as it has a connection: a `Backend` or a handle.
    #[doc(alias = "SmartShutdown")]
    Smart,
    /// The workers are told to end at once.
    #[doc(alias = "FastShutdown")]
    Fast,
    /// The workers are told to quit without tidying up, and killed after 5 seconds.
    #[doc(alias = "ImmediateShutdown")]
    Immediate,
}

impl ShutdownMode {
    /// Its number in messages and events.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Smart => 0,
            Self::Fast => 1,
            Self::Immediate => 2,
        }
    }

    /// The mode of a number; `None` for any other number.
    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Smart),
            1 => Some(Self::Fast),
            2 => Some(Self::Immediate),
            _ => None,
        }
    }
}

impl fmt::Display for ShutdownMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Smart => "smart",
            Self::Fast => "fast",
            Self::Immediate => "immediate",
        })
    }
}

/// A text that is not a shutdown mode; the message shows at most 80 characters of it, escaped.
#[derive(Clone, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no shutdown mode; it is smart, fast or immediate")]
pub struct ParseModeError(String);

shmem_slots::debug_as_chain!(ParseModeError);

impl FromStr for ShutdownMode {
    type Err = ParseModeError;

    fn from_str(text: &str) -> Result<Self, ParseModeError> {
        match text {
            "smart" => Ok(Self::Smart),
            "fast" => Ok(Self::Fast),
            "immediate" => Ok(Self::Immediate),
            other => Err(ParseModeError(other.chars().take(80).collect())),
        }
    }
}

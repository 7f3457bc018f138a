//! The descriptors that this process was given as a worker.

use crate::ffi::abi::TakeGift;
use crate::sys::envelope;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;

/// Why a worker could not take a descriptor.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum TakeError {
    /// The worker was given none of this name.
    #[error("this worker was given no descriptor \"{name}\"; it was given {given}")]
    Unknown {
        /// The name.
        name: String,
        /// The names of what it was given.
        given: String,
    },
    /// It was taken before, by this run of the worker or an earlier one.
    #[error("the descriptor \"{name}\" was taken before, by this run of the worker or another one")]
    Taken {
        /// The name.
        name: String,
    },
    /// The system call failed. The descriptor is still there.
    #[error("taking the descriptor \"{name}\" failed")]
    System {
        /// The name.
        name: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

shmem_slots::debug_as_chain!(TakeError);

/// What a worker was given, and has not all taken.
#[derive(Debug, Default)]
pub struct Gifts(Source);

#[derive(Default)]
enum Source {
    #[default]
    Nothing,
    /// By name, each in its envelope.
    Envelopes(Vec<(String, OwnedFd)>),
    /// This copy of the crate is in a library, whose host has them.
    Host(TakeGift),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("Nothing"),
            Self::Envelopes(all) => f.debug_list().entries(all).finish(),
            Self::Host(_) => f.write_str("Host"),
        }
    }
}

#[doc(hidden)]
impl Gifts {
    /// Those in these envelopes, by name.
    #[must_use]
    pub const fn new(envelopes: Vec<(String, OwnedFd)>) -> Self {
        Self(Source::Envelopes(envelopes))
    }

    /// Those that the host of this library has.
    pub(crate) const fn of_host(take: TakeGift) -> Self {
        Self(Source::Host(take))
    }

    /// Takes the one that was given as `name`.
    ///
    /// # Errors
    /// `NotFound`: there is none of this name; `WouldBlock`: it was taken; the error of `recvmsg`.
    pub fn take(&self, name: &str) -> io::Result<OwnedFd> {
        match &self.0 {
            Source::Nothing => Err(io::ErrorKind::NotFound.into()),
            Source::Envelopes(all) => {
                let found = all.iter().find(|(other, _)| other == name);
                let (_, envelope) = found.ok_or(io::ErrorKind::NotFound)?;
                envelope::open(envelope)?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
            }
            Source::Host(take) => take.call(name),
        }
    }
}

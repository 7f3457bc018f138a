//! Descriptors that tokio has no type for. The one unsafe block of the server.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor that closes what it owns, and nothing before it is dropped.
pub(crate) trait Owned: AsRawFd {}
impl Owned for OwnedFd {}
impl Owned for std::net::TcpListener {}

/// Waits for `descriptor` to become readable in the runtime that this is called in.
pub(crate) fn readable<T: Owned>(descriptor: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: the number stays that of this open descriptor for as long as the `AsyncFd` lives:
    // it owns `descriptor`, which is `Owned` and so keeps one number open until it is dropped.
    unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }
        .map_err(io::Error::from)
}

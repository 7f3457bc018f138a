//! A socket that this process has inherited under a number that somebody has told it.

use rustix::net::{RecvFlags, recv};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// What the next packet of socket `number` begins with, at most `bytes.len()` bytes of it. It stays
/// there. Never blocks.
///
/// # Errors
/// The number is of no socket, or there is no packet.
pub(crate) fn peek(number: RawFd, bytes: &mut [u8]) -> io::Result<usize> {
    if number < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: not negative. If nothing is open under it, or something else, the call fails or
    // leaves what is there as it is.
    let socket = unsafe { BorrowedFd::borrow_raw(number) };
    Ok(recv(socket, bytes, RecvFlags::PEEK | RecvFlags::DONTWAIT)?.0)
}

/// True if nothing is left in the queue of a socket whose other end is closed. Never blocks.
pub fn is_emptied(socket: impl AsFd) -> bool {
    let peeked = recv(socket, &mut [0], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    peeked.is_ok_and(|(bytes, _)| bytes == 0)
}

/// Takes over socket `number`, whose next packet begins with `magic`: nobody but a postmaster sends
/// such a one, to a program that has not opened the socket itself.
///
/// # Errors
/// As [`peek`]; the packet begins otherwise.
pub(crate) fn take_over(number: RawFd, magic: &[u8; 8]) -> io::Result<OwnedFd> {
    let mut begin = [0; 8];
    peek(number, &mut begin)?;
    if begin != *magic {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // SAFETY: it is open. The packet says that it is a socket which this process has inherited to
    // take over here; the caller sees to it that this happens once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

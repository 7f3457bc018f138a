//! The doorbell: an eventfd that is rung by many and read by one.
//!
//! Ringing adds to a counter in the kernel. Each ring wakes those who wait for the descriptor, also
//! when the counter is not read, or when somebody else reads it first.

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// A new doorbell: close-on-exec, never blocking.
///
/// # Errors
/// The error of `eventfd`, above all too many open files.
pub fn new_doorbell() -> io::Result<OwnedFd> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    Ok(EventFd::from_value_and_flags(0, flags)?.into())
}

/// Rings. Whoever has filled the counter has woken its reader, who looks after it has emptied it:
/// that is not an error.
/// Safe in a signal handler.
///
/// # Errors
/// Any other error of `write`: a descriptor that is not an eventfd.
pub fn ring(doorbell: impl AsFd) -> io::Result<()> {
    loop {
        match nix::unistd::write(doorbell.as_fd(), &1u64.to_ne_bytes()) {
            Ok(_) | Err(Errno::EAGAIN) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Takes all rings so far. True when there was one.
///
/// # Errors
/// The error of `read`: a descriptor that is not an eventfd.
pub fn take_rings(doorbell: impl AsFd) -> io::Result<bool> {
    let mut count = [0u8; 8];
    let buffer = libc::iovec { iov_base: count.as_mut_ptr().cast(), iov_len: count.len() };
    let fd = doorbell.as_fd().as_raw_fd();
    loop {
        // Whoever shares the doorbell can take O_NONBLOCK away from it. This call never blocks.
        // SAFETY: `buffer` describes `count`, which is valid for writing during the call.
        let read = unsafe { libc::preadv2(fd, &raw const buffer, 1, -1, libc::RWF_NOWAIT) };
        if read >= 0 {
            return Ok(true);
        }
        match Errno::last() {
            Errno::EAGAIN => return Ok(false),
            Errno::EINTR => {}
            errno => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_rings_are_taken_as_one() {
        let bell = new_doorbell().unwrap();
        assert!(!take_rings(&bell).unwrap());
        ring(&bell).unwrap();
        ring(&bell).unwrap();
        assert!(take_rings(&bell).unwrap());
        assert!(!take_rings(&bell).unwrap());
    }
}

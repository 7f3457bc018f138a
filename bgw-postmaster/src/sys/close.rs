//! Closing what a child must not have.

use std::io;
use std::os::fd::RawFd;

/// Closes every descriptor but those in `keep`, with one system call a gap.
///
/// For a forked child that never returns into code that owns any of the others: their owners' drop
/// code must not run afterwards.
pub(crate) fn close_all_but(keep: &mut Vec<RawFd>) -> io::Result<()> {
    keep.retain(|&fd| fd >= 0);
    keep.sort_unstable();
    keep.dedup();
    let mut first: u32 = 0;
    for &fd in keep.iter() {
        let fd = fd.unsigned_abs();
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = fd + 1;
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: the child never touches the owners of the closed descriptors again (contract of
    // `close_all_but`): it leaves by `_exit`, so no drop code runs and no number is used twice.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

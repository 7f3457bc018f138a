//! A number that a process shares with those that are forked from it. For fault points only.

use crate::primitive::private::{AtomicU32, Ordering};
use std::io;

/// A new one, for the life of the process. Costs a page each.
///
/// # Errors
/// The error of `mmap`.
pub(crate) fn new(value: u32) -> io::Result<&'static AtomicU32> {
    // SAFETY: asks for new memory at no address in particular, so nothing that exists is touched.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size_of::<AtomicU32>(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a whole page of zeros, aligned, readable and writable, and never unmapped; an atomic
    // may be shared.
    let count = unsafe { &*page.cast::<AtomicU32>() };
    count.store(value, Ordering::Release);
    Ok(count)
}

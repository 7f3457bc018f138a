//! The stack of a child that runs in the postmaster's memory.

use std::ffi::c_void;
use std::io;
use std::ptr::NonNull;

/// The stack of one child. Later children do not have it.
#[derive(Debug)]
pub(super) struct Stack(NonNull<c_void>);

impl Stack {
    /// Much more than the child needs; only what it touches costs memory.
    const LENGTH: usize = 256 << 10;
    /// At its lower end, never accessible: larger than any page.
    const GUARD: usize = 64 << 10;

    pub(super) fn new() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new anonymous mapping, nowhere in particular.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), Self::LENGTH, access, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = NonNull::new(start).map(Self).ok_or_else(|| io::Error::other("no address"))?;
        // Both are niceties.
        // SAFETY: within the mapping made above, which nobody uses yet.
        let _ = unsafe { libc::mprotect(start, Self::GUARD, libc::PROT_NONE) };
        // SAFETY: as above.
        let _ = unsafe { libc::madvise(start, Self::LENGTH, libc::MADV_DONTFORK) };
        Ok(stack)
    }

    pub(super) fn top(&self) -> *mut c_void {
        self.0.as_ptr().wrapping_byte_add(Self::LENGTH)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: our own mapping; whoever lends it to a child keeps it until that is done (`Lent`).
        let _ = unsafe { libc::munmap(self.0.as_ptr(), Self::LENGTH) };
    }
}

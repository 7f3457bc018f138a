//! Memory mappings without a name: one owner, unmapped when it is dropped.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;

/// Whether a child that is forked with the mapping shares it or gets a copy.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sharing {
    Shared,
    Private,
    /// Private, for a stack: memory is not reserved ahead.
    Stack,
}

/// An anonymous mapping, zeroed and page-aligned.
#[derive(Debug)]
pub(super) struct AnonMap {
    start: NonNull<c_void>,
    len: usize,
}

impl AnonMap {
    /// Maps `len` bytes, readable and writable.
    pub(super) fn new(len: usize, sharing: Sharing) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags: c_int = match sharing {
            Sharing::Shared => libc::MAP_SHARED,
            Sharing::Private => libc::MAP_PRIVATE,
            Sharing::Stack => libc::MAP_PRIVATE | libc::MAP_STACK | libc::MAP_NORESERVE,
        };
        let flags = flags | libc::MAP_ANONYMOUS;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, access, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start).ok_or_else(|| io::Error::other("mmap returned null"))?;
        Ok(Self { start, len })
    }

    /// Maps the first `len` bytes of `file`, which has as many and cannot shrink, shared with
    /// whoever else maps it.
    pub(super) fn of_sealed(file: &OwnedFd, len: usize) -> io::Result<Self> {
        let (access, fd) = (libc::PROT_READ | libc::PROT_WRITE, file.as_raw_fd());
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), len, access, libc::MAP_SHARED, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start).ok_or_else(|| io::Error::other("mmap returned null"))?;
        Ok(Self { start, len })
    }

    /// The first byte. The mapping stays while `self` lives.
    pub(super) const fn start(&self) -> NonNull<c_void> {
        self.start
    }

    /// Children forked from now on do not have this mapping.
    pub(super) fn hide_from_later_children(&self) -> io::Result<()> {
        self.advise(libc::MADV_DONTFORK)
    }

    /// Children forked from now on have this mapping again.
    pub(super) fn show_to_later_children(&self) -> io::Result<()> {
        self.advise(libc::MADV_DOFORK)
    }

    fn advise(&self, for_children: c_int) -> io::Result<()> {
        // SAFETY: our own whole mapping; the two advices above change nothing in this process.
        let done = unsafe { libc::madvise(self.start.as_ptr(), self.len, for_children) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Makes the first `len` bytes inaccessible.
    pub(super) fn guard(&self, len: usize) -> io::Result<()> {
        let len = len.min(self.len);
        // SAFETY: within our own mapping; only `Stack` calls this, before the memory is in use.
        let done = unsafe { libc::mprotect(self.start.as_ptr(), len, libc::PROT_NONE) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for AnonMap {
    fn drop(&mut self) {
        // SAFETY: our own mapping; no reference into it outlives `self`. Unmapping a whole mapping
        // cannot fail.
        let _ = unsafe { libc::munmap(self.start.as_ptr(), self.len) };
    }
}

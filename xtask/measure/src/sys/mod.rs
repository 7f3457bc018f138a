//! The `unsafe` of this program: shared pages and bare forks.

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::unistd::{ForkResult, Pid, fork};
use std::num::NonZeroUsize;
use std::sync::atomic::AtomicU64;

/// A cell on a line of its own.
#[repr(align(128))]
pub(crate) struct Line(pub(crate) AtomicU64);

/// Zeroed cells that this process and its later children share, for ever.
pub(crate) fn shared_lines() -> Option<&'static [Line; 16]> {
    let length = NonZeroUsize::new(size_of::<[Line; 16]>())?;
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new mapping, nowhere in particular.
    let page = unsafe { mmap_anonymous(None, length, access, MapFlags::MAP_SHARED) }.ok()?;
    // SAFETY: zeroed, aligned to a page, never unmapped, and touched atomically only.
    Some(unsafe { page.cast::<[Line; 16]>().as_ref() })
}

/// A child that runs `work` and leaves with exit code 0, without any clean-up.
pub(crate) fn child(work: impl FnOnce()) -> nix::Result<Pid> {
    // SAFETY: this program has one thread.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            work();
            // SAFETY: always allowed.
            unsafe { libc::_exit(0) }
        }
    }
}

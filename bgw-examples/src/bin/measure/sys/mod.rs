//! The `unsafe` of this program: shared pages and bare forks.

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::unistd::{ForkResult, Pid, fork};
use std::num::NonZeroUsize;

/// A zeroed `T` in memory that this process and its later children share, for ever.
///
/// # Safety
/// All-zero bytes are a `T`, and several processes may touch it at a time.
pub(crate) unsafe fn share<T: Sync>() -> Option<&'static T> {
    let length = NonZeroUsize::new(size_of::<T>())?;
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new mapping, nowhere in particular.
    let page = unsafe { mmap_anonymous(None, length, access, MapFlags::MAP_SHARED) }.ok()?;
    // SAFETY: zeroed, aligned to a page, never unmapped; the rest is the caller's promise.
    Some(unsafe { page.cast::<T>().as_ref() })
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

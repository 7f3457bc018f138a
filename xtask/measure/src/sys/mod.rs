//! The `unsafe` of this program: shared pages and bare forks.

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous};
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

/// Copies `bytes` into shared cells, as many as fit, while no other process has them in hand.
pub(crate) fn copy_in(cells: &[AtomicU64], bytes: &[u8]) {
    let len = bytes.len().min(size_of_val(cells));
    // SAFETY: both are that long, and a cell may be changed through a shared reference.
    unsafe { bytes.as_ptr().copy_to_nonoverlapping(cells.as_ptr().cast_mut().cast(), len) }
}

/// Copies shared cells into `bytes`, as many as fit, while no other process has them in hand.
pub(crate) fn copy_out(cells: &[AtomicU64], bytes: &mut [u8]) {
    let len = bytes.len().min(size_of_val(cells));
    // SAFETY: both are that long.
    unsafe { bytes.as_mut_ptr().copy_from_nonoverlapping(cells.as_ptr().cast(), len) }
}

/// Has as many bytes of memory from here on, each page of them written to. Private ones lie in
/// pages of 4 KiB.
pub(crate) fn fill(bytes: usize, shared: bool) -> nix::Result<()> {
    const PAGE: usize = 4096;
    let length = NonZeroUsize::new(bytes).ok_or(nix::errno::Errno::EINVAL)?;
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let kind = if shared { MapFlags::MAP_SHARED } else { MapFlags::MAP_PRIVATE };
    // SAFETY: a new mapping, nowhere in particular.
    let first = unsafe { mmap_anonymous(None, length, access, kind) }?;
    // SAFETY: advice about the mapping of just now.
    unsafe { madvise(first, bytes, MmapAdvise::MADV_NOHUGEPAGE) }?;
    for page in (0..bytes).step_by(PAGE) {
        // SAFETY: it lies in the mapping of just now, which nobody else has.
        let byte = unsafe { first.cast::<u8>().add(page) };
        // SAFETY: the same.
        unsafe { byte.write_volatile(1) };
    }
    Ok(())
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

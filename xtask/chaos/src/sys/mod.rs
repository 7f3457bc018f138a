//! The unsafe part: memory that processes share, and the exit of a worker without handlers.

use std::num::NonZeroUsize;
use std::sync::atomic::AtomicU64;

/// Zeroed cells that the calling process shares with every process forked from it.
///
/// # Errors
/// The error of `mmap`.
pub(crate) fn shared_cells(count: usize) -> nix::Result<&'static [AtomicU64]> {
    use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
    let length = NonZeroUsize::new(count * 8).ok_or(nix::Error::EINVAL)?;
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let flags = MapFlags::MAP_SHARED | MapFlags::MAP_NORESERVE;
    // SAFETY: an anonymous mapping at an address that the kernel chooses touches no memory of ours.
    let start = unsafe { mmap_anonymous(None, length, protection, flags) }?;
    // SAFETY: the mapping has `count` cells of 8 bytes, is aligned to a page, is zeroed, is never
    // unmapped, and is only ever reached through these atomics.
    Ok(unsafe { std::slice::from_raw_parts(start.as_ptr().cast::<AtomicU64>(), count) })
}

/// Makes the calling process the parent of its orphaned descendants.
///
/// # Errors
/// The error of `prctl`.
pub(crate) fn become_subreaper() -> nix::Result<()> {
    nix::sys::prctl::set_child_subreaper(true)
}

/// The slots of the cluster that this process is attached to, as anybody who is attached can reach
/// them.
pub(crate) fn region_cells() -> Option<&'static [AtomicU64]> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line =
        maps.lines().find(|line| line.contains("memfd:shmem-slots") && line.contains("rw-s"))?;
    let (start, end) = line.split_once(' ')?.0.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    let cells = std::ptr::with_exposed_provenance::<AtomicU64>(start);
    // SAFETY: the kernel has just said that these bytes are mapped, shared and writable; a mapping
    // begins at a page. The caller keeps its attachment, so they stay mapped. All that reach them
    // do so by atomics.
    Some(unsafe { std::slice::from_raw_parts(cells, (end - start) / 8) })
}

/// A raw connection to a control socket, which the caller closes.
///
/// # Errors
/// The error of the system call.
pub(crate) fn connect(path: &std::path::Path) -> nix::Result<std::os::fd::RawFd> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
    use std::os::fd::{AsRawFd, IntoRawFd};
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket.into_raw_fd())
}

/// Ends the process without handlers.
#[cfg(feature = "fault")]
pub(crate) fn exit_now(code: i32) -> ! {
    use std::io::Write;
    let _ = std::io::stdout().flush();
    // SAFETY: `_exit` takes any integer and touches no memory of ours.
    unsafe { nix::libc::_exit(code) }
}

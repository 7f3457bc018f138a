//! The buffers of the C library's streams.

/// Writes out what C code in this process has printed so far.
pub(crate) fn flush() {
    // SAFETY: null means all output streams. The library locks each of them; whoever calls this is
    // about to fork, and has one thread, so no lock is held. An error changes nothing here.
    let _ = unsafe { libc::fflush(std::ptr::null_mut()) };
}

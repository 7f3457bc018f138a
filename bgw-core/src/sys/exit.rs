//! Leaving a forked child: no exit handlers, no destructors, no unwinding.
//!
//! A child shares the program's code up to the fork. Its exit handlers, its destructors and the
//! frames above the fork belong to the program and must not run a second time.

/// Ends this process at once.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` is always allowed and does not return.
    unsafe { libc::_exit(code) }
}

/// Ends the process with exit code 1 when a panic unwinds past it.
///
/// A child holds one in its first frame. It never drops it in order: it leaves by [`exit_now`].
#[derive(Debug)]
pub struct UnwindBarrier;

impl Drop for UnwindBarrier {
    fn drop(&mut self) {
        exit_now(1)
    }
}

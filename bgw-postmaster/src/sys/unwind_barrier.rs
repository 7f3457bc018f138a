//! A panic in a forked child ends the child: it never unwinds into frames of before the fork.

use bgw_core::internals::exit_now;

/// Ends the process with exit code 1 when a panic unwinds past it.
///
/// A child holds one in its first frame. It never drops it in order: it leaves by [`exit_now`].
#[derive(Debug)]
pub(crate) struct UnwindBarrier;

impl Drop for UnwindBarrier {
    fn drop(&mut self) {
        exit_now(1)
    }
}

//! Poll wake-ups of this process's signal handlers, as a runtime of this thread sees them.
//!
//! No wake-up is lost between a look and the sleep that follows: a handler records what has come before
//! it rings, and whoever was woken takes the ring back before it looks again.

use bgw_core::process;
use std::io;
use std::os::fd::BorrowedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The poll wake-up descriptor of this process, watched by the runtime in which this was made.
pub(crate) struct PollWakeUps(AsyncFd<BorrowedFd<'static>>);

impl PollWakeUps {
    /// To be called within the runtime.
    ///
    /// # Errors
    /// The error of `eventfd` or `epoll_ctl`.
    pub(crate) fn new() -> io::Result<Self> {
        let descriptor = process::poll_wake_up_descriptor()?;
        // SAFETY: a `BorrowedFd<'static>` answers with the same descriptor at every call, and the
        // poll wake-up descriptor of a process is never closed (`bgw_core::process`).
        let watched = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
        Ok(Self(watched?))
    }

    /// Waits until `stop` says so. It is asked at once, and again after each wake-up.
    pub(crate) async fn until(&self, stop: impl Fn() -> bool) {
        while !stop() {
            match self.0.readable().await {
                Ok(mut ready) => ready.clear_ready(),
                // The runtime is being taken down; whoever waits is about to be dropped.
                Err(_) => std::future::pending().await,
            }
        }
    }
}

//! This process's poll wake-ups as a future of the thread's runtime.
//!
//! No wake-up is lost between a check and the sleep after it: a handler records its signal before it
//! wakes, and the future clears the wake-up before it checks again.

use bgw_core::internals::process;
use std::io;
use std::os::fd::BorrowedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The poll wake-up descriptor of this process, registered with the runtime that it was made in.
pub(crate) struct PollWakeUps(AsyncFd<BorrowedFd<'static>>);

impl PollWakeUps {
    /// Call it within the runtime.
    ///
    /// # Errors
    /// The error of `eventfd` or `epoll_ctl`.
    pub(crate) fn new() -> io::Result<Self> {
        let descriptor = process::interrupts().poll_descriptor()?;
        // SAFETY: `as_fd` of a `BorrowedFd<'static>` returns the same descriptor at every call, and
        // `bgw_core::process` never closes the poll wake-up descriptor of a process.
        let watched = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
        Ok(Self(watched?))
    }

    /// Completes when `stop` returns true. It is called at once and after each wake-up.
    pub(crate) async fn until(&self, stop: impl Fn() -> bool) {
        while !stop() {
            match self.0.readable().await {
                Ok(mut ready) => ready.clear_ready(),
                // The runtime is shutting down and drops this future.
                Err(_) => std::future::pending().await,
            }
        }
    }
}

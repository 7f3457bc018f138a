//! Descriptors that a future waits for, and this process's poll wake-ups among them.
//!
//! No wake-up is lost between a check and the sleep after it: a handler records its signal before
//! it wakes, and the future clears the wake-up before it checks again.

use bgw_core::internals::process;
use std::io;
use std::os::fd::OwnedFd;
#[cfg(feature = "tokio")]
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor, registered with the runtime that it was made in. One task at a time may wait for
/// it.
#[cfg(feature = "tokio")]
#[derive(Debug)]
pub(crate) struct Registered(AsyncFd<OwnedFd>);

#[cfg(feature = "tokio")]
impl Registered {
    /// Call it within the runtime, whose own this descriptor becomes: a runtime takes each number
    /// once.
    ///
    /// # Errors
    /// The error of `epoll_ctl`.
    pub(crate) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        let interest = Interest::READABLE.add(Interest::WRITABLE);
        // SAFETY: `as_fd` of an `OwnedFd` returns the same descriptor at every call, which is open
        // as long as the `AsyncFd` that owns it.
        let registered = unsafe { AsyncFd::register_with_interest(descriptor, interest) };
        Ok(Self(registered?))
    }

    /// Completes when there may be something to read, or, if asked, room to write. What is there
    /// is looked for before this is called again.
    pub(crate) fn poll_changed(
        &self,
        context: &mut Context<'_>,
        or_room: bool,
    ) -> Poll<io::Result<()>> {
        if or_room {
            if let Poll::Ready(ready) = self.0.poll_write_ready(context) {
                return Poll::Ready(ready.map(|mut ready| ready.clear_ready()));
            }
        }
        let ready = ready!(self.0.poll_read_ready(context));
        Poll::Ready(ready.map(|mut ready| ready.clear_ready()))
    }
}

/// The poll wake-up descriptor of this process, registered with the runtime that it was made in.
#[derive(Debug)]
pub(crate) struct PollWakeUps(AsyncFd<OwnedFd>);

impl PollWakeUps {
    /// Call it within the runtime.
    ///
    /// # Errors
    /// The error of `eventfd`, `dup` or `epoll_ctl`.
    pub(crate) fn new() -> io::Result<Self> {
        // A number of its own: a runtime takes each number once.
        let descriptor = process::interrupts().poll_descriptor()?.try_clone_to_owned()?;
        // SAFETY: `as_fd` of an `OwnedFd` returns the same descriptor at every call, which is open
        // as long as the `AsyncFd` that owns it.
        let watched = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
        Ok(Self(watched?))
    }

    /// Completes when `stop` returns true. It is called at once and after each wake-up.
    #[cfg(feature = "postgres")]
    pub(crate) async fn until(&self, stop: impl Fn() -> bool) {
        while !stop() {
            match self.0.readable().await {
                Ok(mut ready) => ready.clear_ready(),
                // The runtime is shutting down and drops this future.
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// Completes when `check` has an answer. It is called at once and after each wake-up. One task
    /// at a time may wait for it.
    #[cfg(feature = "tokio")]
    pub(crate) fn poll<T>(
        &self,
        context: &mut Context<'_>,
        mut check: impl FnMut() -> Option<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            if let Some(answer) = check() {
                return Poll::Ready(Ok(answer));
            }
            match ready!(self.0.poll_read_ready(context)) {
                Ok(mut rung) => rung.clear_ready(),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

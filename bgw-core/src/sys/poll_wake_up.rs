//! Wakes the threads of this process that sleep in `ppoll`, which a futex wake does not reach.
//!
//! A process has one eventfd, and each thread that polls has an epoll descriptor that watches the
//! eventfd edge-triggered. A thread polls its epoll descriptor beside its sockets.
//!
//! ```text
//! setter or handler ── ring ──▶ eventfd ──┬── edge ──▶ epoll of thread 1 ──▶ ppoll
//!                                         └── edge ──▶ epoll of thread 2 ──▶ ppoll
//! ```
//!
//! Each ring is an edge in every epoll descriptor, and a thread consumes its own edge only. So no
//! thread takes the wake-up of another, and a ring that comes between two sleeps of a thread ends
//! its next sleep. The eventfd is never read; its counter holds 2^64 - 2 rings.
//!
//! Why not one eventfd that the woken thread reads: the first thread that wakes takes the ring, and
//! the kernel puts the others back to sleep.
//!
//! Both kinds of descriptor belong to one process. After a fork the child makes new ones and leaves
//! the inherited numbers alone: they may have been closed and used again.

use super::descriptors::above_standard;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::cell::RefCell;
use std::io;
use std::os::fd::{BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// The eventfd of this process: its pid in the high half, the descriptor in the low half; 0 for
/// none.
#[derive(Debug)]
pub(crate) struct PollWakeUp(AtomicU64);

/// The epoll descriptor of one thread.
#[derive(Debug)]
struct Watcher {
    process: u32,
    /// `None` only while it is dropped.
    epoll: Option<Epoll>,
}

thread_local! {
    static WATCHER: RefCell<Option<Watcher>> = const { RefCell::new(None) };
}

impl PollWakeUp {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Ends the `ppoll` of every thread of this process that polls its watcher. Safe in a signal
    /// handler.
    pub(crate) fn ring(&self) {
        if let Some(eventfd) = self.existing() {
            // Fails only if somebody else closed the descriptor: nobody polls it then.
            let _ = super::eventfd::ring(eventfd);
        }
    }

    /// The eventfd of this process, made at the first call in each process.
    pub(crate) fn eventfd(&self) -> io::Result<BorrowedFd<'static>> {
        if let Some(eventfd) = self.existing() {
            return Ok(eventfd);
        }
        let seen = self.0.load(Ordering::Acquire);
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let made: OwnedFd = EventFd::from_value_and_flags(0, flags)?.into();
        let raw = above_standard(made)?.into_raw_fd();
        let packed = u64::from(std::process::id()) << 32 | u64::from(raw.unsigned_abs());
        match self.0.compare_exchange(seen, packed, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                // SAFETY: `into_raw_fd` gave up ownership, so the descriptor stays open for ever.
                Ok(unsafe { BorrowedFd::borrow_raw(raw) })
            }
            // Another thread was first. Ours stays open, once in the life of a process.
            Err(_) => self.existing().ok_or_else(|| Errno::EBADF.into()),
        }
    }

    /// How many descriptors of this process, and of the calling thread, are kept here.
    pub(crate) fn kept_descriptors(&self) -> usize {
        let is_ours = |watcher: &Watcher| watcher.process == std::process::id();
        let watcher = WATCHER.try_with(|watcher| {
            watcher.try_borrow().is_ok_and(|w| w.as_ref().is_some_and(is_ours))
        });
        usize::from(self.existing().is_some()) + usize::from(watcher.unwrap_or(false))
    }

    fn existing(&self) -> Option<BorrowedFd<'static>> {
        let packed = self.0.load(Ordering::Acquire);
        if packed == 0 || (packed >> 32) as u32 != std::process::id() {
            return None;
        }
        let raw = RawFd::try_from(packed as u32).ok()?;
        // SAFETY: the pid says that `eventfd` stored the number in this process, and what it stores
        // is never closed.
        Some(unsafe { BorrowedFd::borrow_raw(raw) })
    }

    /// Runs `poll` with a descriptor that becomes readable at the next ring. A ring that no call of
    /// this thread has consumed yet counts.
    pub(crate) fn with_watcher<T>(&self, poll: impl FnOnce(&Epoll) -> T) -> io::Result<T> {
        WATCHER
            .try_with(|watcher| {
                let mut watcher = watcher.try_borrow_mut().map_err(|_| Errno::EBUSY)?;
                let process = std::process::id();
                if watcher.as_ref().is_none_or(|watcher| watcher.process != process) {
                    *watcher = Some(self.new_watcher(process)?);
                }
                let epoll = watcher.as_ref().and_then(|watcher| watcher.epoll.as_ref());
                Ok(poll(epoll.ok_or(Errno::EBADF)?))
            })
            // The thread is ending.
            .unwrap_or_else(|_| Err(Errno::EBUSY.into()))
    }

    fn new_watcher(&self, process: u32) -> io::Result<Watcher> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let epoll = Epoll(above_standard(epoll.0)?);
        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0);
        epoll.add(self.eventfd()?, event)?;
        Ok(Watcher { process, epoll: Some(epoll) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // In a forked child the number may mean another descriptor.
        if self.process != std::process::id() {
            std::mem::forget(self.epoll.take());
        }
    }
}

/// Consumes the rings that have made `watcher` readable.
pub(crate) fn consume(watcher: &Epoll) -> io::Result<()> {
    match watcher.wait(&mut [EpollEvent::empty()], EpollTimeout::ZERO) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

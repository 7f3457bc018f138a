//! One wait on everything that a process waits for: its latch, a deadline, sockets, the
//! postmaster's death, its own signals.
//!
//! Without sockets it is one `futex_waitv` on {latch, liveness word, interrupt count}. With sockets
//! it is one `ppoll` on {sockets, the postmaster's pidfd, the poll wake-up of this thread}, since a
//! futex cannot be polled: a setter that finds the owner polling wakes it by a signal. Either way
//! the process sleeps until something happens.

use crate::attachment::Attachment;
use crate::process::{self, WorkerProcess};
use crate::sys::exit::exit_now;
use crate::sys::{latch_seen, poll_wake_up};
use bitflags::bitflags;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::Epoll;
use nix::sys::time::TimeSpec;
use shmem_slots::{Latch, Seen, futex};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

bitflags! {
    /// What to wait for, and what has happened.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct WaitEvents: u32 {
        /// The latch was set.
        #[doc(alias = "WL_LATCH_SET")]
        const LATCH_SET = 1;
        /// A socket can be read without blocking, or has ended.
        #[doc(alias = "WL_SOCKET_READABLE")]
        const SOCKET_READABLE = 2;
        /// A socket can be written without blocking, or has ended.
        #[doc(alias = "WL_SOCKET_WRITEABLE")]
        const SOCKET_WRITABLE = 4;
        /// The deadline has passed.
        #[doc(alias = "WL_TIMEOUT")]
        const TIMEOUT = 8;
        /// The postmaster has died: the wait returns.
        #[doc(alias = "WL_POSTMASTER_DEATH")]
        const POSTMASTER_DEATH = 16;
        /// The postmaster has died: the wait does not return, the process ends with exit code 1.
        #[doc(alias = "WL_EXIT_ON_PM_DEATH")]
        const EXIT_ON_POSTMASTER_DEATH = 32;
        /// A signal handler ran. Waits report it; it cannot be waited for.
        const INTERRUPTED = 64;
    }
}

/// A socket (or any descriptor that can be polled) to wait for.
#[derive(Debug)]
pub struct SocketInterest<'a> {
    fd: BorrowedFd<'a>,
    want: WaitEvents,
    ready: WaitEvents,
}

impl<'a> SocketInterest<'a> {
    /// Waits for `want` on `fd`: [`WaitEvents::SOCKET_READABLE`], [`WaitEvents::SOCKET_WRITABLE`],
    /// both, or neither.
    #[must_use]
    pub const fn new(fd: BorrowedFd<'a>, want: WaitEvents) -> Self {
        Self { fd, want, ready: WaitEvents::empty() }
    }

    /// Waits until `fd` becomes readable.
    #[must_use]
    pub const fn readable(fd: BorrowedFd<'a>) -> Self {
        Self::new(fd, WaitEvents::SOCKET_READABLE)
    }

    /// Waits until `fd` becomes writable.
    #[must_use]
    pub const fn writable(fd: BorrowedFd<'a>) -> Self {
        Self::new(fd, WaitEvents::SOCKET_WRITABLE)
    }

    /// What the last wait found on it.
    #[must_use]
    pub const fn ready(&self) -> WaitEvents {
        self.ready
    }
}

/// Why a wait could not be done.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The wait does not watch the postmaster.
    #[error(
        "a wait must name POSTMASTER_DEATH or EXIT_ON_POSTMASTER_DEATH, or an orphan would sleep for ever"
    )]
    WithoutPostmasterDeath,
    /// `LATCH_SET` was named, and there is no latch.
    #[error("a wait for LATCH_SET needs a latch, which only a worker has")]
    WithoutLatch,
    /// The futex wait failed.
    #[error("waiting on latch and postmaster failed")]
    Futex(#[from] futex::WaitError),
    /// The wait on sockets failed.
    #[error("{call} failed in a wait on sockets")]
    Poll {
        /// The system call.
        call: &'static str,
        /// The error that it returned.
        #[source]
        source: io::Error,
    },
}

shmem_slots::debug_as_chain!(WaitError);

fn failed(call: &'static str) -> impl FnOnce(io::Error) -> WaitError {
    move |source| WaitError::Poll { call, source }
}

/// Waits in the worker `me` for `events` and returns those that have happened, at least one. A set
/// latch is reset before this returns, so a look that follows sees whatever the setter did.
///
/// `interrupts` is the interrupt count from before the caller looked at whatever a signal handler
/// may change. Several threads may wait: each wakes for a set that came since its own last wait, or
/// since its first one began.
///
/// # Errors
/// A wait that is wrong in itself, or a failing system call.
#[doc(alias = "WaitLatchOrSocket")]
#[doc(alias = "WaitEventSetWait")]
pub fn wait_in_worker(
    me: &WorkerProcess,
    events: WaitEvents,
    sockets: &mut [SocketInterest<'_>],
    deadline: Option<Instant>,
    interrupts: u64,
) -> Result<WaitEvents, WaitError> {
    let latch = me.latch().filter(|_| events.contains(WaitEvents::LATCH_SET));
    let latch = latch.map(|latch| {
        let seen = latch_seen::last().unwrap_or_else(|| latch.seen());
        latch_seen::remember(seen);
        (latch, seen)
    });
    let wait = Wait { attachment: &me.attachment, latch, deadline, interrupts };
    let ready = wait.run(events, sockets)?;
    if let Some((latch, _)) = latch.filter(|_| ready.contains(WaitEvents::LATCH_SET)) {
        latch_seen::remember(latch.reset());
    }
    Ok(ready)
}

/// Like [`wait_in_worker`], in any process of the cluster; it has no latch.
///
/// # Errors
/// As [`wait_in_worker`].
pub fn wait_for_events(
    attachment: &Attachment,
    events: WaitEvents,
    sockets: &mut [SocketInterest<'_>],
    deadline: Option<Instant>,
    interrupts: u64,
) -> Result<WaitEvents, WaitError> {
    Wait { attachment, latch: None, deadline, interrupts }.run(events, sockets)
}

/// Ends a process whose postmaster has died. A worker leaves without the program's exit handlers;
/// an attached program runs them.
fn leave_orphaned() -> ! {
    if process::current().is_none() {
        std::process::exit(1);
    }
    // If the reader of the worker's output is gone, nothing else can be done.
    let _ = std::io::Write::flush(&mut std::io::stdout());
    exit_now(1)
}

/// Skips sockets without interest: poll would report their hang-up for ever.
fn is_wanted(socket: &SocketInterest<'_>) -> bool {
    !socket.want.is_empty()
}

/// What ends a wait, besides sockets.
struct Wait<'a> {
    attachment: &'a Attachment,
    latch: Option<(Latch<'a>, Seen)>,
    deadline: Option<Instant>,
    interrupts: u64,
}

impl Wait<'_> {
    fn run(
        &self,
        events: WaitEvents,
        sockets: &mut [SocketInterest<'_>],
    ) -> Result<WaitEvents, WaitError> {
        let death = WaitEvents::POSTMASTER_DEATH | WaitEvents::EXIT_ON_POSTMASTER_DEATH;
        if !events.intersects(death) {
            return Err(WaitError::WithoutPostmasterDeath);
        }
        if events.contains(WaitEvents::LATCH_SET) && self.latch.is_none() {
            return Err(WaitError::WithoutLatch);
        }
        // A signal may end this wait before it polls, so forget what an earlier wait found.
        for socket in sockets.iter_mut() {
            socket.ready = WaitEvents::empty();
        }
        loop {
            let mut ready = self.happened();
            if sockets.iter().any(is_wanted) {
                ready |= self.poll(sockets, ready.is_empty())?;
                ready |= self.happened();
            } else if ready.is_empty() {
                self.sleep()?;
                ready |= self.happened();
            }
            if ready.contains(WaitEvents::POSTMASTER_DEATH) {
                self.attachment.pass_on_postmaster_death();
                if events.contains(WaitEvents::EXIT_ON_POSTMASTER_DEATH) {
                    leave_orphaned();
                }
            }
            if !ready.is_empty() {
                return Ok(ready);
            }
        }
    }

    /// What is true right now.
    fn happened(&self) -> WaitEvents {
        let passed = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let set = self.latch.is_some_and(|(latch, seen)| latch.is_set(seen));
        let mut ready = WaitEvents::empty();
        ready.set(WaitEvents::LATCH_SET, set);
        ready.set(WaitEvents::POSTMASTER_DEATH, !self.attachment.postmaster_is_alive());
        ready.set(WaitEvents::INTERRUPTED, process::interrupts().count() != self.interrupts);
        ready.set(WaitEvents::TIMEOUT, passed);
        ready
    }

    fn sleep(&self) -> Result<(), WaitError> {
        let Some(postmaster) = self.attachment.watch_postmaster() else { return Ok(()) };
        let also = [postmaster, process::interrupts().watch(self.interrupts)];
        match self.latch {
            Some((latch, seen)) => latch.wait(seen, &also, self.deadline)?,
            None => futex::wait_any(&also, self.deadline)?,
        };
        Ok(())
    }

    /// One `ppoll`, which sleeps if `sleep`.
    fn poll(
        &self,
        sockets: &mut [SocketInterest<'_>],
        sleep: bool,
    ) -> Result<WaitEvents, WaitError> {
        let polled = process::interrupts().poll().with_watcher(|watcher| {
            // A setter that sees the announcement rings, so the watcher must exist before it.
            let unset = self.latch.is_none_or(|(latch, seen)| latch.begin_poll(seen));
            let polled = self.poll_with(watcher, sockets, sleep && unset);
            if let Some((latch, _)) = self.latch {
                latch.end_poll();
            }
            polled
        });
        polled.map_err(failed("epoll_create1 or eventfd"))?
    }

    fn poll_with(
        &self,
        watcher: &Epoll,
        sockets: &mut [SocketInterest<'_>],
        sleep: bool,
    ) -> Result<WaitEvents, WaitError> {
        let mut fds = Vec::with_capacity(sockets.len() + 2);
        fds.push(PollFd::new(self.attachment.postmaster_pidfd(), PollFlags::POLLIN));
        fds.push(PollFd::new(watcher.0.as_fd(), PollFlags::POLLIN));
        for socket in sockets.iter().filter(|socket| is_wanted(socket)) {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, socket.want.contains(WaitEvents::SOCKET_READABLE));
            flags.set(PollFlags::POLLOUT, socket.want.contains(WaitEvents::SOCKET_WRITABLE));
            fds.push(PollFd::new(socket.fd, flags));
        }
        // A handler that ran before this look has moved the count on. One that runs after it rings,
        // and the ring ends the poll, whether it has begun or not.
        let timeout = if sleep && process::interrupts().count() == self.interrupts {
            self.deadline.map(|deadline| {
                TimeSpec::from_duration(deadline.saturating_duration_since(Instant::now()))
            })
        } else {
            Some(TimeSpec::new(0, 0))
        };
        let polled = ppoll(&mut fds, timeout, None);
        let mut answers = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        let (postmaster, rung) = (answers.next(), answers.next());
        let answers: Vec<PollFlags> = answers.collect();
        drop(fds);
        match polled {
            Ok(_) => {}
            // A handler of ours has moved the count on.
            Err(nix::errno::Errno::EINTR) => return Ok(WaitEvents::empty()),
            Err(errno) => return Err(failed("ppoll")(errno.into())),
        }
        if rung.is_some_and(|got| !got.is_empty()) {
            poll_wake_up::consume(watcher).map_err(failed("epoll_wait"))?;
        }
        let mut all = WaitEvents::empty();
        all.set(WaitEvents::POSTMASTER_DEATH, postmaster.is_some_and(|got| !got.is_empty()));
        let ended = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
        for (socket, got) in sockets.iter_mut().filter(|socket| is_wanted(socket)).zip(answers) {
            let mut ready = WaitEvents::empty();
            ready.set(WaitEvents::SOCKET_READABLE, got.intersects(PollFlags::POLLIN | ended));
            ready.set(WaitEvents::SOCKET_WRITABLE, got.intersects(PollFlags::POLLOUT | ended));
            socket.ready = ready & socket.want;
            all |= socket.ready;
        }
        Ok(all)
    }
}

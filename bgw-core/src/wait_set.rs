//! One wait on everything that a process waits for: its latch, a deadline, sockets, the
//! postmaster's death.
//!
//! Without sockets it is one `futex_waitv` on {latch, liveness word, interrupt counter}. With
//! sockets it is one `ppoll` on {sockets, the postmaster's pidfd, the poll wake-up eventfd}, since a futex
//! cannot be polled; a setter that finds the owner polling wakes it (see [`crate::latch`]).
//! Nothing is polled in either: the process sleeps until something happens.

use crate::attachment::Attachment;
use crate::process;
use crate::sys::eventfd;
use crate::sys::exit::exit_now;
use bitflags::bitflags;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use shmem_slots::Latch;
use shmem_slots::futex;
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
        /// A signal handler ran; only ever an answer.
        const INTERRUPTED = 64;
    }
}

/// A socket (or any descriptor that can be polled) to wait for.
#[derive(Debug)]
pub struct SocketInterest<'a> {
    /// The descriptor.
    pub fd: BorrowedFd<'a>,
    /// `SOCKET_READABLE`, `SOCKET_WRITABLE` or both.
    pub want: WaitEvents,
    /// What has happened on it; filled in by the wait.
    pub ready: WaitEvents,
}

impl<'a> SocketInterest<'a> {
    /// Waits for `fd` to become readable.
    #[must_use]
    pub const fn readable(fd: BorrowedFd<'a>) -> Self {
        Self { fd, want: WaitEvents::SOCKET_READABLE, ready: WaitEvents::empty() }
    }

    /// Waits for `fd` to become writable.
    #[must_use]
    pub const fn writable(fd: BorrowedFd<'a>) -> Self {
        Self { fd, want: WaitEvents::SOCKET_WRITABLE, ready: WaitEvents::empty() }
    }
}

/// What ended a wait: one or more events.
pub type Ready = WaitEvents;

/// Why a wait could not be done.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// Nothing was asked for that could see the postmaster's death.
    #[error(
        "a wait must name POSTMASTER_DEATH or EXIT_ON_POSTMASTER_DEATH, lest an orphan sleeps for ever"
    )]
    WithoutPostmasterDeath,
    /// `LATCH_SET` was asked for, and no latch given.
    #[error("a wait for LATCH_SET needs a latch")]
    WithoutLatch,
    /// The futex wait failed.
    #[error("futex_waitv failed")]
    Futex(#[from] futex::WaitError),
    /// A descriptor could not be polled.
    #[error("{call} failed while waiting for sockets")]
    Poll {
        /// The system call.
        call: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

shmem_slots::debug_as_chain!(WaitError);

/// Waits for `events` and returns those that have happened, at least one.
///
/// `interrupts` is the value of [`process::interrupts`] from before the caller looked at whatever a
/// signal handler may change. A set latch stays set: reset it before the look at the condition.
///
/// # Errors
/// A wait that would be wrong in itself, or a failing system call.
#[doc(alias = "WaitLatchOrSocket")]
#[doc(alias = "WaitEventSetWait")]
pub fn wait(
    attachment: &Attachment,
    latch: Option<&Latch<'_>>,
    events: WaitEvents,
    sockets: &mut [SocketInterest<'_>],
    deadline: Option<Instant>,
    interrupts: u64,
) -> Result<Ready, WaitError> {
    let death = WaitEvents::POSTMASTER_DEATH | WaitEvents::EXIT_ON_POSTMASTER_DEATH;
    if !events.intersects(death) {
        return Err(WaitError::WithoutPostmasterDeath);
    }
    let latch = if events.contains(WaitEvents::LATCH_SET) {
        Some(latch.ok_or(WaitError::WithoutLatch)?)
    } else {
        None
    };
    // What the last wait found is no answer to this one, which a signal may end before it has looked.
    for socket in sockets.iter_mut() {
        socket.ready = WaitEvents::empty();
    }
    loop {
        let mut ready = happened(attachment, latch, deadline, interrupts);
        if sockets.iter().any(is_wanted) {
            let sleep = ready.is_empty();
            ready |= poll_once(attachment, latch, sockets, deadline, interrupts, sleep)?;
            ready |= happened(attachment, latch, deadline, interrupts);
        } else if ready.is_empty() {
            sleep(attachment, latch, deadline, interrupts)?;
            ready |= happened(attachment, latch, deadline, interrupts);
        }
        if ready.contains(WaitEvents::POSTMASTER_DEATH) {
            attachment.pass_on_postmaster_death();
            if events.contains(WaitEvents::EXIT_ON_POSTMASTER_DEATH) {
                leave_orphaned();
            }
        }
        if !ready.is_empty() {
            return Ok(ready);
        }
    }
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

/// A socket of which nothing is wanted is left out: the kernel would tell of its end all the same, again
/// and again, and no event could say so.
fn is_wanted(socket: &SocketInterest<'_>) -> bool {
    !socket.want.is_empty()
}

/// What is true right now, without sleeping.
fn happened(
    attachment: &Attachment,
    latch: Option<&Latch<'_>>,
    deadline: Option<Instant>,
    interrupts: u64,
) -> WaitEvents {
    let mut ready = WaitEvents::empty();
    ready.set(WaitEvents::LATCH_SET, latch.is_some_and(Latch::is_set));
    ready.set(WaitEvents::POSTMASTER_DEATH, !attachment.postmaster_is_alive());
    ready.set(WaitEvents::INTERRUPTED, process::interrupts() != interrupts);
    ready.set(WaitEvents::TIMEOUT, deadline.is_some_and(|deadline| Instant::now() >= deadline));
    ready
}

fn sleep(
    attachment: &Attachment,
    latch: Option<&Latch<'_>>,
    deadline: Option<Instant>,
    interrupts: u64,
) -> Result<(), WaitError> {
    let Some(postmaster) = attachment.watch_postmaster() else { return Ok(()) };
    let also = [postmaster, process::watch_interrupts(interrupts)];
    match latch {
        Some(latch) => latch.wait(&also, deadline)?,
        None => futex::wait_any(&also, deadline)?,
    };
    Ok(())
}

fn poll_once(
    attachment: &Attachment,
    latch: Option<&Latch<'_>>,
    sockets: &mut [SocketInterest<'_>],
    deadline: Option<Instant>,
    interrupts: u64,
    sleep: bool,
) -> Result<WaitEvents, WaitError> {
    let wake_up = process::poll_wake_up_descriptor()
        .map_err(|source| WaitError::Poll { call: "eventfd", source })?;
    let unset = latch.is_none_or(Latch::begin_poll);
    let result = {
        let mut fds = Vec::with_capacity(sockets.len() + 2);
        fds.push(PollFd::new(attachment.postmaster_pidfd(), PollFlags::POLLIN));
        fds.push(PollFd::new(wake_up.as_fd(), PollFlags::POLLIN));
        for socket in sockets.iter().filter(|socket| is_wanted(socket)) {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, socket.want.contains(WaitEvents::SOCKET_READABLE));
            flags.set(PollFlags::POLLOUT, socket.want.contains(WaitEvents::SOCKET_WRITABLE));
            fds.push(PollFd::new(socket.fd, flags));
        }
        // A handler that ran before the announcement has moved the counter on; one that runs after
        // this look finds the announcement, and wake_ups.
        let timeout = if sleep && unset && process::interrupts() == interrupts {
            deadline.map(|deadline| {
                TimeSpec::from_duration(deadline.saturating_duration_since(Instant::now()))
            })
        } else {
            Some(TimeSpec::new(0, 0))
        };
        let result = ppoll(&mut fds, timeout, None);
        let answers: Vec<PollFlags> =
            fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty())).collect();
        result.map(|_| answers)
    };
    if let Some(latch) = latch {
        latch.end_poll();
    }
    let rings = eventfd::take_rings(wake_up);
    rings.map_err(|source| WaitError::Poll { call: "read of the poll wake-up eventfd", source })?;
    let answers = match result {
        Ok(answers) => answers,
        Err(nix::errno::Errno::EINTR) => return Ok(WaitEvents::INTERRUPTED),
        Err(errno) => return Err(WaitError::Poll { call: "ppoll", source: errno.into() }),
    };
    let mut all = WaitEvents::empty();
    let postmaster = answers.first().is_some_and(|got| !got.is_empty());
    all.set(WaitEvents::POSTMASTER_DEATH, postmaster);
    let ended = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
    let wanted = sockets.iter_mut().filter(|socket| is_wanted(socket));
    for (socket, got) in wanted.zip(answers.into_iter().skip(2)) {
        let mut ready = WaitEvents::empty();
        ready.set(WaitEvents::SOCKET_READABLE, got.intersects(PollFlags::POLLIN | ended));
        ready.set(WaitEvents::SOCKET_WRITABLE, got.intersects(PollFlags::POLLOUT | ended));
        socket.ready = ready & socket.want;
        all |= socket.ready;
    }
    Ok(all)
}

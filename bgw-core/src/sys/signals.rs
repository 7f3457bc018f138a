//! Signal handlers of a worker, and the masks around a fork.
//!
//! A handler may interrupt the process between any two instructions. So it only calls
//! [`crate::process::interrupt`] (atomics, a futex wake, a write to an eventfd) or ends the process;
//! it keeps `errno`, allocates nothing and takes no lock.
//!
//! | signal | at entry | PostgreSQL |
//! |---|---|---|
//! | SIGTERM | flag and latch; the next check ends the worker with exit 1 | `bgworker_die` |
//! | SIGINT | database workers: flag and latch; others: ignored | `StatementCancelHandler` |
//! | SIGUSR1 | database workers: flag and latch; others: ignored until they ask to be notified | |
//! | SIGHUP, SIGPIPE, SIGUSR2 | ignored | |
//! | SIGCHLD, SIGALRM | default | |
//! | SIGQUIT | never blocked; ends at once with exit code 2 | `SignalHandlerForCrashExit` |
//! | SIGPWR | never blocked; the postmaster died (parent-death signal) | the same |
//! | SIGURG | wakes a sleeper in `ppoll` | the same |

use crate::process::{self, Pending};
use crate::worker::WorkerFlags;
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, sigaction,
};
use std::io;
use std::os::fd::{BorrowedFd, IntoRawFd, OwnedFd, RawFd};

/// The signal that a worker gets from the kernel when the postmaster dies.
pub const POSTMASTER_DEATH: Signal = Signal::SIGPWR;

/// The signal that wakes a latch owner out of `ppoll`.
pub const LATCH_WAKE_UP: Signal = Signal::SIGURG;

/// The exit code of a process that was told to quit at once.
pub const QUIT_EXIT_CODE: i32 = 2;

/// How long a worker may live on after its postmaster, in seconds: time to notice and to tidy up.
/// Then the kernel kills it by a timer that the worker armed in its handler.
pub const ORPHAN_SECONDS: i64 = 5;

extern "C" fn on_terminate(_: libc::c_int) {
    keeping_errno(|| process::interrupt(Pending::TERMINATE));
}
extern "C" fn on_reload(_: libc::c_int) {
    keeping_errno(|| process::interrupt(Pending::RELOAD));
}
extern "C" fn on_cancel(_: libc::c_int) {
    keeping_errno(|| process::interrupt(Pending::CANCEL));
}
extern "C" fn on_notify(_: libc::c_int) {
    keeping_errno(|| process::interrupt(Pending::NOTIFIED));
}
extern "C" fn on_latch_wake_up(_: libc::c_int) {
    keeping_errno(process::wake_poll);
}
extern "C" fn on_postmaster_death(_: libc::c_int) {
    keeping_errno(|| {
        process::interrupt(Pending::POSTMASTER_DIED);
        arm_orphan_timer();
    });
}
extern "C" fn on_quit(_: libc::c_int) {
    // SAFETY: `_exit` is async-signal-safe and does not return; nothing is cleaned up on purpose.
    unsafe { libc::_exit(QUIT_EXIT_CODE) }
}

fn keeping_errno(work: impl FnOnce()) {
    let errno = nix::errno::Errno::last_raw();
    work();
    nix::errno::Errno::set_raw(errno);
}

/// Has the kernel kill this process in [`ORPHAN_SECONDS`], whatever it blocks or ignores.
fn arm_orphan_timer() {
    let mut timer: libc::c_int = 0;
    // SAFETY: all-zero bytes are a valid `sigevent`: plain integers and null pointers.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_SIGNAL;
    event.sigev_signo = libc::SIGKILL;
    let when = libc::itimerspec {
        it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: libc::timespec { tv_sec: ORPHAN_SECONDS, tv_nsec: 0 },
    };
    // SAFETY: a raw system call, so no lock of the C library; `event` and `timer` are valid for the
    // call. The kernel's timer id is an int, as `timer` is.
    let made = unsafe {
        libc::syscall(libc::SYS_timer_create, libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer)
    };
    if made == 0 {
        // SAFETY: a raw system call on the timer made above; `when` is valid for the call.
        let _ = unsafe {
            libc::syscall(
                libc::SYS_timer_settime,
                timer,
                0,
                &raw const when,
                std::ptr::null_mut::<libc::itimerspec>(),
            )
        };
    }
}

/// The signals of which [`install_common`] and [`install_own`] say what becomes of them.
const WORKERS: [Signal; 11] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGUSR1,
    Signal::SIGHUP,
    Signal::SIGPIPE,
    Signal::SIGUSR2,
    Signal::SIGCHLD,
    Signal::SIGALRM,
    Signal::SIGQUIT,
    POSTMASTER_DEATH,
    LATCH_WAKE_UP,
];

/// What becomes of the signals of a worker, as it was before a postmaster changed it for its workers.
#[derive(Clone, Copy)]
pub struct SavedActions([libc::sigaction; WORKERS.len()]);

impl std::fmt::Debug for SavedActions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SavedActions").field(&WORKERS).finish()
    }
}

impl SavedActions {
    pub(crate) fn save() -> io::Result<Self> {
        // SAFETY: all-zero bytes are a valid `sigaction`: an empty mask and null pointers.
        let mut saved: [libc::sigaction; WORKERS.len()] = unsafe { std::mem::zeroed() };
        for (signal, place) in WORKERS.into_iter().zip(&mut saved) {
            // SAFETY: asks only; `place` is valid for the call.
            let done = unsafe { libc::sigaction(signal as libc::c_int, std::ptr::null(), place) };
            if done != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Self(saved))
    }

    pub(crate) fn restore(&self) -> io::Result<()> {
        for (signal, saved) in WORKERS.into_iter().zip(&self.0) {
            // SAFETY: what the kernel itself had reported for this signal of this process.
            let done =
                unsafe { libc::sigaction(signal as libc::c_int, saved, std::ptr::null_mut()) };
            if done != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }
}

fn set(signal: Signal, handler: SigHandler) -> io::Result<()> {
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handlers above do nothing that is not async-signal-safe (head comment).
    unsafe { sigaction(signal, &action) }?;
    Ok(())
}

/// Installs those handlers of a worker that its postmaster may have, too; the mask is not touched.
pub(crate) fn install_common() -> io::Result<()> {
    set(Signal::SIGTERM, SigHandler::Handler(on_terminate))?;
    set(Signal::SIGUSR1, SigHandler::SigIgn)?;
    set(Signal::SIGPIPE, SigHandler::SigIgn)?;
    set(Signal::SIGUSR2, SigHandler::SigIgn)?;
    set(Signal::SIGCHLD, SigHandler::SigDfl)?;
    set(Signal::SIGALRM, SigHandler::SigDfl)?;
    set(Signal::SIGQUIT, SigHandler::Handler(on_quit))?;
    set(POSTMASTER_DEATH, SigHandler::Handler(on_postmaster_death))?;
    set(LATCH_WAKE_UP, SigHandler::Handler(on_latch_wake_up))
}

/// Installs the others. To ignore a signal takes back one that is pending: a postmaster, which hears
/// these two, would lose it.
pub(crate) fn install_own(flags: WorkerFlags) -> io::Result<()> {
    set(Signal::SIGHUP, SigHandler::SigIgn)?;
    if flags.contains(WorkerFlags::DATABASE_CONNECTION) {
        set(Signal::SIGINT, SigHandler::Handler(on_cancel))?;
        set(Signal::SIGUSR1, SigHandler::Handler(on_notify))
    } else {
        set(Signal::SIGINT, SigHandler::SigIgn)
    }
}

/// Unblocks what a worker hears from the moment its handlers stand.
pub(crate) fn hear_at_once() -> io::Result<()> {
    let mut never_blocked = SigSet::empty();
    never_blocked.add(Signal::SIGQUIT);
    never_blocked.add(POSTMASTER_DEATH);
    pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&never_blocked), None)?;
    Ok(())
}

/// From now on SIGHUP sets [`Pending::RELOAD`] and the latch.
///
/// # Errors
/// The error of `sigaction`.
pub fn handle_reload() -> io::Result<()> {
    set(Signal::SIGHUP, SigHandler::Handler(on_reload))
}

/// From now on SIGUSR1 sets [`Pending::NOTIFIED`] and ends a wait of this process.
///
/// # Errors
/// The error of `sigaction`.
pub fn handle_notify() -> io::Result<()> {
    set(Signal::SIGUSR1, SigHandler::Handler(on_notify))
}

/// True when SIGUSR1 would end this process: nobody handles or ignores it.
///
/// # Errors
/// The error of `sigaction`.
pub fn notify_would_kill() -> io::Result<bool> {
    // SAFETY: all-zero bytes are a valid `sigaction`: an empty mask and null pointers.
    let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: asks only; `now` is valid for the call.
    let done = unsafe { libc::sigaction(libc::SIGUSR1, std::ptr::null(), &raw mut now) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(now.sa_sigaction == libc::SIG_DFL)
}

/// Blocks all signals of the calling thread and returns the mask before.
///
/// # Errors
/// The error of `pthread_sigmask`.
pub fn block_all() -> io::Result<SigSet> {
    let mut before = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
    Ok(before)
}

/// Sets the mask of the calling thread.
///
/// # Errors
/// The error of `pthread_sigmask`.
pub fn restore(mask: &SigSet) -> io::Result<()> {
    Ok(pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(mask), None)?)
}

/// Unblocks all signals of the calling thread.
///
/// # Errors
/// The error of `pthread_sigmask`.
#[doc(alias = "BackgroundWorkerUnblockSignals")]
pub fn unblock_all() -> io::Result<()> {
    restore(&SigSet::empty())
}

/// The poll wake-up eventfd of this process by its number, for as long as the process lives.
pub(crate) fn borrow_poll_wake_up(number: u32) -> Option<BorrowedFd<'static>> {
    let raw = RawFd::try_from(number).ok().filter(|&raw| raw >= 0)?;
    // SAFETY: `number` comes from `leak_poll_wake_up` in this process (`process::Own::poll_wake_up` is tagged with the
    // pid), and that descriptor is never closed.
    Some(unsafe { BorrowedFd::borrow_raw(raw) })
}

/// Keeps `bell` open for the life of the process and returns its number.
pub(crate) fn leak_poll_wake_up(bell: OwnedFd) -> (u32, BorrowedFd<'static>) {
    let raw = bell.into_raw_fd();
    // SAFETY: `into_raw_fd` gave up ownership, so the descriptor stays open for ever.
    (raw.unsigned_abs(), unsafe { BorrowedFd::borrow_raw(raw) })
}

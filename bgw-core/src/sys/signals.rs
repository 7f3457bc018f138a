//! Signal handlers of a worker, and signal masks.
//!
//! A handler may interrupt the process between any two instructions. So it only calls
//! `Interrupts::raise` (atomics, a futex wake, a write to an eventfd) or ends the process; it keeps
//! `errno`, allocates nothing and takes no lock.
//!
//! | signal | at the start of a worker | PostgreSQL |
//! |---|---|---|
//! | SIGTERM | flag and latch; the next check ends the worker with exit 1 | `bgworker_die` |
//! | SIGINT | database workers: flag and latch; others: ignored | `StatementCancelHandler` |
//! | SIGUSR1 | database workers: flag and latch; others: ignored until they register a notify target | |
//! | SIGHUP, SIGPIPE, SIGUSR2 | ignored | |
//! | SIGCHLD, SIGALRM | default | |
//! | SIGQUIT | never blocked; ends at once with exit code 2 | `SignalHandlerForCrashExit` |
//! | SIGPWR | never blocked; the postmaster died (parent-death signal) | the same |
//! | SIGURG | never blocked; wakes a sleeper in `ppoll` | the same |
//!
//! A worker's stop signal, if it is another one of these, is handled as SIGTERM.
//!
//! Fault signals (`FAULTS`) are blocked in no process of the cluster. The kernel kills a process
//! that faults while the signal is blocked, and no handler or message of the program's runs then.

use super::interrupts::{Interrupts, Pending};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use std::io;
use std::sync::OnceLock;

/// The signal that a worker gets from the kernel when the postmaster dies.
pub const POSTMASTER_DEATH: Signal = Signal::SIGPWR;
/// The signal that wakes the owner of a latch out of `ppoll`. Processes without a handler ignore
/// it.
const LATCH_WAKE_UP: Signal = Signal::SIGURG;
/// The exit code of a process that quits at once.
const QUIT_EXIT_CODE: i32 = 2;
/// How many seconds a worker may outlive its postmaster, to notice and to clean up. Then a kernel
/// timer that its handler armed kills it.
const ORPHAN_SECONDS: i64 = 5;

/// Signals that report a fault of the process itself.
const FAULTS: [Signal; 7] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGABRT,
    Signal::SIGTRAP,
    Signal::SIGSYS,
];

/// Signals that a worker never blocks, besides [`FAULTS`].
const VITAL: [Signal; 3] = [Signal::SIGQUIT, POSTMASTER_DEATH, LATCH_WAKE_UP];

/// The mask of both, as the kernel has it.
const NEVER_BLOCKED: u64 = mask(&FAULTS) | mask(&VITAL);

const fn mask(signals: &[Signal]) -> u64 {
    let (mut mask, mut at) = (0, 0);
    while at < signals.len() {
        mask |= 1 << (signals[at] as u32 - 1);
        at += 1;
    }
    mask
}

/// Where the handlers report. Set before the first handler is installed.
static REPORT_TO: OnceLock<&'static Interrupts> = OnceLock::new();

fn report(work: impl FnOnce(&Interrupts)) {
    let errno = nix::errno::Errno::last_raw();
    if let Some(interrupts) = REPORT_TO.get() {
        work(interrupts);
    }
    nix::errno::Errno::set_raw(errno);
}

extern "C" fn on_terminate(_: libc::c_int) {
    report(|interrupts| interrupts.raise(Pending::TERMINATE));
}

extern "C" fn on_reload(_: libc::c_int) {
    report(|interrupts| interrupts.raise(Pending::RELOAD));
}

extern "C" fn on_cancel(_: libc::c_int) {
    report(|interrupts| interrupts.raise(Pending::CANCEL));
}

extern "C" fn on_notify(_: libc::c_int) {
    report(|interrupts| interrupts.raise(Pending::NOTIFIED));
}

extern "C" fn on_latch_wake_up(_: libc::c_int) {
    report(|interrupts| interrupts.poll().ring());
}

extern "C" fn on_postmaster_death(_: libc::c_int) {
    report(|interrupts| {
        interrupts.raise(Pending::POSTMASTER_DIED);
        arm_orphan_timer();
    });
}

extern "C" fn on_quit(_: libc::c_int) {
    // SAFETY: `_exit` is async-signal-safe and does not return; nothing is cleaned up on purpose.
    unsafe { libc::_exit(QUIT_EXIT_CODE) }
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

/// The signals whose actions [`install_common`] and [`install_own`] set.
const OF_WORKERS: [Signal; 11] = [
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

/// The actions of [`OF_WORKERS`] before a postmaster changed them.
#[derive(Clone, Copy)]
pub(crate) struct SavedActions([libc::sigaction; OF_WORKERS.len()]);

impl std::fmt::Debug for SavedActions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SavedActions").field(&OF_WORKERS).finish()
    }
}

impl SavedActions {
    pub(crate) fn save() -> io::Result<Self> {
        // SAFETY: all-zero bytes are a valid `sigaction`: an empty mask and null pointers.
        let mut saved: [libc::sigaction; OF_WORKERS.len()] = unsafe { std::mem::zeroed() };
        for (signal, place) in OF_WORKERS.into_iter().zip(&mut saved) {
            *place = action_of(signal)?;
        }
        Ok(Self(saved))
    }

    pub(crate) fn restore(&self) -> io::Result<()> {
        for (signal, saved) in OF_WORKERS.into_iter().zip(&self.0) {
            // SAFETY: the kernel itself reported this action of this process for the signal.
            let done =
                unsafe { libc::sigaction(signal as libc::c_int, saved, std::ptr::null_mut()) };
            if done != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }
}

/// The action of this process for `signal`.
fn action_of(signal: Signal) -> io::Result<libc::sigaction> {
    // SAFETY: all-zero bytes are a valid `sigaction`: an empty mask and null pointers.
    let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: only queries; `now` is valid for the call.
    let done = unsafe { libc::sigaction(signal as libc::c_int, std::ptr::null(), &raw mut now) };
    if done == 0 { Ok(now) } else { Err(io::Error::last_os_error()) }
}

/// In a spare: [`unblock_vital`]; and asks for an action, so that the kernel has mapped the code of
/// the C library that [`install_own`] runs.
pub(crate) fn rehearse() -> io::Result<()> {
    action_of(Signal::SIGHUP)?;
    unblock_vital()
}

/// True if SIGUSR1 would end this process, which neither handles nor ignores it.
///
/// # Errors
/// The error of `sigaction`.
pub fn notify_would_kill() -> io::Result<bool> {
    Ok(action_of(Signal::SIGUSR1)?.sa_sigaction == libc::SIG_DFL)
}

/// What a signal does to this process.
enum Action {
    Default,
    Ignore,
    Handler(extern "C" fn(libc::c_int)),
}

fn set(signal: Signal, action: Action) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid `sigaction`: an empty mask and null pointers.
    let mut new: libc::sigaction = unsafe { std::mem::zeroed() };
    new.sa_flags = libc::SA_RESTART;
    new.sa_sigaction = match action {
        Action::Default => libc::SIG_DFL,
        Action::Ignore => libc::SIG_IGN,
        Action::Handler(handler) => handler as libc::sighandler_t,
    };
    // SAFETY: the handlers above do nothing that is not async-signal-safe (head comment). A direct
    // call: each start makes it.
    let done =
        unsafe { libc::sigaction(signal as libc::c_int, &raw const new, std::ptr::null_mut()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Installs the handlers of a worker that its postmaster can have, too. They report to
/// `interrupts`. The mask stays as it is. `stop` is the worker's stop signal.
pub(crate) fn install_common(interrupts: &'static Interrupts, stop: Signal) -> io::Result<()> {
    REPORT_TO.get_or_init(|| interrupts);
    set(Signal::SIGTERM, Action::Handler(on_terminate))?;
    set(Signal::SIGUSR1, Action::Ignore)?;
    set(Signal::SIGPIPE, Action::Ignore)?;
    set_or_stop(Signal::SIGUSR2, Action::Ignore, stop)?;
    set(Signal::SIGCHLD, Action::Default)?;
    set(Signal::SIGALRM, Action::Default)?;
    set(Signal::SIGQUIT, Action::Handler(on_quit))?;
    set(POSTMASTER_DEATH, Action::Handler(on_postmaster_death))?;
    set(LATCH_WAKE_UP, Action::Handler(on_latch_wake_up))
}

/// Installs the rest, after [`install_common`]. Ignoring a signal discards a pending one, and a
/// postmaster listens to these, so it cannot have them.
pub(crate) fn install_own(database: bool, stop: Signal) -> io::Result<()> {
    set_or_stop(Signal::SIGHUP, Action::Ignore, stop)?;
    if stop == Signal::SIGUSR2 {
        // The postmaster ignores it.
        set(stop, Action::Handler(on_terminate))?;
    }
    if database {
        set_or_stop(Signal::SIGINT, Action::Handler(on_cancel), stop)?;
        set(Signal::SIGUSR1, Action::Handler(on_notify))
    } else {
        set_or_stop(Signal::SIGINT, Action::Ignore, stop)
    }
}

/// A command that is about to take its invitation: from then on the postmaster sends it SIGHUP.
pub(crate) fn ignore_reload(stop: Signal) -> io::Result<()> {
    if stop == Signal::SIGHUP { Ok(()) } else { set(Signal::SIGHUP, Action::Ignore) }
}

/// Installs the handler for the stop signal of a command, which may be one that no function has.
pub(crate) fn install_stop_of_command(stop: Signal) -> io::Result<()> {
    set(stop, Action::Handler(on_terminate))
}

/// Takes [`install_own`] back: a process between two workers has the defaults of a postmaster.
pub(crate) fn uninstall_own() -> io::Result<()> {
    set(Signal::SIGHUP, Action::Default)?;
    set(Signal::SIGINT, Action::Default)
}

/// Sets the handler of `signal`, which is that of SIGTERM if it is the stop signal. A stop signal
/// may be pending already, and is never ignored in between: that would discard it.
fn set_or_stop(signal: Signal, action: Action, stop: Signal) -> io::Result<()> {
    set(signal, if signal == stop { Action::Handler(on_terminate) } else { action })
}

/// From now on SIGHUP sets [`Pending::RELOAD`] and the latch.
pub(crate) fn handle_reload(interrupts: &'static Interrupts) -> io::Result<()> {
    REPORT_TO.get_or_init(|| interrupts);
    set(Signal::SIGHUP, Action::Handler(on_reload))
}

/// From now on SIGUSR1 sets [`Pending::NOTIFIED`] and ends the waits of this process.
pub(crate) fn handle_notify(interrupts: &'static Interrupts) -> io::Result<()> {
    REPORT_TO.get_or_init(|| interrupts);
    set(Signal::SIGUSR1, Action::Handler(on_notify))
}

/// The signals that are blocked and have arrived.
///
/// # Errors
/// The error of `sigpending`.
pub(crate) fn pending() -> io::Result<SigSet> {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `set` is valid for writing during the call.
    if unsafe { libc::sigpending(set.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `sigpending` succeeded, so it has filled the set.
    let set = unsafe { set.assume_init() };
    // SAFETY: a set that the C library has filled.
    Ok(unsafe { SigSet::from_sigset_t_unchecked(set) })
}

/// Takes all pending signals but those in `kept`, and SIGCHLD, which tells of children that remain.
pub(crate) fn discard_pending_but(kept: &SigSet) {
    let mut wanted = SigSet::all();
    for signal in kept.iter().chain([Signal::SIGCHLD]) {
        wanted.remove(signal);
    }
    let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // Bounded: somebody may be sending all the time.
    for _ in 0..4096 {
        let info = std::ptr::null_mut();
        // SAFETY: set and time are valid for the call; no information is asked for.
        let taken = unsafe { libc::sigtimedwait(wanted.as_ref(), info, &raw const at_once) };
        if taken <= 0 {
            return;
        }
    }
}

/// Blocks all signals of the calling thread but fault signals, and returns the mask before.
///
/// # Errors
/// The error of `pthread_sigmask`.
pub fn block_all() -> io::Result<SigSet> {
    let mut mask = SigSet::all();
    FAULTS.into_iter().for_each(|signal| mask.remove(signal));
    let mut before = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&mask), Some(&mut before))?;
    Ok(before)
}

/// Blocks what a worker can block: all signals of the calling thread but fault signals, SIGQUIT,
/// SIGPWR and SIGURG.
///
/// # Errors
/// The error of `pthread_sigmask`.
#[doc(alias = "BackgroundWorkerBlockSignals")]
pub fn block_in_worker() -> io::Result<()> {
    let mut mask = SigSet::all();
    FAULTS.into_iter().chain(VITAL).for_each(|signal| mask.remove(signal));
    restore(&mask)
}

/// Unblocks the signals that a worker never blocks. Their handlers must be installed.
pub(crate) fn unblock_vital() -> io::Result<()> {
    let mask = NEVER_BLOCKED;
    // SAFETY: the mask is valid for the call, and as long as said. By number, because each start
    // makes the call: a page of code that the child has not mapped yet costs more.
    let done = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_UNBLOCK,
            &raw const mask,
            std::ptr::null_mut::<u64>(),
            size_of_val(&mask),
        )
    };
    if done == 0 {
        return Ok(());
    }
    // A kernel whose masks have another size.
    let mut vital = SigSet::empty();
    FAULTS.into_iter().chain(VITAL).for_each(|signal| vital.add(signal));
    Ok(pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&vital), None)?)
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

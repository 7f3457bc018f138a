//! Signals of the postmaster's own process and of its children, and the parent-death signal.

use super::descriptors::DescriptorFloor;
use bgw_core::Pid;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;

/// The signals that the postmaster handles.
pub(crate) const HANDLED: [Signal; 5] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGCHLD];

/// A descriptor on which the signals of [`HANDLED`] arrive. They must be blocked.
pub(crate) fn listen(floor: DescriptorFloor) -> io::Result<SignalFd> {
    let mut mask = SigSet::empty();
    for signal in HANDLED {
        mask.add(signal);
    }
    let fd = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let moved = floor.move_above(fd)?;
    // SAFETY: a duplicate of a signalfd is one.
    Ok(unsafe { SignalFd::from_owned_fd(moved) })
}

fn set_all(signals: impl IntoIterator<Item = Signal>, handler: SigHandler) -> io::Result<()> {
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    for signal in signals {
        // SAFETY: installs no handler function (callers pass SigDfl or SigIgn only).
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// Ended children stay until they are reaped, even if the embedding program ignores SIGCHLD.
pub(crate) fn keep_ended_children() -> io::Result<()> {
    set_all([Signal::SIGCHLD], SigHandler::SigDfl)
}

/// Makes the children of ended children this process's, or no longer. Returns what it was before.
pub(crate) fn set_subreaper(subreaper: bool) -> io::Result<bool> {
    let before = nix::sys::prctl::get_child_subreaper()?;
    nix::sys::prctl::set_child_subreaper(subreaper)?;
    Ok(before)
}

/// Sends a signal to the group of `leader`, a child or group that is not reaped, so the number can
/// name no other group. SIGCONT follows, so that stopped processes receive it. False if there is no
/// such group: the child has been forked just now.
pub(crate) fn signal_group(leader: Pid, signal: rustix::process::Signal) -> bool {
    use rustix::process::{Signal, kill_process_group};
    let Some(group) = rustix::process::Pid::from_raw(leader.as_raw()) else { return false };
    let sent = kill_process_group(group, signal).is_ok();
    if sent && signal != Signal::KILL {
        // ESRCH: all have ended meanwhile.
        let _ = kill_process_group(group, Signal::CONT);
    }
    sent
}

/// Before `exec`: resets every signal to its default, and unblocks all.
pub(crate) fn all_default() -> io::Result<()> {
    let settable = Signal::iterator().filter(|s| !matches!(s, Signal::SIGKILL | Signal::SIGSTOP));
    set_all(settable, SigHandler::SigDfl)?;
    bgw_core::internals::signals::unblock_all()
}

/// Has the kernel send `signal` to this process when the thread that forked it ends. Returns false
/// if the postmaster has ended already.
///
/// Each start makes these calls, without the C library: a page of its code that the child has not
/// mapped yet costs more than the call.
pub(crate) fn die_with(postmaster: Pid, signal: rustix::process::Signal) -> io::Result<bool> {
    rustix::process::set_parent_process_death_signal(Some(signal))?;
    let parent = rustix::process::getppid();
    Ok(parent.is_some_and(|pid| pid.as_raw_nonzero().get() == postmaster.as_raw()))
}

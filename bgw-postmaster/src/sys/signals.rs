//! What the postmaster and its children do to their own process: signals, session, parent-death
//! signal.

use super::close::Fence;
use bgw_core::Pid;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;

/// The signals that the postmaster listens to.
pub(crate) const HEARD: [Signal; 4] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP];

/// A descriptor on which [`HEARD`] arrive. They must be blocked.
pub(crate) fn listen(fence: Fence) -> io::Result<SignalFd> {
    let mut mask = SigSet::empty();
    for signal in HEARD {
        mask.add(signal);
    }
    let fd = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let raised = fence.raise(fd)?;
    // SAFETY: a duplicate of a signalfd is one.
    Ok(unsafe { SignalFd::from_owned_fd(raised) })
}

fn set_all(signals: impl IntoIterator<Item = Signal>, handler: SigHandler) -> io::Result<()> {
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    for signal in signals {
        // SAFETY: installs no handler function (callers pass SigDfl or SigIgn only).
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// Ended children must stay to be reaped, even if the embedding program ignores SIGCHLD.
pub(crate) fn keep_ended_children() -> io::Result<()> {
    set_all([Signal::SIGCHLD], SigHandler::SigDfl)
}

/// Before `exec`: every signal back to its default, and none blocked.
pub(crate) fn all_default() -> io::Result<()> {
    let settable = Signal::iterator().filter(|s| !matches!(s, Signal::SIGKILL | Signal::SIGSTOP));
    set_all(settable, SigHandler::SigDfl)?;
    bgw_core::sys::signals::unblock_all()
}

/// Has the kernel send `signal` to this process when the thread that forked it ends; then looks
/// whether that has happened already. True: the postmaster still lives.
pub(crate) fn die_with(postmaster: Pid, signal: Signal) -> io::Result<bool> {
    nix::sys::prctl::set_pdeathsig(signal)?;
    Ok(nix::unistd::getppid().as_raw() == postmaster.as_raw())
}

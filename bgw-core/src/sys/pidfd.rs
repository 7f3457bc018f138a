//! Processes named by descriptor: a pidfd never means another process, however often the number
//! is used again.

use super::ready::wait_until_ready;
use nix::poll::PollFlags;
use rustix::process::{PidfdFlags, Signal};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

/// Opens a pidfd, close-on-exec. Whether the number still means the process that the caller has in
/// mind is the caller's to prove (an unreaped child of its own; a fact looked at afterwards).
///
/// # Errors
/// `ESRCH` when no such process is there; too many open files.
#[doc(alias = "pidfd_open")]
pub fn open(pid: impl Into<i32>) -> io::Result<OwnedFd> {
    let raw = rustix::process::Pid::from_raw(pid.into())
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok(rustix::process::pidfd_open(raw, PidfdFlags::empty())?)
}

/// Sends a signal to the very process of the pidfd.
///
/// # Errors
/// `ESRCH` when it has been reaped, `EPERM` when it belongs to somebody else.
#[doc(alias = "pidfd_send_signal")]
pub fn send(pidfd: impl AsFd, signal: Signal) -> io::Result<()> {
    Ok(rustix::process::pidfd_send_signal(pidfd, signal)?)
}

/// Waits until the process has ended (reaped or not). False if the deadline passed first.
///
/// # Errors
/// The error of `poll`.
pub fn wait_for_end(pidfd: impl AsFd, deadline: Option<Instant>) -> io::Result<bool> {
    wait_until_ready(pidfd, PollFlags::POLLIN, deadline)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_not_ended() {
        let pidfd = open(std::process::id() as i32).unwrap();
        assert!(!wait_for_end(&pidfd, Some(Instant::now())).unwrap());
    }
}

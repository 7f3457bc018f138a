//! How a child ended: `waitid` on a pidfd, or on the pid of a child that has none.

use bgw_core::{ExitCause, Pid};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

/// What the kernel reports about an ended child.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    /// Exit code or signal.
    pub(crate) cause: ExitCause,
    /// CPU time in user mode, its waited-for children included.
    pub(crate) user_time: Duration,
    /// CPU time in the kernel.
    pub(crate) system_time: Duration,
    /// The largest resident size, in KiB.
    pub(crate) max_rss_kib: u64,
}

/// Reads how the child of `pidfd` ended without reaping it: its pid stays taken. `None`: it runs,
/// or it has ended and its tracer has not let go of it.
pub(crate) fn peek(pidfd: impl AsFd) -> io::Result<Option<Ended>> {
    waitid(Which::Of(pidfd.as_fd()), libc::WEXITED | libc::WNOHANG | libc::WNOWAIT)
}

/// Reaps the ended child of `pidfd`: the kernel may reuse its pid from now on. `None` as for
/// [`peek`].
pub(crate) fn reap(pidfd: impl AsFd) -> io::Result<Option<Ended>> {
    waitid(Which::Of(pidfd.as_fd()), libc::WEXITED | libc::WNOHANG)
}

/// Waits until the child of `pidfd` has ended, and reaps it.
pub(crate) fn reap_blocking(pidfd: impl AsFd) -> io::Result<Option<Ended>> {
    waitid(Which::Of(pidfd.as_fd()), libc::WEXITED)
}

/// Kills a child that has no pidfd, waits until it has ended, and returns how; it may have ended by
/// itself before. It is not reaped: its pid stays taken.
pub(crate) fn kill_and_peek(pid: Pid) -> io::Result<Option<Ended>> {
    let raw = nix::unistd::Pid::from_raw(pid.as_raw());
    // It is our unreaped child, so the number can name no other process.
    let _ = nix::sys::signal::kill(raw, nix::sys::signal::Signal::SIGKILL);
    waitid(Which::Child(pid), libc::WEXITED | libc::WNOWAIT)
}

/// Reaps an ended child that has no pidfd.
pub(crate) fn reap_by_pid(pid: Pid) -> io::Result<Option<Ended>> {
    waitid(Which::Child(pid), libc::WEXITED | libc::WNOHANG)
}

/// True if the postmaster has a living child in the process group of `leader`, an ended child that
/// is not reaped, or one that left others behind.
///
/// Asks for stopped children: an ended one does not match, and if no other is in the group, the
/// kernel says that there is no child.
pub(crate) fn group_has_children(leader: Pid) -> bool {
    waitid(Which::Group(leader), libc::WSTOPPED | libc::WNOHANG | libc::WNOWAIT).is_ok()
}

/// True if one of those children sends no SIGCHLD when it ends: a worker has cloned it beside
/// itself (`CLONE_PARENT`).
pub(crate) fn group_has_silent_children(leader: Pid) -> bool {
    let options = libc::WSTOPPED | libc::WNOHANG | libc::WNOWAIT;
    waitid_of(Which::Group(leader), options | libc::__WCLONE).is_ok()
}

/// The process group of a child that is not reaped.
pub(crate) fn group_of(pid: Pid) -> Option<Pid> {
    let group = nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid.as_raw()))).ok()?;
    Pid::new(group.as_raw().unsigned_abs())
}

/// Reaps the ended children in the process group of `leader`, which is reaped. True if none is
/// left.
pub(crate) fn reap_group(leader: Pid) -> bool {
    loop {
        match waitid(Which::Group(leader), libc::WEXITED | libc::WNOHANG) {
            Ok(Some(_)) => {}
            Ok(None) => return false,
            // ECHILD.
            Err(_) => return true,
        }
    }
}

/// The children of this process, ended ones included. None where the kernel does not list them.
pub(crate) fn children_of_this_process() -> Vec<Pid> {
    let text = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok().and_then(Pid::new)).collect()
}

/// The pid of an ended child that sends SIGCHLD. It is not reaped.
pub(crate) fn peek_any() -> Option<Pid> {
    // SAFETY: all-zero bytes are a valid `siginfo_t`: plain integers.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is valid for writing during the call.
    let done = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, options) };
    // SAFETY: `waitid` succeeded, so `info` holds the fields of a SIGCHLD, or zeros.
    let pid = if done == 0 { unsafe { info.si_pid() } } else { 0 };
    u32::try_from(pid).ok().and_then(Pid::new)
}

enum Which<'a> {
    Of(BorrowedFd<'a>),
    /// An unreaped child, so the number can name no other process.
    Child(Pid),
    /// The group of a leader that was a child.
    Group(Pid),
}

/// Workers do not send SIGCHLD (`fork.rs`).
fn waitid(which: Which<'_>, options: libc::c_int) -> io::Result<Option<Ended>> {
    waitid_of(which, options | libc::__WALL)
}

fn waitid_of(which: Which<'_>, options: libc::c_int) -> io::Result<Option<Ended>> {
    let (kind, id) = match which {
        Which::Of(pidfd) => (libc::P_PIDFD, pidfd.as_raw_fd()),
        Which::Child(pid) => (libc::P_PID, pid.as_raw()),
        Which::Group(leader) => (libc::P_PGID, leader.as_raw()),
    };
    // SAFETY: all-zero bytes are a valid `siginfo_t`: plain integers.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: all-zero bytes are a valid `rusage`: plain integers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: the raw call, because the C library's has no `rusage`. The pidfd is open while it
        // is borrowed, and both structures are valid for writing during the call.
        let done = unsafe {
            libc::syscall(libc::SYS_waitid, kind, id, &raw mut info, options, &raw mut usage)
        };
        if done == 0 {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    // SAFETY: `waitid` succeeded, so `info` holds the fields of a SIGCHLD, or zeros.
    let pid = unsafe { info.si_pid() };
    if pid == 0 {
        return Ok(None);
    }
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    let signal = u8::try_from(status).unwrap_or(u8::MAX);
    let cause = match info.si_code {
        libc::CLD_EXITED => ExitCause::Exited((status & 0xff) as u8),
        libc::CLD_DUMPED => ExitCause::Signaled { signal, core_dumped: true },
        _ => ExitCause::Signaled { signal, core_dumped: false },
    };
    Ok(Some(Ended {
        cause,
        user_time: duration(usage.ru_utime),
        system_time: duration(usage.ru_stime),
        max_rss_kib: u64::try_from(usage.ru_maxrss).unwrap_or(0),
    }))
}

pub(super) fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}

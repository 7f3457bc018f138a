//! The alarm: a timer that has the postmaster look a moment later.
//!
//! Who gives a worker to a spare does not ring the postmaster, which would compete with the spare
//! for the processor. It sets the alarm: at the next multiple of [`PERIOD`] the postmaster looks
//! what has become of it. All who set it within one period mean the same moment, so nobody puts it
//! off.

use nix::errno::Errno;
use nix::time::ClockId;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// The postmaster looks at most this long after the alarm was set.
pub const PERIOD: Duration = Duration::from_millis(5);

/// A new alarm: close-on-exec, never blocking, not set.
///
/// # Errors
/// The error of `timerfd_create`, above all too many open files.
pub fn new_alarm() -> io::Result<OwnedFd> {
    // SAFETY: a call without pointers.
    let fd = unsafe {
        libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK)
    };
    Errno::result(fd)?;
    // SAFETY: the kernel has just made it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets the alarm to the end of the current period.
///
/// # Errors
/// The error of `timerfd_settime`: a descriptor that is not a timer.
pub fn set(alarm: impl AsFd) -> io::Result<()> {
    let now = ClockId::CLOCK_MONOTONIC.now().map_or(Duration::ZERO, Duration::from);
    let period = PERIOD.as_nanos();
    let at = (now.as_nanos() / period + 1) * period;
    set_to(alarm, u64::try_from(at).unwrap_or(u64::MAX))
}

/// In the postmaster, after the alarm: if somebody has made it ring again and again, it is off.
///
/// # Errors
/// The error of `timerfd_gettime` or `timerfd_settime`.
pub fn stop_repeating(alarm: impl AsFd) -> io::Result<()> {
    let mut now = spec(0);
    // SAFETY: `now` is valid for writing during the call.
    let got = unsafe { libc::timerfd_gettime(alarm.as_fd().as_raw_fd(), &raw mut now) };
    Errno::result(got)?;
    let repeats = now.it_interval.tv_sec != 0 || now.it_interval.tv_nsec != 0;
    if repeats { set_to(alarm, 0) } else { Ok(()) }
}

/// Once, at this time by the monotonic clock; 0: never.
fn set_to(alarm: impl AsFd, at: u64) -> io::Result<()> {
    let (fd, spec) = (alarm.as_fd().as_raw_fd(), spec(at));
    let old = std::ptr::null_mut();
    // SAFETY: `spec` is valid for reading during the call, and no old value is asked for.
    let set = unsafe { libc::timerfd_settime(fd, libc::TFD_TIMER_ABSTIME, &raw const spec, old) };
    Errno::result(set).map(drop).map_err(io::Error::from)
}

fn spec(at: u64) -> libc::itimerspec {
    let time = |nanos: u64| libc::timespec {
        tv_sec: (nanos / 1_000_000_000).try_into().unwrap_or(i64::MAX),
        // Below a second.
        tv_nsec: (nanos % 1_000_000_000) as i64,
    };
    libc::itimerspec { it_interval: time(0), it_value: time(at) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    #[test]
    fn it_rings_once_within_a_period_however_often_it_is_set() {
        let alarm = new_alarm().unwrap();
        for _ in 0..1000 {
            set(&alarm).unwrap();
        }
        stop_repeating(&alarm).unwrap();
        let mut fds = [PollFd::new(alarm.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::from(5000u16)), Ok(1), "it is still set");
    }

    #[test]
    fn a_scribbler_s_repetition_is_ended() {
        let alarm = new_alarm().unwrap();
        let often = libc::itimerspec { it_interval: spec(1000).it_value, ..spec(1) };
        let (fd, old) = (alarm.as_raw_fd(), std::ptr::null_mut());
        // SAFETY: as above.
        assert_eq!(unsafe { libc::timerfd_settime(fd, 0, &raw const often, old) }, 0);
        stop_repeating(&alarm).unwrap();
        let mut fds = [PollFd::new(alarm.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::from(20u16)), Ok(0), "setting it takes its rings");
    }
}

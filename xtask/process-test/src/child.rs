//! A child process for the body of a test. It is killed and reaped when its owner is dropped, so a
//! test that panics leaves nothing.

use crate::sys::{self, Side};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(Signal),
}

impl Ended {
    /// The exit code, when it exited.
    #[must_use]
    pub fn code(self) -> Option<i32> {
        match self {
            Self::Code(code) => Some(code),
            Self::Signal(_) => None,
        }
    }

    /// The signal, when one killed it.
    #[must_use]
    pub fn signal(self) -> Option<Signal> {
        match self {
            Self::Signal(signal) => Some(signal),
            Self::Code(_) => None,
        }
    }
}

/// A child of the test. Dropping it kills and reaps it.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    ended: Option<Ended>,
}

impl Child {
    /// Its process id. It is not given to another process while this value lives, unless
    /// something else in the test reaps it.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends a signal. Does nothing when the child has been reaped.
    ///
    /// # Panics
    /// When the kernel refuses.
    #[allow(clippy::panic, reason = "a panic is how a test fails")]
    pub fn kill(&self, signal: Signal) {
        if self.ended.is_none()
            && let Err(error) = kill(self.pid, signal)
        {
            panic!("sending {signal} to child {} failed: {error}", self.pid);
        }
    }

    /// Waits for the end. May be called again.
    ///
    /// # Panics
    /// When the child cannot be waited for, for instance since somebody else has reaped it.
    pub fn wait(&mut self) -> Ended {
        loop {
            if let Some(ended) = self.poll(WaitPidFlag::empty()) {
                return ended;
            }
        }
    }

    /// How the child ended, or `None` while it runs.
    ///
    /// # Panics
    /// As [`wait`](Self::wait).
    pub fn try_wait(&mut self) -> Option<Ended> {
        self.poll(WaitPidFlag::WNOHANG)
    }

    #[allow(clippy::panic, reason = "a panic is how a test fails")]
    fn poll(&mut self, flags: WaitPidFlag) -> Option<Ended> {
        if self.ended.is_none() {
            self.ended = match waitpid(self.pid, Some(flags)) {
                Ok(WaitStatus::Exited(_, code)) => Some(Ended::Code(code)),
                Ok(WaitStatus::Signaled(_, signal, _)) => Some(Ended::Signal(signal)),
                Ok(_) | Err(Errno::EINTR) => None,
                Err(error) => panic!("waiting for child {} failed: {error}", self.pid),
            };
        }
        self.ended
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // Both fail only when somebody else has reaped the child: then nothing is left to do.
            let _ = kill(self.pid, Signal::SIGKILL);
            while waitpid(self.pid, None) == Err(Errno::EINTR) {}
        }
    }
}

/// Forks a child that runs `run` and then exits: with 0 when `run` returns, with 101 when it
/// panics. Neither destructors of the caller's values nor exit handlers run in the child.
///
/// # Panics
/// When the calling process has several threads, or when fork fails.
#[allow(clippy::panic, reason = "a panic is how a test fails")]
pub fn fork_child(run: impl FnOnce()) -> Child {
    match sys::fork_single_threaded() {
        Ok(Side::Parent(pid)) => Child { pid, ended: None },
        Ok(Side::Child) => {
            let code = if catch_unwind(AssertUnwindSafe(run)).is_ok() { 0 } else { 101 };
            sys::exit_now(code)
        }
        Err(error) => panic!("forking a child of the test failed: {error}"),
    }
}

//! The process above a test: forks the body, waits for it, ends what it left, and judges.
//!
//! It has one thread and one wait: poll on a signalfd for SIGCHLD and on standard input, a pipe
//! whose other end the runner holds. As the subreaper it becomes the parent of every orphan, reaps
//! them at once, and so sees an empty list of descendants when the test is truly over.
//!
//! Crash: when the runner dies, the pipe ends; the guard kills all descendants, removes the folder
//! and exits. It does so at SIGTERM, too. When the guard is killed, the kernel kills the body, and
//! what the body has started stays: only SIGKILL aimed at the guard does that.

use crate::body::{self, PANICKED, SKIPPED};
use crate::registry::Test;
use crate::sys::{self, Side};
use crate::tree::{self, Process};
use crate::verdict::Outcome;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long the end of the processes that a test left may take.
const GRACE: Duration = Duration::from_secs(2);
/// How long the guard tries to kill what does not end.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Runs one test and leaves the verdict in `folder`.
pub(crate) fn run(test: &Test, folder: &Path) -> ExitCode {
    sys::default_interrupts();
    let outcome = judge(test, folder)
        .unwrap_or_else(|error| Outcome::Failed(format!("the guard failed: {error}")));
    match outcome.store(folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("storing the verdict in {} failed: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

fn judge(test: &Test, folder: &Path) -> io::Result<Outcome> {
    set_child_subreaper(true)?;
    let mut ours = SigSet::empty();
    ours.add(Signal::SIGCHLD);
    ours.add(Signal::SIGTERM);
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&ours), Some(&mut before))?;
    let signals = SignalFd::with_flags(&ours, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;

    let body = match sys::fork_single_threaded()? {
        Side::Child => {
            drop(signals);
            if sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None).is_err() {
                sys::exit_now(1);
            }
            body::run(test, folder)
        }
        Side::Parent(pid) => pid,
    };
    let mut guard = Guard { signals, body, status: None, terminated: false };

    match guard.wait(test.watchdog, |guard| guard.status.is_some())? {
        Woke::Done => {}
        Woke::Late => {
            let mut why = format!("watchdog: still running after {:?}\n", test.watchdog);
            running().iter().for_each(|process| why.push_str(&process.dump()));
            guard.kill_all()?;
            return Ok(Outcome::Failed(why));
        }
        Woke::RunnerGone => guard.give_up(folder)?,
    }

    let mut outcome = match guard.status {
        Some(status) => of_status(status, &body::said(folder)),
        None => Outcome::Failed("the body vanished".to_owned()),
    };
    let left = match guard.wait(GRACE, |_| running().is_empty())? {
        Woke::Done => Vec::new(),
        Woke::Late => running(),
        Woke::RunnerGone => guard.give_up(folder)?,
    };
    if !left.is_empty() {
        let mut why = match outcome {
            Outcome::Failed(why) => why + "\n",
            Outcome::Passed | Outcome::Skipped(_) => String::new(),
        };
        for process in &left {
            let line = format!(
                "left behind: pid {} {} {}\n",
                process.pid,
                process.name,
                process.command()
            );
            why.push_str(&line);
        }
        outcome = Outcome::Failed(why.trim_end().to_owned());
        guard.kill_all()?;
    }
    Ok(outcome)
}

fn of_status(status: WaitStatus, said: &str) -> Outcome {
    match status {
        WaitStatus::Exited(_, 0) => Outcome::Passed,
        WaitStatus::Exited(_, SKIPPED) => Outcome::Skipped(said.to_owned()),
        WaitStatus::Exited(_, PANICKED) => Outcome::Failed(said.to_owned()),
        WaitStatus::Exited(_, code) => Outcome::Failed(format!("exited with code {code}")),
        WaitStatus::Signaled(_, signal, _) => Outcome::Failed(format!("killed by {signal}")),
        other => Outcome::Failed(format!("ended in an unknown way: {other:?}")),
    }
}

/// The descendants of this process that have not ended.
fn running() -> Vec<Process> {
    let me = nix::unistd::getpid().as_raw();
    tree::below(me).into_iter().filter(|process| !process.ended()).collect()
}

enum Woke {
    Done,
    Late,
    RunnerGone,
}

struct Guard {
    signals: SignalFd,
    body: Pid,
    status: Option<WaitStatus>,
    terminated: bool,
}

impl Guard {
    /// Reaps until `done`, until `limit` has passed, or until the runner is gone.
    ///
    /// A descendant further down ends without a SIGCHLD for us; but while it runs its parent runs
    /// too, or it is our child. So the last to end is always our child, and `done` is looked at
    /// after each.
    fn wait(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> io::Result<Woke> {
        let start = Instant::now();
        loop {
            self.reap()?;
            if std::mem::take(&mut self.terminated) {
                return Ok(Woke::RunnerGone);
            }
            if done(self) {
                return Ok(Woke::Done);
            }
            let Some(left) = limit.checked_sub(start.elapsed()) else {
                return Ok(Woke::Late);
            };
            let millis = i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX);
            let stdin = io::stdin();
            let mut fds = [
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            let [_, runner] = &fds;
            if runner.any().unwrap_or(true) {
                return Ok(Woke::RunnerGone);
            }
        }
    }

    fn reap(&mut self) -> io::Result<()> {
        // Signals first: a child that ends after this line rings again.
        while let Some(signal) = self.signals.read_signal()? {
            self.terminated |= i32::try_from(signal.ssi_signo) == Ok(Signal::SIGTERM as i32);
        }
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
                Ok(status) if status.pid() == Some(self.body) => self.status = Some(status),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Kills every descendant, again while new ones appear.
    fn kill_all(&mut self) -> io::Result<()> {
        let start = Instant::now();
        loop {
            let left = running();
            for process in &left {
                // ESRCH: it ended meanwhile. Its pid stays ours or its parent's until reaped, and
                // a pid is not used again within these microseconds.
                let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
            }
            if left.is_empty() {
                return self.reap();
            }
            if start.elapsed() > KILL_LIMIT {
                let pids: Vec<_> = left.iter().map(|process| process.pid.to_string()).collect();
                let text = format!("pids {} do not end at SIGKILL", pids.join(" "));
                return Err(io::Error::other(text));
            }
            self.wait(Duration::from_millis(20), |_| running().is_empty())?;
        }
    }

    /// Nobody is left to report to.
    fn give_up<T>(&mut self, folder: &Path) -> io::Result<T> {
        let killed = self.kill_all();
        fs::remove_dir_all(folder)?;
        killed?;
        Err(io::Error::other("the runner is gone"))
    }
}

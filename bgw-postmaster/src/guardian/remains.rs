//! Ends what a dead postmaster has left.
//!
//! ```text
//!  look: /proc, a pidfd for each process found ──▶ nothing left: done
//!    ▲                        │ before the deadline: ask; after it: SIGKILL
//!    └── wait: one has ended ◀┘
//! ```
//!
//! A process is signalled through its pidfd, which was opened before `/proc` said who it is. A
//! session is looked at again as soon as the last process that is known of it has ended, and only
//! then forgotten.

use super::sessions::{Role, Sessions};
use crate::sys::descriptor_limit;
use crate::sys::process_stat::{ProcessStat, all_processes, is_shortage};
use bgw_core::Pid;
use bgw_core::internals::pidfd;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Signal, kill_process_group, test_kill_process_group};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long the processes may take to end by themselves. Functions have a timer of their own that
/// is as long.
const GRACE: Duration = Duration::from_secs(5);
/// Processes that end within this time cause one look, not one each.
const BURST: Duration = Duration::from_millis(10);
/// When to look again for processes for which there was no descriptor.
const SHORTAGE: Duration = Duration::from_millis(100);
/// Descriptors that the guardian needs for itself.
const RESERVE: usize = 16;
/// A list of all processes is no snapshot: a process that forks and ends while the list is read may
/// be missing, and so may its child. While a group exists of which no member was found, the list is
/// read again, at most this many times.
const READINGS: usize = 3;

/// A process that has not ended.
#[derive(Debug)]
struct Process {
    pid: Pid,
    /// The worker that it is, or that has started it.
    worker: u32,
    role: Role,
    stopped: bool,
    asked: bool,
    pidfd: OwnedFd,
}

/// What is left.
#[derive(Debug)]
pub(super) struct Remains {
    sessions: Sessions,
    processes: Vec<Process>,
    deadline: Instant,
    /// How many processes to hold a descriptor of, at most. The rest of the limit is needed for
    /// looking.
    most: usize,
    /// Too few descriptors: not every process was looked at.
    short: bool,
}

impl Remains {
    pub(super) fn new(sessions: Sessions) -> Self {
        let deadline = Instant::now() + GRACE;
        let limit = descriptor_limit::highest_limit().unwrap_or(0);
        let most = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(RESERVE).max(1);
        Self { sessions, processes: Vec::new(), deadline, most, short: false }
    }

    /// Returns when nothing is left.
    pub(super) fn end(mut self) -> io::Result<()> {
        while self.look() {
            if Instant::now() < self.deadline {
                self.ask();
            } else {
                self.kill();
            }
            self.wait()?;
        }
        Ok(())
    }

    /// Finds processes that are not known yet, and forgets sessions without any. False if nothing
    /// is left.
    fn look(&mut self) -> bool {
        self.short = false;
        for _ in 0..READINGS {
            // The folder is free a moment after a postmaster without workers has died.
            if self.sessions.is_empty() {
                break;
            }
            if self.read_list().is_err() {
                self.short = true;
                break;
            }
            let found = self.workers_of_processes();
            let hidden = |worker: Pid| !found.contains(&worker.get()) && group_exists(worker);
            if !self.sessions.workers().any(hidden) {
                break;
            }
        }
        let (found, short) = (self.workers_of_processes(), self.short);
        self.sessions.retain(|worker| short || found.contains(&worker.get()));
        !self.processes.is_empty() || short
    }

    /// Fails if there are too few descriptors to look at everybody.
    fn read_list(&mut self) -> io::Result<()> {
        for worker in self.sessions.workers().collect::<Vec<_>>() {
            if let Some(found) = ProcessStat::of(worker)? {
                self.sessions.check_worker(&found);
            }
        }
        let known: BTreeSet<Pid> = self.processes.iter().map(|process| process.pid).collect();
        for pid in all_processes()?.filter(|pid| !known.contains(pid)) {
            let found = self.find(pid)?;
            self.processes.extend(found);
        }
        Ok(())
    }

    /// The process `pid`, if it is one of the cluster.
    fn find(&self, pid: Pid) -> io::Result<Option<Process>> {
        if ProcessStat::of(pid)?.and_then(|stat| self.sessions.role(&stat)).is_none() {
            return Ok(None);
        }
        if self.processes.len() >= self.most {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        let pidfd = match pidfd::open(pid) {
            Err(error) if !is_shortage(&error) => return Ok(None),
            opened => opened?,
        };
        // Once more: while the process of the pidfd has not ended, the number is its own.
        let stat = ProcessStat::of(pid)?;
        let role = stat.and_then(|stat| self.sessions.role(&stat));
        let (Some(stat), Some(role), false) = (stat, role, has_ended(&pidfd)?) else {
            return Ok(None);
        };
        let worker = if role == Role::Member { stat.session } else { pid.get() };
        Ok(Some(Process { pid, worker, role, stopped: stat.stopped, asked: false, pidfd }))
    }

    fn workers_of_processes(&self) -> BTreeSet<u32> {
        self.processes.iter().map(|process| process.worker).collect()
    }

    /// Asks those that have received no signal to end, and continues those that are stopped, so
    /// that they receive theirs.
    fn ask(&mut self) {
        for process in self.processes.iter_mut().filter(|process| !process.asked) {
            process.asked = true;
            let started_by_worker = process.role == Role::Member;
            if started_by_worker {
                send(process, Signal::TERM);
            }
            if started_by_worker || process.stopped {
                send(process, Signal::CONT);
            }
        }
    }

    /// Kills all. Groups first, each at once: a process that forks meanwhile leaves no child.
    fn kill(&self) {
        let mut groups = BTreeSet::new();
        for process in &self.processes {
            // A group belongs to one session, so all of it is the worker's.
            let stat = ProcessStat::of(process.pid).ok().flatten();
            let stat = stat.filter(|stat| stat.session == process.worker);
            let lives = matches!(has_ended(&process.pidfd), Ok(false));
            if let (Some(stat), true) = (stat, lives) {
                // The process has not ended, so both numbers are its own.
                if groups.insert(stat.group) {
                    kill_group(stat.group);
                }
            }
        }
        for process in &self.processes {
            send(process, Signal::KILL);
        }
    }

    /// Waits until it is time to look again: the deadline has come, or a session has lost the last
    /// process that is known of it. After the deadline, until any has ended.
    fn wait(&mut self) -> io::Result<()> {
        let mut burst = false;
        while !self.processes.is_empty() || self.short {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let over = left.is_zero();
            let shortage = self.short.then_some(SHORTAGE);
            let timeout = match burst {
                true => Some(BURST),
                false => shortage.into_iter().chain((!over).then_some(left)).min(),
            };
            if !self.forget_ended(timeout)? {
                return Ok(());
            }
            let found = self.workers_of_processes();
            burst = over || self.sessions.workers().any(|worker| !found.contains(&worker.get()));
        }
        Ok(())
    }

    /// Waits until processes have ended, and forgets them. False if none has when the time is over.
    fn forget_ended(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        // Rounded up, so that the deadline has passed when the wait is over.
        let timeout = timeout.map_or(PollTimeout::NONE, |left| {
            PollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX)
        });
        let watch = |process| PollFd::new(AsFd::as_fd(process), PollFlags::POLLIN);
        let mut fds: Vec<PollFd<'_>> =
            self.processes.iter().map(|process| watch(&process.pidfd)).collect();
        match poll(&mut fds, timeout) {
            Ok(0) => return Ok(false),
            Err(nix::errno::Errno::EINTR) => return Ok(true),
            ready => ready?,
        };
        let mut ended =
            fds.iter().map(|fd| fd.any() != Some(false)).collect::<Vec<_>>().into_iter();
        self.processes.retain(|_| !ended.next().unwrap_or(false));
        Ok(true)
    }
}

/// ESRCH: it has ended. EPERM: it is another user's; its end is still awaited.
fn send(process: &Process, signal: Signal) {
    let _ = pidfd::send(&process.pidfd, signal);
}

fn has_ended(pidfd: &OwnedFd) -> io::Result<bool> {
    pidfd::wait_for_end(pidfd, Some(Instant::now()))
}

/// `None` for 1, which would mean every process.
fn group(number: u32) -> Option<rustix::process::Pid> {
    let number = i32::try_from(number).ok().filter(|&number| number > 1)?;
    rustix::process::Pid::from_raw(number)
}

fn kill_group(number: u32) {
    if let Some(group) = group(number) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// True also if there are only zombies left of the group of `worker`, or if it is a stranger's.
fn group_exists(worker: Pid) -> bool {
    group(worker.get()).is_some_and(|group| test_kill_process_group(group).is_ok())
}

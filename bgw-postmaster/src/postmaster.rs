//! Start here: how a built postmaster is started.
//!
//! [`Postmaster::launch`] forks a dedicated postmaster; [`Postmaster::run`] makes the calling
//! process one. Either way [`Settings`] go to the server (`server/begin.rs`), and nothing comes
//! back up.

use crate::error::{RunError, StaticError};
use crate::failure_log::log_failure;
use crate::runtime_dir::RuntimeDir;
use crate::server::Server;
use crate::settings::Settings;
use crate::sys::descriptor_limit::RaisedLimit;
use crate::sys::fork::{Forked, NewChild, ThreadCounter, fork};
use crate::sys::unwind_barrier::UnwindBarrier;
use crate::sys::{signals as sys_signals, stdio, wait};
use bgw_core::internals::exit_now;
use bgw_core::internals::{check_targets, pidfd, process, signals};
use bgw_core::{
    BackgroundWorker, ControlSocket, EntryPoint, ExitCause, Output, Pid, ShutdownMode, chain,
};
use shmem_slots::StandardStreams;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

const PASSING: &str = "passing on the standard streams";

/// A postmaster that does not run yet.
#[derive(Debug)]
pub struct Postmaster {
    settings: Settings,
}

impl Postmaster {
    pub(crate) const fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// Registers a static worker: it starts when the postmaster runs and its phase is reached.
    /// Static workers get the first slots, in the order of registration.
    ///
    /// Once the postmaster runs, backends register. A refused worker changes nothing: the
    /// postmaster may start without it.
    ///
    /// # Errors
    /// The worker has a notify target or is given a descriptor, its function does not exist, there
    /// are no more slots, or it does not go together with the static workers before it.
    #[doc(alias = "RegisterBackgroundWorker")]
    #[doc(alias = "shared_preload_libraries")]
    pub fn register(&mut self, worker: BackgroundWorker) -> Result<(), StaticError> {
        let settings = &mut self.settings;
        let name = || worker.name().to_owned();
        if worker.notify().is_some() {
            return Err(StaticError::NotifyTarget { name: name() });
        }
        if let Some(descriptor) = worker.given().next() {
            let descriptor = descriptor.to_owned();
            return Err(StaticError::Given { name: name(), descriptor });
        }
        if let EntryPoint::Function(function) = worker.entry() {
            if settings.functions.get(function).is_none() {
                let function = function.clone();
                return Err(StaticError::UnknownFunction { name: name(), function });
            }
        }
        if let (Output::File(file), None) = (worker.output(), &settings.output_dir) {
            return Err(StaticError::NoOutputDir { name: name(), file: file.name().to_owned() });
        }
        if let Output::Descriptor(to) = worker.output() {
            if !settings.descriptors.iter().any(|(known, _)| known == to.name()) {
                let descriptor = to.name().to_owned();
                return Err(StaticError::UnknownDescriptor { name: name(), descriptor });
            }
        }
        if let Some(group) = worker.group() {
            if !settings.groups.iter().any(|known| known.name == group) {
                let group = group.to_owned();
                return Err(StaticError::UnknownGroup { name: name(), group });
            }
        }
        let others = &settings.static_workers;
        let unique =
            |name: &str| others.iter().find(|other| other.is_unique() && other.name() == name);
        check_targets(&worker, true, unique)
            .map_err(|source| StaticError::Relation { name: name(), source })?;
        let classes = settings.cells.classes();
        let Some(class) = classes.of(&worker) else {
            let class = worker.class().unwrap_or_default().to_owned();
            return Err(StaticError::UnknownClass { name: name(), class });
        };
        let all = settings.static_workers.iter().chain([&worker]);
        if classes.fitting(all.clone()) < all.count() {
            let capacity = classes.ranges(class).into_iter().flatten().count();
            let capacity = u32::try_from(capacity).unwrap_or(u32::MAX);
            return Err(StaticError::NoFreeSlot { name: name(), capacity });
        }
        settings.static_workers.push(worker);
        Ok(())
    }

    /// Makes the calling process the postmaster, until it is shut down. Returns the exit code that
    /// the process should end with.
    ///
    /// The process must have one thread, and must not start others meanwhile. All its signals are
    /// blocked while the postmaster runs: SIGTERM requests a smart, SIGINT a fast, SIGQUIT an
    /// immediate shutdown, SIGHUP a reload. In a forked worker this call never returns.
    ///
    /// Meanwhile `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` are out of the environment: no
    /// worker can answer the supervisor of this process.
    ///
    /// # Errors
    /// The process has more than one thread, or is a worker; or a system call fails that the
    /// postmaster needs. If that happens after the start, all workers, and what they have started,
    /// are killed and reaped before this returns.
    #[doc(alias = "PostmasterMain")]
    #[doc(alias = "ServerLoop")]
    pub fn run(self) -> Result<u8, RunError> {
        refuse_inside_worker()?;
        self.serve(None)
    }

    fn serve(mut self, launcher: Option<ControlSocket>) -> Result<u8, RunError> {
        // While this process is a postmaster. Its children inherit them.
        let standard = occupy_standard_streams()?;
        let passed = standard.pass_to_commands();
        passed.map_err(RunError::system(PASSING))?;
        let raised = RaisedLimit::raise().map_err(RunError::system("raising RLIMIT_NOFILE"))?;
        self.settings.raised_limit = raised;
        let reaper =
            sys_signals::set_subreaper(true).map_err(RunError::system("PR_SET_CHILD_SUBREAPER"))?;
        flush_output();
        let former = process::become_postmaster()
            .map_err(RunError::system("blocking signals and installing handlers"))?;
        let code = Server::begin(self.settings, launcher).and_then(|mut server| server.serve());
        // Before any error is returned: the program continues with the handlers and mask that it
        // had.
        let signals = former.restore();
        let reaper = sys_signals::set_subreaper(reaper);
        let limit = raised.map_or(Ok(()), RaisedLimit::restore);
        signals.map_err(RunError::system("restoring signal handlers and mask"))?;
        limit.map_err(RunError::system("restoring RLIMIT_NOFILE"))?;
        reaper.map_err(RunError::system("restoring PR_SET_CHILD_SUBREAPER"))?;
        code
    }

    /// Forks a dedicated postmaster and returns to the program, which from then on is a backend
    /// like any other and may have threads. Call it early in `main`: the smaller the program at
    /// that moment, the cheaper each later fork of a worker.
    ///
    /// # Errors
    /// The process has more than one thread, or is a worker; or a system call fails.
    pub fn launch(self) -> Result<Launched, RunError> {
        refuse_inside_worker()?;
        let standard = occupy_standard_streams()?;
        let threads = ThreadCounter::new().map_err(RunError::system("opening /proc/self/task"))?;
        let proof = threads.prove().map_err(RunError::system("counting the threads"))?;
        let proof = proof.map_err(|threads| RunError::Threads { threads })?;
        drop(threads);
        let (ours, theirs) =
            ControlSocket::pair().map_err(RunError::system("creating the control socket"))?;
        flush_output();
        // Blocked across the fork, so that no handler of the program runs in the postmaster.
        let before = signals::block_all().map_err(RunError::system("blocking signals"))?;
        let forked = fork(&proof);
        let child = match forked {
            Ok(Forked::Child) => {
                let _barrier = UnwindBarrier;
                drop(ours);
                exit_now(i32::from(self.serve_launcher(theirs, &standard)))
            }
            Ok(Forked::Parent(child)) => Ok(child),
            Err(error) => Err(error),
        };
        signals::restore(&before).map_err(RunError::system("restoring the signal mask"))?;
        let NewChild { pid, pidfd } = child.map_err(RunError::system("fork"))?;
        let pidfd = pidfd.map_err(RunError::system("pidfd_open"))?;
        Ok(Launched { pid, pidfd, control: Some(ours) })
    }

    /// In the forked postmaster. The program stays in its own process group: Ctrl-C on its terminal
    /// reaches the program alone, which stops its postmaster when it wants to.
    fn serve_launcher(self, launcher: ControlSocket, standard: &StandardStreams) -> u8 {
        // They are the program's, and are dropped there.
        std::mem::forget(Rc::clone(&self.settings.functions));
        let passed = standard.pass_to_commands();
        let passed = passed.map_err(RunError::system(PASSING));
        let session =
            nix::unistd::setsid().map_err(|errno| RunError::system("setsid")(errno.into()));
        match passed.and(session).and_then(|_| self.serve(Some(launcher))) {
            Ok(code) => code,
            Err(error) => {
                log_failure(&format!("the postmaster ends: {}", chain(&error)));
                1
            }
        }
    }

    /// The folder of the control socket, if there is one.
    #[must_use]
    pub fn runtime_dir(&self) -> Option<&Path> {
        self.settings.runtime_dir.as_ref().map(RuntimeDir::path)
    }
}

/// No descriptor of ours is a standard stream: text would be written to it.
fn occupy_standard_streams() -> Result<StandardStreams, RunError> {
    StandardStreams::occupy().map_err(RunError::system("opening /dev/null"))
}

/// A postmaster that the program had built before it launched this worker's.
fn refuse_inside_worker() -> Result<(), RunError> {
    let name = process::current().map(|me| me.worker.name().to_owned());
    name.map_or(Ok(()), |name| Err(RunError::InsideWorker { name }))
}

/// Writes out what the program has printed so far: a child would print what is still buffered
/// again.
fn flush_output() {
    // If the reader is gone, nothing can be printed.
    let _ = io::stdout().flush();
    stdio::flush();
}

/// A postmaster that this program launched: its child.
///
/// Dropping it leaves the postmaster running. With `stop_with_launcher` (the default) the
/// postmaster shuts down fast when this program's connection closes.
#[derive(Debug)]
pub struct Launched {
    pid: Pid,
    pidfd: OwnedFd,
    control: Option<ControlSocket>,
}

impl Launched {
    /// The postmaster's pid.
    #[must_use]
    pub const fn pid(&self) -> Pid {
        self.pid
    }

    /// The connection to the postmaster: pass it to a backend to attach. There is one; the second
    /// call returns `None`.
    pub const fn take_control(&mut self) -> Option<ControlSocket> {
        self.control.take()
    }

    /// Requests a shutdown by signal. A stricter mode overrides a milder one.
    ///
    /// A smart shutdown waits for this program, too, until it has dropped its `Backend` and its
    /// handles: [`wait`](Self::wait) before that would wait for ever.
    ///
    /// # Errors
    /// `ESRCH` if the postmaster has ended and was waited for.
    pub fn shutdown(&self, mode: ShutdownMode) -> io::Result<()> {
        use rustix::process::Signal;
        let signal = match mode {
            ShutdownMode::Smart => Signal::TERM,
            ShutdownMode::Fast => Signal::INT,
            ShutdownMode::Immediate => Signal::QUIT,
        };
        pidfd::send(&self.pidfd, signal)
    }

    /// Waits until the postmaster has ended, reaps it, and returns how it ended.
    ///
    /// # Errors
    /// The error of `waitid`: `ECHILD` if it was waited for already, or if this program ignores
    /// SIGCHLD and it has ended.
    pub fn wait(&self) -> io::Result<ExitCause> {
        let ended = wait::reap_blocking(&self.pidfd)?;
        ended.map(|ended| ended.cause).ok_or_else(|| io::Error::other("waitid returned no child"))
    }
}

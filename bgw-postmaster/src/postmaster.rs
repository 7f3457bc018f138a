//! Start here: how a postmaster is built and started.
//!
//! Everything that can fail for the user's sake (the folder is taken, too many descriptors) fails in
//! [`PostmasterBuilder::build`], before any fork. [`Postmaster::launch`] forks a dedicated
//! postmaster; [`Postmaster::run`] makes the calling process one.

use crate::child::Functions;
use crate::error::{BuildError, RunError, StaticError};
use crate::failure_log::log_failure;
use crate::rules::Policy;
use crate::runtime_dir::RuntimeDir;
use crate::server::Server;
use crate::sys::fork::{Forked, ThreadCounter, fork};
use crate::sys::wait;
use bgw_core::control::{ControlSocket, ShutdownMode};
use bgw_core::process;
use bgw_core::shared::ClusterCells;
use bgw_core::shared::WorkerSlots;
use bgw_core::sys::exit::{UnwindBarrier, exit_now};
use bgw_core::sys::{eventfd, pidfd, signals};
use bgw_core::worker::limits::FUNCTION_LIMIT;
use bgw_core::{
    Attachment, BackgroundWorker, EntryPoint, ExitCause, Pid, StartTime, WorkerProcess,
    WorkerResult,
};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The most slots that a postmaster can have.
pub const MAX_WORKERS_LIMIT: u32 = 1 << 20;

/// Settings of a postmaster to be.
#[derive(Debug)]
#[must_use]
pub struct PostmasterBuilder {
    max_workers: u32,
    max_parallel_workers: u32,
    max_sessions: usize,
    folder: Option<PathBuf>,
    functions: Functions,
    duplicate_function: Option<String>,
    descriptors: Vec<(String, OwnedFd)>,
    policy: Policy,
    stop_with_launcher: bool,
    run_atfork_handlers: bool,
    warm_spares: usize,
}

impl Default for PostmasterBuilder {
    fn default() -> Self {
        Self {
            max_workers: 8,
            max_parallel_workers: 8,
            max_sessions: 256,
            folder: None,
            functions: Functions::default(),
            duplicate_function: None,
            descriptors: Vec::new(),
            policy: Policy::default(),
            stop_with_launcher: true,
            run_atfork_handlers: false,
            warm_spares: 0,
        }
    }
}

impl PostmasterBuilder {
    /// How many workers can be registered at a time (default 8, at most [`MAX_WORKERS_LIMIT`]).
    /// Costs about 0.8 KiB of shared memory a slot, and only for slots that are used.
    #[doc(alias = "max_worker_processes")]
    pub const fn max_workers(mut self, max_workers: u32) -> Self {
        self.max_workers = max_workers;
        self
    }

    /// How many workers of the parallel class can be registered at a time (default 8; 0 for none). They
    /// come on top of [`PostmasterBuilder::max_workers`]: neither class takes slots from the other.
    /// Both together are at most [`MAX_WORKERS_LIMIT`].
    pub const fn max_parallel_workers(mut self, max_parallel_workers: u32) -> Self {
        self.max_parallel_workers = max_parallel_workers;
        self
    }

    /// How many other programs may be attached at a time (default 256).
    #[doc(alias = "max_connections")]
    pub const fn max_sessions(mut self, max_sessions: usize) -> Self {
        self.max_sessions = max_sessions;
        self
    }

    /// The folder of the control socket, so that other programs can attach by path. It is made
    /// (mode 0700) if it is missing. Without one, only the launching program attaches.
    #[doc(alias = "unix_socket_directories")]
    pub fn runtime_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.folder = Some(path.into());
        self
    }

    /// Adds a function that workers may name as their entry point.
    #[doc(alias = "InternalBGWorkers")]
    pub fn function(
        mut self,
        name: impl Into<String>,
        function: impl Fn(&'static WorkerProcess) -> WorkerResult + 'static,
    ) -> Self {
        let name = name.into();
        if !self.functions.insert(name.clone(), Box::new(function)) {
            self.duplicate_function.get_or_insert(name);
        }
        self
    }

    /// Passes an open descriptor to every worker under `name`: a listening socket, say.
    ///
    /// Workers do not get the descriptors that the postmaster opens for itself. A worker that is a
    /// function also inherits every descriptor that the program had open when the postmaster
    /// started, since it is a fork of it. A command gets those without close-on-exec.
    pub fn descriptor(mut self, name: impl Into<String>, descriptor: impl Into<OwnedFd>) -> Self {
        self.descriptors.push((name.into(), descriptor.into()));
        self
    }

    /// After a crash of a worker with shared state: begin again (`true`, the default), or end.
    pub const fn restart_after_crash(mut self, restart: bool) -> Self {
        self.policy.restart_after_crash = restart;
        self
    }

    /// Kills a worker that was asked to terminate and has not ended after `grace`. Without it
    /// (the default) a worker may take for ever, as in PostgreSQL.
    pub const fn terminate_grace(mut self, grace: Duration) -> Self {
        self.policy.terminate_grace = Some(grace);
        self
    }

    /// The phase that the cluster begins in, also after a crash reset (default
    /// [`StartTime::RecoveryFinished`]: everything may start). A program that has a start-up of its
    /// own begins earlier and says when it has come further (`Backend::advance`).
    pub const fn initial_phase(mut self, phase: StartTime) -> Self {
        self.policy.initial_phase = phase;
        self
    }

    /// Whether a launched postmaster shuts down (fast) when the program that launched it ends
    /// (default `true`).
    pub const fn stop_with_launcher(mut self, stop: bool) -> Self {
        self.stop_with_launcher = stop;
        self
    }

    /// How many children are forked ahead, asleep until there is a worker for them (default 0). A start
    /// then costs a wake-up in place of a fork, as long as one is left; afterwards workers are forked
    /// as without. For functions and libraries, not for commands.
    ///
    /// Each costs about 90 KiB of private memory. What the program changes after
    /// the launch is not seen by them, as it is not by any worker.
    pub const fn warm_spares(mut self, count: usize) -> Self {
        self.warm_spares = count;
        self
    }

    /// Whether handlers that libraries gave to `pthread_atfork` run when a worker is forked (default
    /// `false`). They run when the postmaster itself is launched in any case.
    ///
    /// For a program whose libraries hold state before the launch which such a handler renews in the
    /// child, a random generator, say. With it each start of a worker costs more the more workers
    /// live, since the C library's fork copies a descriptor for each. Commands are then forked, too.
    pub const fn run_atfork_handlers(mut self, run: bool) -> Self {
        self.run_atfork_handlers = run;
        self
    }

    /// Makes the shared region and takes the folder.
    ///
    /// # Errors
    /// A setting out of range; a folder that another postmaster, or a worker that outlived one,
    /// still holds; a failing system call; a kernel that is too old.
    pub fn build(self) -> Result<Postmaster, BuildError> {
        if let Some(me) = process::current() {
            return Err(BuildError::InsideWorker { name: me.worker.name().to_owned() });
        }
        shmem_slots::futex::check_kernel()?;
        let all = self.max_workers.saturating_add(self.max_parallel_workers);
        if self.max_workers == 0 || all > MAX_WORKERS_LIMIT {
            return Err(BuildError::MaxWorkers { found: all, limit: MAX_WORKERS_LIMIT });
        }
        if let Some(name) = self.duplicate_function {
            return Err(BuildError::DuplicateFunction { name });
        }
        let unusable = |name: &&str| {
            name.is_empty()
                || name.len() > FUNCTION_LIMIT
                || name.bytes().any(|b| b.is_ascii_control())
        };
        if let Some(name) = self.functions.names().into_iter().find(unusable) {
            let name = name.escape_debug().to_string();
            return Err(BuildError::FunctionName { name, limit: FUNCTION_LIMIT });
        }
        for (at, (name, _)) in self.descriptors.iter().enumerate() {
            if self.descriptors.iter().take(at).any(|(other, _)| other == name) {
                return Err(BuildError::DuplicateDescriptor { name: name.clone() });
            }
        }
        let folder = self.folder.as_deref().map(RuntimeDir::take).transpose()?;
        let slots =
            WorkerSlots::create(&Attachment::region_options(all)).map_err(BuildError::Region)?;
        ClusterCells::new(&slots).set_general_slots(self.max_workers);
        let doorbell = eventfd::new_doorbell()
            .map_err(|source| BuildError::System { what: "eventfd".to_owned(), source })?;
        Ok(Postmaster {
            slots: Arc::new(slots),
            general_slots: self.max_workers,
            doorbell: Arc::new(doorbell),
            folder,
            functions: self.functions,
            descriptors: self.descriptors,
            policy: self.policy,
            max_sessions: self.max_sessions,
            stop_with_launcher: self.stop_with_launcher,
            run_atfork_handlers: self.run_atfork_handlers,
            warm_spares: self.warm_spares,
            static_workers: Vec::new(),
        })
    }
}

/// A postmaster that has not started yet.
#[derive(Debug)]
pub struct Postmaster {
    pub(crate) slots: Arc<WorkerSlots>,
    pub(crate) general_slots: u32,
    pub(crate) doorbell: Arc<OwnedFd>,
    pub(crate) folder: Option<RuntimeDir>,
    pub(crate) functions: Functions,
    pub(crate) descriptors: Vec<(String, OwnedFd)>,
    pub(crate) policy: Policy,
    pub(crate) max_sessions: usize,
    pub(crate) stop_with_launcher: bool,
    pub(crate) run_atfork_handlers: bool,
    pub(crate) warm_spares: usize,
    pub(crate) static_workers: Vec<BackgroundWorker>,
}

impl Postmaster {
    /// Settings, to be changed and built.
    pub fn builder() -> PostmasterBuilder {
        PostmasterBuilder::default()
    }

    /// Registers a static worker: it is started when the postmaster runs and its phase is reached.
    /// Static workers get the first slots, in the order of registration.
    ///
    /// Only before the postmaster runs; afterwards backends register. A refused worker changes
    /// nothing: the postmaster may start without it.
    ///
    /// # Errors
    /// A worker with a notify target, one whose function does not exist, or one more than there are
    /// slots.
    #[doc(alias = "RegisterBackgroundWorker")]
    #[doc(alias = "shared_preload_libraries")]
    pub fn register(&mut self, worker: BackgroundWorker) -> Result<(), StaticError> {
        let name = || worker.name().to_owned();
        if worker.notify().is_some() {
            return Err(StaticError::NotifyTarget { name: name() });
        }
        if let EntryPoint::Function(function) = worker.entry() {
            if self.functions.get(function).is_none() {
                let function = function.clone();
                return Err(StaticError::UnknownFunction { name: name(), function });
            }
        }
        let parallel = worker.is_parallel();
        let capacity =
            if parallel { self.slots.capacity() - self.general_slots } else { self.general_slots };
        let taken = self.static_workers.iter().filter(|other| other.is_parallel() == parallel);
        if taken.count() >= capacity as usize {
            return Err(StaticError::NoFreeSlot { name: name(), capacity });
        }
        self.static_workers.push(worker);
        Ok(())
    }

    /// Makes the calling process the postmaster, until it is shut down. Returns the exit code that
    /// the process should end with.
    ///
    /// The process must have one thread, and must not start others in the meantime. All its
    /// signals are blocked while the postmaster runs: SIGTERM asks for a smart, SIGINT for a fast,
    /// SIGQUIT for an immediate shutdown, SIGHUP for a reload. In a forked worker this call never
    /// returns.
    ///
    /// # Errors
    /// More than one thread; a system call without which a postmaster cannot do.
    #[doc(alias = "PostmasterMain")]
    #[doc(alias = "ServerLoop")]
    pub fn run(self) -> Result<u8, RunError> {
        self.serve(None)
    }

    fn serve(self, launcher: Option<ControlSocket>) -> Result<u8, RunError> {
        flush_output();
        let before = signals::block_all().map_err(RunError::system("blocking signals"))?;
        process::become_postmaster();
        let replaced =
            process::prepare_for_workers().map_err(RunError::system("installing signal handlers"));
        let code = match &replaced {
            Ok(_) => Server::start(self, launcher).and_then(Server::serve),
            Err(_) => Ok(1),
        };
        // Before any error is returned: the program goes on with what it had.
        let handlers = process::leave_postmaster(replaced.as_ref().ok());
        let mask = signals::restore(&before);
        replaced?;
        handlers.map_err(RunError::system("restoring signal handlers"))?;
        mask.map_err(RunError::system("restoring the signal mask"))?;
        code
    }

    /// Forks a dedicated postmaster and returns to the program, which then is a backend like any
    /// other and may have threads. Call it early in `main`: the smaller the program at that moment,
    /// the cheaper each later fork of a worker.
    ///
    /// # Errors
    /// More than one thread; a failing fork or socket pair.
    pub fn launch(self) -> Result<Launched, RunError> {
        let threads = ThreadCounter::new().map_err(RunError::system("opening /proc/self/task"))?;
        let proof = threads.prove().map_err(RunError::system("counting the threads"))?;
        let proof = proof.map_err(|threads| RunError::Threads { threads })?;
        drop(threads);
        let (ours, theirs) =
            ControlSocket::pair().map_err(RunError::system("making the control socket"))?;
        flush_output();
        // Blocked over the fork, so that no handler of the program runs in the postmaster.
        let before = signals::block_all().map_err(RunError::system("blocking signals"))?;
        let forked = fork(&proof);
        let pid = match forked {
            Ok(Forked::Child) => {
                let _barrier = UnwindBarrier;
                drop(ours);
                exit_now(i32::from(self.serve_launcher(theirs)))
            }
            Ok(Forked::Parent(pid)) => Ok(pid),
            Err(error) => Err(error),
        };
        signals::restore(&before).map_err(RunError::system("restoring the signal mask"))?;
        let pid = pid.map_err(RunError::system("fork"))?;
        let pidfd = pidfd::open(pid).map_err(RunError::system("pidfd_open"))?;
        Ok(Launched { pid, pidfd, control: Some(ours) })
    }

    /// In the forked postmaster. The program goes on in its own process group: Ctrl-C on its terminal
    /// reaches the program alone, which stops its postmaster as it likes.
    fn serve_launcher(self, launcher: ControlSocket) -> u8 {
        let session =
            nix::unistd::setsid().map_err(|errno| RunError::system("setsid")(errno.into()));
        match session.and_then(|_| self.serve(Some(launcher))) {
            Ok(code) => code,
            Err(error) => {
                log_failure(&format!("the postmaster ends: {error}"));
                1
            }
        }
    }

    /// The folder of the control socket, if there is one.
    #[must_use]
    pub fn runtime_dir(&self) -> Option<&Path> {
        self.folder.as_ref().map(RuntimeDir::path)
    }
}

/// Writes out what the program has printed so far: a child would print what is still buffered again.
fn flush_output() {
    // If the reader is gone, there is nobody to print it for.
    let _ = io::stdout().flush();
}

/// A postmaster that this program launched: its child.
///
/// Dropping it leaves the postmaster running, unless it was told to stop with its launcher (the
/// default), in which case it shuts down fast when the last connection of this program closes.
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

    /// The connection to the postmaster, to attach over: hand it to a backend. There is one; the
    /// second call gives `None`.
    pub const fn take_control(&mut self) -> Option<ControlSocket> {
        self.control.take()
    }

    /// Asks for a shutdown by signal. A stricter mode overrides a milder one.
    ///
    /// # Errors
    /// `ESRCH` when the postmaster has ended and been waited for.
    pub fn shutdown(&self, mode: ShutdownMode) -> io::Result<()> {
        use rustix::process::Signal;
        let signal = match mode {
            ShutdownMode::Smart => Signal::TERM,
            ShutdownMode::Fast => Signal::INT,
            ShutdownMode::Immediate => Signal::QUIT,
        };
        pidfd::send(&self.pidfd, signal)
    }

    /// Waits until the postmaster has ended, reaps it, and says how it ended.
    ///
    /// # Errors
    /// The error of `waitid`: `ECHILD` when it was waited for already.
    pub fn wait(&self) -> io::Result<ExitCause> {
        let ended = wait::reap_blocking(&self.pidfd)?;
        ended.map(|ended| ended.cause).ok_or_else(|| io::Error::other("waitid gave no child"))
    }
}

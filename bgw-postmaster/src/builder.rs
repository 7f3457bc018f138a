//! Configures and builds a postmaster.
//!
//! Everything that can fail for the user's sake (the folder is taken, a name is used twice) fails in
//! [`PostmasterBuilder::build`], before any fork.

use crate::child::Functions;
use crate::error::BuildError;
use crate::postmaster::Postmaster;
use crate::rules::Policy;
use crate::runtime_dir::RuntimeDir;
use crate::settings::Settings;
use crate::sys::descriptor_limit;
use crate::sys::descriptors::DescriptorFloor;
use bgw_core::internals::{EntryKinds, FUNCTION_LIMIT, PostmasterCells, eventfd, process};
use bgw_core::{StartTime, WorkerProcess, WorkerResult};
use shmem_slots::StandardStreams;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The most slots that a postmaster can have.
pub const MAX_WORKERS_LIMIT: u32 = 1 << 20;

/// Configures a postmaster. Every setting has a default.
#[derive(Debug)]
#[must_use]
pub struct PostmasterBuilder {
    max_workers: u32,
    max_parallel_workers: u32,
    max_sessions: usize,
    runtime_dir: Option<PathBuf>,
    registrable: EntryKinds,
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
            runtime_dir: None,
            registrable: EntryKinds::empty(),
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

impl Postmaster {
    /// A builder with the default settings.
    pub fn builder() -> PostmasterBuilder {
        PostmasterBuilder::default()
    }
}

impl PostmasterBuilder {
    /// How many workers can be registered at a time (default 8, at most [`MAX_WORKERS_LIMIT`]).
    /// A slot costs about 0.8 KiB of shared memory, once it is used.
    #[doc(alias = "max_worker_processes")]
    pub const fn max_workers(mut self, max_workers: u32) -> Self {
        self.max_workers = max_workers;
        self
    }

    /// How many workers of the parallel class can be registered at a time (default 8; 0 for none). Their
    /// slots come on top of [`PostmasterBuilder::max_workers`]: neither class takes slots from the
    /// other. Both together are at most [`MAX_WORKERS_LIMIT`].
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

    /// The folder of the control socket, so that other programs can attach by path. It is created
    /// (mode 0700) if it is missing. Without one, only the launching program attaches.
    #[doc(alias = "unix_socket_directories")]
    pub fn runtime_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.runtime_dir = Some(path.into());
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

    /// Whether backends may register commands (default `false`).
    ///
    /// A command runs with the privileges of the postmaster, whoever registers it. So every process of
    /// the cluster, its workers included, can run any program with them, and `Worker::drop_privileges`
    /// refuses: it would not keep its promise. Static workers may be commands in any case.
    pub fn allow_commands(mut self, allow: bool) -> Self {
        self.registrable.set(EntryKinds::COMMANDS, allow);
        self
    }

    /// Whether backends may register functions of shared libraries (default `false`). The same holds
    /// for their code as for commands; see [`PostmasterBuilder::allow_commands`].
    pub fn allow_libraries(mut self, allow: bool) -> Self {
        self.registrable.set(EntryKinds::LIBRARIES, allow);
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

    /// After a crash of a worker with shared state: reset the cluster (`true`, the default), or shut
    /// down.
    pub const fn restart_after_crash(mut self, restart: bool) -> Self {
        self.policy.restart_after_crash = restart;
        self
    }

    /// How long a worker, and what it has started, may take to end after SIGTERM; then it is killed. It
    /// holds for terminate requests, and in smart and fast shutdown. Without it (the default) a worker
    /// may take for ever, as in PostgreSQL; if the launching program has gone, 60 s.
    pub const fn terminate_grace(mut self, grace: Duration) -> Self {
        self.policy.terminate_grace = Some(grace);
        self
    }

    /// The phase that the cluster begins in, also after a crash reset (default
    /// [`StartTime::RecoveryFinished`]: everything may start). A program with a start-up of its own
    /// begins earlier, and reports each phase that it reaches (`Backend::advance`).
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

    /// How many children are forked ahead, asleep until there is a worker for them (default 0). While
    /// one is left, a start costs a wake-up in place of a fork; afterwards workers are forked as
    /// without. For functions and libraries, not for commands.
    ///
    /// Each costs about 90 KiB of private memory. Like any worker, it does not see what the program
    /// changes after the launch.
    pub const fn warm_spares(mut self, count: usize) -> Self {
        self.warm_spares = count;
        self
    }

    /// Whether `pthread_atfork` handlers run when a worker is forked (default `false`). They always run
    /// when the postmaster itself is launched.
    ///
    /// For programs whose libraries hold state before the launch that such a handler renews in the
    /// child: a random generator, say. With it a start costs more the more workers live, because the
    /// C library's fork copies a descriptor for each. Commands are then forked, too.
    pub const fn run_atfork_handlers(mut self, run: bool) -> Self {
        self.run_atfork_handlers = run;
        self
    }

    /// Creates the shared region and takes the runtime folder.
    ///
    /// # Errors
    /// A setting is out of range; another postmaster, or a worker that outlived one, holds the runtime
    /// folder; a system call fails; the kernel is too old.
    pub fn build(self) -> Result<Postmaster, BuildError> {
        if let Some(me) = process::current() {
            return Err(BuildError::InsideWorker { name: me.worker.name().to_owned() });
        }
        let system = |call: &'static str| move |source| BuildError::System { call, source };
        let _standard = StandardStreams::occupy().map_err(system("opening /dev/null"))?;
        shmem_slots::futex::check_kernel()?;
        bgw_core::internals::check_libc()?;
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
        let most = descriptor_limit::highest_limit().map_err(system("reading RLIMIT_NOFILE"))?;
        let open = DescriptorFloor::above_all_open().map_err(system("reading /proc/self/fd"))?;
        let needed = open.needed_for(self.warm_spares);
        if needed > most {
            let warm_spares = self.warm_spares;
            return Err(BuildError::Descriptors { warm_spares, needed, limit: most });
        }
        let taken = self.runtime_dir.as_deref().map(RuntimeDir::take).transpose()?;
        let (runtime_dir, listener) = taken.unzip();
        let cells = PostmasterCells::create(self.max_workers, self.max_parallel_workers)
            .map_err(|source| BuildError::Region { slots: all, source })?;
        let doorbell = eventfd::new_doorbell().map_err(system("eventfd"))?;
        Ok(Postmaster::new(Settings {
            cells,
            general_slots: self.max_workers,
            registrable: self.registrable,
            doorbell: Arc::new(doorbell),
            runtime_dir,
            listener,
            functions: self.functions,
            descriptors: self.descriptors,
            policy: self.policy,
            max_sessions: self.max_sessions,
            stop_with_launcher: self.stop_with_launcher,
            run_atfork_handlers: self.run_atfork_handlers,
            warm_spares: self.warm_spares,
            raised_limit: None,
            static_workers: Vec::new(),
        }))
    }
}

//! Configures and builds a postmaster.
//!
//! Everything that can fail for the user's sake (the folder is taken, a name is used twice) fails
//! in [`PostmasterBuilder::build`], before any fork.

mod classes;
mod functions;
mod groups;
mod metrics;
mod overlap;
mod spares;
mod templates;

use crate::child::Functions;
use crate::door;
use crate::error::BuildError;
use crate::folder;
use crate::named_group::Group;
use crate::postmaster::Postmaster;
use crate::rules::Policy;
use crate::rules::ShutdownOrder;
use crate::runtime_dir::RuntimeDir;
use crate::settings::Settings;
use crate::sys::descriptor_limit;
use crate::sys::descriptors::DescriptorFloor;
use crate::sys::libc_version::check_libc;
use crate::template::NamedTemplate;
use bgw_core::internals::{
    EntryKinds, FUNCTION_LIMIT, PostmasterCells, SlotClasses, alarm, eventfd, metrics_objection,
    process, reserve_objection,
};
use bgw_core::{Metric, StartTime};
use shmem_slots::StandardStreams;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// The largest number of slots that a postmaster can have.
pub const MAX_WORKERS_LIMIT: u32 = 1 << 20;

/// How many events a postmaster can keep, if it keeps any.
const EVENTS: std::ops::RangeInclusive<u32> = 64..=65_536;

/// Configures a postmaster. Every setting has a default.
#[derive(Debug)]
#[must_use]
pub struct PostmasterBuilder {
    max_workers: u32,
    max_parallel_workers: u32,
    reserved: Vec<(String, u32)>,
    max_sessions: usize,
    runtime_dir: Option<PathBuf>,
    output_dir: Option<PathBuf>,
    registrable: EntryKinds,
    functions: Functions,
    duplicate_function: Option<String>,
    descriptors: Vec<(String, OwnedFd)>,
    policy: Policy,
    groups: Vec<Group>,
    templates: Vec<Rc<NamedTemplate>>,
    stop_with_launcher: bool,
    run_atfork_handlers: bool,
    warm_spares: usize,
    direct_starts: bool,
    events: u32,
    segment_bytes: u64,
    metrics: Vec<Metric>,
}

impl Default for PostmasterBuilder {
    fn default() -> Self {
        Self {
            max_workers: 8,
            max_parallel_workers: 8,
            reserved: Vec::new(),
            max_sessions: 256,
            runtime_dir: None,
            output_dir: None,
            registrable: EntryKinds::empty(),
            functions: Functions::default(),
            duplicate_function: None,
            descriptors: Vec::new(),
            policy: Policy::default(),
            groups: Vec::new(),
            templates: Vec::new(),
            stop_with_launcher: true,
            run_atfork_handlers: false,
            warm_spares: 0,
            direct_starts: false,
            events: 1024,
            segment_bytes: 1 << 30,
            metrics: Vec::new(),
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

    /// How many workers of the parallel class can be registered at a time (default 8; 0 for none).
    /// Their slots come on top of [`PostmasterBuilder::max_workers`]: neither class takes slots
    /// from the other. Both together are at most [`MAX_WORKERS_LIMIT`].
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

    /// The folder of the control socket, so that other programs can attach by path; its path has at
    /// most 94 bytes. It is created (mode 0700) if it is missing. Without one, only the launching
    /// program and workers attach.
    #[doc(alias = "unix_socket_directories")]
    pub fn runtime_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.runtime_dir = Some(path.into());
        self
    }

    /// The folder of the files that collect the output of workers
    /// ([`OutputFile`](bgw_core::OutputFile)). It is created (mode 0700) if it is missing. Without
    /// one (the default), a worker with an output file is refused. Any backend can register workers
    /// that create files there or append to existing ones.
    ///
    /// ```
    /// use bgw_core::{BackgroundWorker, OutputFile};
    /// use bgw_postmaster::Postmaster;
    ///
    /// # let folder = std::env::temp_dir().join(format!("outputs-{}", std::process::id()));
    /// let postmaster = Postmaster::builder().output_dir(&folder).build()?;
    /// // 10 MiB in import.log, and as much in each of import.log.1 to import.log.5.
    /// let log = OutputFile::new("import.log").rotate(10 << 20, 5);
    /// let worker = BackgroundWorker::builder("import").command("import", ["--all"]).output(log);
    /// # let _ = (postmaster, worker.build()?);
    /// # std::fs::remove_dir(folder)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "log_directory")]
    pub fn output_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.output_dir = Some(path.into());
        self
    }

    /// Whether backends may register commands (default `false`).
    ///
    /// A command runs with the privileges of the postmaster, whoever registers it. So every process
    /// of the cluster, its workers included, can run any program with them, and
    /// `Worker::drop_privileges` refuses: it would not keep its promise. A process that has changed
    /// its user by itself has its commands refused by the postmaster, which asks the kernel who
    /// registered them; that guards against mistakes, not against a process that writes another's
    /// name into the shared region. Static workers may be commands in any case.
    pub fn allow_commands(mut self, allow: bool) -> Self {
        self.registrable.set(EntryKinds::COMMANDS, allow);
        self
    }

    /// Whether backends may register functions of shared libraries (default `false`). The same
    /// holds for their code as for commands; see [`PostmasterBuilder::allow_commands`].
    pub fn allow_libraries(mut self, allow: bool) -> Self {
        self.registrable.set(EntryKinds::LIBRARIES, allow);
        self
    }

    /// Passes an open descriptor to every worker under `name`: a listening socket, say. The output
    /// of workers can go to it, line by line ([`OutputDescriptor`](bgw_core::OutputDescriptor)).
    ///
    /// Workers do not get the descriptors that the postmaster opens for itself. A worker that is a
    /// function also inherits every descriptor that the program had open when the postmaster
    /// started, since it is a fork of it. A command gets those without close-on-exec.
    pub fn descriptor(mut self, name: impl Into<String>, descriptor: impl Into<OwnedFd>) -> Self {
        self.descriptors.push((name.into(), descriptor.into()));
        self
    }

    /// After a crash of a worker with shared state: reset the cluster (`true`, the default), or
    /// shut down.
    pub const fn restart_after_crash(mut self, restart: bool) -> Self {
        self.policy.restart_after_crash = restart;
        self
    }

    /// How long a worker, and what it has started, may take to end after its stop signal before it
    /// is killed: after a terminate request, and in a smart or fast shutdown. Default: for ever, as
    /// in PostgreSQL, but 60 s once the launching program has gone.
    pub const fn terminate_grace(mut self, grace: Duration) -> Self {
        self.policy.terminate_grace = Some(grace);
        self
    }

    /// How long a fast shutdown may take: workers that are left then are killed, whatever their
    /// graces. A shutdown because the launching program has gone is fast, too, and for a fast one
    /// that follows a smart one the time runs from its own request. Default: as long as the
    /// workers' graces allow.
    ///
    /// ```
    /// use bgw_postmaster::Postmaster;
    /// use std::time::Duration;
    ///
    /// // Each worker may take a minute, but all of them together no longer than that, either.
    /// let minute = Duration::from_secs(60);
    /// let builder = Postmaster::builder().terminate_grace(minute).shutdown_timeout(minute);
    /// # let _ = builder;
    /// ```
    pub const fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.policy.shutdown_timeout = Some(timeout);
        self
    }

    /// In which order a smart or fast shutdown tells workers to end (default
    /// [`ShutdownOrder::Dependents`]).
    ///
    /// ```
    /// use bgw_postmaster::{Postmaster, ShutdownOrder};
    ///
    /// let builder = Postmaster::builder().shutdown_order(ShutdownOrder::Registration);
    /// # let _ = builder;
    /// ```
    pub const fn shutdown_order(mut self, order: ShutdownOrder) -> Self {
        self.policy.shutdown_order = order;
        self
    }

    /// The phase in which the cluster begins, including after a crash reset (default
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

    /// How many events are kept for readers (`Backend::events`) (default 1,024; 64 to 65,536; 0 for
    /// none). An event takes 128 bytes of shared memory, from when its place is first used.
    pub const fn events(mut self, events: u32) -> Self {
        self.events = events;
        self
    }

    /// How many bytes all segments may have at a time (default 1 GiB; 0 for no segments). A segment
    /// counts with its size in whole pages, although it takes memory only where it is written to,
    /// until its last holder has dropped it. There are at most 1,024 segments.
    #[doc(alias = "dynamic_shared_memory_type")]
    pub const fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Whether `pthread_atfork` handlers run when a worker is forked (default `false`). They always
    /// run when the postmaster itself is launched.
    ///
    /// For programs whose libraries hold state before the launch that such a handler renews in the
    /// child: a random generator, say. With it a start costs more the more workers live, because
    /// the C library's fork copies a descriptor for each. Commands are then forked, too.
    pub const fn run_atfork_handlers(mut self, run: bool) -> Self {
        self.run_atfork_handlers = run;
        self
    }

    /// Creates the shared region and takes the runtime folder.
    ///
    /// # Errors
    /// A setting is out of range; another postmaster, or a worker that outlived one, holds the
    /// runtime folder; a system call fails; the kernel is too old.
    pub fn build(self) -> Result<Postmaster, BuildError> {
        if let Some(me) = process::current() {
            return Err(BuildError::InsideWorker { name: me.worker.name().to_owned() });
        }
        let system = |call: &'static str| move |source| BuildError::System { call, source };
        let _standard = StandardStreams::occupy().map_err(system("opening /dev/null"))?;
        shmem_slots::futex::check_kernel()?;
        check_libc()?;
        let all = self.max_workers.saturating_add(self.max_parallel_workers);
        if self.max_workers == 0 || all > MAX_WORKERS_LIMIT {
            return Err(BuildError::MaxWorkers { found: all, limit: MAX_WORKERS_LIMIT });
        }
        if let Some((name, reason)) = reserve_objection(self.max_workers, &self.reserved) {
            return Err(BuildError::Reserve { name, reason });
        }
        if let Some((name, reason)) = metrics_objection(&self.metrics) {
            return Err(BuildError::Metric { name, reason });
        }
        if self.events != 0 && !EVENTS.contains(&self.events) {
            let (least, most) = EVENTS.into_inner();
            return Err(BuildError::Events { found: self.events, least, most });
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
        self.check_groups()?;
        self.check_templates()?;
        let most = descriptor_limit::highest_limit().map_err(system("reading RLIMIT_NOFILE"))?;
        let open = DescriptorFloor::above_all_open().map_err(system("reading /proc/self/fd"))?;
        // As many as have not served may sleep beside them that have.
        let spares =
            self.warm_spares.saturating_mul(1 + usize::from(self.functions.any_reusable()));
        let (highest, more) = (open.highest_open(), DescriptorFloor::needed_for(spares));
        if more.saturating_add(highest.unsigned_abs().into()) >= most {
            let warm_spares = self.warm_spares;
            return Err(BuildError::Descriptors { warm_spares, highest, more, limit: most });
        }
        let output_dir = self.output_dir.as_deref().map(|path| {
            folder::open(path).map_err(|unfit| BuildError::of_output_dir(path.to_owned(), unfit))
        });
        let output_dir = output_dir.transpose()?;
        let mut registrable = self.registrable;
        registrable.set(EntryKinds::OUTPUT_FILES, output_dir.is_some());
        let taken = self.runtime_dir.as_deref().map(RuntimeDir::take).transpose()?;
        let (runtime_dir, named) = taken.unzip();
        let (listener, door) = door::open(runtime_dir.as_ref(), named);
        let parallel = self.max_parallel_workers;
        let classes = SlotClasses::new(self.max_workers, parallel, self.reserved);
        let cells = PostmasterCells::create_for(classes, self.metrics, self.policy.overlap)
            .map_err(|source| BuildError::Region { slots: all, source })?;
        let doorbell = eventfd::new_doorbell().map_err(system("eventfd"))?;
        let alarm = alarm::new_alarm().map_err(system("timerfd_create"))?;
        Ok(Postmaster::new(Settings {
            cells,
            registrable,
            output_dir,
            doorbell: Arc::new(doorbell),
            alarm: Arc::new(alarm),
            runtime_dir,
            listener,
            door,
            functions: Rc::new(self.functions),
            descriptors: self.descriptors,
            policy: self.policy,
            groups: self.groups,
            templates: self.templates,
            max_sessions: self.max_sessions,
            stop_with_launcher: self.stop_with_launcher,
            run_atfork_handlers: self.run_atfork_handlers,
            warm_spares: self.warm_spares,
            direct_starts: self.direct_starts,
            events: self.events,
            segment_bytes: self.segment_bytes,
            raised_limit: None,
            static_workers: Vec::new(),
        }))
    }
}

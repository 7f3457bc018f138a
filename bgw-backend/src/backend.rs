//! Start here: a process's attachment to the cluster of a postmaster.

use crate::error::{Error, WaitError};
use crate::handle::Handle;
use bgw_core::control::{ControlSocket, Reply, Request, ShutdownMode};
use bgw_core::process::{self, Pending};
use bgw_core::shared::{RunState, WorkerRecord, run_state};
use bgw_core::sys::signals;
use bgw_core::wait_set::{self, WaitEvents};
use bgw_core::{
    AttachError, Attachment, BackgroundWorker, EntryPoint, Pid, StartTime, WorkerFlags,
    WorkerHandle, WorkerStatus,
};
use shmem_slots::{ClaimError, Key, State};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// The name of the control socket in a runtime folder.
const CONTROL_SOCKET: &str = "control.sock";

/// How to attach.
#[derive(Clone, Copy, Debug)]
pub struct ConnectOptions {
    /// Only look: the region is mapped read-only, nothing can be registered or terminated.
    pub read_only: bool,
    /// How long the postmaster may take to answer (default 10 s).
    pub timeout: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self { read_only: false, timeout: Duration::from_secs(10) }
    }
}

/// attachment to the cluster of one postmaster. Cheap to clone; usable from any thread of the process
/// that attached. A forked child must attach anew.
#[derive(Clone, Debug)]
pub struct Backend {
    attachment: Arc<Attachment>,
}

/// One line of [`Backend::workers`].
#[derive(Clone, Debug)]
pub struct WorkerInfo {
    /// Its handle.
    pub handle: WorkerHandle,
    /// Its description.
    pub worker: BackgroundWorker,
    /// How it was when it was looked at.
    pub status: WorkerStatus,
    /// It has said that it is ready.
    pub ready: bool,
    /// Its end was asked for.
    pub terminating: bool,
    /// When its process was started, by the wall clock; `None` when none runs.
    pub started_at: Option<SystemTime>,
    /// What it waits for, by the name that it gave; `None` when it works, or gave none.
    pub wait_event: Option<String>,
}

/// What came of [`Backend::terminate_by_tag`].
#[derive(Clone, Debug)]
pub struct TagRelease {
    /// Workers that were asked to end: wait for them, then the resource is free of them.
    pub asked: Vec<Handle>,
    /// Workers that use the resource and are not interruptible: they were left alone.
    pub holding: Vec<Handle>,
}

impl Backend {
    /// Attaches to the postmaster of a runtime folder (or of a control socket named directly).
    ///
    /// # Errors
    /// Nobody listens there; the postmaster refuses, or does not answer within ten seconds; its
    /// slots do not fit this build.
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, AttachError> {
        Self::connect_with(path, ConnectOptions::default())
    }

    /// As [`Backend::connect`], with options.
    ///
    /// # Errors
    /// As [`Backend::connect`].
    pub fn connect_with(
        path: impl AsRef<Path>,
        options: ConnectOptions,
    ) -> Result<Self, AttachError> {
        let path = path.as_ref();
        let path: PathBuf =
            if path.is_dir() { path.join(CONTROL_SOCKET) } else { path.to_path_buf() };
        let socket = ControlSocket::connect(&path)
            .map_err(|source| AttachError::Connect { path: path.display().to_string(), source })?;
        Self::attach(socket, options)
    }

    /// Attaches over a connection that exists already: the one of a postmaster that this program
    /// launched.
    ///
    /// # Errors
    /// As [`Backend::connect`].
    pub fn over(socket: ControlSocket) -> Result<Self, AttachError> {
        Self::attach(socket, ConnectOptions::default())
    }

    fn attach(socket: ControlSocket, options: ConnectOptions) -> Result<Self, AttachError> {
        if process::is_postmaster() {
            return Err(AttachError::Postmaster);
        }
        let deadline = Instant::now().checked_add(options.timeout);
        let attachment = Attachment::attach(socket, options.read_only, deadline)?;
        Ok(Self { attachment: Arc::new(attachment) })
    }

    /// The membership of this process as a worker; `None` in any other process.
    #[must_use]
    pub fn current() -> Option<Self> {
        process::current().map(|me| Self { attachment: Arc::clone(&me.attachment) })
    }

    pub(crate) const fn from_attachment(attachment: Arc<Attachment>) -> Self {
        Self { attachment }
    }

    /// Registers a worker. Returns as soon as it stands in its slot and the postmaster was told;
    /// the start comes later.
    ///
    /// Costs one claimed slot, one copy of the description and one system call. It never waits: not
    /// for the postmaster, and not for another backend.
    ///
    /// # Errors
    /// No free slot; a function that the postmaster does not have; a notify target that is not the
    /// caller; a read-only attachment; a postmaster that is gone; a call by the postmaster itself.
    /// Nothing is half registered then.
    #[doc(alias = "RegisterDynamicBackgroundWorker")]
    pub fn register(&self, worker: &BackgroundWorker) -> Result<Handle, Error> {
        self.may_write()?;
        if let EntryPoint::Function(name) = worker.entry() {
            if !self.attachment.has_function(name) {
                let known = self.attachment.functions().join(", ");
                return Err(Error::UnknownFunction { name: name.clone(), known });
            }
        }
        if let Some(asked) = worker.notify() {
            self.check_notify(asked)?;
        }
        if !self.attachment.postmaster_is_alive() {
            return Err(Error::PostmasterDied { pid: self.attachment.postmaster() });
        }
        let record = WorkerRecord::encode(worker, self.attachment.owner());
        let slots = self.attachment.slots();
        let parallel = worker.is_parallel();
        let class = self.attachment.cells().slots_of(parallel);
        let claim = slots.claim_in(class, self.attachment.owner().get());
        let mut claim = claim.map_err(|error| claim_error(error, parallel))?;
        claim.write(&record).map_err(|_| Error::Reset)?;
        let key = claim.publish(0).map_err(|_| Error::Reset)?;
        // From here on the worker is registered: the postmaster takes it in even if we die now.
        self.attachment.ring().map_err(Error::Doorbell)?;
        // Looked at last: of a reset in between the generation tells. The other way round, a worker of
        // the new life would get a handle of the old one.
        let incarnation = self.attachment.cells().incarnation();
        let id = WorkerHandle::new(key.index, key.generation, incarnation);
        Ok(Handle::new(Arc::clone(&self.attachment), id))
    }

    fn may_write(&self) -> Result<(), Error> {
        if process::is_postmaster() {
            return Err(Error::Postmaster);
        }
        if self.attachment.is_read_only() {
            return Err(Error::ReadOnly);
        }
        if !self.attachment.is_mine() {
            return Err(Error::ForkedChild { owner: self.attachment.owner() });
        }
        Ok(())
    }

    fn check_notify(&self, asked: Pid) -> Result<(), Error> {
        let own = self.attachment.owner();
        if asked != own {
            return Err(Error::NotifyTarget { asked, own });
        }
        if process::current().is_some() {
            // A worker starts with SIGUSR1 ignored; from now on it ends its waits.
            return signals::handle_notify().map_err(Error::Signals);
        }
        if signals::notify_would_kill().map_err(Error::Signals)? {
            return Err(Error::NotifyUnhandled);
        }
        Ok(())
    }

    /// The handle with this name, wherever it was stored meanwhile. A handle of another postmaster
    /// or of the time before a crash reset answers `Stopped` for ever.
    #[must_use]
    pub fn handle(&self, id: WorkerHandle) -> Handle {
        Handle::new(Arc::clone(&self.attachment), id)
    }

    /// This process as the postmaster knows it: what a worker's notify target must name.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.attachment.owner()
    }

    /// The postmaster's pid.
    #[must_use]
    pub fn postmaster(&self) -> Pid {
        self.attachment.postmaster()
    }

    /// False once the postmaster has died. One load.
    #[must_use]
    pub fn postmaster_is_alive(&self) -> bool {
        self.attachment.postmaster_is_alive()
    }

    /// How many workers can be registered at a time, those of the parallel class not counted.
    #[doc(alias = "max_worker_processes")]
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.attachment.cells().slots_of(false).end
    }

    /// How many workers of the parallel class can be registered at a time.
    #[doc(alias = "max_parallel_workers")]
    #[must_use]
    pub fn parallel_capacity(&self) -> u32 {
        let class = self.attachment.cells().slots_of(true);
        class.end.saturating_sub(class.start)
    }

    /// The phase that the cluster has reached.
    #[must_use]
    pub fn phase(&self) -> StartTime {
        self.attachment.cells().phase()
    }

    /// All registered workers, in slot order, each as it was when it was looked at. Looks at every
    /// slot; slots that change meanwhile or hold nonsense are left out.
    #[doc(alias = "pg_stat_activity")]
    #[must_use]
    pub fn workers(&self) -> Vec<WorkerInfo> {
        let slots = self.attachment.slots();
        let cells = self.attachment.cells();
        let published = slots.occupied().filter(|(_, word)| word.state() == State::Published);
        published
            .filter_map(|(index, word)| {
                let key = Key { index, generation: word.generation() };
                let worker = slots.read(key).ok()?.decode().ok()?;
                // After the word, as in `register`.
                let id = WorkerHandle::new(index, word.generation(), cells.incarnation());
                let status = self.handle(id).status();
                let running = matches!(status, WorkerStatus::Started(_));
                Some(WorkerInfo {
                    handle: id,
                    worker,
                    status,
                    ready: word.flags() & bgw_core::shared::flag::READY != 0,
                    started_at: running.then(|| cells.started_at(index)).flatten(),
                    wait_event: running.then(|| cells.wait_event(index)).flatten(),
                    terminating: word.flags() & bgw_core::shared::flag::TERMINATE != 0,
                })
            })
            .collect()
    }

    /// The type of the running worker with process `pid`, or `None`. Looks at every slot.
    #[doc(alias = "GetBackgroundWorkerTypeByPid")]
    #[must_use]
    pub fn worker_type_by_pid(&self, pid: Pid) -> Option<String> {
        let slots = self.attachment.slots();
        let (index, word) =
            slots.occupied().find(|&(_, word)| run_state(word) == RunState::Started(pid))?;
        let record = slots.read(Key { index, generation: word.generation() }).ok()?;
        Some(record.decode().ok()?.worker_type().to_owned())
    }

    /// Asks every interruptible worker that uses the resource `tag` to end, so that the resource can be
    /// dropped, and says which others use it.
    ///
    /// # Errors
    /// As [`Handle::terminate`].
    #[doc(alias = "TerminateBackgroundWorkersForDatabase")]
    pub fn terminate_by_tag(&self, tag: &str) -> Result<TagRelease, Error> {
        let mut release = TagRelease { asked: Vec::new(), holding: Vec::new() };
        for info in self.workers() {
            if tag.is_empty() || info.worker.tag() != tag {
                continue;
            }
            let handle = self.handle(info.handle);
            if info.worker.flags().contains(WorkerFlags::INTERRUPTIBLE) {
                handle.terminate()?;
                release.asked.push(handle);
            } else {
                release.holding.push(handle);
            }
        }
        Ok(release)
    }

    /// Has SIGUSR1 of this process recorded, so that workers may be registered with
    /// `notify(backend.pid())` and [`Backend::wait_for_notification`] returns.
    ///
    /// # Errors
    /// The error of `sigaction`.
    pub fn enable_notifications(&self) -> Result<(), Error> {
        signals::handle_notify().map_err(Error::Signals)
    }

    /// Sleeps until a notification comes: something about a worker that names this process has
    /// changed. Which one, its handle tells. Several may have come as one.
    ///
    /// True for a notification, false when the postmaster has died.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`]; [`WaitError::Interrupted`].
    pub fn wait_for_notification(&self, timeout: Option<Duration>) -> Result<bool, WaitError> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let interrupts = process::interrupts();
            if process::take_pending(Pending::NOTIFIED) {
                return Ok(true);
            }
            if process::waits_are_interrupted() {
                return Err(WaitError::Interrupted);
            }
            let events = WaitEvents::POSTMASTER_DEATH | WaitEvents::TIMEOUT;
            let ready =
                wait_set::wait(&self.attachment, None, events, &mut [], deadline, interrupts)?;
            if ready.contains(WaitEvents::POSTMASTER_DEATH) {
                return Ok(false);
            }
            if ready == WaitEvents::TIMEOUT {
                return Err(WaitError::TimedOut);
            }
        }
    }

    /// Asks the postmaster to shut down. It has accepted when this returns.
    ///
    /// # Errors
    /// It refused or did not answer; a worker has no control socket to ask on.
    pub fn shutdown(&self, mode: ShutdownMode) -> Result<(), Error> {
        self.ask(&Request::Shutdown(mode))
    }

    /// Tells the postmaster that the cluster has reached `phase`.
    ///
    /// # Errors
    /// As [`Backend::shutdown`].
    pub fn advance(&self, phase: StartTime) -> Result<(), Error> {
        self.ask(&Request::Advance(phase))
    }

    /// Asks the postmaster to have the settings read again: every worker gets SIGHUP.
    ///
    /// # Errors
    /// As [`Backend::shutdown`].
    pub fn reload(&self) -> Result<(), Error> {
        self.ask(&Request::Reload)
    }

    /// Returns once the postmaster has answered, and so has done everything it was rung for before.
    ///
    /// # Errors
    /// As [`Backend::shutdown`].
    pub fn ping(&self) -> Result<(), Error> {
        self.ask(&Request::Ping)
    }

    fn ask(&self, request: &Request) -> Result<(), Error> {
        let deadline = Instant::now().checked_add(ConnectOptions::default().timeout);
        match self.attachment.ask(request, deadline)? {
            Reply::Done => Ok(()),
            other => Err(AttachError::OutOfTurn { found: format!("{other:?}") }.into()),
        }
    }
}

fn claim_error(error: ClaimError, parallel: bool) -> Error {
    match error {
        ClaimError::Full { capacity, in_use } if parallel => {
            Error::NoParallelSlot { limit: capacity, in_use }
        }
        ClaimError::Full { capacity, in_use } => Error::NoFreeSlot { capacity, in_use },
        ClaimError::ReadOnly => Error::ReadOnly,
        _ => Error::Reset,
    }
}

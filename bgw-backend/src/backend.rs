//! Start here: a process's attachment to the cluster of a postmaster, and registration.

use crate::error::{NotWritable, RegisterError, SignalsError};
use crate::handle::Handle;
use crate::keep::Keep;
use bgw_core::internals::{WorkerRecord, process, signals};
use bgw_core::{
    AttachError, Attachment, BackgroundWorker, ControlSocket, EntryPoint, Pid, StartTime,
    WorkerHandle,
};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How to attach.
#[derive(Clone, Copy, Debug)]
pub struct ConnectOptions {
    /// Map the region read-only: nothing can be registered or terminated.
    pub read_only: bool,
    /// How long the postmaster may take to answer (default 10 s).
    pub timeout: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self { read_only: false, timeout: Duration::from_secs(10) }
    }
}

/// An attachment to the cluster of one postmaster. Cheap to clone; usable from any thread of the
/// process that attached. A forked child must attach itself.
#[derive(Clone, Debug)]
pub struct Backend {
    pub(crate) attachment: Arc<Attachment>,
}

impl Backend {
    /// Attaches to the postmaster of a runtime folder, or of a control socket if `path` is one.
    ///
    /// # Errors
    /// No postmaster listens there; the postmaster refuses, or does not answer within ten seconds;
    /// its slots do not fit this build.
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
        let deadline = Instant::now().checked_add(options.timeout);
        let attachment = Attachment::connect(path.as_ref(), options.read_only, deadline)?;
        Ok(Self { attachment: Arc::new(attachment) })
    }

    /// Attaches over an existing connection: that of a postmaster which this program launched.
    ///
    /// # Errors
    /// As [`Backend::connect`].
    pub fn over(socket: ControlSocket) -> Result<Self, AttachError> {
        let ConnectOptions { read_only, timeout } = ConnectOptions::default();
        let deadline = Instant::now().checked_add(timeout);
        let attachment = Attachment::attach(socket, read_only, deadline)?;
        Ok(Self { attachment: Arc::new(attachment) })
    }

    /// The attachment that this process has as a worker; `None` in any other process.
    #[must_use]
    pub fn current() -> Option<Self> {
        process::current().map(|me| Self { attachment: Arc::clone(&me.attachment) })
    }

    pub(crate) const fn from_attachment(attachment: Arc<Attachment>) -> Self {
        Self { attachment }
    }

    /// Registers a worker. Returns as soon as its slot is published and the doorbell rung; the
    /// postmaster starts the worker later.
    ///
    /// Costs one claimed slot, one copy of the description and two system calls. It waits for
    /// nobody: neither for the postmaster nor for another backend.
    ///
    /// # Errors
    /// [`RegisterError`].
    #[doc(alias = "RegisterDynamicBackgroundWorker")]
    pub fn register(&self, worker: &BackgroundWorker) -> Result<Handle, RegisterError> {
        self.may_register(worker)?;
        let record = WorkerRecord::encode(worker, self.attachment.owner());
        let parallel = worker.is_parallel();
        let class = self.attachment.cells().slots_of(parallel);
        let claim = self.attachment.slots().claim_in(class, self.attachment.owner().get());
        let mut claim = claim.map_err(|error| RegisterError::of_claim(error, parallel))?;
        claim.write(&record)?;
        let key = claim.publish_kept(0)?;
        // Dropped on every way out from here, or with the last handle.
        let keep = Keep::new(Arc::clone(&self.attachment), key);
        // The worker is registered: the postmaster takes it in even if this process dies here.
        self.attachment.ring().map_err(RegisterError::Doorbell)?;
        // Read last: the generation reveals a reset in between. Read first, a worker of the new
        // incarnation would get a handle of the old one.
        let incarnation = self.attachment.cells().incarnation();
        let id = WorkerHandle::new(key.index, key.generation, incarnation);
        Ok(Handle::of_registrant(keep, Arc::clone(&self.attachment), id))
    }

    fn may_register(&self, worker: &BackgroundWorker) -> Result<(), RegisterError> {
        if process::is_postmaster() {
            return Err(RegisterError::Postmaster);
        }
        NotWritable::check(&self.attachment)?;
        if let EntryPoint::Function(name) = worker.entry() {
            if self.attachment.functions().binary_search(name).is_err() {
                let known = self.attachment.functions().join(", ");
                return Err(RegisterError::UnknownFunction { name: name.clone(), known });
            }
        }
        if !self.attachment.cells().registrable().permit(worker.entry()) {
            return Err(RegisterError::not_allowed(worker.entry()));
        }
        if let Some(asked) = worker.notify() {
            self.check_notify(asked)?;
        }
        if !self.attachment.postmaster_is_alive() {
            return Err(RegisterError::PostmasterDied { pid: self.attachment.postmaster() });
        }
        Ok(())
    }

    fn check_notify(&self, asked: Pid) -> Result<(), RegisterError> {
        let own = self.attachment.owner();
        if asked != own {
            return Err(RegisterError::NotifyTarget { asked, own });
        }
        if process::current().is_some() {
            // A worker starts with SIGUSR1 ignored. From here on the signal ends its waits.
            self.enable_notifications()?;
            return Ok(());
        }
        let would_kill = signals::notify_would_kill();
        if would_kill.map_err(SignalsError::at("reading the handler of SIGUSR1"))? {
            return Err(RegisterError::NotifyUnhandled);
        }
        Ok(())
    }

    /// The handle named `id`, as stored or sent by whoever registered the worker. A handle of another
    /// postmaster, or of the time before a crash reset, answers `Stopped` for ever.
    #[must_use]
    pub fn handle(&self, id: WorkerHandle) -> Handle {
        Handle::new(Arc::clone(&self.attachment), id)
    }

    /// This process as the postmaster knows it: the notify target that a description may name.
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

    /// How many workers can be registered at a time, without those of the parallel class.
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
}

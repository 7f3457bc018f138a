//! Start here: a process's attachment to the cluster of a postmaster, and registration.

use crate::changes;
use crate::error::{NotWritable, RegisterError, SignalsError};
use crate::handle::Handle;
use crate::keep::Keep;
use bgw_core::internals::{
    EntryKinds, Function, ReportRecord, WorkerRecord, may_start_directly, process, signals,
};
use bgw_core::{
    AttachError, Attachment, BackgroundWorker, ControlSocket, EntryPoint, Output, Pid, StartTime,
    WorkerHandle,
};
use shmem_slots::{Claim, Key, Region};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the postmaster may take to answer, unless the options say otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

/// How to attach.
#[derive(Clone, Copy, Debug)]
pub struct ConnectOptions {
    /// Map the region read-only: nothing can be registered or terminated.
    pub read_only: bool,
    /// How long attaching may take (default 10 s). What the attached process asks the postmaster
    /// later may take ten seconds each, whatever this is.
    pub timeout: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self { read_only: false, timeout: PATIENCE }
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

    /// Like [`Backend::connect`], with options.
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
    ///
    /// A worker that asks the postmaster something, by [`Backend::ping`] for example, connects to
    /// the control socket then, and stays connected. That needs `/proc`, and the user of the
    /// postmaster: a worker that drops its privileges or changes its root folder asks once before.
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
    /// Costs one claimed slot, one copy of the description and two system calls, and for a worker
    /// with a unique name, or one that starts after others, a look at every slot. It waits for
    /// nobody: neither for the postmaster nor for another backend. Of two processes that claim one
    /// unique name at the same time, one may learn only from its handle that it came too late.
    ///
    /// A worker that is [given](bgw_core::BackgroundWorkerBuilder::give) descriptors, and a command
    /// with an [environment](bgw_core::BackgroundWorkerBuilder::env), working folder or standard
    /// input of its own, is registered by the postmaster itself, over the control socket: that
    /// takes two answers of it, and ten seconds at most.
    ///
    /// # Errors
    /// [`RegisterError`].
    #[doc(alias = "RegisterDynamicBackgroundWorker")]
    pub fn register(&self, worker: &BackgroundWorker) -> Result<Handle, RegisterError> {
        self.may_register(worker)?;
        if goes_by_socket(worker) {
            return self.register_over_socket(worker, false, Instant::now().checked_add(PATIENCE));
        }
        self.check_relations(worker)?;
        let before = self.attachment.cells().incarnation();
        let sleepers = self.sleepers_for(worker);
        let published = self.claim(worker).and_then(|claim| match sleepers {
            None => self.publish(worker, claim),
            Some(_) => self.offer(claim),
        });
        let keep = published.inspect_err(|error| {
            if matches!(error, RegisterError::ClaimLost(_)) {
                self.tell_of_free_slots();
            }
        })?;
        // The worker is registered: the postmaster takes it in even if this process dies here.
        if !sleepers.is_some_and(|reusable| self.give_to_spare(keep.key(), reusable)) {
            self.attachment.ring().map_err(RegisterError::Doorbell)?;
        }
        Ok(self.handle_of(keep, before))
    }

    /// Whether the worker's process may serve again, if a spare sleeps that this process may give
    /// it to.
    fn sleepers_for(&self, worker: &BackgroundWorker) -> Option<bool> {
        let cells = self.attachment.cells();
        // Most postmasters let nobody wake a spare: one load says so.
        if !cells.has_sleepers(true)
            || !self.attachment.has_alarm()
            || worker.start_time() > cells.phase()
            || !may_start_directly(worker)
        {
            return None;
        }
        let EntryPoint::Function(name) = worker.entry() else { return None };
        let reusable = self.function(name).is_ok_and(|function| function.reusable);
        cells.has_sleepers(reusable).then_some(reusable)
    }

    /// Publishes the worker of a claimed slot so that a spare may take it.
    fn offer(
        &self,
        claim: Claim<'_, WorkerRecord, ReportRecord, Region>,
    ) -> Result<Keep, RegisterError> {
        // It is not a job: jobs are never given to a spare directly.
        let key = claim.offer(false)?;
        Ok(Keep::new(Arc::clone(&self.attachment), key, false))
    }

    /// Gives an offered worker to a spare. False: the postmaster is to be rung.
    fn give_to_spare(&self, key: Key, reusable: bool) -> bool {
        // First: the postmaster looks, whatever becomes of this process and of the spare.
        self.attachment.ring_soon().is_ok()
            && self.attachment.cells().give_to_sleeper(key, reusable)
    }

    /// Claims a slot for a worker.
    pub(crate) fn claim(
        &self,
        worker: &BackgroundWorker,
    ) -> Result<Claim<'_, WorkerRecord, ReportRecord, Region>, RegisterError> {
        let record = WorkerRecord::encode(worker, self.attachment.owner());
        let parallel = worker.is_parallel();
        let owner = self.attachment.owner().get();
        let claim = match worker.class() {
            None => {
                let slots = self.attachment.cells().slots_of(parallel);
                self.attachment.slots().claim_in(slots, owner)
            }
            Some(_) => self.attachment.slots().claim_in_either(self.slots_of_class(worker)?, owner),
        };
        let mut claim = claim.map_err(|error| RegisterError::of_claim(error, parallel))?;
        claim.write(&record)?;
        Ok(claim)
    }

    /// Publishes the worker of a claimed slot. The postmaster sees it once it is rung.
    pub(crate) fn publish(
        &self,
        worker: &BackgroundWorker,
        claim: Claim<'_, WorkerRecord, ReportRecord, Region>,
    ) -> Result<Keep, RegisterError> {
        // Dropped on every way out from here, or with the last handle.
        let is_job = worker.job().is_some();
        let key = if is_job { claim.publish_lasting(0) } else { claim.publish_kept(0) }?;
        Ok(Keep::new(Arc::clone(&self.attachment), key, is_job))
    }

    /// Claims were given back, since the registration has failed; somebody may wait for the slots.
    #[cold]
    pub(crate) fn tell_of_free_slots(&self) {
        // An error: the postmaster is dead, and nobody waits.
        let _ = self.attachment.ring();
    }

    /// The handle of a worker that was published when the incarnation of the slots was `before`, or
    /// later.
    pub(crate) fn handle_of(&self, keep: Keep, before: u32) -> Handle {
        let key = keep.key();
        let incarnation = self.incarnation_of(key, before);
        let id = WorkerHandle::new(key.index, key.generation, incarnation);
        changes::registered(&self.attachment, id);
        Handle::of_registrant(keep, Arc::clone(&self.attachment), id)
    }

    /// The incarnation of the slots that tenancy `key` is of. It was published when that was
    /// `before`, or later.
    ///
    /// A reset that ended it has written its report before. Without one, a reset that is under way
    /// may end it still: its report then names the incarnation that the reset begins, too.
    fn incarnation_of(&self, key: Key, before: u32) -> u32 {
        let now = self.attachment.cells().incarnation();
        if now == before {
            return now;
        }
        let record = self.attachment.slots().read_report(key);
        record.map_or(now, |record| record.incarnation())
    }

    /// The function `name` of the postmaster.
    pub(crate) fn function(&self, name: &str) -> Result<&Function, RegisterError> {
        let all = self.attachment.functions();
        let found = all.binary_search_by(|function| function.name.as_str().cmp(name)).ok();
        found.and_then(|at| all.get(at)).ok_or_else(|| {
            let names: Vec<&str> = all.iter().map(|function| function.name.as_str()).collect();
            RegisterError::UnknownFunction { name: name.to_owned(), known: names.join(", ") }
        })
    }

    pub(crate) fn may_register(&self, worker: &BackgroundWorker) -> Result<(), RegisterError> {
        if process::is_postmaster() {
            return Err(RegisterError::Postmaster);
        }
        NotWritable::check(&self.attachment)?;
        if let EntryPoint::Function(name) = worker.entry() {
            let takes = self.function(name)?.call.as_ref();
            let called = worker.call().map(|call| call.tag);
            if takes.map(|takes| takes.tag) != called {
                return Err(RegisterError::call_type(name, takes, called));
            }
        }
        if !self.attachment.cells().registrable().permit(worker.entry()) {
            return Err(RegisterError::not_allowed(worker.entry()));
        }
        if let Output::File(file) = worker.output() {
            if !self.attachment.cells().registrable().contains(EntryKinds::OUTPUT_FILES) {
                return Err(RegisterError::NoOutputDir { file: file.name().to_owned() });
            }
        }
        if worker.class().is_some() {
            self.slots_of_class(worker)?;
        }
        if let Some(asked) = worker.notify() {
            self.check_notify(asked)?;
        }
        if !self.attachment.postmaster_is_alive() {
            return Err(RegisterError::PostmasterDied { pid: self.attachment.postmaster() });
        }
        Ok(())
    }

    /// The slots that a worker of a class may have.
    #[cold]
    fn slots_of_class(&self, worker: &BackgroundWorker) -> Result<[Range<u32>; 2], RegisterError> {
        let classes = self.attachment.cells().slot_classes();
        classes.of(worker).map(|class| classes.ranges(class)).ok_or_else(|| {
            let class = worker.class().unwrap_or_default().to_owned();
            let known: Vec<&str> = classes.reserved().map(|(name, _)| name).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            RegisterError::UnknownClass { class, known }
        })
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

    /// The handle named `id`, as stored or sent by whoever registered the worker. A handle of
    /// another postmaster, or of the time before a crash reset, answers `Stopped` for ever.
    #[must_use]
    pub fn handle(&self, id: WorkerHandle) -> Handle {
        changes::named(&self.attachment, id);
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
        self.attachment.cells().slots_of(true).start
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

/// What does not lie in a slot goes to the postmaster by the control socket.
pub(crate) fn goes_by_socket(worker: &BackgroundWorker) -> bool {
    worker.beside_its_slot().is_some()
}

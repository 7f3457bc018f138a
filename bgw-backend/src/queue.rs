//! Waiting for a slot: first come, first served, over all processes.
//!
//! A waiter gets a socket of its own from the postmaster. It sends its description there and
//! receives the handle. At its deadline the waiter shuts its side down. The kernel delivers the
//! postmaster's answer before that or not at all, so both sides know whether the worker is
//! registered.

use crate::backend::Backend;
use crate::changes;
use crate::error::RegisterError;
use crate::fault;
use crate::handle::Handle;
use crate::keep::Keep;
use bgw_core::internals::{
    Gift, Received, Reply, Request, Surroundings, WorkerRecord, envelope, process, scm,
    wait_for_events,
};
use bgw_core::{
    AskError, BackgroundWorker, ControlSocket, Refusal, SocketInterest, WaitEvents, WorkerHandle,
};
use shmem_slots::Key;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Backend {
    /// Registers a worker as [`Backend::register`] does, but waits up to `timeout` for a free slot.
    /// Waiters of all processes get slots in the order in which they began to wait. While anyone
    /// waits, [`Backend::register`] finds no free slot, so it overtakes no waiter. A worker of the
    /// parallel class waits for a slot of that class, and no waiter for one that is
    /// [reserved](bgw_core::BackgroundWorkerBuilder::class) for another class.
    ///
    /// A waiter holds no slot and delays no other waiter. If it is killed or gives up, the next one
    /// has its turn; if it is stopped (SIGSTOP), its worker is started nevertheless. If a slot is
    /// free, or holds an end that nobody has read yet (but for that of a
    /// [job](bgw_core::BackgroundWorkerBuilder::job)), the first waiter gets it at once. A slot
    /// that a registration gives back since it fails ([`Backend::register_all`] finds too few, say)
    /// goes to whoever is first. So does that of a job once its outcome was looked at: one thread
    /// that submits many jobs looks at some before it waits for a slot.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use bgw_backend::{Backend, BackgroundWorker};
    /// use std::time::Duration;
    ///
    /// let backend = Backend::connect("/run/app")?;
    /// let job = BackgroundWorker::builder("resize").function("resize").build()?;
    /// let handle = backend.register_timeout(&job, Duration::from_secs(30))?;
    /// println!("{handle} has a slot");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`RegisterError::TimedOut`]: no worker was registered, and none will be.
    /// [`RegisterError::Interrupted`]: likewise. [`RegisterError::Ask`] with
    /// [`Refusal::QueueFull`](crate::Refusal::QueueFull) when 1,024 wait, or 64 over this
    /// connection; with [`Refusal::ShuttingDown`](crate::Refusal::ShuttingDown) or
    /// [`Refusal::ClusterReset`](crate::Refusal::ClusterReset) when that ended the wait. Otherwise
    /// as [`Backend::register`], but never because no slot is free.
    pub fn register_timeout(
        &self,
        worker: &BackgroundWorker,
        timeout: Duration,
    ) -> Result<Handle, RegisterError> {
        self.may_register(worker)?;
        self.register_over_socket(worker, true, Instant::now().checked_add(timeout))
    }

    /// Has the postmaster register the worker, with what it is given. Without `waits` there must be
    /// a slot now.
    pub(crate) fn register_over_socket(
        &self,
        worker: &BackgroundWorker,
        waits: bool,
        deadline: Option<Instant>,
    ) -> Result<Handle, RegisterError> {
        // 16 at most.
        let gifts = worker.gifts().len() as u8;
        let request = Request::Queue { waits, gifts };
        let (reply, sockets) =
            self.attachment.ask_for(&request, deadline).map_err(|error| match error {
                AskError::TimedOut => RegisterError::TimedOut,
                other => other.into(),
            })?;
        fault::point("ticket:asked");
        let (mut place, sent) = self.take_place(worker, reply, sockets)?;
        fault::point("ticket:sent");
        let ended = if sent.is_ok() { self.wait_at(&place, deadline) } else { Ok(()) };
        if ended.is_err() {
            // From here on nothing comes that has not come already.
            place.end();
        }
        fault::point("ticket:over");
        match self.answer_at(&mut place, worker)? {
            Received::Message { message, .. } => Ok(message),
            Received::WouldBlock | Received::Closed => {
                ended?;
                Err(self.no_answer(sent))
            }
        }
    }

    /// Takes the place that the postmaster has made for a worker: sends what it is given, and its
    /// description. An error of the latter: the postmaster has said meanwhile why nobody waits any
    /// more, or is dead.
    pub(crate) fn take_place(
        &self,
        worker: &BackgroundWorker,
        reply: Reply,
        sockets: Vec<OwnedFd>,
    ) -> Result<(ControlSocket, io::Result<()>), RegisterError> {
        let mut sockets = sockets.into_iter();
        let (Reply::Queue, Some(socket)) = (&reply, sockets.next()) else {
            return Err(AskError::unexpected(&reply).into());
        };
        let place = ControlSocket::from(socket);
        // What is put into the envelopes arrives before the description does.
        put_into(worker.gifts(), sockets)?;
        let record = WorkerRecord::encode(worker, self.attachment.owner());
        let surroundings = worker.surroundings().map(Surroundings::encode).unwrap_or_default();
        let description = [record.bytes(), &surroundings].concat();
        let sent = scm::send(&place, &description, &[]);
        Ok((place, sent))
    }

    /// What the postmaster has answered at its place, if it has.
    pub(crate) fn answer_at(
        &self,
        place: &mut ControlSocket,
        worker: &BackgroundWorker,
    ) -> Result<Received<Handle>, RegisterError> {
        match place.recv_reply(Some(Instant::now())).map_err(AskError::from)? {
            Received::Message { message: Reply::Granted(id), fds } => {
                Ok(Received::Message { message: self.granted(worker, id), fds })
            }
            Received::Message { message: Reply::Refused { reason, detail }, .. } => Err(self
                .no_slot(worker, reason)
                .unwrap_or(AskError::Refused { reason, detail }.into())),
            Received::Message { message, .. } => Err(AskError::unexpected(&message).into()),
            Received::Closed => Ok(Received::Closed),
            Received::WouldBlock => Ok(Received::WouldBlock),
        }
    }

    /// Why the postmaster has ended the place of a worker without an answer.
    pub(crate) fn no_answer(&self, sent: io::Result<()>) -> RegisterError {
        if !self.attachment.postmaster_is_alive() {
            return RegisterError::PostmasterDied { pid: self.attachment.postmaster() };
        }
        sent.map_or_else(AskError::Send, |()| AskError::Closed).into()
    }

    /// What a refusal says if the reason is that no slot is free.
    fn no_slot(&self, worker: &BackgroundWorker, reason: Refusal) -> Option<RegisterError> {
        let taken = |all| match worker.is_parallel() {
            true => RegisterError::NoParallelSlot { limit: all, in_use: all },
            false => RegisterError::NoFreeSlot { capacity: all, in_use: all },
        };
        let classes = self.attachment.cells().slot_classes();
        let ranges = classes.of(worker).map(|class| classes.ranges(class));
        let all = ranges.into_iter().flatten().map(|range| range.end - range.start).sum();
        (reason == Refusal::NoFreeSlot).then(|| taken(all))
    }

    /// Sleeps until something has come, or the postmaster is dead.
    fn wait_at(
        &self,
        place: &ControlSocket,
        deadline: Option<Instant>,
    ) -> Result<(), RegisterError> {
        loop {
            let interrupts = process::interrupts().count();
            if process::interrupts().waits_are_interrupted() {
                return Err(RegisterError::Interrupted);
            }
            let events = WaitEvents::POSTMASTER_DEATH | WaitEvents::TIMEOUT;
            let mut sockets = [SocketInterest::readable(place.as_fd())];
            let ready =
                wait_for_events(&self.attachment, events, &mut sockets, deadline, interrupts);
            let ready = ready.map_err(RegisterError::Wait)?;
            if ready.intersects(WaitEvents::SOCKET_READABLE) {
                return Ok(());
            }
            if ready.contains(WaitEvents::POSTMASTER_DEATH) {
                let pid = self.attachment.postmaster();
                return Err(RegisterError::PostmasterDied { pid });
            }
            if ready.contains(WaitEvents::TIMEOUT) {
                return Err(RegisterError::TimedOut);
            }
        }
    }

    /// The postmaster has registered the worker in the name of this process.
    fn granted(&self, worker: &BackgroundWorker, id: WorkerHandle) -> Handle {
        let key = Key { index: id.slot(), generation: id.generation() };
        let keep = Keep::new(Arc::clone(&self.attachment), key, worker.job().is_some());
        changes::registered(&self.attachment, id);
        Handle::of_registrant(keep, Arc::clone(&self.attachment), id)
    }
}

/// Puts duplicates of what a worker is given into its envelopes.
fn put_into(gifts: &[Gift], ends: impl Iterator<Item = OwnedFd>) -> Result<(), RegisterError> {
    let mut ends = ends;
    for gift in gifts {
        let failed = |source| RegisterError::Give { name: gift.name.clone(), source };
        let missing = || failed(io::ErrorKind::NotFound.into());
        let (descriptor, end) = (gift.descriptor.as_ref(), ends.next());
        let (descriptor, end) = descriptor.zip(end).ok_or_else(missing)?;
        envelope::put(end, descriptor.as_fd()).map_err(failed)?;
    }
    Ok(())
}

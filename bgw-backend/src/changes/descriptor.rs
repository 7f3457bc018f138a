//! A descriptor that becomes readable when a worker has changed: for a loop of one's own.

use super::cluster::Cluster;
use super::subscriber::Subscriber;
use crate::backend::Backend;
use crate::error::WaitError;
use crate::handle::Handle;
use bgw_core::{Attachment, WorkerHandle};
use shmem_slots::{Key, Snapshot, State};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

/// A descriptor that becomes readable when a worker that it watches has changed: it has started, is
/// ready, has stopped, ended or started again. Made by [`Backend::change_fd`].
///
/// Poll it for reading beside others, with `poll`, `epoll` or whatever a library offers, level- or
/// edge-triggered. It is close-on-exec and never blocks. When it is readable, call
/// [`ChangeFd::drain`], then look at the workers. Dropping it closes it.
///
/// No change is missed, but several may be reported as one, and a change may be over when you look:
/// a worker that ended and was started again is `Started` both times.
///
/// It also becomes readable when the postmaster has died
/// ([`Backend::postmaster_is_alive`]): then [`ChangeFd::drain`] returns every worker that it
/// watched and that had not ended, and nothing comes any more.
///
/// It belongs to the process that made it; in a forked child it is never readable.
#[derive(Debug)]
pub struct ChangeFd {
    subscriber: Arc<Subscriber>,
    cluster: Arc<Cluster>,
    attachment: Arc<Attachment>,
}

impl Backend {
    /// A descriptor that becomes readable when a worker changes that concerns this process: one
    /// that it has registered or registers while the descriptor exists, one of whom it makes a
    /// [handle](Backend::handle) in that time, or one that it names by [`ChangeFd::watch`]. Changes
    /// of other workers do not wake the process.
    ///
    /// Takes one descriptor. The first one in a process starts a thread, which serves all of them,
    /// and all futures; it ends when the connections that used it are dropped. A process that is
    /// killed leaves nothing behind, and one that does not drain delays nobody: the postmaster does
    /// not have the descriptor.
    ///
    /// ```no_run
    /// use bgw_backend::{Backend, BackgroundWorker, WorkerStatus};
    /// use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    /// use std::os::fd::AsFd;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let backend = Backend::connect("/run/my-program")?;
    /// let changes = backend.change_fd()?;
    /// backend.register(&BackgroundWorker::builder("tidy up").function("tidy").build()?)?;
    /// loop {
    ///     let fds = &mut [PollFd::new(changes.as_fd(), PollFlags::POLLIN)]; // and sockets
    ///     poll(fds, PollTimeout::NONE)?;
    ///     for worker in changes.drain() {
    ///         println!("{worker}: {}", backend.handle(worker).status());
    ///     }
    ///     if !backend.postmaster_is_alive() {
    ///         return Ok(());
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`WaitError::ForkedChild`]; [`WaitError::Thread`]: the descriptor could not be made, or the
    /// thread not be started; [`WaitError::TooManyClusters`].
    pub fn change_fd(&self) -> Result<ChangeFd, WaitError> {
        let cluster = Cluster::of(&self.attachment)?;
        let subscriber = Arc::new(Subscriber::new().map_err(WaitError::Thread)?);
        let mut waits = cluster.waits();
        waits.check()?;
        waits.descriptors.push(Arc::clone(&subscriber));
        drop(waits);
        for id in self.own_workers() {
            cluster.watch(&subscriber, id, false);
        }
        if !cluster.postmaster_is_alive() {
            subscriber.ring();
        }
        Ok(ChangeFd { subscriber, cluster, attachment: Arc::clone(&self.attachment) })
    }

    /// The workers that this process has registered.
    fn own_workers(&self) -> Vec<WorkerHandle> {
        let slots = self.attachment.slots();
        let published = slots.occupied().filter(|(_, word)| word.state() == State::Published);
        let own = published.filter(|&(index, word)| {
            let record = slots.read(Key { index, generation: word.generation() });
            record.is_ok_and(|record| record.registered_by() == Some(self.pid()))
        });
        let own: Vec<_> = own.collect();
        // Read last, as in `register`.
        let incarnation = self.attachment.cells().incarnation();
        let id = |&(index, word): &(u32, Snapshot)| {
            WorkerHandle::new(index, word.generation(), incarnation)
        };
        own.iter().map(id).collect()
    }
}

impl ChangeFd {
    /// Watches the worker of `handle`, too: its changes from now on. Nothing happens if it is
    /// watched already, or has ended.
    ///
    /// # Errors
    /// [`WaitError::OtherCluster`]: the handle is of another connection.
    pub fn watch(&self, handle: &Handle) -> Result<(), WaitError> {
        if !Arc::ptr_eq(&handle.attachment, &self.attachment) {
            return Err(WaitError::OtherCluster);
        }
        self.cluster.watch(&self.subscriber, handle.id(), false);
        Ok(())
    }

    /// Makes the descriptor unreadable until the next change, and returns the workers that have
    /// changed since the last call, each once. No system call blocks.
    ///
    /// A loop that only wants to be woken may instead read eight bytes from the descriptor, as from
    /// any eventfd; the workers are returned by the next call then.
    #[must_use = "they are told once"]
    pub fn drain(&self) -> Vec<WorkerHandle> {
        self.subscriber.drain()
    }
}

impl AsFd for ChangeFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.subscriber.as_fd()
    }
}

impl AsRawFd for ChangeFd {
    fn as_raw_fd(&self) -> RawFd {
        self.subscriber.as_fd().as_raw_fd()
    }
}

impl Drop for ChangeFd {
    fn drop(&mut self) {
        if !self.attachment.is_mine() {
            return;
        }
        let mut waits = self.cluster.waits();
        waits.descriptors.retain(|other| !Arc::ptr_eq(other, &self.subscriber));
        waits.interests.remove_all_of(&self.subscriber);
    }
}

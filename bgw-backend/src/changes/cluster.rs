//! The waits of this process in one cluster. Lies in the attachment, and goes with it.

use super::interests::{Cells, Interests};
#[cfg(feature = "tokio")]
use super::readers::Readers;
use super::shared::{lock, wake_all};
use super::subscriber::Subscriber;
use super::thread::{self, Watched};
use super::waiter::{Stage, Waiter};
use crate::error::WaitError;
use bgw_core::internals::{ClusterCells, WorkerSlots};
use bgw_core::{Attachment, WorkerHandle};
use shmem_slots::bells::Interest;
use shmem_slots::futex::Watch;
use shmem_slots::{Key, Snapshot};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
#[cfg(feature = "tokio")]
use tokio::sync::Semaphore;

/// How many futures of one attachment may have a place in the queue for a slot at a time. Others
/// wait for their turn: each needs a descriptor meanwhile, and what the postmaster can grant at
/// once is not to fill the queue.
#[cfg(feature = "tokio")]
const MOST_ASKING: usize = 16;

/// The waits of this process in one cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    process: u32,
    attachment: Weak<Attachment>,
    slots: Arc<WorkerSlots>,
    liveness: u32,
    bell: u32,
    waits: Mutex<Waits>,
    /// The thread knows of it.
    watched: AtomicBool,
    /// Its attachment is gone.
    closed: AtomicBool,
    #[cfg(feature = "tokio")]
    pub(super) readers: Arc<Readers>,
    /// Permits for futures that take a place in the queue for a slot.
    #[cfg(feature = "tokio")]
    places: Arc<Semaphore>,
}

/// What is waited for.
#[derive(Debug, Default)]
pub(super) struct Waits {
    pub(super) interests: Interests,
    pub(super) descriptors: Vec<Arc<Subscriber>>,
    /// The error of the thread, which watches this cluster no more.
    failed: Option<i32>,
}

/// Ends with the attachment that it is tied to.
#[derive(Debug)]
struct Tie(Arc<Cluster>);

impl Drop for Tie {
    fn drop(&mut self) {
        // In a forked child there is no thread, and locks may be held for ever.
        if self.0.process == std::process::id() {
            self.0.closed.store(true, Ordering::Release);
            thread::wake();
        }
    }
}

/// The worker `id` was registered by this process: its change descriptors watch it.
pub(crate) fn registered(attachment: &Attachment, id: WorkerHandle) {
    if let Some(Tie(cluster)) = attachment.tied().get().filter(|_| attachment.is_mine()) {
        cluster.watch_in_all(id, true);
    }
}

/// The permits for futures that take a place in the queue for a slot.
#[cfg(feature = "tokio")]
pub(crate) fn places(attachment: &Arc<Attachment>) -> Result<Arc<Semaphore>, WaitError> {
    Cluster::tied_to(attachment).map(|cluster| Arc::clone(&cluster.places))
}

/// This process has made a handle of the worker `id`.
pub(crate) fn named(attachment: &Attachment, id: WorkerHandle) {
    if let Some(Tie(cluster)) = attachment.tied().get().filter(|_| attachment.is_mine()) {
        cluster.watch_in_all(id, false);
    }
}

impl Cluster {
    /// The waits of `attachment`, watched by the thread.
    pub(super) fn of(attachment: &Arc<Attachment>) -> Result<Arc<Self>, WaitError> {
        let cluster = Self::tied_to(attachment)?;
        if !cluster.watched.load(Ordering::Acquire) {
            let watched: Arc<dyn Watched> = Arc::<Self>::clone(cluster);
            thread::watch(&watched)?;
            cluster.watched.store(true, Ordering::Release);
        }
        Ok(Arc::clone(cluster))
    }

    /// The waits of `attachment`, watched or not.
    fn tied_to(attachment: &Arc<Attachment>) -> Result<&Arc<Self>, WaitError> {
        if !attachment.is_mine() {
            return Err(WaitError::ForkedChild { owner: attachment.owner() });
        }
        let tied = attachment.tied().get_or(|| Tie(Arc::new(Self::new(attachment))));
        let Some(Tie(cluster)) = tied else {
            // Nothing else is ever tied to an attachment.
            return Err(WaitError::Thread(io::ErrorKind::Unsupported.into()));
        };
        Ok(cluster)
    }

    fn new(attachment: &Arc<Attachment>) -> Self {
        Self {
            process: std::process::id(),
            attachment: Arc::downgrade(attachment),
            slots: Arc::clone(attachment.slots()),
            liveness: attachment.liveness(),
            bell: ClusterCells::bell_of(attachment.owner()),
            waits: Mutex::default(),
            watched: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            #[cfg(feature = "tokio")]
            readers: Arc::default(),
            #[cfg(feature = "tokio")]
            places: Arc::new(Semaphore::new(MOST_ASKING)),
        }
    }

    pub(super) fn waits(&self) -> MutexGuard<'_, Waits> {
        lock(&self.waits)
    }

    pub(super) fn cells(&self) -> ClusterCells<'_> {
        ClusterCells::new(&self.slots)
    }

    pub(super) fn postmaster_is_alive(&self) -> bool {
        self.cells().watch_postmaster(self.liveness).is_some()
    }

    /// Has all descriptors watch the worker `id`, which this process has just registered if
    /// `is_new`: then its start counts as a change, although it may be over.
    pub(super) fn watch_in_all(&self, id: WorkerHandle, is_new: bool) {
        let descriptors = self.waits().descriptors.clone();
        for subscriber in descriptors {
            self.watch(&subscriber, id, is_new);
        }
    }

    /// Has one descriptor watch the worker `id`.
    pub(super) fn watch(&self, subscriber: &Arc<Subscriber>, id: WorkerHandle, is_new: bool) {
        let key = Key { index: id.slot(), generation: id.generation() };
        let interest = ClusterCells::interest_of(key.index);
        let mut waits = self.waits();
        let seen = Stage::of(self.word(key));
        let is_known = waits.interests.is_watched(interest, key, subscriber);
        // A reset that is under way names its incarnation before it comes to the slot of a worker
        // that this process has just registered: that end is still to come.
        let is_over = seen.has_ended() || id.incarnation() != self.incarnation();
        if is_known || (is_over && !is_new) {
            return;
        }
        let (subscriber, handle) = (Arc::clone(subscriber), id);
        let seen = if is_new { Stage::REGISTERED } else { seen };
        let waiter = Waiter::Descriptor { subscriber, handle, seen };
        if !self.postmaster_is_alive() {
            waiter.give_up(&mut Vec::new());
            return;
        }
        let id = waits.interests.add(interest, key, waiter, self);
        waits.interests.look_at(id, self);
    }

    fn incarnation(&self) -> u32 {
        self.cells().incarnation()
    }
}

impl Watched for Cluster {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn tend<'a>(&'a self, interrupted: bool, watches: &mut Vec<Watch<'a>>) -> bool {
        // Everything that can end the sleep is read before the looks below.
        let bell = match self.slots.writable_cells() {
            Ok(_) => self.cells().watch_bell(self.bell),
            Err(_) => self.cells().watch_changes(),
        };
        let postmaster = self.cells().watch_postmaster(self.liveness);
        watches.extend(bell);
        #[cfg(feature = "tokio")]
        self.readers.tend(interrupted || postmaster.is_none(), watches);
        let mut waits = self.waits();
        let mut woken = waits.interests.look(self);
        if postmaster.is_none() || interrupted {
            woken.extend(waits.interests.give_up(postmaster.is_some()));
        }
        if postmaster.is_none() {
            waits.descriptors.iter().for_each(|descriptor| descriptor.ring());
        }
        drop(waits);
        wake_all(woken);
        let Some(postmaster) = postmaster else {
            if let Some(attachment) = self.attachment.upgrade() {
                attachment.pass_on_postmaster_death();
            }
            return false;
        };
        watches.push(postmaster);
        true
    }

    fn fail(&self, error: i32) {
        let mut waits = self.waits();
        waits.failed = Some(error);
        let woken = waits.interests.give_up(false);
        drop(waits);
        wake_all(woken);
        #[cfg(feature = "tokio")]
        self.readers.tend(true, &mut Vec::new());
    }
}

impl Waits {
    /// Fails if no thread watches these waits any more.
    pub(super) fn check(&self) -> Result<(), WaitError> {
        let failed = self.failed.map(io::Error::from_raw_os_error);
        failed.map_or(Ok(()), |error| Err(WaitError::Thread(error)))
    }
}

impl Cells for Cluster {
    fn interest(&self, number: u32) -> Option<Interest<'_>> {
        self.cells().interest(number)
    }

    fn word(&self, key: Key) -> Option<Snapshot> {
        self.slots.snapshot(key.index).filter(|word| word.generation() == key.generation)
    }

    fn bell(&self) -> u32 {
        self.bell
    }
}

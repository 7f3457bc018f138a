//! Waits for one worker as futures.

use super::cluster::Cluster;
use super::interests::WaitId;
use super::waiter::Waiter;
use crate::error::WaitError;
use crate::handle::Handle;
use crate::until::{Look, Until};
use bgw_core::WorkerStatus;
use bgw_core::internals::{ClusterCells, process};
use shmem_slots::{DetachedHold, Hold};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// A wait for one worker, as a future: see [`Handle::started`] and its neighbours.
///
/// It does nothing before it is first polled. It may be dropped at any time, and nothing is lost: a
/// new one finds what has happened by then. It is `Send`, borrows nothing, and may be awaited on
/// any runtime. Once it is over, another poll looks at the worker anew.
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct WorkerWait {
    handle: Handle,
    until: Until,
    waits: Option<(Arc<Cluster>, WaitId)>,
    /// Keeps the worker's last report until this wait has read it.
    hold: Option<DetachedHold>,
}

/// Waits as futures, with feature `tokio`.
///
/// Each answers as the blocking wait named beside it does, `PostmasterDied` included, and fails
/// with the same [`WaitError`]s: [`WaitError::Interrupted`] where a blocking wait would be cut
/// short. For a deadline, give it to `tokio::time::timeout`. They may be dropped at any time; see
/// [`WorkerWait`].
///
/// Any number may be awaited at a time: a change wakes those whose wait it ends. All of them
/// together take one thread of this process, and no descriptor.
///
/// ```no_run
/// use bgw_backend::{Backend, BackgroundWorker};
/// use std::time::Duration;
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let backend = Backend::connect("/run/my-program")?;
/// let worker = BackgroundWorker::builder("tidy up").function("tidy").build()?;
/// let handle = backend.register(&worker)?;
/// match tokio::time::timeout(Duration::from_secs(10), handle.ended()).await {
///     Ok(status) => println!("{}", status?),
///     Err(_) => handle.terminate()?,
/// }
/// # Ok(())
/// # }
/// ```
impl Handle {
    /// [`Handle::wait_for_startup`] as a future: `Started`, `Stopped` or `PostmasterDied`.
    pub fn started(&self) -> WorkerWait {
        WorkerWait::new(self, Until::Started)
    }

    /// [`Handle::wait_for_next_start`] as a future: `Started`, `Stopped` or `PostmasterDied`.
    pub fn next_started(&self) -> WorkerWait {
        WorkerWait::new(self, Until::Running)
    }

    /// [`Handle::wait_for_ready`] as a future: `Started`, `Stopped` or `PostmasterDied`.
    pub fn ready(&self) -> WorkerWait {
        WorkerWait::new(self, Until::Ready)
    }

    /// [`Handle::wait_for_shutdown`] as a future: `Stopped` or `PostmasterDied`. A worker that will
    /// be restarted is `Stopped` in between.
    pub fn stopped(&self) -> WorkerWait {
        WorkerWait::new(self, Until::Stopped)
    }

    /// [`Handle::wait_for_end`] as a future: `Stopped` or `PostmasterDied`.
    pub fn ended(&self) -> WorkerWait {
        WorkerWait::new(self, Until::Ended)
    }
}

impl WorkerWait {
    fn new(handle: &Handle, until: Until) -> Self {
        Self { handle: handle.clone(), until, waits: None, hold: None }
    }

    /// The answer, if there is one.
    fn look(&self) -> Option<Result<WorkerStatus, WaitError>> {
        // Read before the word: an end that came before the postmaster's is not hidden by it.
        let alive = self.handle.attachment.postmaster_is_alive();
        match self.until.look(&self.handle) {
            Look::Answer(status) => Some(Ok(status)),
            Look::NotYet(_) if !alive => Some(Ok(WorkerStatus::PostmasterDied)),
            Look::NotYet(_) if process::interrupts().waits_are_interrupted() => {
                Some(Err(WaitError::Interrupted))
            }
            Look::NotYet(_) => None,
        }
    }

    /// From now on, `waker` is woken once the wait is over.
    fn wait(&mut self, waker: &Waker) -> Result<(), WaitError> {
        if let Some((cluster, id)) = &self.waits {
            let before = cluster.waits().interests.renew(*id, waker);
            if before.is_some() {
                return Ok(());
            }
        }
        let cluster = Cluster::of(&self.handle.attachment)?;
        let waiter = Waiter::Future { until: self.until, waker: waker.clone() };
        let key = self.handle.key;
        let interest = ClusterCells::interest_of(key.index);
        let mut waits = cluster.waits();
        waits.check()?;
        let id = waits.interests.add(interest, key, waiter, &*cluster);
        drop(waits);
        self.waits = Some((cluster, id));
        if self.hold.is_none() {
            self.hold = self.handle.hold().map(Hold::detach);
        }
        Ok(())
    }

    fn leave(&mut self) {
        if let Some((cluster, id)) = self.waits.take() {
            // In a forked child the lock may be held for ever.
            if self.handle.attachment.is_mine() {
                let left = cluster.waits().interests.remove(id);
                drop(left);
            }
        }
        if let Some(hold) = self.hold.take() {
            if self.handle.attachment.is_mine() {
                self.handle.attachment.slots().give_back(hold);
            }
        }
    }
}

impl Future for WorkerWait {
    type Output = Result<WorkerStatus, WaitError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let mut answer = this.look();
        if answer.is_none() {
            answer = match this.wait(context.waker()) {
                // What has changed before this wait was known woke nobody.
                Ok(()) => this.look(),
                Err(error) => Some(Err(error)),
            };
        }
        match answer {
            Some(answer) => {
                this.leave();
                Poll::Ready(answer)
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for WorkerWait {
    fn drop(&mut self) {
        self.leave();
    }
}

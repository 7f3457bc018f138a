//! A worker with a runtime of its own: its end as a future, its latch as a stream.
//!
//! Both are woken by the poll wake-up of the process (`bgw_core`'s `poll_wake_up`), which every
//! signal handler rings. So a worker with a current-thread runtime stays a process of one thread.
//! While the stream is awaited the latch counts the runtime as a thread that polls: whoever sets
//! the latch sends SIGURG, whose handler rings the wake-up.
//!
//! No wake-up is lost between a check and the sleep after it: a handler records its signal before
//! it rings, each ring is an edge, and the check comes after the edge before was cleared.

use super::Worker;
use crate::interrupt::Interrupt;
use crate::sys::poll_wakeups::PollWakeUps;
use bgw_core::WorkerProcess;
use bgw_core::internals::{Pending, process};
use futures_core::Stream;
use shmem_slots::Seen;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::runtime::Handle;

/// With feature `tokio`: for a worker whose main runs a current-thread runtime with I/O enabled.
///
/// ```no_run
/// use bgw_backend::{Worker, WorkerError};
///
/// fn main_of_worker(worker: &mut Worker) -> Result<(), WorkerError> {
///     worker.handle_terminate();
///     worker.unblock_signals()?;
///     let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
///     runtime.block_on(async {
///         let mut latch = worker.latch_sets();
///         let terminated = worker.terminated();
///         tokio::pin!(terminated);
///         loop {
///             tokio::select! {
///                 why = &mut terminated => return why.map(drop),
///                 set = latch.next_set() => if !set? { return Ok(()) },
///             }
///             // ... look for work ...
///         }
///     })?;
///     Ok(())
/// }
/// # let _ = bgw_backend::entry(main_of_worker);
/// ```
impl Worker {
    /// Completes once the worker is to end, and says why: [`Interrupt::Terminated`] (SIGTERM, or
    /// the worker's own stop signal, has arrived) or [`Interrupt::PostmasterDied`]. At once if that
    /// is so already, and each time that it is awaited. Dropping it loses nothing.
    ///
    /// Signals arrive once they are unblocked. As after [`Worker::should_stop`], later waits of a
    /// worker that [handles](Worker::handle_terminate) SIGTERM are not cut short.
    ///
    /// # Errors
    /// It is not awaited in a tokio runtime; the wake-up could not be registered with the runtime.
    ///
    /// # Panics
    /// As tokio's own types do, in a runtime that has I/O disabled.
    pub fn terminated(&self) -> Terminated {
        Terminated { me: self.me, acknowledges: self.handles_terminate, wake_ups: WakeUps(None) }
    }

    /// The sets of the worker's latch, as a stream: an item each time that the latch was set,
    /// several sets as one. The latch is reset before an item is returned, so a check that follows
    /// sees what the setter did. A latch that is set already is the first item.
    ///
    /// The stream ends when the postmaster has died. Dropping it, or a future of it, loses no set.
    /// Do not sleep on the latch elsewhere at the same time: whoever resets it takes the set.
    pub fn latch_sets(&self) -> LatchSets {
        let seen = self.me.latch().map(|latch| latch.seen());
        LatchSets { me: self.me, seen, polls: false, wake_ups: WakeUps(None) }
    }
}

/// The poll wake-up of this process, once it is registered with a runtime.
#[derive(Debug)]
struct WakeUps(Option<PollWakeUps>);

impl WakeUps {
    /// Completes when `check` has an answer. It is called at once and after each wake-up.
    fn poll<T>(
        &mut self,
        context: &mut Context<'_>,
        check: impl FnMut() -> Option<T>,
    ) -> Poll<io::Result<T>> {
        if self.0.is_none() {
            Handle::try_current().map_err(io::Error::other)?;
        }
        let wake_ups = match self.0.take() {
            Some(wake_ups) => wake_ups,
            None => PollWakeUps::new()?,
        };
        self.0.insert(wake_ups).poll(context, check)
    }
}

/// The end of a worker, as a future: see [`Worker::terminated`].
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct Terminated {
    me: &'static WorkerProcess,
    acknowledges: bool,
    wake_ups: WakeUps,
}

impl Future for Terminated {
    type Output = io::Result<Interrupt>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let (me, acknowledges) = (this.me, this.acknowledges);
        this.wake_ups.poll(context, || {
            if process::interrupts().pending().contains(Pending::TERMINATE) {
                if acknowledges {
                    process::interrupts().acknowledge_end();
                }
                return Some(Interrupt::Terminated { kind: me.worker.worker_type().to_owned() });
            }
            has_lost_its_postmaster(me).then_some(Interrupt::PostmasterDied)
        })
    }
}

fn has_lost_its_postmaster(me: &WorkerProcess) -> bool {
    process::interrupts().pending().contains(Pending::POSTMASTER_DIED)
        || !me.attachment.postmaster_is_alive()
}

/// Yields each time that the worker's latch is set: see [`Worker::latch_sets`].
#[derive(Debug)]
#[must_use = "a stream does nothing unless it is polled"]
pub struct LatchSets {
    me: &'static WorkerProcess,
    /// `None` without a latch.
    seen: Option<Seen>,
    /// The latch counts this as a thread that polls.
    polls: bool,
    wake_ups: WakeUps,
}

impl LatchSets {
    /// Waits until the latch is set, and returns true; returns false when the postmaster has died.
    /// The future may be dropped at any time without losing a set.
    ///
    /// # Errors
    /// As [`Worker::terminated`].
    ///
    /// # Panics
    /// As [`Worker::terminated`].
    pub async fn next_set(&mut self) -> io::Result<bool> {
        poll_fn(|context| self.poll_set(context)).await
    }

    fn poll_set(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let me = self.me;
        let Some((latch, seen)) = me.latch().zip(self.seen) else { return Poll::Ready(Ok(false)) };
        if !self.polls {
            self.polls = true;
            // The check below finds a set of before.
            let _: bool = latch.begin_poll(seen);
        }
        let set = ready!(self.wake_ups.poll(context, || {
            // The death sets the latch, too.
            let lost = has_lost_its_postmaster(me);
            (lost || latch.is_set(seen)).then_some(!lost)
        }))?;
        self.end_poll();
        if set {
            self.seen = Some(latch.reset());
        }
        Poll::Ready(Ok(set))
    }

    fn end_poll(&mut self) {
        if let Some(latch) = self.me.latch().filter(|_| self.polls) {
            latch.end_poll();
            self.polls = false;
        }
    }
}

impl Stream for LatchSets {
    type Item = io::Result<()>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<()>>> {
        let set = ready!(self.get_mut().poll_set(context));
        Poll::Ready(set.map(|set| set.then_some(())).transpose())
    }
}

impl Drop for LatchSets {
    fn drop(&mut self) {
        // A forked child shares the latch, and polls nothing.
        if self.me.attachment.is_mine() {
            self.end_poll();
        }
    }
}

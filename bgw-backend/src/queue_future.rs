//! Waiting for a slot as a future: the steps of `queue.rs`, and no step blocks.
//!
//! ```text
//! a permit ──▶ a posted request ──▶ a place in the queue ──▶ the answer
//! ```
//!
//! The request travels on the connection that threads ask on, and its reply is found by its
//! number. The place is a socket of its own, so a waiter is one descriptor and no thread. Whatever
//! has come when the future is dropped is undone by what its state is made of: a posted request is
//! forgotten, and the place that comes for it closed; a place is ended, and what was granted before
//! that is terminated.

use crate::backend::Backend;
use crate::changes;
use crate::error::RegisterError;
use crate::handle::Handle;
use crate::sys::poll_wakeups::{PollWakeUps, Registered};
use bgw_core::internals::{Posted, Received, Reply, Request, process};
use bgw_core::{AskError, BackgroundWorker, ControlSocket, Refusal};
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll};

impl Backend {
    /// [`Backend::register_timeout`] as a future, with feature `tokio`: registers the worker once
    /// it has a slot. Those that wait as futures stand in the same queue as those that block.
    ///
    /// For a deadline, give it to `tokio::time::timeout`. It may be dropped at any time: that gives
    /// up its turn, and if its worker was just registered, that is terminated. So a dropped future
    /// leaves no worker behind, but its worker may have run for a moment. It is `Send`, borrows
    /// nothing, and does nothing before it is first polled.
    ///
    /// Each that waits takes one descriptor, and no thread. One connection has 64 of them at most:
    /// others fail with [`Refusal::QueueFull`](crate::Refusal::QueueFull). Those that the
    /// postmaster can grant at once do not count, however many are polled together.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// use bgw_backend::{Backend, BackgroundWorker};
    /// use std::time::Duration;
    ///
    /// let backend = Backend::connect("/run/app")?;
    /// let job = BackgroundWorker::builder("resize").function("resize").build()?;
    /// let in_time = Duration::from_secs(30);
    /// let handle = tokio::time::timeout(in_time, backend.register_when_free(&job)).await??;
    /// println!("{handle} has a slot");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Backend::register_timeout`], but never [`RegisterError::TimedOut`];
    /// [`RegisterError::Runtime`].
    ///
    /// # Panics
    /// As tokio's own types do, in a runtime that has I/O disabled.
    pub fn register_when_free(
        &self,
        worker: &BackgroundWorker,
    ) -> impl Future<Output = Result<Handle, RegisterError>> + Send + use<> {
        let (backend, worker) = (self.clone(), worker.clone());
        async move { backend.wait_for_slot(worker).await }
    }

    async fn wait_for_slot(self, worker: BackgroundWorker) -> Result<Handle, RegisterError> {
        self.may_register(&worker)?;
        tokio::runtime::Handle::try_current()
            .map_err(|error| RegisterError::Runtime(io::Error::other(error)))?;
        let permits = changes::places(&self.attachment)
            .map_err(|_| AskError::ForkedChild { owner: self.attachment.owner() })?;
        // It is never closed.
        let permit = permits.acquire_owned().await.ok();
        let wake_ups = PollWakeUps::new().map_err(RegisterError::Runtime)?;
        let (reply, sockets) = self.ask_for_place(&worker, &wake_ups).await?;
        let (place, sent) = self.take_place(&worker, reply, sockets)?;
        let readable = duplicate(&place)?;
        let mut place = Place { backend: self, worker, socket: place, is_over: false };
        drop(permit);
        let answer = uninterrupted(&wake_ups, &readable, |_| (place.look().transpose(), false));
        let granted = answer.await??;
        granted.ok_or_else(|| place.backend.no_answer(sent))
    }

    /// Asks for a place in the queue.
    async fn ask_for_place(
        &self,
        worker: &BackgroundWorker,
        wake_ups: &PollWakeUps,
    ) -> Result<(Reply, Vec<OwnedFd>), RegisterError> {
        // 16 at most.
        let gifts = worker.gifts().len() as u8;
        loop {
            let mut posted = self.attachment.post(&Request::Queue { waits: true, gifts })?;
            match self.reply_to(&mut posted, wake_ups).await? {
                Err(AskError::Refused { reason: Refusal::QueueFull, .. })
                    if posted.has_made_room() =>
                {
                    // Places that were given up before they came filled the queue. Once this is
                    // answered, the postmaster has seen that they are closed.
                    let mut posted = self.attachment.post(&Request::Ping)?;
                    let _ = self.reply_to(&mut posted, wake_ups).await??;
                }
                Err(AskError::Closed) if !self.postmaster_is_alive() => {
                    return Err(RegisterError::PostmasterDied { pid: self.postmaster() });
                }
                answer => return Ok(answer?),
            }
        }
    }

    async fn reply_to(
        &self,
        posted: &mut Posted,
        wake_ups: &PollWakeUps,
    ) -> Result<Result<(Reply, Vec<OwnedFd>), AskError>, RegisterError> {
        let readable = duplicate(posted)?;
        let look = |context: &mut Context<'_>| {
            let answer = posted.poll(context.waker()).transpose();
            (answer, !posted.is_sent())
        };
        uninterrupted(wake_ups, &readable, look).await
    }
}

/// A descriptor of the same socket, for the runtime alone.
fn duplicate(socket: &impl AsFd) -> Result<Registered, RegisterError> {
    let duplicate = socket.as_fd().try_clone_to_owned();
    duplicate.and_then(Registered::new).map_err(RegisterError::Runtime)
}

/// Completes when `look` has an answer. It is called at once, and each time that `readable` may
/// have changed; it also says whether it waits for room to write. Fails when the waits of this
/// process are interrupted.
async fn uninterrupted<T>(
    wake_ups: &PollWakeUps,
    readable: &Registered,
    mut look: impl FnMut(&mut Context<'_>) -> (Option<T>, bool),
) -> Result<T, RegisterError> {
    poll_fn(|context| {
        loop {
            let (answer, or_room) = look(context);
            if let Some(answer) = answer {
                return Poll::Ready(Ok(answer));
            }
            match readable.poll_changed(context, or_room) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(RegisterError::Runtime(error))),
                Poll::Pending => break,
            }
        }
        let interrupts = process::interrupts();
        let look = || interrupts.waits_are_interrupted().then_some(RegisterError::Interrupted);
        wake_ups.poll(context, look).map(|end| Err(end.unwrap_or_else(RegisterError::Runtime)))
    })
    .await
}

/// A place in the queue. Dropping it gives it up, and whatever was granted before.
#[derive(Debug)]
struct Place {
    backend: Backend,
    worker: BackgroundWorker,
    socket: ControlSocket,
    /// The postmaster has answered.
    is_over: bool,
}

impl Place {
    /// The answer, if there is one; `Ok(Some(None))` if the postmaster has ended the place without.
    fn look(&mut self) -> Result<Option<Option<Handle>>, RegisterError> {
        let answer = self.backend.answer_at(&mut self.socket, &self.worker);
        self.is_over = !matches!(answer, Ok(Received::WouldBlock));
        Ok(match answer? {
            Received::Message { message, .. } => Some(Some(message)),
            Received::WouldBlock => None,
            Received::Closed => Some(None),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A forked child shares the socket, and waits for nothing.
        if self.is_over || !self.backend.attachment.is_mine() {
            return;
        }
        // From here on nothing comes that has not come already.
        self.socket.end();
        if let Ok(Some(Some(granted))) = self.look() {
            // An error: the postmaster is dead, and its workers end.
            let _ = granted.terminate();
        }
    }
}

//! Events as a stream.

use super::cluster::Cluster;
use super::thread;
use crate::error::EventsError;
use crate::events::Events;
use bgw_core::Event;
use bgw_core::internals::process;
use futures_core::Stream;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// With feature `tokio`.
impl Events {
    /// [`Events::wait`] as a future, which may be dropped at any time: no event is lost.
    ///
    /// # Errors
    /// As [`Events::wait`]; [`EventsError::Wait`]: the thread that waits could not be started.
    pub async fn recv(&mut self) -> Result<Event, EventsError> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<Event, EventsError>> {
        if let Some(answer) = self.look().transpose() {
            self.place = None;
            return Poll::Ready(answer);
        }
        if let Err(error) = self.wait_with(context.waker()) {
            return Poll::Ready(Err(error));
        }
        match self.look().transpose() {
            Some(answer) => {
                self.place = None;
                Poll::Ready(answer)
            }
            None => Poll::Pending,
        }
    }

    /// The next event, or why there will be none.
    fn look(&mut self) -> Result<Option<Event>, EventsError> {
        let alive = self.attachment.postmaster_is_alive();
        if let Some(event) = self.try_next()? {
            return Ok(Some(event));
        }
        if !alive {
            return Err(EventsError::PostmasterDied { pid: self.attachment.postmaster() });
        }
        if process::interrupts().waits_are_interrupted() {
            return Err(EventsError::Interrupted);
        }
        Ok(None)
    }

    fn wait_with(&mut self, waker: &Waker) -> Result<(), EventsError> {
        self.place = None;
        let cluster = Cluster::of(&self.attachment).map_err(EventsError::Wait)?;
        cluster.waits().check().map_err(EventsError::Wait)?;
        cluster.readers.open(|| {
            let ring = self.attachment.open_events().map_err(EventsError::Open)?;
            ring.ok_or(EventsError::NotKept)
        })?;
        self.place = Some(cluster.readers.wait(self.position(), waker));
        thread::wake();
        Ok(())
    }
}

/// With feature `tokio`: the events, until an error, which is the last item.
impl Stream for Events {
    type Item = Result<Event, EventsError>;

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Event, EventsError>>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        let next = this.poll_recv(context);
        this.over = matches!(next, Poll::Ready(Err(_)));
        next.map(Some)
    }
}

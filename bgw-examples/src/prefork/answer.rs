//! What the server does for a request: 2 ms of work and 1 KiB of answer, half of it after the first
//! millisecond. The work is a wait, as for a database, so that a few workers do not fill the cores.

use super::{misbehave, sys};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{CONNECTION, HeaderName, HeaderValue};
use hyper::{Request, Response};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

const STEP: Duration = Duration::from_millis(1);
const HALF: Bytes = Bytes::from_static(&[b'x'; 512]);
/// The process that answers, for whoever counts the load of each.
const PROCESS: HeaderName = HeaderName::from_static("x-pid");

/// Answers `request`. The connection ends with it if `last` says so by then.
pub(crate) async fn answer<B>(
    request: Request<B>,
    may_misbehave: bool,
    last: impl Fn() -> bool,
) -> io::Result<Response<Halves>> {
    if may_misbehave {
        misbehave::obey(request.uri().path());
    }
    nap(STEP).await?;
    let mut response = Response::new(Halves::new());
    let headers = response.headers_mut();
    headers.insert(PROCESS, HeaderValue::from(std::process::id()));
    if last() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// Sleeps for `time` to within a few microseconds. Tokio's own timer counts in whole milliseconds.
pub(crate) async fn nap(time: Duration) -> io::Result<()> {
    let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
    let once = Expiration::OneShot(TimeSpec::from_duration(time));
    timer.set(once, TimerSetTimeFlags::empty())?;
    let timer = sys::readable(OwnedFd::from(timer))?;
    timer.readable().await.map(|_| ())
}

/// The body: a half, a step of work, the other half.
pub(crate) struct Halves {
    sent: u8,
    work: Pin<Box<dyn Future<Output = io::Result<()>> + Send>>,
}

impl Halves {
    fn new() -> Self {
        Self { sent: 0, work: Box::pin(nap(STEP)) }
    }
}

impl Body for Halves {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.sent {
            0 => {}
            1 => match self.work.as_mut().poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Ok(())) => {}
            },
            _ => return Poll::Ready(None),
        }
        self.sent += 1;
        Poll::Ready(Some(Ok(Frame::data(HALF))))
    }

    fn is_end_stream(&self) -> bool {
        self.sent == 2
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact((2 - u64::from(self.sent)) * HALF.len() as u64)
    }
}

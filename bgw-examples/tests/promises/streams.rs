//! The promise: the streams of events and of a latch's sets lose nothing when a poll or a future of
//! theirs is dropped, and end once the postmaster has died.
//!
//! Would catch: an item that a dropped future takes along, a stream that nobody wakes at the
//! postmaster's death, a stream that goes on after its last item.

use crate::support::runtime::{block_on, runtime};
use crate::support::{
    Cluster, PATIENCE, kill, note_path, read_note, ready, simple, wait_until_asleep, write_note,
};
use bgw_backend::{Event, EventKind, Events, EventsError, EventsFrom, Worker, WorkerError, entry};
use futures_core::Stream;
use process_test::{Signal, Test, tests, wait_until};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        dropped_futures_take_no_event_along,
        the_postmaster_s_death_wakes_a_stream_of_events_and_is_its_last_item,
        dropped_streams_and_futures_of_a_latch_take_no_set_along,
    ]
}

/// What the stream has at once.
async fn poll_once<S: Stream + Unpin>(stream: &mut S) -> Poll<Option<S::Item>> {
    poll_fn(|context| Poll::Ready(Pin::new(&mut *stream).poll_next(context))).await
}

/// The next item of the stream.
async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await
}

/// What a future of the stream has at once. It is dropped then.
async fn dropped(events: &mut Events) -> Option<Event> {
    let mut future = pin!(events.recv());
    match poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await {
        Poll::Ready(event) => Some(event.unwrap()),
        Poll::Pending => None,
    }
}

/// Would fail if an event went with a future that was dropped while it waited, or came twice.
fn dropped_futures_take_no_event_along() {
    const WORKERS: usize = 20;
    let cluster = Cluster::new();
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    let mut other = cluster.backend.events(EventsFrom::Now).unwrap();
    let seen = block_on(async {
        let mut seen: Vec<Event> = Vec::new();
        for _ in 0..WORKERS {
            // Nothing happens before the registration, so this one waits, and goes.
            assert!(dropped(&mut events).await.is_none());
            let handle = cluster.backend.register(&simple("quick")).unwrap();
            let is_last = |event: &Event| {
                event.kind == EventKind::Unregistered && event.handle == Some(handle.id())
            };
            while !seen.last().is_some_and(is_last) {
                seen.push(match dropped(&mut events).await {
                    Some(event) => event,
                    None => next(&mut events).await.unwrap().unwrap(),
                });
            }
        }
        seen
    });
    for event in &seen {
        assert_eq!(other.next_timeout(PATIENCE).unwrap().as_ref(), Some(event));
    }
    assert_eq!(events.missed(), 0);
    assert!(other.try_next().unwrap().is_none());
    cluster.end();
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Would time out if the death woke no stream, and fail if the stream had an item after the error.
fn the_postmaster_s_death_wakes_a_stream_of_events_and_is_its_last_item() {
    let cluster = Cluster::new();
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut poll = || Pin::new(&mut events).poll_next(&mut Context::from_waker(&waker));
    assert!(poll().is_pending());
    kill(cluster.launched.pid(), Signal::SIGKILL);
    wait_until("the death wakes it", PATIENCE, || count.0.load(Ordering::SeqCst) > 0);
    let last = poll();
    let died =
        |last: &_| matches!(last, Poll::Ready(Some(Err(EventsError::PostmasterDied { .. }))));
    assert!(died(&last), "{last:?}");
    for _ in 0..2 {
        assert!(matches!(poll(), Poll::Ready(None)));
    }
    cluster.launched.wait().unwrap();
}

/// Asks for a set of the latch, and returns when it is set.
async fn is_set(number: u32) {
    write_note(&format!("polled-{number}"), "").unwrap();
    while !note_path(&format!("set-{number}")).exists() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Drops a stream that waits, then a future that waits; each time the latch is set meanwhile.
fn drops(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.handle_terminate();
    worker.unblock_signals()?;
    let worker = &*worker;
    runtime().block_on(async {
        let mut gone = worker.latch_sets();
        while poll_once(&mut gone).await.is_ready() {}
        worker.ready();
        is_set(1).await;
        drop(gone);
        let mut latch = worker.latch_sets();
        assert!(matches!(poll_once(&mut latch).await, Poll::Ready(Some(Ok(())))), "stream");
        assert!(poll_once(&mut latch).await.is_pending(), "one set, two items");
        {
            let mut future = pin!(latch.next_set());
            let once = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
            assert!(once.is_pending());
            is_set(2).await;
        }
        assert!(matches!(poll_once(&mut latch).await, Poll::Ready(Some(Ok(())))), "future");
        write_note("waits", "")?;
        let ends = [next(&mut latch).await.is_none(), next(&mut latch).await.is_none()];
        write_note("over", &format!("{ends:?}"))?;
        Ok(())
    })
}

/// Would hang if a set went with what was dropped, or if the death woke no stream.
fn dropped_streams_and_futures_of_a_latch_take_no_set_along() {
    let cluster = Cluster::with(|builder| builder.function("drops", entry(drops)).max_workers(4));
    let (handle, pid) = cluster.start(&simple("drops"));
    ready(&handle);
    for number in 1..=2 {
        read_note(&format!("polled-{number}"));
        assert!(handle.set_latch().unwrap());
        write_note(&format!("set-{number}"), "").unwrap();
    }
    read_note("waits");
    wait_until_asleep(pid);
    kill(cluster.launched.pid(), Signal::SIGKILL);
    assert_eq!(read_note("over"), "[true, true]");
    cluster.launched.wait().unwrap();
}

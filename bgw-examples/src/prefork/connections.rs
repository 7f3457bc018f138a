//! Accepts connections, serves them, and ends them in order.

use super::answer::{answer, nap};
use super::board::{Board, courtesy, has_too_many};
use super::sys;
use bgw_backend::Interrupt;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{Shutdown, shutdown};
use std::cell::Cell;
use std::error::Error;
use std::future::pending;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long a worker that is replaced serves its kept connections: each request until then is
/// answered and ends its connection, so that a client that comes back within this time loses none.
/// Nobody waits for it: the next run serves already.
const DRAIN: Duration = Duration::from_secs(2);
/// The same if the whole server closes.
const DRAIN_AT_CLOSE: Duration = Duration::from_millis(20);
/// How long requests in hand may take after that.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// How long a kept connection may be without a request, or be busy with sending one's head.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const AFTER_A_FAILURE: Duration = Duration::from_millis(100);

/// How far a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It accepts and keeps connections.
    Serving,
    /// It accepts no more; the next answer on each connection is the last one.
    Draining,
    /// Connections without a request in hand end.
    Ending,
}

/// What the connections of one worker have in common.
pub(crate) struct Shared {
    pub(crate) board: Board,
    pub(crate) worker: usize,
    pub(crate) may_misbehave: bool,
    connections: Cell<u32>,
    stage: watch::Sender<Stage>,
}

impl Shared {
    pub(crate) fn new(board: Board, worker: usize, may_misbehave: bool) -> Self {
        let stage = watch::Sender::new(Stage::Serving);
        Self { board, worker, may_misbehave, connections: Cell::new(0), stage }
    }

    fn count(&self, connections: u32) {
        self.connections.set(connections);
        self.publish();
    }

    /// Says how many connections there are, unless the place is the next run's. A former run that
    /// ends may have written last, so this is called now and then.
    pub(crate) fn publish(&self) {
        if *self.stage.borrow() == Stage::Serving
            && let Err(error) = self.board.publish(self.worker, self.connections.get())
        {
            tracing::warn!("the load was not published: {error}");
        }
    }

    fn is_last(&self) -> bool {
        *self.stage.borrow() != Stage::Serving
            || self.board.loads().is_ok_and(|loads| has_too_many(self.worker, &loads))
    }
}

/// One connection of the count, for as long as it lives.
struct Counted(Rc<Shared>);

impl Counted {
    fn new(shared: &Rc<Shared>) -> Self {
        shared.count(shared.connections.get() + 1);
        Self(Rc::clone(shared))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.count(self.0.connections.get() - 1);
    }
}

/// Serves until `stop` is done and all connections have ended. Needs a `LocalSet`.
pub(crate) async fn serve(
    listener: TcpListener,
    shared: Rc<Shared>,
    stop: impl Future<Output = io::Result<Interrupt>>,
) -> io::Result<()> {
    let listener = sys::readable(listener)?;
    let mut connections = JoinSet::new();
    tokio::select! {
        why = stop => tracing::debug!("to end: {}", why?),
        result = accept_all(&listener, &shared, &mut connections) => result?,
    }
    shared.stage.send_replace(Stage::Draining);
    let closing = shared.board.is_closing();
    if closing {
        // Nobody else takes those who wait to be accepted. From then on clients are refused.
        while let Ok((connection, _)) = listener.get_ref().accept() {
            begin(&mut connections, &shared, connection);
        }
        // It fails in all workers but the first.
        let _ = shutdown(listener.get_ref().as_raw_fd(), Shutdown::Read);
    }
    drop(listener);
    let drain = if closing { DRAIN_AT_CLOSE } else { DRAIN };
    if timeout(drain, all_ended(&mut connections)).await.is_err() {
        shared.stage.send_replace(Stage::Ending);
        if timeout(LAST_ANSWERS, all_ended(&mut connections)).await.is_err() {
            tracing::warn!("{} connections are cut", connections.len());
        }
    }
    Ok(())
}

async fn all_ended(connections: &mut JoinSet<()>) {
    while connections.join_next().await.is_some() {}
}

/// Accepts for as long as that works.
async fn accept_all(
    listener: &AsyncFd<TcpListener>,
    shared: &Rc<Shared>,
    connections: &mut JoinSet<()>,
) -> io::Result<()> {
    loop {
        let mut ready = listener.readable().await?;
        let courtesy = courtesy(shared.worker, &shared.board.loads()?);
        if !courtesy.is_zero() {
            nap(courtesy).await?;
        }
        while connections.try_join_next().is_some() {}
        match ready.try_io(|listener| listener.get_ref().accept()) {
            Ok(Ok((connection, _))) => begin(connections, shared, connection),
            // The server closes: this worker is told soon.
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidInput => pending().await,
            Ok(Err(error)) => {
                // The client has gone, or descriptors are short until some connection ends.
                tracing::warn!("a connection was not accepted: {error}");
                nap(AFTER_A_FAILURE).await?;
            }
            // Another worker was faster.
            Err(_would_block) => {}
        }
    }
}

fn begin(connections: &mut JoinSet<()>, shared: &Rc<Shared>, connection: std::net::TcpStream) {
    let counted = Counted::new(shared);
    connections.spawn_local(async move {
        // A client may end its connection as it likes; that is not a failure of the server.
        if let Err(error) = serve_one(connection, &counted.0).await {
            tracing::debug!("a connection broke: {error}");
        }
    });
}

async fn serve_one(connection: std::net::TcpStream, shared: &Shared) -> Result<(), Box<dyn Error>> {
    connection.set_nonblocking(true)?;
    connection.set_nodelay(true)?;
    let connection = TokioIo::new(TcpStream::from_std(connection)?);
    let service = service_fn(|request| answer(request, shared.may_misbehave, || shared.is_last()));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(KEEP_ALIVE);
    let mut served = pin!(http.serve_connection(connection, service));
    let mut stage = shared.stage.subscribe();
    tokio::select! {
        result = served.as_mut() => return Ok(result?),
        _ = stage.wait_for(|stage| *stage == Stage::Ending) => {}
    }
    served.as_mut().graceful_shutdown();
    Ok(served.await?)
}

//! Constant load, from a thread of its own: a request is due at its time, whatever became of those
//! before it. Every other one goes over a kept connection, the rest each over a new one.

use crate::clock::now;
use crate::request::{Answer, Fate, Request, ask};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep_until, timeout};

/// What kind of load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    /// Requests a second, in all.
    pub(crate) rate: u32,
    /// How many connections are kept. They are used in turn.
    pub(crate) kept: usize,
    /// How long a client waits.
    pub(crate) patience: Duration,
}

/// One request in so many leaks, while leaks are on.
const LEAKS: u64 = 10;

#[derive(Debug)]
struct Shared {
    plan: Plan,
    stop: AtomicBool,
    leak: AtomicBool,
    /// Requests to hang that are still to be sent.
    hangs: AtomicU32,
    requests: Mutex<Vec<Request>>,
    hung: Mutex<Vec<Request>>,
    idle: Mutex<VecDeque<Kept>>,
}

#[derive(Debug)]
struct Kept {
    stream: TcpStream,
    worker: Option<i32>,
}

/// Load that goes on until it is stopped.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    thread: JoinHandle<io::Result<()>>,
}

impl Load {
    pub(crate) fn begin(plan: Plan) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            plan,
            stop: AtomicBool::new(false),
            leak: AtomicBool::new(false),
            hangs: AtomicU32::new(0),
            requests: Mutex::default(),
            hung: Mutex::default(),
            idle: Mutex::default(),
        });
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("load".to_owned()).spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            LocalSet::new().block_on(&runtime, send_all(theirs));
            Ok(())
        })?;
        Ok(Self { shared, thread })
    }

    /// From now on some requests leak, or none does.
    pub(crate) fn leak(&self, leak: bool) {
        self.shared.leak.store(leak, Ordering::Relaxed);
    }

    /// One request more, that hangs its worker.
    pub(crate) fn hang(&self) {
        self.shared.hangs.fetch_add(1, Ordering::Relaxed);
    }

    /// The requests to hang that have ended.
    pub(crate) fn hung(&self) -> Vec<Request> {
        lock(&self.shared.hung).clone()
    }

    /// Sends no more, waits for what is under way, and returns all requests.
    pub(crate) fn stop(self) -> io::Result<Vec<Request>> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.join();
        ended.map_err(|_| io::Error::other("the load generator panicked"))??;
        Ok(std::mem::take(&mut lock(&self.shared.requests)))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn send_all(shared: Arc<Shared>) {
    let plan = shared.plan;
    for _ in 0..plan.kept {
        if let Ok(stream) = TcpStream::connect(plan.address).await {
            lock(&shared.idle).push_back(Kept { stream, worker: None });
        }
    }
    let begin = Instant::now();
    let mut sent = 0;
    for number in 0u64.. {
        let due = begin + Duration::from_nanos(number * 1_000_000_000 / u64::from(plan.rate));
        // Tokio's timer has steps of 1 ms. A request counts from when it is really sent.
        if due > Instant::now() {
            sleep_until(due).await;
        }
        if shared.stop.load(Ordering::Relaxed) {
            break;
        }
        if shared.hangs.load(Ordering::Relaxed) > 0 {
            shared.hangs.fetch_sub(1, Ordering::Relaxed);
            let shared = Arc::clone(&shared);
            tokio::task::spawn_local(async move {
                // Nobody waits for it: it ends with its worker.
                let request = one(&shared, false, "/hang", Duration::from_secs(3600)).await;
                lock(&shared.hung).push(request);
            });
        }
        let leak = shared.leak.load(Ordering::Relaxed) && number % LEAKS == 0;
        let path = if leak { "/leak" } else { "/" };
        let kept = plan.kept > 0 && number % 2 == 1;
        sent += 1;
        let shared = Arc::clone(&shared);
        tokio::task::spawn_local(async move {
            let request = one(&shared, kept, path, plan.patience).await;
            lock(&shared.requests).push(request);
        });
    }
    // Whatever is under way ends within the clients' patience.
    while lock(&shared.requests).len() < sent {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn one(shared: &Shared, kept: bool, path: &str, patience: Duration) -> Request {
    let begin = now();
    let mut worker = None;
    let asked = timeout(patience, over_a_connection(shared, kept, path, &mut worker)).await;
    let fate = asked.unwrap_or(Fate::Late);
    Request { begin, end: now(), fate, kept, worker }
}

async fn over_a_connection(
    shared: &Shared,
    kept: bool,
    path: &str,
    worker: &mut Option<i32>,
) -> Fate {
    let reused = if kept { still_open(shared) } else { None };
    let mut stream = match reused {
        Some(connection) => {
            *worker = connection.worker;
            connection.stream
        }
        None => match TcpStream::connect(shared.plan.address).await {
            Ok(stream) => stream,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Fate::Refused,
            Err(_) => return Fate::Reset,
        },
    };
    // Without it the last bytes of a request may wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    match ask(&mut stream, path, kept).await {
        Ok(Answer { fate, worker: answered, keep }) => {
            *worker = answered.or(*worker);
            let mut idle = lock(&shared.idle);
            if kept && keep && idle.len() < shared.plan.kept {
                idle.push_back(Kept { stream, worker: *worker });
            }
            fate
        }
        Err(fate) => fate,
    }
}

/// The next kept connection that the server has not closed while it was idle.
fn still_open(shared: &Shared) -> Option<Kept> {
    loop {
        let kept = lock(&shared.idle).pop_front()?;
        if is_open(&kept.stream) {
            return Some(kept);
        }
    }
}

/// Asks the kernel. Tokio's `try_read` asks what its driver has seen last, and on a busy machine
/// that may be older than the end of the worker.
fn is_open(stream: &TcpStream) -> bool {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    recv(stream.as_raw_fd(), &mut [0; 1], flags) == Err(Errno::EAGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Would fail if the runtime had to look first: it does not run here.
    #[test]
    fn a_connection_that_the_server_has_closed_is_not_used_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let runtime = runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let _entered = runtime.enter();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        let stream = TcpStream::from_std(client).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert!(is_open(&stream));
        drop(server);
        assert!(!is_open(&stream));
    }
}

//! The counterpart of PostgreSQL's `test_shm_mq`: workers in a ring that pass messages on.
//!
//! ```text
//!  this program ──queue 0──▶ worker 1 ──queue 1──▶ worker 2 ── … ──queue N──▶ this program
//! ```
//!
//! The queues are made before the postmaster is forked, so it and its workers inherit their mappings;
//! that is why they are leaked. Each worker takes the receiving end on its left and the sending end on
//! its right, and says that it is ready. When a worker's left neighbour has detached, it passes on what
//! is left and ends with exit code 0, and so the end of the messages goes round as they do.
//!
//! A death goes round the same way: whoever waits for the workers closes both queues of one that has
//! ended, its neighbours see that and end, and so on. All others end with exit code 0 then, so the one
//! that did not is the one to blame. The workers do without `SHMEM_ACCESS`, since a queue is whole
//! whoever dies: no crash reset is needed for one of them.

use bgw_backend::{
    Backend, BackgroundWorker, Handle, Worker, WorkerError, WorkerProcess, WorkerResult,
    WorkerStatus, entry, wait_all, wait_any,
};
use shmem_slots::CreateError;
use shmem_slots::queue::{Queue, QueueOptions, ReceiveError, SendError, Side};
use std::error::Error;
use std::fmt;
use std::thread;
use std::time::Duration;

/// The name under which [`Ring::function`] is to be registered with the postmaster.
pub const FUNCTION: &str = "pass_on";
/// How long a worker may take until it is ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// The queues of a ring.
#[derive(Clone, Copy, Debug)]
pub struct Ring {
    queues: &'static [Queue],
}

/// Whatever ended a ring; from threads, too.
pub type Failure = Box<dyn Error + Send + Sync>;

/// What is wrong with one worker of a ring.
#[derive(Debug)]
pub struct Failed {
    /// Which one, counted from 1.
    pub number: usize,
    /// How many there are.
    pub workers: usize,
    /// What happened to it.
    pub what: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {} of {} {}", self.number, self.workers, self.what)
    }
}

impl Error for Failed {}

impl Ring {
    /// Queues for so many workers, with a buffer of so many bytes each. Call it before the postmaster
    /// is launched.
    ///
    /// # Errors
    /// A buffer of no or too many bytes, or a failing system call.
    pub fn create(workers: usize, buffer: usize) -> Result<Self, CreateError> {
        let options = QueueOptions { buffer, max_message: longest(buffer), tag: 0 };
        let queues: Result<Vec<Queue>, CreateError> =
            (0..=workers).map(|_| Queue::create(&options)).collect();
        Ok(Self { queues: Box::leak(queues?.into_boxed_slice()) })
    }

    /// How many workers it is for.
    #[must_use]
    pub const fn workers(&self) -> usize {
        self.queues.len() - 1
    }

    /// The queues, from the program to worker 1 first.
    #[must_use]
    pub const fn queues(&self) -> &'static [Queue] {
        self.queues
    }

    /// What a worker of the ring does.
    pub fn function(self) -> impl Fn(&'static WorkerProcess) -> WorkerResult + 'static {
        entry(move |worker| pass_on(worker, self.queues))
    }

    fn failed(&self, number: usize, what: impl Into<String>) -> Failed {
        Failed { number, workers: self.workers(), what: what.into() }
    }

    /// Starts the workers, and waits until each has attached both its queues.
    ///
    /// # Errors
    /// One that cannot be registered or started, or ends before it is ready: which, and why. The
    /// others have ended by then.
    pub fn start(&self, backend: &Backend) -> Result<Vec<Handle>, Failed> {
        let mut handles = Vec::new();
        let started = self.start_each(backend, &mut handles);
        if started.is_err() {
            self.close();
            // Whatever this finds, the first failure is the one to report.
            let _ = wait_all(&handles, Some(PATIENCE));
        }
        started.map(|()| handles)
    }

    fn start_each(&self, backend: &Backend, handles: &mut Vec<Handle>) -> Result<(), Failed> {
        for number in 1..=self.workers() {
            let worker = BackgroundWorker::builder(format!("ring worker {number}"))
                .worker_type("ring worker")
                .function(FUNCTION)
                .main_arg(number as u64)
                .build();
            let could_not =
                |why: &dyn Error| self.failed(number, format!("could not be registered: {why}"));
            let worker = worker.map_err(|error| could_not(&error))?;
            handles.push(backend.register(&worker).map_err(|error| could_not(&error))?);
        }
        for (number, handle) in (1..).zip(handles) {
            match handle.wait_for_ready_timeout(PATIENCE) {
                Ok(WorkerStatus::Started(_)) => {}
                Ok(status) => {
                    return Err(self.failed(number, format!("did not get ready: {status}")));
                }
                Err(error) => {
                    return Err(self.failed(number, format!("did not get ready: {error}")));
                }
            }
        }
        Ok(())
    }

    /// Sends `count` messages of every size round the ring, as fast as they go, and checks what comes
    /// back. Returns how many bytes went round. Afterwards all workers have ended.
    ///
    /// # Errors
    /// A worker that died: which, and how. A message that came back as another one.
    pub fn run(&self, handles: &[Handle], count: u64) -> Result<u64, Failure> {
        thread::scope(|scope| {
            let watcher = scope.spawn(|| self.watch(handles));
            let sender = scope.spawn(|| self.send(count));
            let received = self.receive(count);
            if received.is_err() {
                self.close();
            }
            let sent = sender.join().map_err(|_| "the sending thread panicked")?;
            // A death explains whatever else went wrong.
            watcher.join().map_err(|_| "the watching thread panicked")??;
            sent?;
            Ok(received?)
        })
    }

    /// Waits until all workers have ended, and closes the queues of each that has. The first that did
    /// not end by itself is the error.
    fn watch(&self, handles: &[Handle]) -> Result<(), Failure> {
        let mut left: Vec<Handle> = handles.to_vec();
        let mut numbers: Vec<usize> = (1..=handles.len()).collect();
        let mut blamed = None;
        while !left.is_empty() {
            let (place, status) = wait_any(&left, None).inspect_err(|_| self.close())?;
            if status == WorkerStatus::PostmasterDied {
                self.close();
                return Err("the postmaster died".into());
            }
            left.remove(place);
            let number = numbers.remove(place);
            self.close_those_of(number);
            let how = match status {
                WorkerStatus::Stopped(Some(report)) if report.cause.is_clean() => continue,
                WorkerStatus::Stopped(Some(report)) => {
                    let pid = report.pid.map_or(String::new(), |pid| format!("(pid {pid}) "));
                    format!("{pid}{}", report.cause)
                }
                other => format!("is gone: {other}"),
            };
            blamed.get_or_insert(self.failed(number, how));
        }
        blamed.map_or(Ok(()), |failed| Err(failed.into()))
    }

    /// Tells both neighbours of a worker that it is gone.
    fn close_those_of(&self, number: usize) {
        if let Some(left) = self.queues.get(number - 1) {
            left.close(Side::Receiver);
        }
        if let Some(right) = self.queues.get(number) {
            right.close(Side::Sender);
        }
    }

    /// Ends the ring: each worker finds that its neighbours are gone.
    fn close(&self) {
        for queue in self.queues {
            queue.close(Side::Sender);
            queue.close(Side::Receiver);
        }
    }

    fn send(&self, count: u64) -> Result<(), String> {
        let queue = self.queues.first().ok_or("the ring has no queues")?;
        let mut sender = queue.sender(std::process::id()).map_err(|error| error.to_string())?;
        let mut message = Vec::new();
        for number in 0..count {
            make(number, queue.buffer(), &mut message);
            loop {
                match sender.send(&message, &[], None) {
                    Ok(()) => break,
                    Err(SendError::Interrupted) => {}
                    Err(error) => return Err(format!("sending message {number} failed: {error}")),
                }
            }
        }
        Ok(())
    }

    fn receive(&self, count: u64) -> Result<u64, String> {
        let queue = self.queues.last().ok_or("the ring has no queues")?;
        let mut receiver = queue.receiver(std::process::id()).map_err(|error| error.to_string())?;
        let (mut message, mut expected, mut bytes) = (Vec::new(), Vec::new(), 0);
        for number in 0..count {
            while let Err(error) = receiver.receive(&mut message, &[], None) {
                if !matches!(error, ReceiveError::Interrupted) {
                    return Err(format!("message {number} did not come back: {error}"));
                }
            }
            make(number, queue.buffer(), &mut expected);
            if message != expected {
                let (came, sent) = (message.len(), expected.len());
                return Err(format!(
                    "message {number} of {sent} bytes came back as another one, of {came} bytes"
                ));
            }
            bytes += message.len() as u64;
        }
        Ok(bytes)
    }
}

/// No message that [`make`] makes is longer. (The queue rounds its buffer up.)
fn longest(buffer: usize) -> usize {
    buffer.saturating_add(7).saturating_mul(5).max(64)
}

/// Message `number`: the sizes go in turn from 0 bytes to five times the buffer, with some that are
/// as good as random; no two messages of one size are alike.
pub fn make(number: u64, buffer: usize, message: &mut Vec<u8>) {
    let mut noise = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let random = (noise >> 33) as usize % (2 * buffer);
    let sizes = [0, 1, 7, 8, 9, 64, buffer - 1, buffer, buffer + 1, 5 * buffer, random, random];
    let size = sizes.into_iter().cycle().nth((number % sizes.len() as u64) as usize);
    message.clear();
    message.resize(size.unwrap_or(0), 0);
    for chunk in message.chunks_mut(8) {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        for (to, from) in chunk.iter_mut().zip(noise.to_le_bytes()) {
            *to = from;
        }
    }
}

/// Takes each message from the left and passes it on to the right, until one of them detaches.
fn pass_on(worker: &mut Worker, queues: &'static [Queue]) -> Result<(), WorkerError> {
    worker.handle_terminate();
    worker.unblock_signals()?;
    let number = usize::try_from(worker.main_arg()).unwrap_or(usize::MAX);
    let ends = (queues.get(number.wrapping_sub(1)), queues.get(number));
    let (Some(left), Some(right)) = ends else {
        return Err(format!("there is no place {number} in the ring").into());
    };
    let me = std::process::id();
    let mut receiver = left.receiver(me).map_err(|error| error.to_string())?;
    let mut sender = right.sender(me).map_err(|error| error.to_string())?;
    worker.ready();

    let mut message = Vec::new();
    loop {
        loop {
            let also = worker.watches()?; // before the look at what may have come
            stop_if_told(worker)?;
            match receiver.receive(&mut message, &also, None) {
                Ok(()) => break,
                Err(ReceiveError::Interrupted) => {}
                Err(ReceiveError::Detached) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        loop {
            let also = worker.watches()?;
            stop_if_told(worker)?;
            match sender.send(&message, &also, None) {
                Ok(()) => break,
                Err(SendError::Interrupted) => {}
                Err(SendError::Detached) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A worker that is told to end breaks the ring: that is a failure, so exit code 1.
fn stop_if_told(worker: &Worker) -> Result<(), WorkerError> {
    if worker.should_stop() {
        return Err("told to end while the ring was at work".into());
    }
    Ok(())
}

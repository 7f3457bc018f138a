//! The counterpart of PostgreSQL's `test_shm_mq`: workers in a ring that pass messages on.
//!
//! ```text
//!  this program ──queue 0──▶ worker 1 ──queue 1──▶ worker 2 ── … ──queue N──▶ this program
//! ```
//!
//! The queues are created before the postmaster is forked, so that the postmaster and its workers
//! inherit the mappings. They are leaked, because workers use them until the process ends. Each
//! worker takes the receiving end of the queue on its left and the sending end of the queue on its
//! right, and reports that it is ready. When its left neighbour has detached, a worker passes on
//! the rest and exits with 0, so the end of the messages travels round the ring as well.
//!
//! A death travels the same way. The program that waits for the workers closes both queues of a
//! worker that has ended; its neighbours see that and end, and so on. They all exit with 0, so the
//! worker that did not is the one to blame. The workers do without `SHMEM_ACCESS`: a queue stays
//! intact whichever process dies, so no crash reset is needed.

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

/// The name of [`Ring::function`] among the functions of the postmaster.
pub const FUNCTION: &str = "pass_on";
/// How long a worker may take until it is ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// The queues of a ring.
#[derive(Clone, Copy, Debug)]
pub struct Ring {
    queues: &'static [Queue],
}

/// What ended a ring, in any of its threads.
pub type Failure = Box<dyn Error + Send + Sync>;

/// A failure of one worker of a ring.
#[derive(Debug)]
pub struct Failed {
    /// The number of the worker, from 1.
    pub number: usize,
    /// The number of workers.
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
    /// Creates the queues for `workers` workers, each with a buffer of `buffer` bytes. Call it
    /// before the postmaster is launched.
    ///
    /// # Errors
    /// A buffer that is empty or too large; a system call that failed.
    pub fn create(workers: usize, buffer: usize) -> Result<Self, CreateError> {
        let options = QueueOptions { buffer, max_message: longest(buffer), tag: 0 };
        let queues: Result<Vec<Queue>, CreateError> =
            (0..=workers).map(|_| Queue::create(&options)).collect();
        Ok(Self { queues: Box::leak(queues?.into_boxed_slice()) })
    }

    /// The number of workers.
    #[must_use]
    pub const fn workers(&self) -> usize {
        self.queues.len() - 1
    }

    /// The queues. The first leads from the program to worker 1.
    #[must_use]
    pub const fn queues(&self) -> &'static [Queue] {
        self.queues
    }

    /// The main function of a worker.
    pub fn function(self) -> impl Fn(&'static WorkerProcess) -> WorkerResult + 'static {
        entry(move |worker| pass_on(worker, self.queues))
    }

    fn failed(&self, number: usize, what: impl Into<String>) -> Failed {
        Failed { number, workers: self.workers(), what: what.into() }
    }

    /// Starts the workers, and waits until each has attached both its queues.
    ///
    /// # Errors
    /// A worker cannot be registered or started, or ends before it is ready: which, and why. The
    /// others have ended by then.
    pub fn start(&self, backend: &Backend) -> Result<Vec<Handle>, Failed> {
        let mut handles = Vec::new();
        let started = self.start_each(backend, &mut handles);
        if started.is_err() {
            self.close();
            // The first failure is the one to report, whatever this finds.
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

    /// Sends `count` messages of every size round the ring, as fast as possible, and checks each
    /// that comes back. Returns the number of bytes. All workers have ended when it returns.
    ///
    /// # Errors
    /// A worker died: which, and how. A message came back changed.
    pub fn run(&self, handles: &[Handle], count: u64) -> Result<u64, Failure> {
        thread::scope(|scope| {
            let watcher = scope.spawn(|| self.watch(handles));
            let sender = scope.spawn(|| self.send(count));
            let received = self.receive(count);
            if received.is_err() {
                self.close();
            }
            let sent = sender.join().map_err(|_| "the sending thread panicked")?;
            // A death explains all other failures.
            watcher.join().map_err(|_| "the watching thread panicked")??;
            sent?;
            Ok(received?)
        })
    }

    /// Waits until all workers have ended, and closes the queues of each that has. The first that
    /// did not exit with 0 is the error.
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

    /// Lets both neighbours of a worker see that it has ended.
    fn close_those_of(&self, number: usize) {
        if let Some(left) = self.queues.get(number - 1) {
            left.close(Side::Receiver);
        }
        if let Some(right) = self.queues.get(number) {
            right.close(Side::Sender);
        }
    }

    /// Ends the ring: each worker sees that its neighbours have ended.
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
                    "message {number} of {sent} bytes came back changed, with {came} bytes"
                ));
            }
            bytes += message.len() as u64;
        }
        Ok(bytes)
    }
}

/// The longest message that [`make`] makes. (The queue rounds its buffer up.)
fn longest(buffer: usize) -> usize {
    buffer.saturating_add(7).saturating_mul(5).max(64)
}

/// Makes message `number`. The sizes cycle from 0 bytes to five times the buffer, with some
/// pseudo-random ones; no two messages of one size have the same content.
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
            let also = worker.watches()?; // before should_stop: see Worker::watches
            fail_if_asked_to_stop(worker)?;
            match receiver.receive(&mut message, &also, None) {
                Ok(()) => break,
                Err(ReceiveError::Interrupted) => {}
                Err(ReceiveError::Detached) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        loop {
            let also = worker.watches()?;
            fail_if_asked_to_stop(worker)?;
            match sender.send(&message, &also, None) {
                Ok(()) => break,
                Err(SendError::Interrupted) => {}
                Err(SendError::Detached) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A worker that is asked to stop breaks the ring: that is a failure, so exit code 1.
fn fail_if_asked_to_stop(worker: &Worker) -> Result<(), WorkerError> {
    if worker.should_stop() {
        return Err("asked to stop while messages went round".into());
    }
    Ok(())
}

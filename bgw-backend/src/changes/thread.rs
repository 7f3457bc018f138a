//! The thread that sleeps for all waits of this process.

use super::shared::lock;
use crate::error::WaitError;
use bgw_core::internals::{process, signals};
use nix::errno::Errno;
use shmem_slots::futex::{self, Half, MAX_WATCHES, Watch};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// The largest number of clusters: two watches of the thread's own, and for each cluster its bell,
/// its postmaster and both halves of its count of events.
const MAX_CLUSTERS: usize = (MAX_WATCHES - 2) / 4;

/// Room for a waker, which may be anybody's. Not backed by memory before it is used.
const STACK: usize = 256 * 1024;

/// The thread of this process; one of another process is that of a parent.
static THREAD: Mutex<Option<Arc<Thread>>> = Mutex::new(None);

/// What the thread watches: the waits in one cluster.
pub(super) trait Watched: Send + Sync {
    /// Nobody can wait there any more.
    fn is_closed(&self) -> bool;
    /// Wakes those whose wait is over, and adds what ends the sleep that follows. False when
    /// nothing will come any more.
    fn tend<'a>(&'a self, interrupted: bool, watches: &mut Vec<Watch<'a>>) -> bool;
    /// The thread cannot sleep any more: waits end with this error.
    fn fail(&self, error: i32);
}

/// What the thread and those who have it watch something share.
struct Thread {
    process: u32,
    /// Raised to end its sleep.
    wakes: AtomicU64,
    clusters: Mutex<Clusters>,
}

#[derive(Default)]
struct Clusters {
    all: Vec<Arc<dyn Watched>>,
    runs: bool,
}

/// Has the thread of this process watch `cluster`. It is started if it does not run.
pub(super) fn watch(cluster: &Arc<dyn Watched>) -> Result<(), WaitError> {
    let process = std::process::id();
    let thread = {
        let mut thread = lock(&THREAD);
        let own = thread.take().filter(|thread| thread.process == process);
        let own = own.unwrap_or_else(|| {
            let (wakes, clusters) = (AtomicU64::new(0), Mutex::default());
            Arc::new(Thread { process, wakes, clusters })
        });
        Arc::clone(thread.insert(own))
    };
    let mut clusters = lock(&thread.clusters);
    if clusters.all.iter().any(|known| Arc::ptr_eq(known, cluster)) {
        return Ok(());
    }
    if clusters.all.len() >= MAX_CLUSTERS {
        let count = clusters.all.len() + 1;
        return Err(WaitError::TooManyClusters { clusters: count, limit: MAX_CLUSTERS });
    }
    if !clusters.runs {
        start(&thread).map_err(WaitError::Thread)?;
        clusters.runs = true;
    }
    clusters.all.push(Arc::clone(cluster));
    drop(clusters);
    thread.wake();
    Ok(())
}

/// Ends the sleep of the thread: there is something else to watch, or less.
pub(super) fn wake() {
    let thread = lock(&THREAD).clone();
    if let Some(thread) = thread.filter(|thread| thread.process == std::process::id()) {
        thread.wake();
    }
}

/// Starts the thread. All signals but fault signals are for the other threads of the program.
fn start(thread: &Arc<Thread>) -> io::Result<()> {
    let thread = Arc::clone(thread);
    let before = signals::block_all()?;
    let builder = std::thread::Builder::new().name("bgw changes".to_owned());
    let started = builder.stack_size(STACK).spawn(move || thread.run());
    signals::restore(&before)?;
    started.map(drop)
}

impl Thread {
    fn wake(&self) {
        self.wakes.fetch_add(1, Ordering::AcqRel);
        futex::wake_all(&self.wakes);
    }

    fn run(&self) {
        loop {
            let wakes = self.wakes.load(Ordering::Acquire) as u32;
            let interrupts = process::interrupts().count();
            let Some(clusters) = self.clusters() else { return };
            let interrupted = process::interrupts().waits_are_interrupted();
            let woken = Watch { cell: (&self.wakes).into(), half: Half::Low, seen: wakes };
            let mut watches = vec![woken, process::interrupts().watch(interrupts)];
            let over: Vec<&Arc<dyn Watched>> = clusters
                .iter()
                .filter(|cluster| !cluster.tend(interrupted, &mut watches))
                .collect();
            if !over.is_empty() {
                let is_over = |this: &Arc<_>| over.iter().any(|over| Arc::ptr_eq(over, this));
                lock(&self.clusters).all.retain(|cluster| !is_over(cluster));
                continue;
            }
            if let Err(error) = futex::wait_any(&watches, None) {
                drop(watches);
                self.fail(&error);
                return;
            }
        }
    }

    /// The clusters to watch; `None` when there is none, and the thread is to end.
    fn clusters(&self) -> Option<Vec<Arc<dyn Watched>>> {
        let mut clusters = lock(&self.clusters);
        clusters.all.retain(|cluster| !cluster.is_closed());
        clusters.runs = !clusters.all.is_empty();
        clusters.runs.then(|| clusters.all.clone())
    }

    /// The kernel refuses to let the thread sleep, as by a system call filter of later.
    fn fail(&self, error: &futex::WaitError) {
        let code = match error {
            futex::WaitError::System(source) => source.raw_os_error(),
            _ => None,
        };
        let mut clusters = lock(&self.clusters);
        clusters.runs = false;
        let all = std::mem::take(&mut clusters.all);
        drop(clusters);
        let code = code.unwrap_or(Errno::EINVAL as i32);
        all.iter().for_each(|cluster| cluster.fail(code));
    }
}

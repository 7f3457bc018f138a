//! The limit of a pool: a bare ring each way for each worker. Shared memory, a head, a tail, and a
//! futex for who sleeps; no names, one submitter, nothing left when a process dies.

use crate::cluster::Result;
use crate::sys;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use shmem_slots::Segment;
use shmem_slots::futex::{self, Half, Watch};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering, fence};

const SLOTS: usize = 256;
/// A ring's cells: head, tail and the futex on lines of their own, then the values.
const CELLS: usize = SLOTS + FIRST;
const HEAD: usize = 0;
const TAIL: usize = 8;
const SLEEPS: usize = 16;
const FIRST: usize = 32;

/// One direction: who sleeps sets a flag, who adds looks at it.
#[derive(Clone, Copy)]
struct Ring<'a>(&'a [AtomicU64]);

impl Ring<'_> {
    fn send(self, value: u64) {
        let Self(cells) = self;
        let tail = cells[TAIL].load(Ordering::Relaxed);
        cells[FIRST + tail as usize % SLOTS].store(value, Ordering::Relaxed);
        cells[TAIL].store(tail + 1, Ordering::Release);
        fence(Ordering::SeqCst);
        if cells[SLEEPS].load(Ordering::Relaxed) != 0 {
            cells[SLEEPS].store(0, Ordering::Relaxed);
            futex::wake_one(&cells[SLEEPS]);
        }
    }

    fn receive(self) -> u64 {
        let Self(cells) = self;
        let head = cells[HEAD].load(Ordering::Relaxed);
        while head == cells[TAIL].load(Ordering::Acquire) {
            cells[SLEEPS].store(1, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if head == cells[TAIL].load(Ordering::Acquire) {
                let watch = Watch { cell: (&cells[SLEEPS]).into(), half: Half::Low, seen: 1 };
                // If the wait fails, the loop retries: it polls instead.
                let _ = futex::wait_any(&[watch], None);
            }
            cells[SLEEPS].store(0, Ordering::Relaxed);
        }
        let value = cells[FIRST + head as usize % SLOTS].load(Ordering::Relaxed);
        cells[HEAD].store(head + 1, Ordering::Release);
        value
    }
}

/// Workers that do `work` for each value that comes.
pub(crate) struct Rings {
    segment: Segment,
    workers: Vec<Pid>,
}

impl Rings {
    pub(crate) fn launch(workers: usize, work: fn()) -> Result<Self> {
        let bytes = (CELLS * workers * 2 * size_of::<AtomicU64>()) as u64;
        let segment = Segment::attach(Segment::create_file(bytes)?)?;
        let mut rings = Self { segment, workers: Vec::new() };
        for worker in 0..workers {
            let child = sys::child(|| {
                let (jobs, answers) = rings.of(worker);
                loop {
                    let value = jobs.receive();
                    work();
                    answers.send(value);
                }
            })?;
            rings.workers.push(child);
        }
        Ok(rings)
    }

    /// The ring to a worker and the ring back.
    fn of(&self, worker: usize) -> (Ring<'_>, Ring<'_>) {
        let ring = |number: usize| Ring(&self.segment.cells()[number * CELLS..][..CELLS]);
        (ring(worker * 2), ring(worker * 2 + 1))
    }

    /// Sends `count` values, at most `in_flight` of them (up to 256) without an answer.
    pub(crate) fn run(&self, count: usize, in_flight: usize) {
        let mut open = VecDeque::new();
        for number in 0..count {
            if open.len() == in_flight {
                let worker = open.pop_front().unwrap_or(0);
                self.of(worker).1.receive();
            }
            let worker = number % self.workers.len();
            self.of(worker).0.send(number as u64);
            open.push_back(worker);
        }
        for worker in open {
            self.of(worker).1.receive();
        }
    }
}

impl Drop for Rings {
    fn drop(&mut self) {
        for &worker in &self.workers {
            if kill(worker, Signal::SIGKILL).is_ok() {
                let _ = waitpid(worker, None);
            }
        }
    }
}

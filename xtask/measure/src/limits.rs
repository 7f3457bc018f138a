//! The kernel's own limits, measured in the same run: bare forks and futex wake-ups. A process does
//! them that this program forks in the same way as the postmaster, so it has the same memory.
//!
//! The process carries out one request at a time, which it receives through shared cells.

use crate::clock::{cell, now, pin};
use crate::cluster::Result;
use crate::sys;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use shmem_slots::futex::{Half, Watch};
use std::sync::atomic::{AtomicU64, Ordering};

const ORDER: usize = 8;
const ANSWER: usize = 9;
const FIRST: usize = 10;
const FORKED: usize = 11;

/// The bit of a request that asks for a fork. Without it the request is a wake-up.
const FORK: u64 = 1;

/// The process that measures the kernel alone.
pub(crate) struct Bare {
    pid: Pid,
    orders: u64,
}

fn wait_while(cell: &'static AtomicU64, seen: u64) {
    while cell.load(Ordering::Acquire) == seen {
        let watch = Watch { cell: cell.into(), half: Half::Low, seen: seen as u32 };
        // If the wait fails, the loop retries: it polls instead.
        let _ = shmem_slots::futex::wait_any(&[watch], None);
    }
}

fn tell(cell: &'static AtomicU64, value: u64) {
    cell.store(value, Ordering::Release);
    shmem_slots::futex::wake_all(cell);
}

/// The times of one request, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    /// From the request to the first instruction of the forked or woken process.
    pub(crate) from_order: f64,
    /// From the call of `fork`.
    pub(crate) from_fork: f64,
}

impl Bare {
    pub(crate) fn launch() -> Result<Self> {
        Self::launch_after(|| ())
    }

    /// As [`Bare::launch`]; the process begins with `prepare`.
    pub(crate) fn launch_after(prepare: impl FnOnce()) -> Result<Self> {
        for number in [ORDER, ANSWER, FIRST, FORKED] {
            cell(number).store(0, Ordering::Release);
        }
        let pid = sys::child(|| {
            prepare();
            let mut done = 0;
            loop {
                wait_while(cell(ORDER), done);
                done = cell(ORDER).load(Ordering::Acquire);
                cell(FORKED).store(now(), Ordering::Release);
                if done & FORK != 0 {
                    let forked = sys::child(|| cell(FIRST).store(now(), Ordering::Release));
                    if let Ok(child) = forked {
                        let _ = waitpid(child, None);
                    }
                } else {
                    cell(FIRST).store(now(), Ordering::Release);
                }
                tell(cell(ANSWER), done);
            }
        })?;
        Ok(Self { pid, orders: 0 })
    }

    pub(crate) fn pin(&self, core: Option<usize>) -> Result<()> {
        Ok(pin(self.pid.as_raw(), core)?)
    }

    fn order(&mut self, what: u64) -> Took {
        self.orders += 2;
        let order = self.orders | what;
        let begin = now();
        tell(cell(ORDER), order);
        loop {
            let answer = cell(ANSWER).load(Ordering::Acquire);
            if answer == order {
                break;
            }
            wait_while(cell(ANSWER), answer);
        }
        let first = cell(FIRST).load(Ordering::Acquire);
        let forked = cell(FORKED).load(Ordering::Acquire);
        Took { from_order: (first - begin) as f64, from_fork: (first - forked) as f64 }
    }

    /// Asks the sleeping process to fork a child that exits at once.
    pub(crate) fn fork(&mut self) -> Took {
        self.order(FORK)
    }

    /// Wakes a process that sleeps on a futex.
    pub(crate) fn wake(&mut self) -> Took {
        self.order(0)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        if kill(self.pid, Signal::SIGKILL).is_ok() {
            let _ = waitpid(self.pid, None);
        }
    }
}

//! The clock, the cores, and shared cells in which processes store timestamps.

use crate::sys::{self, Line};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

/// Nanoseconds of the monotonic clock, which all processes share.
pub(crate) fn now() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

static PAGE: OnceLock<Option<&'static [Line; 16]>> = OnceLock::new();

/// A cell that all processes of this program share, on a cache line of its own. The first call must
/// come before any fork. If the kernel refuses shared memory, the cell is private.
pub(crate) fn cell(number: usize) -> &'static AtomicU64 {
    static PRIVATE: AtomicU64 = AtomicU64::new(0);
    let page = PAGE.get_or_init(sys::shared_lines);
    page.and_then(|page| page.get(number)).map_or(&PRIVATE, |line| &line.0)
}

/// Where the processes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// The kernel decides.
    Free,
    /// All on core 0.
    SameCore,
    /// The postmaster and its workers (or the parent of the bare child) on core 1, the backend on
    /// core 0.
    TwoCores,
}

impl Placement {
    pub(crate) const ALL: [Self; 3] = [Self::Free, Self::SameCore, Self::TwoCores];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Free => "placed freely",
            Self::SameCore => "one core",
            Self::TwoCores => "two cores",
        }
    }

    /// The core of the backend and the core of the postmaster.
    pub(crate) const fn cores(self) -> (Option<usize>, Option<usize>) {
        match self {
            Self::Free => (None, None),
            Self::SameCore => (Some(0), Some(0)),
            Self::TwoCores => (Some(0), Some(1)),
        }
    }
}

/// Pins a process (0: this one) to a core, or unpins it. Children forked later inherit it.
pub(crate) fn pin(pid: i32, core: Option<usize>) -> nix::Result<()> {
    let mut cores = CpuSet::new();
    match core {
        Some(core) => cores.set(core)?,
        None => (0..CpuSet::count()).try_for_each(|core| cores.set(core))?,
    }
    sched_setaffinity(Pid::from_raw(pid), &cores)
}

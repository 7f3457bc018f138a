//! The jobs that this process has done, and when it has done enough.
//!
//! The count is the process's own: counting costs one addition, and no process shares its cache
//! line.

use std::sync::atomic::{AtomicU64, Ordering};

/// The jobs of one process.
#[derive(Debug)]
pub(crate) struct Jobs {
    done: AtomicU64,
    /// 0: not drawn yet; `u64::MAX`: there is no limit.
    limit: AtomicU64,
}

impl Jobs {
    pub(crate) const fn new() -> Self {
        Self { done: AtomicU64::new(0), limit: AtomicU64::new(0) }
    }

    /// Counts a job. True from the limit on, which is drawn by the first job.
    pub(crate) fn count(&self, draw: impl FnOnce(u32) -> Option<u64>) -> bool {
        let mut limit = self.limit.load(Ordering::Relaxed);
        if limit == 0 {
            limit = self.draw(draw);
        }
        self.done.fetch_add(1, Ordering::Relaxed).saturating_add(1) >= limit
    }

    /// Out of line: once in a life.
    #[cold]
    fn draw(&self, draw: impl FnOnce(u32) -> Option<u64>) -> u64 {
        let drawn = draw(random()).unwrap_or(u64::MAX).max(1);
        // Another thread may have been first: then its limit counts.
        let first = self.limit.compare_exchange(0, drawn, Ordering::Relaxed, Ordering::Relaxed);
        first.map_or_else(|other| other, |_| drawn)
    }

    /// The next worker of this process has done none.
    pub(crate) fn reset(&self) {
        self.done.store(0, Ordering::Relaxed);
        self.limit.store(0, Ordering::Relaxed);
    }
}

/// From the system, since inherited state is the same in all forked workers. If there is none, the
/// limit is that of the description.
fn random() -> u32 {
    let mut bytes = [0; 4];
    let got = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::NONBLOCK);
    if got == Ok(bytes.len()) { u32::from_ne_bytes(bytes) } else { 0 }
}

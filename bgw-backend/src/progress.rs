//! How far a shutdown is.

use crate::backend::{Backend, ConnectOptions};
use bgw_core::internals::{Left, Reply, Request};
use bgw_core::{AskError, Pid, WorkerHandle};
use std::time::{Duration, Instant};

/// A worker that a shutdown still waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StillThere {
    /// Its handle. [`Backend::workers`] knows its name.
    pub handle: WorkerHandle,
    /// Its process; `None` if it has ended, and only what it has started is left.
    pub pid: Option<Pid>,
    /// When it was told to end; `None` if it has not been told yet, because others must end first
    /// or the shutdown waits for attached programs.
    pub told: Option<Instant>,
    /// When it is killed; `None`: never.
    pub killed_at: Option<Instant>,
}

impl Backend {
    /// The workers that a shutdown under way still waits for: since when they have been told to
    /// end, and when they will be killed, to the millisecond. Empty if no shutdown is under way, or
    /// if all workers have ended.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let backend = bgw_backend::Backend::connect("/run/app")?;
    /// for left in backend.shutdown_progress()? {
    ///     let waits = left.told.map(|told| told.elapsed());
    ///     println!("{} is still there, told {waits:?} ago", left.handle);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AskError`], for instance because the postmaster has ended with its last worker.
    pub fn shutdown_progress(&self) -> Result<Vec<StillThere>, AskError> {
        let deadline = Instant::now().checked_add(ConnectOptions::default().timeout);
        let mut all: Vec<StillThere> = Vec::new();
        let mut from = 0;
        loop {
            let left = match self.attachment.ask(&Request::Left { from }, deadline)? {
                Reply::Left(left) => left,
                other => return Err(AskError::unexpected(&other)),
            };
            let now = Instant::now();
            // A postmaster that goes back would be asked for ever.
            let Some(next) = left.last().and_then(|last| last.worker.slot().checked_add(1)) else {
                return Ok(all);
            };
            all.extend(left.iter().map(|left| StillThere::of(left, now)));
            if next <= from {
                return Ok(all);
            }
            from = next;
        }
    }
}

impl StillThere {
    fn of(left: &Left, now: Instant) -> Self {
        let millis = |number: u64| (number != u64::MAX).then(|| Duration::from_millis(number));
        Self {
            handle: left.worker,
            pid: Pid::new(left.pid),
            told: millis(left.told_for).and_then(|ago| now.checked_sub(ago)),
            killed_at: millis(left.killed_in).and_then(|left| now.checked_add(left)),
        }
    }
}

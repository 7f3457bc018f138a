//! The loop: one thread, one epoll.
//!
//! It decides nothing: readiness becomes events (`ready.rs`), the rules turn those into actions, and
//! `perform.rs` carries them out. The work for an event is proportional to what changed: a child is
//! found by its slot, changed slots by their hints; no list of workers or slots is walked. A bounded
//! number of workers is forked before the loop handles other events again.

use super::poller::Ready;
use super::state::Server;
use crate::error::RunError;
use crate::fault;
use crate::rules::{Event, Stage};
use nix::sys::epoll::EpollTimeout;
use std::time::{Duration, Instant};

impl Server {
    /// The loop. Returns the exit code, in the postmaster only.
    pub(crate) fn serve(mut self) -> Result<u8, RunError> {
        let mut ready = Ready::new();
        loop {
            self.start_workers();
            self.refill_spares();
            self.replace_guardian();
            if let Stage::Over(code) = self.cluster.stage() {
                self.end(code);
                return Ok(code);
            }
            self.poller.wait(&mut ready, self.timeout()).map_err(RunError::system("epoll_wait"))?;
            for token in ready.tokens() {
                self.ready(token);
            }
            if self.cluster.next_deadline().is_some_and(|at| at <= Instant::now()) {
                self.step(Event::Tick);
            }
        }
    }

    /// How long the next wait may take: for ever, unless something is due.
    fn timeout(&self) -> EpollTimeout {
        if self.cluster.has_more_to_start() {
            return EpollTimeout::ZERO;
        }
        let due = [self.cluster.next_deadline(), self.spares.due(), self.guardian.due()];
        match due.into_iter().flatten().min() {
            None => EpollTimeout::NONE,
            Some(at) => {
                // Rounded up, so that the deadline has passed when the wait is over.
                let left =
                    at.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
                EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
            }
        }
    }

    fn end(&mut self, code: u8) {
        self.spares.end_all();
        fault::point("end:before_clear");
        if let Some(runtime_dir) = &self.runtime_dir {
            runtime_dir.clear();
        }
        fault::point("end:cleared");
        // Last of all: until here it would have ended what is left.
        self.guardian.end();
        tracing::info!(code, "postmaster {} ends", self.slot_table.postmaster());
    }
}

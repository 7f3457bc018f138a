//! The loop: one thread, one epoll.
//!
//! It decides nothing: readiness becomes events (`ready.rs`), the rules turn those into actions,
//! and `perform.rs` carries them out. The work for an event is proportional to what changed: a
//! child is found by its slot, changed slots by their hints; no list of workers or slots is walked
//! here. The kernel walks one: at each end it looks through the postmaster's children for what is
//! left of the worker's group (`children/groups.rs`).
//! A bounded number of workers is forked before the loop handles other events again.

use super::state::Server;
use crate::error::RunError;
use crate::fault;
use crate::rules::{Event, Stage};
use bgw_core::chain;
use nix::sys::epoll::EpollTimeout;
use std::time::{Duration, Instant};

impl Server {
    /// Serves until the cluster has ended, and returns the exit code, in the postmaster only. No
    /// process of the cluster is left, even after an error.
    pub(crate) fn serve(&mut self) -> Result<u8, RunError> {
        let over = self.run_loop();
        match &over {
            Ok(code) => self.end(*code),
            Err(error) => self.give_up(error),
        }
        over
    }

    fn run_loop(&mut self) -> Result<u8, RunError> {
        loop {
            self.start_workers();
            self.attend_left();
            self.refill_spares();
            self.replace_guardian();
            self.serve_outputs();
            self.close_gifts();
            self.serve_templates();
            if let Stage::Over(code) = self.cluster.stage() {
                return Ok(code);
            }
            self.open_takers();
            self.events.wake();
            let waited =
                fault::step("loop:before_wait").and_then(|()| self.poller.wait(self.timeout()));
            let count = waited.map_err(RunError::system("epoll_wait"))?;
            for at in 0..count {
                if let Some(token) = self.poller.ready(at) {
                    self.ready(token);
                }
            }
            if count > 0 {
                self.spares.put_off();
            } else {
                self.children.spent.unmap_due();
            }
            self.end_lives();
            if self.takers_due.is_some_and(|at| at <= Instant::now()) {
                self.look_at_takers();
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
        // In a shutdown, and in a reset, none is forked, however long one is due.
        let spare = self.spares.due().filter(|_| self.cluster.starts_workers());
        let due = [self.cluster.next_deadline(), spare, self.guardian.due(), self.outputs.due()];
        let templates = self.templates.due(self.cluster.starts_workers());
        let spent = self.children.spent.due();
        let due = due.into_iter().chain([self.closers.due(), templates, self.takers_due, spent]);
        match due.flatten().min() {
            None => EpollTimeout::NONE,
            Some(at) => {
                // Rounded up, so that the deadline has passed when the wait is over.
                let left =
                    at.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
                EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
            }
        }
    }

    /// Ends the whole cluster at once, without the loop: the program may live on.
    fn give_up(&mut self, error: &RunError) {
        tracing::error!("the postmaster cannot go on, and kills all workers: {}", chain(error));
        self.children.end_all(|deadline| self.poller.signal_arrives(deadline));
        self.leave();
    }

    fn end(&mut self, code: u8) {
        self.leave();
        tracing::info!(code, "postmaster {} ends", self.slot_table.postmaster());
    }

    /// All workers have ended.
    fn leave(&mut self) {
        self.end_templates();
        self.spares.end_all();
        let mut news = Vec::new();
        self.outputs.end(&mut |last| news.push(last));
        self.tell_of_outputs(news);
        self.slot_table.gifts.clear();
        self.close_gifts();
        self.closers.end_all();
        fault::point("end:before_clear");
        if let Some(runtime_dir) = &self.runtime_dir {
            runtime_dir.clear();
        }
        fault::point("end:cleared");
        // Last of all: until here it would have ended what is left.
        self.guardian.end();
    }
}

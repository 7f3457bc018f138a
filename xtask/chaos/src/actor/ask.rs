//! What an actor does that changes nothing: it asks, waits and looks.

use super::{Actor, HUNG};
use crate::actor::with_sources;
use crate::journal::{Kind, NOBODY};
use crate::seen::{self, Seen, by};
use bgw_backend::{
    AskError, AttachError, Backend, ConnectOptions, Handle, WaitError, WorkerStatus,
};
use rand::Rng;
use std::time::{Duration, Instant};

impl Actor {
    pub(super) fn ask_other(&mut self) {
        let back = self.random.random_range(0..64);
        let Some(id) = self.journal.recent(back) else { return };
        let Some(backend) = self.backend() else { return };
        let handle = backend.handle(id);
        let begin = self.journal.ticket();
        let (status, how) = if self.random.random_ratio(1, 2) {
            (Ok(handle.status()), 0)
        } else {
            (handle.wait_for_shutdown_timeout(Duration::from_millis(20)), by::WAIT)
        };
        match status {
            Ok(status) => {
                let [a, b] = Seen::of(&status).encode();
                self.journal.note(begin, self.who, Kind::Saw, id, [a, b, how]);
            }
            Err(WaitError::TimedOut) => {
                self.journal.note(begin, self.who, Kind::TimedOut, id, [0; 3]);
            }
            Err(WaitError::Interrupted) => {}
            Err(error) => self.broken_at(id, &format!("waiting failed: {error}")),
        }
    }

    /// Always ends: the postmaster starts the worker, or says that it does not.
    pub(super) fn wait_for_start(&mut self, place: usize) {
        let begin = self.journal.ticket();
        let until = Instant::now() + HUNG;
        loop {
            match self.own[place].handle.wait_for_startup_timeout(left(until)) {
                Ok(status) => return self.saw_own(begin, place, &status, by::WAIT),
                Err(WaitError::Interrupted) => {}
                Err(error) => {
                    return self.broken(place, &format!("waiting for its start failed: {error}"));
                }
            }
        }
    }

    pub(super) fn wait_shortly(&mut self, place: usize) {
        let timeout = Duration::from_micros(self.random.random_range(0..30_000));
        let begin = self.journal.ticket();
        match self.own[place].handle.wait_for_shutdown_timeout(timeout) {
            Ok(status) => self.saw_own(begin, place, &status, by::WAIT),
            Err(WaitError::TimedOut) => {
                let id = self.own[place].handle.id();
                self.journal.note(begin, self.who, Kind::TimedOut, id, [0; 3]);
            }
            Err(WaitError::Interrupted) => {}
            Err(error) => self.broken(place, &format!("waiting failed: {error}")),
        }
    }

    /// Of a worker that ends, by itself or since it was asked to: always ends.
    pub(super) fn wait_for_end(&mut self, place: usize) {
        loop {
            let begin = self.journal.ticket();
            match self.own[place].handle.wait_for_end_timeout(HUNG) {
                Ok(status) => {
                    return self.saw_own(begin, place, &status, by::WAIT | by::END);
                }
                Err(WaitError::Interrupted) => {}
                Err(error) => {
                    return self.broken(place, &format!("waiting for its end failed: {error}"));
                }
            }
        }
    }

    pub(super) fn wait_for_any(&mut self) {
        let handles: Vec<Handle> = self.own.iter().map(|own| own.handle.clone()).collect();
        let timeout = Duration::from_micros(self.random.random_range(0..20_000));
        let begin = self.journal.ticket();
        match bgw_backend::wait_any(&handles, Some(timeout)) {
            Ok((place, status)) => self.saw_own(begin, place, &status, by::WAIT),
            Err(WaitError::TimedOut | WaitError::Interrupted) => {}
            Err(error) => self.broken(0, &format!("waiting for any failed: {error}")),
        }
    }

    pub(super) fn view(&mut self) {
        let Some(backend) = self.backend() else { return };
        for info in backend.workers() {
            if info.worker.name() != "chaos" && info.worker.worker_type() != "pool worker" {
                self.broken_at(info.handle, "the list of workers has one that nobody registered");
            }
        }
        if let Err(error) = backend.ping() {
            self.broken_at(NOBODY, &format!("ping failed: {}", with_sources(&error)));
        }
    }

    /// Attaches read-only and looks.
    pub(super) fn observe(&mut self) {
        let options = ConnectOptions { read_only: true, ..ConnectOptions::default() };
        match Backend::connect_with(&self.folder, options) {
            Ok(observer) => {
                let _ = observer.workers();
                if let Some(own) = self.own.first()
                    && observer.handle(own.handle.id()).terminate().is_ok()
                {
                    self.broken(0, "an observer may terminate it");
                }
            }
            Err(AttachError::Ask(AskError::Refused { .. })) => {}
            Err(error) => self.broken_at(NOBODY, &format!("observing failed: {error}")),
        }
    }

    pub(super) fn saw_own(&mut self, begin: u64, place: usize, status: &WorkerStatus, how: u64) {
        if let Some(other) = seen::foreign_result(&self.own[place].handle, status) {
            self.broken(place, &format!("its result is {other:?}"));
        }
        let own = &mut self.own[place];
        let seen = Seen::of(status);
        let first = seen.is_final() && !own.seen_final;
        own.seen_final |= seen.is_final();
        let how = how | by::REGISTRANT | if first { by::FIRST } else { 0 };
        let [a, b] = seen.encode();
        self.journal.note(begin, self.who, Kind::Saw, own.handle.id(), [a, b, how]);
    }
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

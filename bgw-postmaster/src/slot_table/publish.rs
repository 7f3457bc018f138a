//! Makes starts and ends visible: report, then word, then waiters.
//!
//! A slot's word is replaced by a swap. A terminate request that was set in the meantime is in the word
//! that ours replaced, and is returned as an event.

use super::table::SlotTable;
use crate::fault;
use crate::rules::{Ending, Event};
use bgw_core::internals::{ReportRecord, flag};
use bgw_core::{ExitCause, ExitReport, NotStarted, Pid};
use shmem_slots::{Key, Snapshot};
use std::time::{Duration, SystemTime};

impl SlotTable {
    /// The worker runs.
    pub(crate) fn report_started(&mut self, key: Key, pid: Pid) -> Option<Event> {
        fault::point("report:before_word");
        self.cells.set_started_at(key.index, SystemTime::now());
        let before = self.publish(key, pid.get(), flag::STARTED);
        let mut request = terminate_request(key, before);
        // The child may have reported that it is ready before we published that it runs.
        if before.is_some_and(|before| before.flags() & flag::READY != 0) {
            let before = self.publish(key, pid.get(), flag::STARTED | flag::READY);
            request = request.or_else(|| terminate_request(key, before));
        }
        fault::point("report:after_word");
        request
    }

    /// The worker has not started after all.
    pub(crate) fn report_unstarted(&mut self, key: Key) -> Option<Event> {
        let before = self.publish(key, 0, 0);
        terminate_request(key, before)
    }

    /// The worker has ended and will be restarted.
    pub(crate) fn report_stopped(&mut self, key: Key, ending: &Ending) -> Option<Event> {
        self.write_report(key, ending, false);
        fault::point("exit:before_word");
        let before = self.publish(key, 0, flag::STOPPED);
        terminate_request(key, before)
    }

    /// The worker has ended for good. Its slot is freed when its group has ended.
    pub(crate) fn report_clearing(&mut self, key: Key, ending: &Ending) -> Option<Event> {
        self.write_report(key, ending, true);
        let before = self.publish(key, 0, flag::STOPPED);
        terminate_request(key, before)
    }

    /// The worker has ended for good. Its slot is free, unless its registrant `is_here` and has not said
    /// that it does not want to know how the worker ended: then the slot is kept until it has looked.
    pub(crate) fn unregister(&mut self, key: Key, ending: &Ending, is_here: impl Fn(Pid) -> bool) {
        self.write_report(key, ending, true);
        let registrant = self.registrants.take(key.index as usize);
        let keeper = registrant.filter(|&(of, pid)| of == key && is_here(pid));
        fault::point("free:before");
        if let Err(error) = self.slots.end(key, keeper.map_or(0, |(_, pid)| pid.get())) {
            self.log_corrupt(key.index, &error.to_string());
        }
        fault::point("free:after");
        self.cells.count_change();
    }

    /// Replaces a word and wakes the waiters. Returns the word before.
    fn publish(&mut self, key: Key, pid: u32, flags: u8) -> Option<Snapshot> {
        match self.slots.update(key, pid, flags) {
            Ok(before) => {
                self.cells.count_change();
                Some(before)
            }
            Err(error) => {
                self.log_corrupt(key.index, &error.to_string());
                None
            }
        }
    }

    fn write_report(&mut self, key: Key, ending: &Ending, unregistered: bool) {
        let process = ending.process;
        let report = ExitReport {
            cause: ending.cause,
            pid: process.map(|process| process.pid),
            restarts: ending.restarts,
            requested: ending.requested,
            unregistered,
            ended_at: SystemTime::now(),
            ran_for: process.map_or(Duration::ZERO, |process| process.ran_for),
            user_time: process.map_or(Duration::ZERO, |process| process.user_time),
            system_time: process.map_or(Duration::ZERO, |process| process.system_time),
            max_rss_kib: process.map_or(0, |process| process.max_rss_kib),
        };
        let report = self.last_report(key, ending).map_or(report, |last| ExitReport {
            requested: ending.requested,
            unregistered,
            ..last
        });
        fault::point("exit:before_report");
        if let Err(error) = self.slots.write_report(key, &ReportRecord::encode(&report)) {
            self.log_corrupt(key.index, &error.to_string());
        }
    }

    /// How the last process of a worker ended that goes off the list between two processes. That it
    /// will not run again says nothing about how it ran.
    fn last_report(&self, key: Key, ending: &Ending) -> Option<ExitReport> {
        let between_processes = matches!(
            ending.cause,
            ExitCause::NotStarted(NotStarted::Terminated | NotStarted::ShuttingDown)
        );
        let last = self.slots.read_report(key).ok().filter(|_| between_processes)?;
        last.decode().ok().filter(|last| last.pid.is_some())
    }
}

fn terminate_request(key: Key, before: Option<Snapshot>) -> Option<Event> {
    let requested = before.is_some_and(|before| before.flags() & flag::TERMINATE != 0);
    requested.then_some(Event::TerminateRequested(key))
}

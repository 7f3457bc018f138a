//! Makes starts and ends visible: report, then word, then event (`published`), then waiters.
//!
//! A slot's word is replaced by a swap. A terminate request that was set in the meantime is in the
//! word that ours replaced, and is returned as an event; likewise that the worker is ready.

use super::table::SlotTable;
use crate::fault;
use crate::rules::{Ending, Event, NotifyTarget, Registry};
use bgw_core::internals::{ReportRecord, flag};
use bgw_core::{ExitCause, ExitReport, NotStarted, Pid, Returned};
use shmem_slots::{Key, MAX_GENERATION, ManageError, Snapshot, Wake};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

impl SlotTable {
    /// The worker runs.
    pub(crate) fn report_started(
        &mut self,
        key: Key,
        pid: Pid,
        published: impl FnOnce(),
        events: &mut impl Extend<Event>,
    ) {
        if let Some(word) = self.slots.look(key).filter(|word| runs_in(*word, pid)) {
            // It has published that itself. What it has said since stays in the word.
            published();
            self.cells.ring_bells(key.index);
            return self.say(key, word, events);
        }
        fault::point("report:before_word");
        self.cells.set_started_at(self.berth(key.index), SystemTime::now());
        let before = self.publish(key, pid.get(), flag::STARTED, published);
        let mut terminate = is_requested(before);
        // The child may have reported that it is ready before we published that it runs.
        if before.is_some_and(|before| before.flags() & flag::READY != 0) {
            let before = self.publish(key, pid.get(), flag::STARTED | flag::READY, || {});
            terminate |= is_requested(before);
            events.extend([Event::Ready(key)]);
        }
        fault::point("report:after_word");
        events.extend(terminate.then_some(Event::TerminateRequested(key)));
    }

    /// The second process of the worker, `pid`, which may be `ready`, is the one that serves from
    /// now on. `Wake::Signal`: its latch is set, and it is to be woken from `ppoll`.
    #[inline(never)]
    pub(crate) fn hand_over(
        &mut self,
        key: Key,
        pid: Pid,
        ready: bool,
        published: impl FnOnce(),
        events: &mut impl Extend<Event>,
    ) -> Wake {
        self.berths.change_over(key.index);
        let berth = self.berth(key.index);
        fault::point("hand_over:before_berth");
        self.cells.set_berth(key.index, berth);
        fault::point("hand_over:before_word");
        let flags = flag::STARTED | if ready { flag::READY } else { 0 };
        let before = self.publish(key, pid.get(), flags, published);
        fault::point("hand_over:after_word");
        events.extend(is_requested(before).then_some(Event::TerminateRequested(key)));
        // What it has said before, and what was set for the run before.
        if let Some(word) = self.slots.look(key) {
            self.say(key, word, events);
        }
        self.cells.cluster().latch(berth).map_or(Wake::Done, |latch| latch.set())
    }

    /// The second process of the worker has ended: its report is there, and its slot goes on.
    #[inline(never)]
    pub(crate) fn report_beside(&mut self, key: Key, ending: &Ending) {
        if let Some(berth) = self.berth_beside(key.index) {
            self.write_report_of(key, berth, ending, false);
        }
    }

    /// When the second process of the worker was started.
    pub(crate) fn started_beside(&self, key: Key) {
        if let Some(berth) = self.berth_beside(key.index) {
            self.cells.set_started_at(berth, SystemTime::now());
        }
    }

    /// The worker has not started after all.
    pub(crate) fn report_unstarted(
        &mut self,
        key: Key,
        published: impl FnOnce(),
        events: &mut impl Extend<Event>,
    ) {
        let before = self.publish(key, 0, 0, published);
        events.extend(is_requested(before).then_some(Event::TerminateRequested(key)));
    }

    /// The worker has ended and will be restarted, or (`for_good`) its slot is freed when its group
    /// has ended.
    #[inline(never)]
    pub(crate) fn report_stopped(
        &mut self,
        key: Key,
        ending: &Ending,
        for_good: bool,
        published: impl FnOnce(),
        events: &mut impl Extend<Event>,
    ) {
        self.write_report(key, ending, for_good);
        if !for_good {
            fault::point("exit:before_word");
        }
        let before = self.publish(key, 0, flag::STOPPED, published);
        events.extend(is_requested(before).then_some(Event::TerminateRequested(key)));
    }

    /// The worker has ended for good. Its slot goes to whoever waits for one. Else it is free,
    /// unless its registrant is still here, as `resolve` knows, and has not said that it does not
    /// want to know how the worker ended: then the slot is kept until it has looked.
    pub(crate) fn unregister(
        &mut self,
        key: Key,
        ending: &Ending,
        registry: &Registry,
        resolve: impl Fn(Pid) -> Option<NotifyTarget>,
        published: impl FnOnce(),
    ) -> Option<Event> {
        self.write_report(key, ending, true);
        self.gifts.over(key);
        self.forget_job(key);
        let keeper = self.registrant(key);
        let keeper = keeper.filter(|who| resolve(who.pid).is_some_and(|target| who.is(target)));
        fault::point("free:before");
        let is_wanted = keeper.is_some_and(|who| who.is_job && self.is_kept(key));
        let keeper = keeper.map_or(0, |who| who.pid.get());
        if key.generation < MAX_GENERATION && !is_wanted && self.somebody_waits(key.index) {
            return self.hand_on(key, registry, resolve, published);
        }
        let freed = self.slots.end_then(key, keeper, published);
        fault::point("free:after");
        self.cells.count_change(key.index);
        match freed {
            Ok(_) => None,
            Err(error) => self.not_freed(key, &error, registry, resolve),
        }
    }

    /// True if its registrant still wants to know how the tenant of `key` ends. If that is a job,
    /// its slot goes to nobody before it is given back.
    fn is_kept(&self, key: Key) -> bool {
        self.slots.look(key).is_some_and(Snapshot::is_kept)
    }

    /// The slot of a worker that has ended goes to the first one that waits for one.
    #[inline(never)]
    fn hand_on(
        &mut self,
        key: Key,
        registry: &Registry,
        resolve: impl Fn(Pid) -> Option<NotifyTarget>,
        published: impl FnOnce(),
    ) -> Option<Event> {
        let slots = Arc::clone(&self.slots);
        let claim = slots.end_and_claim(key, self.postmaster.get(), published);
        fault::point("free:after");
        self.cells.count_change(key.index);
        match claim {
            Ok(claim) => self.serve(&slots, claim, resolve),
            Err(error) => self.not_freed(key, &error, registry, resolve),
        }
    }

    #[cold]
    #[inline(never)]
    fn not_freed(
        &mut self,
        key: Key,
        error: &ManageError,
        registry: &Registry,
        resolve: impl Fn(Pid) -> Option<NotifyTarget>,
    ) -> Option<Event> {
        self.log_corrupt(key.index, &error.to_string());
        self.serve_from_free(registry, resolve)
    }

    /// The worker has said that it is ready.
    pub(crate) fn ring_bells(&self, key: Key) {
        self.cells.ring_bells(key.index);
    }

    /// Replaces a word, calls `published`, and wakes the waiters. Returns the word before.
    fn publish(
        &mut self,
        key: Key,
        pid: u32,
        flags: u8,
        published: impl FnOnce(),
    ) -> Option<Snapshot> {
        match self.slots.update_then(key, pid, flags, published) {
            Ok(before) => {
                self.cells.count_change(key.index);
                Some(before)
            }
            Err(error) => {
                self.log_corrupt(key.index, &error.to_string());
                None
            }
        }
    }

    fn write_report(&mut self, key: Key, ending: &Ending, unregistered: bool) {
        self.write_report_of(key, self.berth(key.index), ending, unregistered);
    }

    fn write_report_of(&mut self, key: Key, berth: u32, ending: &Ending, unregistered: bool) {
        let process = ending.process;
        if process.is_some() {
            self.end_metrics(key.index, berth);
        }
        let report = ExitReport {
            cause: ending.cause,
            pid: process.map(|process| process.pid),
            restarts: ending.restarts,
            asked_by: ending.asked_by,
            killed: ending.killed,
            unregistered,
            reset: ending.reset.is_some(),
            streak: ending.streak,
            pause: ending.pause,
            given_up: ending.given_up,
            recycled: ending.recycled,
            ended_at: SystemTime::now(),
            ran_for: process.map_or(Duration::ZERO, |process| process.ran_for),
            user_time: process.map_or(Duration::ZERO, |process| process.user_time),
            system_time: process.map_or(Duration::ZERO, |process| process.system_time),
            max_rss_kib: process.map_or(0, |process| process.max_rss_kib),
            copied_kib: process.and_then(|process| process.copied_kib),
            returned: match process {
                Some(process) => self.cells.returned(berth, process.cause),
                None => self
                    .why_not_started
                    .take_if(|(of, _)| *of == key)
                    .map_or(Returned::NOTHING, |(_, why)| Returned::new(None, Some(why))),
            },
        };
        let report =
            if ran_before(ending.cause) { self.with_last_run(key, ending, report) } else { report };
        fault::point("exit:before_report");
        let (record, annex) = ReportRecord::encode(&report, self.cells.incarnation());
        let record = ending.reset.map_or(record, |culprit| self.with_reset(record, culprit));
        if let Err(error) = self.slots.write_report_with(key, &record, &annex) {
            self.log_corrupt(key.index, &error.to_string());
        }
    }

    /// The report of a worker that goes off the list between two processes says how the last one
    /// ended. That it will not run again says nothing about how it ran.
    #[cold]
    #[inline(never)]
    fn with_last_run(&self, key: Key, ending: &Ending, report: ExitReport) -> ExitReport {
        let last = self.slots.read_report_with(key, ReportRecord::annex_len).ok();
        let last = last.and_then(|(last, annex)| last.decode(&annex).ok());
        let Some(last) = last.filter(|last| last.pid.is_some()) else { return report };
        ExitReport {
            asked_by: ending.asked_by,
            unregistered: report.unregistered,
            reset: ending.reset.is_some(),
            pause: None,
            given_up: ending.given_up.or(last.given_up),
            ..last
        }
    }
}

/// True if a worker that ends like this may have run before.
const fn ran_before(cause: ExitCause) -> bool {
    matches!(
        cause,
        ExitCause::NotStarted(
            NotStarted::Terminated
                | NotStarted::ShuttingDown
                | NotStarted::ClusterReset
                | NotStarted::GroupGivenUp
        )
    )
}

/// True if the word says already that process `pid` runs.
fn runs_in(word: Snapshot, pid: Pid) -> bool {
    word.is_published_with(flag::STARTED) && word.pid() == pid.get()
}

fn is_requested(before: Option<Snapshot>) -> bool {
    before.is_some_and(|before| before.flags() & flag::TERMINATE != 0)
}

//! Short journals: one that is in order, and for each rule one that breaks it.

use super::{Violation, judge};
use crate::job::{Job, QUICK, Restart, UNTIL_TOLD, Way};
use crate::journal::{Deed, Event, Kind, NOBODY};
use crate::seen::{Cause, Report, Seen, Why, by};
use bgw_backend::WorkerHandle;

const HANDLE: WorkerHandle = WorkerHandle::new(1, 1, 5);
const DONE: Report =
    Report { cause: Cause::Exited(0), pid: 7, restarts: 0, requested: false, unregistered: true };

/// Events one after the other.
#[derive(Default)]
struct Story(Vec<Event>);

impl Story {
    fn of(job: Job) -> Self {
        Self::default().then(Kind::Registered, [job.encode(), 0, 0])
    }

    fn then(self, kind: Kind, about: [u64; 3]) -> Self {
        self.at(HANDLE, kind, about)
    }

    fn at(mut self, handle: WorkerHandle, kind: Kind, [a, b, c]: [u64; 3]) -> Self {
        let begin = self.0.len() as u64 * 2 + 1;
        self.0.push(Event { begin, end: begin + 1, at: 0, who: 0, kind, handle, a, b, c });
        self
    }

    fn saw(self, seen: Seen) -> Self {
        let [a, b] = seen.encode();
        self.then(Kind::Saw, [a, b, by::REGISTRANT])
    }

    fn ends(self, report: Report) -> Self {
        self.saw(Seen::Stopped(Some(report)))
    }

    fn began(self, pid: u64) -> Self {
        self.then(Kind::Began, [pid, 0, 0])
    }

    #[track_caller]
    fn holds(self) {
        assert_eq!(judge(&self.0, true).violations, []);
    }

    #[track_caller]
    fn breaks(self, what: &str) {
        let violations = judge(&self.0, true).violations;
        let right =
            matches!(&violations[..], [Violation { what: found, .. }] if found.contains(what));
        assert!(right, "expected {what:?}, found {violations:?}");
    }
}

#[test]
fn an_ordinary_life_holds() {
    let started = Seen::Started { pid: 7 };
    Story::of(QUICK).saw(Seen::NotYetStarted).began(7).saw(started).ends(DONE).ends(DONE).holds();
    let told = Report { requested: true, ..DONE };
    Story::of(UNTIL_TOLD).began(7).then(Kind::Terminated, [0; 3]).ends(told).holds();
    let killed = Report { cause: Cause::Signaled(9), ..DONE };
    Story::of(QUICK).began(7).then(Kind::Signalled, [7, 9, 0]).ends(killed).holds();
    let never =
        Report { cause: Cause::NotStarted(Why::Terminated), pid: 0, requested: true, ..DONE };
    Story::of(QUICK).then(Kind::Terminated, [0; 3]).ends(never).holds();
}

#[test]
fn a_restarted_worker_may_stop_and_start_and_keeps_its_reports() {
    let job = Job { way: Way::Fail, restart: Restart::AtOnce, ..QUICK };
    let failed = Report { cause: Cause::Exited(1), unregistered: false, ..DONE };
    let again = Report { pid: 8, restarts: 1, ..failed };
    let story = || Story::of(job).began(7).ends(failed).began(8).saw(Seen::Started { pid: 8 });
    story().ends(again).holds();
    story().ends(Report { cause: Cause::Exited(0), ..again }).breaks("cannot have ended so");
    story().ends(Report { pid: 9, ..failed }).breaks("two reports of one life");
}

#[test]
fn an_attempt_that_fails_is_followed_by_a_life_or_by_an_end() {
    let job = Job { way: Way::Fail, restart: Restart::AtOnce, template: true, ..QUICK };
    let without = Cause::NotStarted(Why::Template);
    let attempt = Report { cause: without, pid: 0, unregistered: false, ..DONE };
    let never =
        Report { cause: Cause::NotStarted(Why::Terminated), pid: 0, requested: true, ..DONE };
    let life = Report { cause: Cause::Exited(1), unregistered: false, ..DONE };
    let killed = [Deed::KilledTemplate as u64, 0, 0];
    let story = || Story::of(job).at(NOBODY, Kind::Did, killed).ends(attempt);
    let told = || story().then(Kind::Terminated, [0; 3]);
    told().ends(never).holds();
    story().began(7).ends(life).holds();
    told().ends(never).ends(Report { unregistered: true, ..attempt }).breaks("two reports");
}

#[test]
fn a_status_that_goes_back_is_found() {
    let started = Seen::Started { pid: 7 };
    Story::of(QUICK).began(7).saw(started).saw(Seen::NotYetStarted).breaks("was seen after");
    Story::of(QUICK).began(7).ends(DONE).saw(started).breaks("was seen after");
}

#[test]
fn a_second_life_is_found() {
    Story::of(QUICK).began(7).began(8).breaks("started 2 times");
    Story::of(QUICK).ends(DONE).began(7).breaks("began after its end");
    let job = Job { way: Way::Fail, restart: Restart::AtOnce, ..QUICK };
    let told = || Story::of(job).began(7).then(Kind::Terminated, [0; 3]).began(8);
    told().holds();
    told().began(9).breaks("after its end was requested");
}

#[test]
fn a_report_of_another_worker_is_found() {
    Story::of(QUICK).began(7).ends(Report { pid: 8, ..DONE }).breaks("process 8 was seen");
    let crashed = Report { cause: Cause::Signaled(11), ..DONE };
    Story::of(QUICK).began(7).ends(crashed).breaks("cannot have ended so");
    let told = Report { requested: true, ..DONE };
    Story::of(QUICK).began(7).ends(told).breaks("nobody has requested");
    Story::of(QUICK).ends(Report { pid: 0, ..DONE }).breaks("none where there was one");
}

#[test]
fn a_first_look_finds_a_report_unless_its_class_has_few_slots() {
    let first = by::REGISTRANT | by::FIRST;
    let [a, b] = Seen::Stopped(None).encode();
    let lost = |job| Story::of(job).began(7).then(Kind::Saw, [a, b, first]);
    lost(QUICK).breaks("finds no report");
    let next = WorkerHandle::new(1, 2, 7);
    let reset = lost(QUICK).at(next, Kind::Registered, [QUICK.encode(), 0, 0]);
    reset.breaks("finds no report");
    lost(Job { parallel: true, ..QUICK }).holds();
}

#[test]
fn a_reset_explains_an_end() {
    let next = WorkerHandle::new(1, 2, 7);
    let quit = Report { cause: Cause::Exited(2), requested: true, ..DONE };
    let story = Story::of(UNTIL_TOLD).began(7).ends(quit);
    story.at(next, Kind::Registered, [QUICK.encode(), 0, 0]).holds();
}

#[test]
fn a_reset_may_end_a_registration_of_the_incarnation_that_it_begins() {
    let overtaken = Report { cause: Cause::NotStarted(Why::Reset), pid: 0, ..DONE };
    Story::of(QUICK).ends(overtaken).breaks("cannot have ended so");
    let before = WorkerHandle::new(2, 1, 3);
    let story = Story::default().at(before, Kind::Registered, [QUICK.encode(), 0, 0]);
    story.then(Kind::Registered, [QUICK.encode(), 0, 0]).ends(overtaken).holds();
}

#[test]
fn an_end_for_good_that_was_none_is_found() {
    let job = Job { way: Way::Fail, restart: Restart::AtOnce, ..QUICK };
    let failed = Report { cause: Cause::Exited(1), unregistered: false, ..DONE };
    let [a, b] = Seen::Stopped(Some(failed)).encode();
    Story::of(job).began(7).then(Kind::Saw, [a, b, by::END]).breaks("a wait for its end for good");
}

#[test]
fn a_wait_that_missed_the_end_is_found() {
    Story::of(QUICK).began(7).then(Kind::TimedOut, [0; 3]).ends(DONE).holds();
    Story::of(QUICK).began(7).ends(DONE).then(Kind::TimedOut, [0; 3]).breaks("a wait timed out");
}

#[test]
fn a_generation_that_comes_again_is_found() {
    let job = [QUICK.encode(), 0, 0];
    let again = WorkerHandle::new(1, 1, 7);
    Story::of(QUICK).at(again, Kind::Registered, job).breaks("used again");
    let lower = WorkerHandle::new(1, 0, 5);
    Story::of(QUICK).at(lower, Kind::Registered, job).breaks("used again");
    let next = WorkerHandle::new(1, 2, 5);
    Story::of(QUICK).at(next, Kind::Registered, job).holds();
}

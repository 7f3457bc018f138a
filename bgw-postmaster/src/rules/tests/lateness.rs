//! Workers that are to be ready in time.

use super::super::action::Action;
use super::super::ending::{Ending, Exit};
use super::super::event::Event;
use super::super::stop_level::StopLevel;
use super::super::terminate::BOUNDED_GRACE;
use super::{TestCluster, key, pid, process_end, seconds};
use bgw_core::{
    AskedBy, BackgroundWorker, BackgroundWorkerBuilder, ExitCause, GivenUp, Grace, Ready,
    RestartOn, RestartPolicy, ShutdownMode, WorkerFlags,
};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(30);
const EXIT_0: ExitCause = ExitCause::Exited(0);
const KILLED: ExitCause = ExitCause::Signaled { signal: 9, core_dumped: false };

fn declared() -> BackgroundWorkerBuilder {
    let worker = BackgroundWorker::builder("w").function("f").ready(Ready::Call);
    worker.start_timeout(TIMEOUT).restart(RestartPolicy::after_secs(5))
}

fn starting(worker: BackgroundWorkerBuilder) -> TestCluster {
    let mut cluster = TestCluster::new();
    cluster.register(0, Box::new(worker.build().unwrap()));
    cluster.starts(0);
    cluster
}

impl TestCluster {
    /// The time of its start is over, and the server has found this.
    fn looks(&mut self, until: Option<Duration>) -> Vec<Action> {
        let until = until.map(|more| self.now + more);
        self.step(Event::StillStarts { key: key(0), until })
    }

    fn is_late(&mut self) {
        assert_eq!(self.later(TIMEOUT), [Action::LookAtStart(key(0))]);
        assert_eq!(self.looks(None), [Action::Stop(key(0), StopLevel::Terminate)]);
    }

    fn ends(&mut self, cause: ExitCause) -> Ending {
        let actions = self.exits(0, cause);
        match actions.first() {
            Some(Action::ReportStopped(_, ending) | Action::Unregister(_, ending)) => *ending,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_late_worker_is_stopped_and_its_start_has_timed_out_however_it_exits() {
    let ends = [EXIT_0, ExitCause::Exited(7), KILLED];
    for cause in ends {
        for on in [RestartOn::OnFailure, RestartOn::OnAbnormal, RestartOn::Always] {
            let mut cluster = starting(declared().restart_on(on).final_codes([7]));
            assert_eq!(cluster.later(TIMEOUT - Duration::from_millis(1)), [], "not early");
            cluster.later(Duration::from_millis(1));
            assert_eq!(cluster.looks(None), [Action::Stop(key(0), StopLevel::Terminate)]);
            let ending = cluster.ends(cause);
            assert_eq!(ending.cause, ExitCause::StartTimedOut, "{cause}, {on:?}");
            assert_eq!((ending.asked_by, ending.streak), (None, 1));
            assert_eq!(ending.pause, Some(seconds(5)));
            assert_eq!(cluster.state.next_deadline(), Some(cluster.now + seconds(5)));
        }
    }
    let mut cluster = starting(declared().restart(RestartPolicy::Never));
    cluster.is_late();
    assert_eq!(cluster.ends(EXIT_0).cause, ExitCause::StartTimedOut);
    assert!(cluster.is_empty());
}

#[test]
fn a_worker_that_is_ready_or_told_or_ended_has_no_start_clock() {
    let mut ready = starting(declared());
    assert_eq!(ready.step(Event::Ready(key(0))), []);
    assert_eq!(ready.state.next_deadline(), None);
    // Also when the server finds out only at the last look.
    let mut ready = starting(declared());
    ready.later(TIMEOUT);
    ready.step(Event::Ready(key(0)));
    assert_eq!(ready.looks(None), []);
    let mut told = starting(declared());
    told.step(Event::TerminateRequested(key(0)));
    assert_eq!(told.state.next_deadline(), None);
    assert_eq!(told.ends(EXIT_0).asked_by, Some(AskedBy::Terminate));
    let mut ended = starting(declared().restart(RestartPolicy::Never));
    ended.ends(EXIT_0);
    assert_eq!(ended.state.next_deadline(), None);
    let mut lost = starting(declared());
    lost.step(Event::StartLost { key: key(0), pid: pid(0) });
    assert_eq!(lost.state.next_deadline(), None);
    let undeclared = starting(BackgroundWorker::builder("w").function("f"));
    assert_eq!(undeclared.state.next_deadline(), None);
}

#[test]
fn a_start_is_extended_up_to_ten_times_its_timeout() {
    let mut cluster = starting(declared());
    let begin = cluster.now;
    cluster.later(TIMEOUT);
    assert_eq!(cluster.looks(Some(seconds(10))), []);
    assert_eq!(cluster.state.next_deadline(), Some(cluster.now + seconds(10)));
    assert_eq!(cluster.later(seconds(10)), [Action::LookAtStart(key(0))]);
    assert_eq!(cluster.looks(Some(seconds(86_400))), []);
    assert_eq!(cluster.state.next_deadline(), Some(begin + 10 * TIMEOUT));
    cluster.later(10 * TIMEOUT);
    let stop = [Action::Stop(key(0), StopLevel::Terminate)];
    assert_eq!(cluster.looks(Some(seconds(86_400))), stop, "no more");
    // What is asked for early shortens nothing.
    let mut cluster = starting(declared());
    assert_eq!(cluster.looks(Some(seconds(1))), []);
    assert_eq!(cluster.state.next_deadline(), Some(cluster.now + TIMEOUT));
}

#[test]
fn a_late_worker_has_its_grace_and_one_of_for_ever_is_bounded() {
    for (grace, expected) in
        [(Grace::After(seconds(3)), seconds(3)), (Grace::Forever, BOUNDED_GRACE)]
    {
        let mut cluster = starting(declared().grace(grace));
        cluster.is_late();
        assert_eq!(cluster.state.next_deadline(), Some(cluster.now + expected));
        assert_eq!(cluster.later(expected), [Action::Stop(key(0), StopLevel::Kill)]);
    }
}

#[test]
fn a_late_worker_that_says_ready_is_late_all_the_same() {
    let mut cluster = starting(declared().start_attempts(1));
    cluster.is_late();
    cluster.step(Event::Ready(key(0)));
    let ending = cluster.ends(EXIT_0);
    assert_eq!(ending.cause, ExitCause::StartTimedOut);
    assert_eq!(ending.given_up, Some(GivenUp::StartAttempts { count: 1 }));
    // The next run of another worker has a clock of its own.
    let mut cluster = starting(declared());
    cluster.is_late();
    cluster.ends(EXIT_0);
    cluster.later(seconds(5));
    cluster.starts(0);
    assert_eq!(cluster.state.next_deadline(), Some(cluster.now + TIMEOUT));
    assert_eq!(cluster.ends(EXIT_0).cause, EXIT_0);
}

#[test]
fn a_request_while_a_late_worker_stops_ends_its_registration() {
    let mut cluster = starting(declared());
    cluster.is_late();
    assert_eq!(cluster.step(Event::TerminateRequested(key(0))), [], "it was told");
    let ending = cluster.ends(EXIT_0);
    assert_eq!(ending.cause, ExitCause::StartTimedOut);
    assert_eq!(ending.asked_by, Some(AskedBy::Terminate));
    assert!(cluster.is_empty());
    let mut cluster = starting(declared());
    cluster.is_late();
    cluster.step(Event::ShutdownRequested(ShutdownMode::Fast));
    assert_eq!(cluster.ends(EXIT_0).cause, ExitCause::StartTimedOut);
    assert!(cluster.is_empty());
}

/// Would fail if the SIGKILL that a late start has earned counted as one that was asked for.
#[test]
fn a_late_worker_with_shared_state_that_must_be_killed_resets_the_cluster() {
    let shared = || declared().flags(WorkerFlags::SHMEM_ACCESS);
    let stopped = ExitCause::Signaled { signal: 15, core_dumped: false };
    for (kill, cause, dirty, resets) in [
        (true, KILLED, true, true),
        (false, EXIT_0, false, false),
        (false, stopped, true, false),
        (false, EXIT_0, true, true),
    ] {
        let mut cluster = starting(shared().grace(Grace::After(seconds(3))));
        cluster.is_late();
        if kill {
            cluster.later(seconds(3));
        }
        let exit = Exit { end: process_end(0, cause), dirty, group_left: false, random: 0 };
        let actions = cluster.step(Event::ChildExited { key: key(0), exit });
        let reset = actions.iter().any(|action| {
            matches!(action, Action::ResetSlots(culprit)
            if culprit.cause == ExitCause::StartTimedOut)
        });
        assert_eq!(reset, resets, "{cause}, dirty: {dirty}: {actions:?}");
    }
}

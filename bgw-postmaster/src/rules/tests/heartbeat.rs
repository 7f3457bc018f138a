//! Workers that are to beat.

use super::super::action::Action;
use super::super::ending::{Ending, Exit};
use super::super::event::Event;
use super::super::pulse::{Beats, Look};
use super::super::stop_level::StopLevel;
use super::{TestCluster, key, pid, process_end, seconds};
use bgw_core::{
    BackgroundWorker, BackgroundWorkerBuilder, ExitCause, Ready, RestartOn, RestartPolicy,
    ShutdownMode, WorkerFlags,
};
use shmem_slots::Key;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(500);
const ABORT: [Action; 1] = [Action::Stop(Key { index: 0, generation: 1 }, StopLevel::Abort)];
const ABORTED: ExitCause = ExitCause::Signaled { signal: 6, core_dumped: false };

fn beating() -> BackgroundWorkerBuilder {
    let worker = BackgroundWorker::builder("w").function("f").heartbeat(EVERY);
    worker.restart(RestartPolicy::after_secs(5))
}

fn running(worker: BackgroundWorkerBuilder) -> TestCluster {
    let mut cluster = TestCluster::new();
    cluster.register(0, Box::new(worker.build().unwrap()));
    cluster.starts(0);
    cluster
}

impl TestCluster {
    /// A tick, and the answers of a server that reads `count` and `traced` of all.
    fn looks_at(&mut self, count: u64, traced: bool) -> Vec<Action> {
        let mut actions = self.step(Event::Tick);
        while let Some(Action::ReadBeats { keys, look }) = actions.first().cloned() {
            let beats = keys.into_iter().map(|key| Beats { key, count, traced }).collect();
            actions = self.step(Event::BeatsRead { look, beats });
        }
        actions
    }

    /// When a worker is aborted that beats at `beat(0)`, `beat(1)`, … after now; `None`: not within
    /// five minutes.
    fn aborts_at(&mut self, traced: bool, beat: impl Fn(u64) -> Duration) -> Option<Duration> {
        let begin = self.now;
        let mut count = 0;
        while self.now < begin + seconds(300) {
            while begin + beat(count) <= self.now {
                count += 1;
            }
            if self.state.next_deadline().is_some_and(|due| due <= self.now) {
                match self.looks_at(count, traced) {
                    actions if actions == ABORT => return Some(self.now - begin),
                    actions => assert_eq!(actions, []),
                }
            }
            self.now += STEP;
        }
        None
    }

    fn is_silent(&mut self) {
        assert!(self.aborts_at(false, |_| Duration::MAX / 4).is_some());
    }

    fn ends_with(&mut self, cause: ExitCause) -> Ending {
        let actions = self.exits(0, cause);
        match actions.first() {
            Some(Action::ReportStopped(_, ending) | Action::Unregister(_, ending)) => *ending,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn who_beats_once_per_interval_is_never_silent() {
    for phase in 0..20 {
        let mut cluster = running(beating());
        let first = STEP * phase;
        let beat = |n| first + EVERY * u32::try_from(n).unwrap();
        assert_eq!(cluster.aborts_at(false, beat), None, "first beat after {first:?}");
    }
}

#[test]
fn who_stops_is_aborted_within_one_and_a_half_intervals_and_not_within_one() {
    // It beats until then, ten times an interval.
    for beats in 0..40u64 {
        let mut cluster = running(beating());
        let last = seconds(beats.saturating_sub(1));
        let beat = |n| if n < beats { seconds(n) } else { Duration::MAX / 4 };
        let at = cluster.aborts_at(false, beat).unwrap();
        assert!(at >= last + EVERY, "{beats} beats, aborted after {at:?}");
        assert!(at <= last + EVERY * 3 / 2, "{beats} beats, aborted after {at:?}");
    }
}

/// Would fail if a worker that joins others were looked at in their rhythm too early.
#[test]
fn a_worker_that_joins_others_has_its_own_time() {
    for later in 1..20 {
        let mut cluster = running(beating());
        cluster.now += STEP * later;
        cluster.register(1, Box::new(beating().build().unwrap()));
        cluster.starts(1);
        let begin = cluster.now;
        let mut aborted = None;
        for count in 1.. {
            cluster.now = cluster.state.next_deadline().unwrap();
            let Some(Action::ReadBeats { keys, look }) = cluster.step(Event::Tick).pop() else {
                panic!("no look")
            };
            // The first one beats.
            let beats = |keys: Vec<_>| {
                let count = |at| if at == key(0) { count } else { 0 };
                keys.into_iter().map(move |at| Beats { key: at, count: count(at), traced: false })
            };
            let beats_read = Event::BeatsRead { look, beats: beats(keys).collect() };
            let mut actions = cluster.step(beats_read);
            if let Some(Action::ReadBeats { keys, look }) = actions.pop() {
                assert_eq!((keys.as_slice(), look), ([key(1)].as_slice(), Look::Last));
                let last = Event::BeatsRead { look, beats: beats(keys).collect() };
                assert_eq!(cluster.step(last), [Action::Stop(key(1), StopLevel::Abort)]);
                aborted = Some(cluster.now - begin);
                break;
            }
        }
        let aborted = aborted.unwrap();
        assert!(aborted >= EVERY && aborted <= EVERY * 3 / 2, "{aborted:?}");
    }
}

#[test]
fn without_a_heartbeat_there_is_no_deadline_and_ten_thousand_that_beat_have_one() {
    let plain = running(BackgroundWorker::builder("w").function("f"));
    assert_eq!(plain.state.next_deadline(), None);
    let mut cluster = TestCluster::new();
    for index in 0..10_000 {
        cluster.register(index, Box::new(beating().build().unwrap()));
        cluster.starts(index);
        cluster.now += Duration::from_micros(1);
    }
    assert_eq!(cluster.state.timers.len(), 1);
    cluster.now += EVERY / 2;
    assert_eq!(cluster.looks_at(1, false), []);
    assert_eq!(cluster.state.timers.len(), 1);
    for index in 0..10_000 {
        cluster.step(Event::TerminateRequested(key(index)));
    }
    assert_eq!(cluster.state.timers.len(), 0);
}

/// Would fail if a look that comes late counted, or the one after it.
#[test]
fn a_postmaster_that_was_stopped_for_an_hour_takes_nobody_for_silent() {
    let mut cluster = running(beating());
    cluster.now += EVERY / 2;
    assert_eq!(cluster.looks_at(0, false), [], "missed once");
    cluster.now += seconds(3600);
    assert_eq!(cluster.looks_at(0, false), [], "late");
    cluster.now += EVERY / 2;
    assert_eq!(cluster.looks_at(0, false), [], "missed once");
    cluster.now += EVERY / 2;
    assert_eq!(cluster.looks_at(0, false), ABORT);
    // One that is late by less than half an interval counts.
    let mut cluster = running(beating());
    for expected in [Vec::new(), ABORT.to_vec()] {
        cluster.now += EVERY - Duration::from_millis(1);
        assert_eq!(cluster.looks_at(0, false), expected);
    }
}

#[test]
fn a_traced_worker_is_spared_until_it_is_traced_no_more() {
    let mut cluster = running(beating());
    assert_eq!(cluster.aborts_at(true, |_| Duration::MAX / 4), None);
    assert!(cluster.aborts_at(false, |_| Duration::MAX / 4).unwrap() <= EVERY * 3 / 2);
}

#[test]
fn a_silent_worker_is_hung_whatever_it_does_then_and_later_beats_save_nobody() {
    for on in [RestartOn::OnFailure, RestartOn::OnAbnormal, RestartOn::Always] {
        for cause in [ABORTED, ExitCause::Exited(0), ExitCause::Exited(7)] {
            let mut cluster = running(beating().restart_on(on).final_codes([7]));
            cluster.is_silent();
            let beats = vec![Beats { key: key(0), count: 99, traced: true }];
            for look in [Look::Regular { late: false }, Look::Last] {
                assert_eq!(cluster.step(Event::BeatsRead { look, beats: beats.clone() }), []);
            }
            let ending = cluster.ends_with(cause);
            let ExitCause::Hung { silent_for } = ending.cause else { panic!("{ending:?}") };
            assert!(silent_for >= EVERY && silent_for <= EVERY * 3 / 2, "{silent_for:?}");
            assert_eq!((ending.asked_by, ending.pause), (None, Some(seconds(5))));
        }
    }
}

#[test]
fn who_ignores_sigabrt_is_killed_after_its_abort_grace() {
    let mut cluster = running(beating().abort_grace(seconds(2)));
    cluster.is_silent();
    assert_eq!(cluster.state.next_deadline(), Some(cluster.now + seconds(2)));
    // A request in between changes nothing.
    assert_eq!(cluster.step(Event::TerminateRequested(key(0))), []);
    assert_eq!(cluster.later(seconds(2)), [Action::Stop(key(0), StopLevel::Kill)]);
    let killed = ExitCause::Signaled { signal: 9, core_dumped: false };
    let ending = cluster.ends_with(killed);
    assert!(ending.killed && matches!(ending.cause, ExitCause::Hung { .. }), "{ending:?}");
}

#[test]
fn nobody_looks_at_a_worker_that_is_told_to_end_or_starts() {
    let told: [Event; 2] =
        [Event::TerminateRequested(key(0)), Event::ShutdownRequested(ShutdownMode::Fast)];
    for event in told {
        let mut cluster = running(beating());
        cluster.step(event.clone());
        assert_eq!(cluster.aborts_at(false, |_| Duration::MAX / 4), None, "{event:?}");
    }
    let mut declared = running(beating().ready(Ready::Call));
    // While it starts, a look asks only whether it is ready.
    declared.now = declared.state.next_deadline().unwrap();
    assert_eq!(declared.step(Event::Tick), [Action::LookAtStart(key(0))]);
    assert_eq!(declared.step(Event::StillStarts { key: key(0), until: None }), []);
    let first = Action::ReadBeats { keys: vec![key(0)], look: Look::First };
    assert_eq!(declared.step(Event::Ready(key(0))), [first]);
    // What it had beaten before it was ready counts for nothing later.
    let beats = vec![Beats { key: key(0), count: 7, traced: false }];
    declared.step(Event::BeatsRead { look: Look::First, beats });
    let begin = declared.now;
    let mut at: Option<Instant> = None;
    while at.is_none() {
        declared.now = declared.state.next_deadline().unwrap();
        at = (declared.looks_at(7, false) == ABORT).then_some(declared.now);
    }
    let at = at.unwrap();
    assert!(at >= begin + EVERY && at <= begin + EVERY * 3 / 2, "{:?}", at - begin);
    // The next run is watched anew.
    declared.ends_with(ABORTED);
    declared.later(seconds(5));
    declared.starts(0);
    declared.now = declared.state.next_deadline().unwrap();
    assert_eq!(declared.step(Event::Tick), [Action::LookAtStart(key(0))]);
    // Nobody looks at one that is told to end.
    declared.step(Event::TerminateRequested(key(0)));
    assert_eq!(declared.state.next_deadline(), None);
}

#[test]
fn a_silent_worker_with_shared_state_resets_the_cluster() {
    let mut cluster = running(beating().flags(WorkerFlags::SHMEM_ACCESS));
    cluster.is_silent();
    let exit = Exit { end: process_end(0, ABORTED), dirty: true, group_left: false, random: 0 };
    let actions = cluster.step(Event::ChildExited { key: key(0), exit });
    let hung = |action: &Action| match action {
        Action::ResetSlots(culprit) => {
            culprit.pid == pid(0) && matches!(culprit.cause, ExitCause::Hung { .. })
        }
        _ => false,
    };
    assert!(actions.iter().any(hung), "{actions:?}");
}

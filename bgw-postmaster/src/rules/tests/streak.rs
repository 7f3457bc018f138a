//! Pauses and limits.

use super::super::action::{Action, News};
use super::super::ending::{Ending, Exit, ProcessEnd};
use super::super::event::Event;
use super::super::registry::NotifyTarget;
use super::super::start::FORK_RETRY;
use super::{TestCluster, ended, key, pid, process_end, seconds};
use bgw_core::{
    BackgroundWorker, BackgroundWorkerBuilder, ExitCause, GivenUp, NotStarted, Ready, RestartOn,
    RestartPolicy,
};
use std::time::Duration;

const EXIT_0: ExitCause = ExitCause::Exited(0);
const EXIT_1: ExitCause = ExitCause::Exited(1);
const AT_ONCE: RestartPolicy = RestartPolicy::Fixed(Duration::ZERO);

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn worker(restart: RestartPolicy) -> BackgroundWorkerBuilder {
    BackgroundWorker::builder("w").function("f").restart(restart)
}

fn backoff() -> BackgroundWorkerBuilder {
    worker(RestartPolicy::backoff(millis(100), seconds(30))).jitter(0.0)
}

impl TestCluster {
    fn registered(&mut self, worker: BackgroundWorkerBuilder) {
        self.register(0, Box::new(worker.build().unwrap()));
        self.starts(0);
    }

    fn ending(&self, actions: &[Action]) -> Ending {
        match actions.first() {
            Some(Action::ReportStopped(_, ending) | Action::Unregister(_, ending)) => *ending,
            other => panic!("{other:?}"),
        }
    }

    /// Worker 0 fails after a run of this length: the pause that follows. It runs again then.
    fn fails_after(&mut self, ran_for: Duration) -> Duration {
        self.now += ran_for;
        let actions = self.exits_after(0, EXIT_1, ran_for);
        self.pauses(&actions)
    }

    /// The pause of worker 0, which runs again after it and not before.
    fn pauses(&mut self, actions: &[Action]) -> Duration {
        let ending = self.ending(actions);
        let pause = ending.pause.unwrap();
        if !pause.is_zero() {
            assert_eq!(self.state.next_deadline(), Some(self.now + pause));
            self.later(pause - millis(1));
            assert_eq!(self.state.next_to_start(), None, "not early");
            self.later(millis(1));
        }
        self.starts(0);
        pause
    }

    fn streak(&self) -> u32 {
        self.state.registry().get(key(0)).unwrap().streak.failures
    }
}

#[test]
fn the_pauses_are_those_of_the_schedule() {
    let policies = [
        worker(AT_ONCE),
        worker(AT_ONCE).unbraked(),
        worker(RestartPolicy::Fixed(millis(200))),
        worker(RestartPolicy::after_secs(2)),
        backoff(),
        worker(RestartPolicy::Backoff { min: millis(3), max: seconds(2), factor: 1.7 }).jitter(0.0),
    ];
    for policy in policies {
        let mut cluster = TestCluster::new();
        let expected: Vec<_> = policy.clone().build().unwrap().schedule().take(30).collect();
        cluster.registered(policy);
        let found: Vec<_> = (0..30).map(|_| cluster.fails_after(Duration::ZERO)).collect();
        assert_eq!(found, expected);
        assert_eq!(cluster.streak(), 30);
    }
}

#[test]
fn a_worker_that_fails_at_once_is_restarted_five_times_at_once_and_14_times_in_a_minute() {
    let mut cluster = TestCluster::new();
    let begin = cluster.now;
    cluster.registered(worker(AT_ONCE));
    let mut restarts = Vec::new();
    while cluster.now - begin <= seconds(60) {
        cluster.fails_after(Duration::ZERO);
        restarts.push(cluster.now - begin);
    }
    assert!(restarts[..5].iter().all(Duration::is_zero), "{restarts:?}");
    let in_a_minute = restarts.iter().filter(|&&at| at <= seconds(60)).count();
    assert_eq!(in_a_minute, 14, "{restarts:?}");
    // And unbraked at once each time.
    let mut cluster = TestCluster::new();
    cluster.registered(worker(AT_ONCE).unbraked());
    assert!((0..1_000).all(|_| cluster.fails_after(Duration::ZERO).is_zero()));
}

#[test]
fn a_missing_program_has_the_same_pauses_and_its_report_says_so() {
    let cause = ExitCause::NotStarted(NotStarted::ExecFailed { errno: libc::ENOENT });
    let mut cluster = TestCluster::new();
    cluster.registered(worker(AT_ONCE));
    let schedule = AT_ONCE.schedule().take(14);
    for expected in schedule {
        let actions = cluster.exits_after(0, cause, Duration::ZERO);
        let ending = cluster.ending(&actions);
        assert_eq!((ending.cause, ending.process), (cause, None));
        assert_eq!(cluster.pauses(&actions), expected);
    }
}

#[test]
fn a_good_run_makes_the_next_pause_the_first_one_and_a_millisecond_less_does_not() {
    let policies = [
        (backoff(), seconds(30)),
        (backoff().reset_after(millis(1)), millis(1)),
        (backoff().reset_after(seconds(86_400)), seconds(86_400)),
        (worker(AT_ONCE), seconds(1)),
        (worker(RestartPolicy::backoff(millis(1), millis(8))).jitter(0.0), seconds(1)),
    ];
    for (policy, good) in policies {
        let built = policy.clone().build().unwrap();
        assert_eq!(built.reset_after(), Some(good));
        let mut cluster = TestCluster::new();
        cluster.registered(policy);
        for _ in 0..8 {
            cluster.fails_after(Duration::ZERO);
        }
        assert_eq!(Some(cluster.fails_after(good - millis(1))), built.delay(9));
        assert_eq!(cluster.streak(), 9);
        assert_eq!(Some(cluster.fails_after(good)), built.delay(1));
        assert_eq!(cluster.streak(), 1);
        assert_eq!(Some(cluster.fails_after(Duration::ZERO)), built.delay(2));
    }
}

#[test]
fn time_before_a_declared_readiness_makes_no_good_run() {
    let mut cluster = TestCluster::new();
    cluster.registered(backoff().ready(Ready::Call));
    cluster.fails_after(seconds(100));
    cluster.fails_after(seconds(100));
    assert_eq!(cluster.streak(), 2, "it was never ready");
    let ready_for = |cluster: &mut TestCluster, before: Duration, time: Duration| {
        cluster.now += before;
        cluster.step(Event::Ready(key(0)));
        cluster.now += time;
        // Once is enough: the first one counts.
        cluster.step(Event::Ready(key(0)));
        let actions = cluster.exits_after(0, EXIT_1, before + time);
        cluster.pauses(&actions);
        cluster.streak()
    };
    assert_eq!(ready_for(&mut cluster, seconds(100), seconds(30) - millis(1)), 3);
    assert_eq!(ready_for(&mut cluster, seconds(100), seconds(30)), 1);
    cluster.fails_after(seconds(100));
    assert_eq!(cluster.streak(), 2, "the readiness of an earlier run does not count");
    // Undeclared, what it says changes nothing.
    let mut cluster = TestCluster::new();
    cluster.registered(backoff());
    assert_eq!(ready_for(&mut cluster, seconds(29), millis(1)), 1);
    assert_eq!(ready_for(&mut cluster, seconds(29), seconds(1)), 1);
}

#[test]
fn one_failure_more_than_granted_within_the_time_gives_up() {
    let limit = GivenUp::Restarts { count: 3, within: seconds(10) };
    let limited = || worker(RestartPolicy::after_secs(1)).give_up(3, seconds(10));
    let mut cluster = TestCluster::new();
    cluster.registered(limited());
    let mut actions = Vec::new();
    for failure in 1..=4 {
        actions = cluster.exits_after(0, EXIT_1, Duration::ZERO);
        if failure <= 3 {
            assert_eq!(cluster.ending(&actions).given_up, None);
            cluster.pauses(&actions);
        }
    }
    let last = Ending { streak: 4, given_up: Some(limit), ..ended(0, EXIT_1, 3, None) };
    let process = ProcessEnd { ran_for: Duration::ZERO, ..process_end(0, EXIT_1) };
    assert_eq!(
        actions,
        [
            Action::Unregister(key(0), Ending { process: Some(process), ..last }),
            Action::Notify(NotifyTarget::Session(0), News::Ended),
        ],
        "once, and the slot is free"
    );
    assert!(cluster.is_empty());
    assert_eq!(cluster.state.next_deadline(), None);
}

#[test]
fn a_restart_exactly_as_old_as_the_time_counts_no_more() {
    for (spare, given_up) in [(Duration::ZERO, false), (millis(1), true)] {
        let mut cluster = TestCluster::new();
        cluster.registered(worker(RestartPolicy::after_secs(1)).give_up(3, seconds(10)));
        let begin = cluster.now;
        for _ in 0..3 {
            cluster.fails_after(Duration::ZERO);
        }
        cluster.now = begin + seconds(10) - spare;
        let actions = cluster.exits_after(0, EXIT_1, millis(1));
        assert_eq!(cluster.ending(&actions).given_up.is_some(), given_up, "{spare:?}");
    }
    // A good run does not clear what the limit looks back on.
    let mut cluster = TestCluster::new();
    let often = worker(AT_ONCE).reset_after(millis(1)).give_up(2, seconds(10));
    cluster.registered(often);
    for _ in 0..2 {
        cluster.fails_after(seconds(1));
        assert_eq!(cluster.streak(), 1);
    }
    let actions = cluster.exits_after(0, EXIT_1, seconds(1));
    assert!(cluster.ending(&actions).given_up.is_some());
}

#[test]
fn a_worker_that_was_never_ready_is_given_up_after_its_attempts_and_one_ready_run_voids_them() {
    let limit = Some(GivenUp::StartAttempts { count: 3 });
    let patient = || worker(RestartPolicy::after_secs(1)).ready(Ready::Call).start_attempts(3);
    let mut cluster = TestCluster::new();
    cluster.registered(patient());
    // A good run by its length is none if it was not ready.
    cluster.fails_after(seconds(100));
    cluster.fails_after(Duration::ZERO);
    let actions = cluster.exits_after(0, EXIT_1, seconds(100));
    assert_eq!(cluster.ending(&actions).given_up, limit);
    assert!(cluster.is_empty());

    let mut cluster = TestCluster::new();
    cluster.registered(patient());
    cluster.fails_after(Duration::ZERO);
    cluster.fails_after(Duration::ZERO);
    cluster.step(Event::Ready(key(0)));
    for _ in 0..20 {
        cluster.fails_after(Duration::ZERO);
    }
    assert_eq!(cluster.streak(), 22);
}

#[test]
fn failed_forks_lengthen_pauses_and_never_give_up() {
    let limited = backoff().give_up(2, seconds(60)).ready(Ready::Call).start_attempts(2);
    let mut cluster = TestCluster::new();
    cluster.register(0, Box::new(limited.build().unwrap()));
    for expected in [100, 200, 400, 800, 1_600, 3_200] {
        assert_eq!(cluster.state.next_to_start(), Some(key(0)));
        let failed = Event::ForkFailed { key: key(0), errno: libc::EAGAIN, random: 0 };
        let actions = cluster.step(failed);
        assert_eq!(cluster.ending(&actions).pause, Some(millis(expected)));
        cluster.later(millis(expected) - millis(1));
        assert_eq!(cluster.state.next_to_start(), None);
        cluster.later(millis(1));
    }
    // None of them counts for the limits of the worker.
    cluster.starts(0);
    assert_eq!(cluster.fails_after(Duration::ZERO), millis(6_400));
    let actions = cluster.exits_after(0, EXIT_1, Duration::ZERO);
    let limit = Some(GivenUp::StartAttempts { count: 2 });
    assert_eq!(cluster.ending(&actions).given_up, limit);

    // A failed fork waits for 100 ms at least, whatever the policy.
    let mut cluster = TestCluster::new();
    cluster.register(0, Box::new(worker(AT_ONCE).unbraked().build().unwrap()));
    for _ in 0..100 {
        assert_eq!(cluster.state.next_to_start(), Some(key(0)));
        let failed = Event::ForkFailed { key: key(0), errno: libc::EAGAIN, random: 0 };
        let actions = cluster.step(failed);
        assert_eq!(cluster.ending(&actions).pause, Some(FORK_RETRY));
        cluster.later(FORK_RETRY);
    }
}

#[test]
fn a_requested_restart_ends_the_pause_and_clears_streak_and_window() {
    let limited = || worker(RestartPolicy::after_secs(60)).give_up(2, seconds(1_000));
    let mut cluster = TestCluster::new();
    cluster.registered(limited());
    for _ in 0..5 {
        for _ in 0..2 {
            cluster.now += millis(1);
            let actions = cluster.exits_after(0, EXIT_1, Duration::ZERO);
            assert_eq!(cluster.ending(&actions).given_up, None);
            assert_eq!(cluster.state.next_to_start(), None);
            if cluster.streak() == 2 {
                break;
            }
            cluster.later(seconds(60));
            cluster.starts(0);
        }
        assert_eq!(cluster.step(Event::RestartRequested(key(0))), []);
        assert_eq!((cluster.streak(), cluster.state.next_deadline()), (0, None));
        // Twice is once.
        cluster.step(Event::RestartRequested(key(0)));
        cluster.starts(0);
        assert_eq!(cluster.state.next_to_start(), None);
    }
    // Nothing happens to one that runs, and to one that is gone.
    cluster.exits_after(0, EXIT_1, Duration::ZERO);
    cluster.later(seconds(60));
    cluster.starts(0);
    cluster.step(Event::RestartRequested(key(0)));
    assert_eq!(cluster.streak(), 1);
    cluster.step(Event::RestartRequested(key(7)));
}

#[test]
fn a_requested_restart_waits_for_what_the_worker_has_left() {
    let mut cluster = TestCluster::new();
    cluster.registered(worker(RestartPolicy::after_secs(60)));
    let exit = Exit { end: process_end(0, EXIT_1), dirty: false, group_left: true, random: 0 };
    cluster.step(Event::ChildExited { key: key(0), exit });
    cluster.step(Event::RestartRequested(key(0)));
    assert_eq!(cluster.state.next_to_start(), None);
    cluster.step(Event::GroupEnded { leader: pid(0) });
    cluster.starts(0);
    assert_eq!(cluster.streak(), 0);
}

#[test]
fn a_worker_that_always_runs_comes_back_after_its_first_delay_with_its_streak() {
    let mut cluster = TestCluster::new();
    cluster.registered(backoff().restart_on(RestartOn::Always).give_up(6, seconds(60)));
    for _ in 0..3 {
        cluster.fails_after(Duration::ZERO);
    }
    // 1,000 times in 5 s each: neither streak nor limit knows of them.
    for _ in 0..1_000 {
        cluster.now += seconds(5);
        let actions = cluster.exits_after(0, EXIT_0, seconds(5));
        assert_eq!(cluster.ending(&actions).streak, 3);
        assert_eq!(cluster.pauses(&actions), millis(100));
    }
    assert_eq!(cluster.fails_after(Duration::ZERO), millis(800));
    // Done at once is a failure.
    let actions = cluster.exits_after(0, EXIT_0, millis(999));
    assert_eq!(cluster.pauses(&actions), millis(1_600));
}

#[test]
fn the_pause_is_longer_by_the_random_share_of_the_jitter() {
    for (random, pause) in [(0, 1_000), (1 << 31, 1_250), (u32::MAX, 1_499)] {
        let mut cluster = TestCluster::new();
        cluster.registered(worker(RestartPolicy::after_secs(1)).jitter(0.5));
        let exit = Exit { end: process_end(0, EXIT_1), dirty: false, group_left: false, random };
        let actions = cluster.step(Event::ChildExited { key: key(0), exit });
        assert_eq!(cluster.pauses(&actions), millis(pause));
        let failed = Event::ForkFailed { key: key(0), errno: libc::EAGAIN, random };
        let mut cluster = TestCluster::new();
        let jittered = worker(RestartPolicy::after_secs(1)).jitter(0.5).build().unwrap();
        cluster.register(0, Box::new(jittered));
        let actions = cluster.step(failed);
        assert_eq!(cluster.ending(&actions).pause, Some(millis(pause)));
    }
}

#[test]
fn ten_thousand_pauses_are_one_deadline() {
    const COUNT: u32 = 10_000;
    let mut cluster = TestCluster::new();
    let description = worker(RestartPolicy::after_secs(60)).jitter(0.5).build().unwrap();
    for index in 0..COUNT {
        cluster.register(index, Box::new(description.clone()));
    }
    while let Some(key) = cluster.state.next_to_start() {
        cluster.step(Event::Forked { key, pid: pid(key.index), random: 0 });
        let end = process_end(key.index, EXIT_1);
        // Last ones first, so that the earliest changes all the time.
        let random = u32::MAX - key.index * (u32::MAX / COUNT);
        let exit = Exit { end, dirty: false, group_left: false, random };
        cluster.step(Event::ChildExited { key, exit });
    }
    let begin = cluster.now;
    assert_eq!(cluster.state.timers.len(), COUNT as usize);
    let mut started = 0;
    let mut wake_ups = 0;
    while let Some(at) = cluster.state.next_deadline() {
        assert!(at > cluster.now && at < begin + seconds(90));
        cluster.later(at - cluster.now);
        wake_ups += 1;
        while cluster.state.next_to_start().is_some() {
            started += 1;
        }
    }
    assert_eq!(started, COUNT);
    assert!(wake_ups <= COUNT, "{wake_ups} wake-ups");
}

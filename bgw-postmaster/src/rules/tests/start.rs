//! Registrations, phases, forks.

use super::super::action::Action;
use super::super::action::News;
use super::super::cluster::Policy;
use super::super::event::Event;
use super::super::registry::NotifyTarget;
use super::super::start::FORK_RETRY;
use super::{ISOLATED, TestCluster, first_failure, key, never_ran, pid, seconds, worker};
use bgw_core::{AskedBy, BackgroundWorker, ExitCause, NotStarted, RestartPolicy, StartTime};
use std::time::Duration;

#[test]
fn a_registered_worker_is_started_then_published_then_notified() {
    let mut cluster = TestCluster::new();
    assert_eq!(cluster.register(0, worker(ISOLATED, RestartPolicy::Never)), []);
    assert_eq!(cluster.state.next_to_start(), Some(key(0)));
    assert_eq!(cluster.state.next_to_start(), None);
    assert_eq!(
        cluster.step(Event::Forked { key: key(0), pid: pid(0), random: 0 }),
        [
            Action::ReportStarted(key(0), pid(0)),
            Action::Notify(NotifyTarget::Session(0), News::Started),
        ]
    );
}

#[test]
fn nothing_starts_before_its_phase() {
    let phases =
        [StartTime::PostmasterStart, StartTime::ConsistentState, StartTime::RecoveryFinished];
    for reached in phases {
        for wanted in phases {
            let mut cluster =
                TestCluster::with(Policy { initial_phase: reached, ..Policy::default() });
            let worker = BackgroundWorker::builder("w").function("f").start_time(wanted).build();
            cluster.register(0, Box::new(worker.unwrap()));
            let starts = cluster.state.next_to_start().is_some();
            assert_eq!(starts, wanted <= reached, "{wanted:?} in {reached:?}");
            if !starts {
                cluster.step(Event::PhaseReached(StartTime::RecoveryFinished));
                assert_eq!(cluster.state.next_to_start(), Some(key(0)));
            }
        }
    }
}

#[test]
fn a_failed_fork_follows_the_restart_policy_and_is_published() {
    let errno = libc::EAGAIN;
    let cause = ExitCause::NotStarted(NotStarted::ForkFailed { errno });
    let mut cluster = TestCluster::new();
    cluster.register(0, worker(ISOLATED, RestartPolicy::Never));
    cluster.register(1, worker(ISOLATED, RestartPolicy::after_secs(2)));
    assert_eq!(cluster.state.next_to_start(), Some(key(0)));
    assert_eq!(
        cluster.step(Event::ForkFailed { key: key(0), errno, random: 0 }),
        [
            Action::Unregister(key(0), never_ran(cause, 0, None)),
            Action::Notify(NotifyTarget::Session(0), News::Ended),
        ]
    );
    assert_eq!(cluster.state.next_to_start(), Some(key(1)), "others still start");
    assert_eq!(
        cluster.step(Event::ForkFailed { key: key(1), errno, random: 0 }),
        [
            Action::ReportStopped(
                key(1),
                first_failure(Some(seconds(2)), never_ran(cause, 0, None))
            ),
            Action::Notify(NotifyTarget::Session(1), News::Ended),
        ]
    );
    cluster.later(seconds(2));
    assert_eq!(cluster.state.next_to_start(), Some(key(1)));
}

#[test]
fn a_failed_fork_is_no_busy_loop_even_with_interval_0() {
    let mut cluster = TestCluster::new();
    cluster.register(0, worker(ISOLATED, RestartPolicy::after_secs(0)));
    assert_eq!(cluster.state.next_to_start(), Some(key(0)));
    cluster.step(Event::ForkFailed { key: key(0), errno: libc::EAGAIN, random: 0 });
    assert_eq!(cluster.state.next_deadline(), Some(cluster.now + FORK_RETRY));
    cluster.later(Duration::ZERO);
    assert_eq!(cluster.state.next_to_start(), None);
    cluster.later(FORK_RETRY);
    assert_eq!(cluster.state.next_to_start(), Some(key(0)));
}

#[test]
fn a_slot_whose_end_is_requested_already_is_never_listed() {
    let mut cluster = TestCluster::new();
    let actions = cluster.step(Event::Registered {
        key: key(0),
        worker: worker(ISOLATED, RestartPolicy::Never),
        notify: None,
        terminate: true,
        registered_at: 0,
    });
    let cause = ExitCause::NotStarted(NotStarted::Terminated);
    assert_eq!(
        actions,
        [Action::Unregister(key(0), never_ran(cause, 0, Some(AskedBy::Terminate)))]
    );
    assert!(cluster.is_empty());
}

//! Crashes and the reset that follows.

use super::super::action::Action;
use super::super::cluster::Policy;
use super::super::cluster::Stage;
use super::super::event::Event;
use super::super::stop_level::StopLevel;
use super::{
    CRASH, ISOLATED, SHARED, TestCluster, by_reset, crash_of, ended, first_failure, key, never_ran,
    pid, seconds,
};
use bgw_core::{AskedBy, ExitCause, NotStarted, RestartPolicy, ShutdownMode, StartTime};
use std::collections::HashMap;

#[test]
fn a_crash_with_shared_state_ends_all_and_restarts_those_that_may() {
    let mut cluster = TestCluster::new();
    cluster.running(0, SHARED, RestartPolicy::after_secs(60));
    cluster.running(1, SHARED, RestartPolicy::after_secs(60));
    cluster.running(2, SHARED, RestartPolicy::Never);
    let first = cluster.exits(0, CRASH);
    assert_eq!(
        first[0],
        Action::ReportStopped(key(0), first_failure(None, ended(0, CRASH, 0, None)))
    );
    assert!(first.contains(&Action::Stop(key(1), StopLevel::Quit)));
    assert!(first.contains(&Action::Stop(key(2), StopLevel::Quit)));
    assert!(!cluster.state.accepts_workers());

    // A second crash in the meantime is part of the same reset.
    let second = cluster.exits(1, CRASH);
    assert!(!second.iter().any(|action| matches!(action, Action::Stop(..))), "{second:?}");
    let last = cluster.exits(2, ExitCause::Exited(2));
    let quit = by_reset(0, ended(2, ExitCause::Exited(2), 0, Some(AskedBy::Reset)));
    assert_eq!(last[0], Action::Unregister(key(2), quit), "never-restart ones are gone");
    assert_eq!(last.last(), Some(&Action::ResetSlots(crash_of(0))));

    let new_keys = HashMap::from([(key(0), key(8)), (key(1), key(9))]);
    assert_eq!(
        cluster.step(Event::SlotsReset { new_keys }),
        [Action::PublishPhase(StartTime::RecoveryFinished)]
    );
    assert!(cluster.state.crashed.is_none());
    let starts = [cluster.state.next_to_start(), cluster.state.next_to_start()];
    assert_eq!(starts, [Some(key(8)), Some(key(9))], "at once, not after 60 s");
    let started = cluster.step(Event::Forked { key: key(8), pid: pid(8), random: 0 });
    assert_eq!(
        started,
        [Action::ReportStarted(key(8), pid(8))],
        "old notify targets are forgotten"
    );
}

#[test]
fn workers_that_do_not_quit_after_a_crash_are_killed() {
    let mut cluster = TestCluster::new();
    cluster.running(0, SHARED, RestartPolicy::Never);
    cluster.running(1, ISOLATED, RestartPolicy::Never);
    cluster.exits(0, CRASH);
    assert_eq!(cluster.later(seconds(4)), []);
    assert_eq!(cluster.later(seconds(1)), [Action::Stop(key(1), StopLevel::Kill)]);
}

#[test]
fn without_restart_after_crash_the_postmaster_exits_with_1() {
    let mut cluster = TestCluster::with(Policy { restart_after_crash: false, ..Policy::default() });
    cluster.running(0, SHARED, RestartPolicy::after_secs(0));
    cluster.exits(0, CRASH);
    assert_eq!(cluster.state.stage(), Stage::Over(1));
}

#[test]
fn a_shutdown_during_a_reset_exits_without_resetting_the_slots() {
    let mut cluster = TestCluster::new();
    cluster.running(0, SHARED, RestartPolicy::after_secs(0));
    cluster.running(1, SHARED, RestartPolicy::after_secs(0));
    cluster.exits(0, CRASH);
    assert_eq!(cluster.step(Event::ShutdownRequested(ShutdownMode::Fast)), []);
    let end = cluster.exits(1, ExitCause::Exited(2));
    assert!(!end.iter().any(|action| matches!(action, Action::ResetSlots(_))));
    assert_eq!(cluster.state.stage(), Stage::Over(1));
}

/// Breaks if a terminate request that arrives while the slots are made anew is lost, or its slot
/// stays.
#[test]
fn a_terminate_request_during_the_reset_frees_the_new_slot() {
    let mut cluster = TestCluster::new();
    cluster.running(0, SHARED, RestartPolicy::after_secs(0));
    let crash = cluster.exits(0, CRASH);
    assert_eq!(crash.last(), Some(&Action::ResetSlots(crash_of(0))));
    assert_eq!(cluster.step(Event::TerminateRequested(key(0))), []);
    let new_keys = HashMap::from([(key(0), key(8))]);
    let cause = ExitCause::NotStarted(NotStarted::Terminated);
    assert_eq!(
        cluster.step(Event::SlotsReset { new_keys })[0],
        Action::Unregister(
            key(8),
            first_failure(None, never_ran(cause, 0, Some(AskedBy::Terminate)))
        )
    );
    assert_eq!(cluster.state.next_to_start(), None);
}

/// Breaks if a worker that found no slot stays on the list.
#[test]
fn a_worker_without_a_new_slot_is_dropped() {
    let mut cluster = TestCluster::new();
    cluster.running(0, SHARED, RestartPolicy::after_secs(0));
    cluster.exits(0, CRASH);
    cluster.step(Event::SlotsReset { new_keys: HashMap::new() });
    assert_eq!(cluster.state.next_to_start(), None);
    assert!(cluster.is_empty());
}

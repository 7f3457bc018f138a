//! Those that cause resets: who waits after it, and who is given up.

use super::super::action::Action;
use super::super::ending::{Exit, ProcessEnd};
use super::super::event::Event;
use super::{CRASH, ISOLATED, SHARED, TestCluster, key, pid, process_end, seconds};
use bgw_core::{BackgroundWorker, ExitCause, GivenUp, RestartPolicy};
use shmem_slots::Key;
use std::collections::HashMap;
use std::time::Duration;

const AT_ONCE: RestartPolicy = RestartPolicy::Fixed(Duration::ZERO);

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Worker 0 crashes the cluster and all of it starts again: its pause.
fn reset(cluster: &mut TestCluster, generation: u64) -> Option<Duration> {
    let own = |index| Key { index, generation };
    let next = |index| Key { index, generation: generation + 1 };
    let end = ProcessEnd { ran_for: Duration::ZERO, ..process_end(0, CRASH) };
    let exit = Exit { end, dirty: true, group_left: false, random: 0 };
    let actions = cluster.step(Event::ChildExited { key: own(0), exit });
    let pause = match actions.first() {
        Some(Action::ReportStopped(_, ending)) => ending.pause,
        other => panic!("{other:?}"),
    };
    let end = process_end(1, CRASH);
    let exit = Exit { end, dirty: true, group_left: false, random: 0 };
    let last = cluster.step(Event::ChildExited { key: own(1), exit });
    assert!(matches!(last.last(), Some(Action::ResetSlots(_))), "{last:?}");
    let new_keys = HashMap::from([(own(0), next(0)), (own(1), next(1))]);
    let actions = cluster.step(Event::SlotsReset { new_keys });
    if let Some(pause) = pause {
        assert!(matches!(actions[0], Action::ReportStopped(key, _) if key == next(0)));
        assert_eq!(cluster.state.next_to_start(), Some(next(1)), "the other does not wait");
        cluster.later(pause - millis(1));
        assert_eq!(cluster.state.next_to_start(), None);
        cluster.later(millis(1));
        assert_eq!(cluster.state.next_to_start(), Some(next(0)));
    } else {
        assert_eq!(cluster.state.next_to_start(), Some(next(0)));
        assert_eq!(cluster.state.next_to_start(), Some(next(1)));
    }
    for index in [0, 1] {
        cluster.step(Event::Forked { key: next(index), pid: pid(index), random: 0 });
    }
    assert_eq!(cluster.state.registry().get(next(1)).unwrap().streak.failures, 0);
    pause
}

#[test]
fn a_worker_that_causes_six_resets_in_a_row_waits_and_the_others_do_not() {
    for policy in [RestartPolicy::after_secs(3_600), AT_ONCE] {
        let mut cluster = TestCluster::new();
        cluster.running(0, SHARED, policy);
        cluster.running(1, SHARED, policy);
        let pauses: Vec<_> = (1..=8).map(|life| reset(&mut cluster, life)).collect();
        let brake = [100, 200, 400].map(|time| Some(millis(time)));
        assert_eq!(pauses[..5], [None; 5], "{policy:?}");
        assert_eq!(pauses[5..], brake, "{policy:?}");
    }
}

#[test]
fn a_worker_that_causes_reset_after_reset_is_given_up_at_its_limit() {
    let mut cluster = TestCluster::new();
    let limited = BackgroundWorker::builder("w")
        .function("f")
        .restart(AT_ONCE)
        .flags(SHARED)
        .give_up(2, seconds(60));
    cluster.register(0, Box::new(limited.build().unwrap()));
    cluster.starts(0);
    cluster.running(1, SHARED, AT_ONCE);
    reset(&mut cluster, 1);
    reset(&mut cluster, 2);
    let own = Key { index: 0, generation: 3 };
    let exit = Exit { end: process_end(0, CRASH), dirty: true, group_left: false, random: 0 };
    let actions = cluster.step(Event::ChildExited { key: own, exit });
    let limit = Some(GivenUp::Restarts { count: 2, within: seconds(60) });
    assert!(
        matches!(actions[0], Action::Unregister(key, end) if key == own && end.given_up == limit)
    );
}

#[test]
fn a_worker_in_its_pause_starts_at_once_after_a_reset() {
    let mut cluster = TestCluster::new();
    cluster.running(0, ISOLATED, RestartPolicy::after_secs(3_600));
    cluster.running(1, SHARED, RestartPolicy::after_secs(3_600));
    cluster.exits_after(0, ExitCause::Exited(1), Duration::ZERO);
    let actions = cluster.exits_after(1, CRASH, Duration::ZERO);
    assert!(matches!(actions.last(), Some(Action::ResetSlots(_))), "{actions:?}");
    let new_keys = HashMap::from([(key(0), key(8)), (key(1), key(9))]);
    cluster.step(Event::SlotsReset { new_keys });
    let starts = [cluster.state.next_to_start(), cluster.state.next_to_start()];
    assert_eq!(starts, [Some(key(8)), Some(key(9))]);
    let streak = |index| cluster.state.registry().get(key(index)).unwrap().streak.failures;
    assert_eq!((streak(8), streak(9)), (0, 1), "the culprit keeps its own");
}

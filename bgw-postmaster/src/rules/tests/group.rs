//! What is left of a process group.

use super::super::action::{Action, News};
use super::super::cluster::{Policy, Stage};
use super::super::ending::Exit;
use super::super::event::Event;
use super::super::group::GROUP_GRACE;
use super::super::registry::NotifyTarget;
use super::super::stop_level::StopLevel;
use super::{
    CRASH, ISOLATED, SHARED, TestCluster, ended, first_failure, key, pid, process_end, seconds,
};
use bgw_core::{AskedBy, ExitCause, RestartPolicy, ShutdownMode};
use std::time::Duration;

const OK: ExitCause = ExitCause::Exited(0);
const FAILED: ExitCause = ExitCause::Exited(1);

fn leaves_group(cluster: &mut TestCluster, index: u32, cause: ExitCause) -> Vec<Action> {
    let end = process_end(index, cause);
    let exit = Exit { end, dirty: false, group_left: true, random: 0 };
    cluster.step(Event::ChildExited { key: key(index), exit })
}

fn group_ended(cluster: &mut TestCluster, index: u32) -> Vec<Action> {
    cluster.step(Event::GroupEnded { leader: pid(index) })
}

fn notified(index: u32) -> Action {
    Action::Notify(NotifyTarget::Session(u64::from(index)), News::Ended)
}

#[test]
fn the_end_is_reported_at_once_and_the_slot_freed_when_the_group_has_ended() {
    let mut cluster = TestCluster::new();
    cluster.running(0, ISOLATED, RestartPolicy::Never);
    assert_eq!(
        leaves_group(&mut cluster, 0, OK),
        [
            Action::StopGroup(pid(0), StopLevel::Terminate),
            Action::ReportClearing(key(0), ended(0, OK, 0, None)),
            notified(0),
        ]
    );
    assert!(!cluster.is_empty(), "its slot is not free");
    assert_eq!(cluster.later(GROUP_GRACE - seconds(1)), []);
    assert_eq!(cluster.later(seconds(1)), [Action::StopGroup(pid(0), StopLevel::Kill)]);
    let end = [Action::Unregister(key(0), ended(0, OK, 0, None))];
    assert_eq!(group_ended(&mut cluster, 0), end, "the target is not notified twice");
    assert!(cluster.is_empty());
    assert_eq!(group_ended(&mut cluster, 0), []);
}

#[test]
fn the_next_run_waits_for_the_group() {
    for interval in [0, 3] {
        let mut cluster = TestCluster::new();
        cluster.running(0, ISOLATED, RestartPolicy::after_secs(interval));
        leaves_group(&mut cluster, 0, FAILED);
        cluster.later(seconds(1));
        assert_eq!(cluster.state.next_to_start(), None, "interval {interval}");
        assert_eq!(group_ended(&mut cluster, 0), []);
        let at_once = (interval == 0).then_some(key(0));
        assert_eq!(cluster.state.next_to_start(), at_once, "interval {interval}");
        cluster.later(seconds(2));
        if interval > 0 {
            assert_eq!(cluster.state.next_to_start(), Some(key(0)), "the interval counts as well");
        }
    }
}

#[test]
fn a_worker_that_is_terminated_meanwhile_is_not_restarted() {
    let mut cluster = TestCluster::new();
    cluster.running(0, ISOLATED, RestartPolicy::after_secs(0));
    leaves_group(&mut cluster, 0, FAILED);
    assert_eq!(cluster.step(Event::TerminateRequested(key(0))), []);
    assert_eq!(
        group_ended(&mut cluster, 0),
        [Action::Unregister(
            key(0),
            first_failure(None, ended(0, FAILED, 0, Some(AskedBy::Terminate)))
        )]
    );
}

#[test]
fn shutdown_and_reset_wait_for_groups() {
    let mut cluster = TestCluster::new();
    cluster.running(0, ISOLATED, RestartPolicy::Never);
    cluster.step(Event::ShutdownRequested(ShutdownMode::Fast));
    leaves_group(&mut cluster, 0, OK);
    assert_eq!(cluster.state.stage(), Stage::Stopping);
    group_ended(&mut cluster, 0);
    assert_eq!(cluster.state.stage(), Stage::Over(0));

    let mut cluster = TestCluster::new();
    cluster.running(0, SHARED, RestartPolicy::after_secs(9));
    let actions = leaves_group(&mut cluster, 0, CRASH);
    assert!(!actions.iter().any(is_reset), "{actions:?}");
    assert!(group_ended(&mut cluster, 0).iter().any(is_reset));
}

#[test]
fn a_shorter_grace_time_holds_for_groups_too() {
    let grace = Some(Duration::from_millis(100));
    let mut cluster = TestCluster::with(Policy { terminate_grace: grace, ..Policy::default() });
    cluster.running(0, ISOLATED, RestartPolicy::Never);
    leaves_group(&mut cluster, 0, OK);
    let kill = [Action::StopGroup(pid(0), StopLevel::Kill)];
    assert_eq!(cluster.later(Duration::from_millis(100)), kill);
}

fn is_reset(action: &Action) -> bool {
    matches!(action, Action::ResetSlots(_))
}

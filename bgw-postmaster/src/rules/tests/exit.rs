//! The end of a worker process.

use super::super::action::Action;
use super::super::action::News;
use super::super::event::Event;
use super::super::registry::NotifyTarget;
use super::{ISOLATED, TestCluster, ended, first_failure, key, pid, seconds};
use bgw_core::{ExitCause, RestartPolicy};

#[test]
fn a_worker_that_exits_0_is_freed_before_its_target_is_notified() {
    let mut cluster = TestCluster::new();
    cluster.running(0, ISOLATED, RestartPolicy::after_secs(0));
    assert_eq!(
        cluster.exits(0, ExitCause::Exited(0)),
        [
            Action::Unregister(key(0), ended(0, ExitCause::Exited(0), 0, None)),
            Action::Notify(NotifyTarget::Session(0), News::Ended),
        ]
    );
    assert!(cluster.is_empty());
}

#[test]
fn a_failed_worker_is_restarted_after_its_interval_and_not_before() {
    let mut cluster = TestCluster::new();
    cluster.running(0, ISOLATED, RestartPolicy::after_secs(5));
    assert_eq!(
        cluster.exits(0, ExitCause::Exited(1))[0],
        Action::ReportStopped(
            key(0),
            first_failure(Some(seconds(5)), ended(0, ExitCause::Exited(1), 0, None))
        )
    );
    assert_eq!(cluster.state.next_deadline(), Some(cluster.now + seconds(5)));
    cluster.later(seconds(4));
    assert_eq!(cluster.state.next_to_start(), None);
    cluster.later(seconds(1));
    assert_eq!(cluster.state.next_to_start(), Some(key(0)));
    cluster.step(Event::Forked { key: key(0), pid: pid(0), random: 0 });
    assert_eq!(cluster.state.registry().get(key(0)).unwrap().restarts, 1);
}

#[test]
fn an_interval_of_0_restarts_at_once() {
    let mut cluster = TestCluster::new();
    cluster.running(0, ISOLATED, RestartPolicy::after_secs(0));
    cluster.exits(0, ExitCause::Exited(1));
    assert_eq!(cluster.state.next_to_start(), Some(key(0)));
}

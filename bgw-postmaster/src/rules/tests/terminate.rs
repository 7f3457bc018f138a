//! Terminate requests and grace times.

use super::super::action::Action;
use super::super::cluster::Policy;
use super::super::ending::Ending;
use super::super::event::Event;
use super::super::stop_level::StopLevel;
use super::{ISOLATED, SHARED, TestCluster, ended, first_failure, key, never_ran, seconds, worker};
use bgw_core::{AskedBy, ExitCause, NotStarted, RestartPolicy};

#[test]
fn terminate_stops_a_running_worker_and_drops_any_other() {
    let mut cluster = TestCluster::new();
    cluster.running(0, ISOLATED, RestartPolicy::after_secs(5));
    assert_eq!(
        cluster.step(Event::TerminateRequested(key(0))),
        [Action::Stop(key(0), StopLevel::Terminate)]
    );
    assert_eq!(cluster.step(Event::TerminateRequested(key(0))), [], "twice is once");
    let end = cluster.exits(0, ExitCause::Exited(1));
    assert_eq!(
        end[0],
        Action::Unregister(key(0), ended(0, ExitCause::Exited(1), 0, Some(AskedBy::Terminate)))
    );
    assert_eq!(cluster.step(Event::TerminateRequested(key(0))), [], "after the end: nothing");

    // Waiting for its restart: unregistered at once.
    cluster.running(1, ISOLATED, RestartPolicy::after_secs(5));
    cluster.exits(1, ExitCause::Exited(1));
    let never = ExitCause::NotStarted(NotStarted::Terminated);
    assert_eq!(
        cluster.step(Event::TerminateRequested(key(1)))[0],
        Action::Unregister(
            key(1),
            first_failure(None, never_ran(never, 0, Some(AskedBy::Terminate)))
        )
    );
    assert_eq!(cluster.later(seconds(9)), []);
    assert_eq!(cluster.state.next_to_start(), None);

    // Still in the queue: never started.
    cluster.register(2, worker(ISOLATED, RestartPolicy::Never));
    cluster.step(Event::TerminateRequested(key(2)));
    assert_eq!(cluster.state.next_to_start(), None);
}

#[test]
fn a_worker_that_ignores_sigterm_is_killed_after_the_grace_time() {
    let grace = Some(seconds(3));
    let mut cluster = TestCluster::with(Policy { terminate_grace: grace, ..Policy::default() });
    cluster.running(0, SHARED, RestartPolicy::after_secs(5));
    cluster.step(Event::TerminateRequested(key(0)));
    assert_eq!(cluster.later(seconds(2)), []);
    assert_eq!(cluster.later(seconds(1)), [Action::Stop(key(0), StopLevel::Kill)]);
    let killed = ExitCause::Signaled { signal: 9, core_dumped: false };
    assert_eq!(
        cluster.exits(0, killed)[0],
        Action::Unregister(
            key(0),
            Ending { killed: true, ..ended(0, killed, 0, Some(AskedBy::Terminate)) }
        ),
        "no crash: it was ours"
    );
    assert!(cluster.state.crashed.is_none());
}

/// Breaks if the deadlines of workers that are gone stay until they would have been due.
#[test]
fn deadlines_go_with_their_workers() {
    let grace = Some(seconds(3600));
    let mut cluster = TestCluster::with(Policy { terminate_grace: grace, ..Policy::default() });
    for index in 0..100 {
        cluster.running(index, ISOLATED, RestartPolicy::after_secs(3600));
        cluster.step(Event::TerminateRequested(key(index)));
        cluster.exits(index, ExitCause::Exited(0));
        let other = 100 + index;
        cluster.running(other, ISOLATED, RestartPolicy::after_secs(3600));
        cluster.exits(other, ExitCause::Exited(1));
        cluster.step(Event::TerminateRequested(key(other)));
    }
    assert_eq!(cluster.state.next_deadline(), None);
}

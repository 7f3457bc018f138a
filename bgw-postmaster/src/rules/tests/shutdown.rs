//! Shutdown modes.

use super::super::action::Action;
use super::super::action::News;
use super::super::cluster::Policy;
use super::super::cluster::QUIT_GRACE;
use super::super::cluster::Stage;
use super::super::event::Event;
use super::super::registry::NotifyTarget;
use super::super::stop_level::StopLevel;
use super::super::terminate::BOUNDED_GRACE;
use super::{ISOLATED, SHARED, TestCluster, key, never_ran, seconds, worker};
use bgw_core::{
    AskedBy, BackgroundWorker, ExitCause, Grace, NotStarted, RestartPolicy, ShutdownMode, StartTime,
};
use std::time::Duration;

#[test]
fn each_shutdown_mode_does_what_its_row_says() {
    // mode, programs attached -> the stop signal that a running worker gets at once
    let table = [
        (ShutdownMode::Smart, 0, Some(StopLevel::Terminate)),
        (ShutdownMode::Smart, 1, None),
        (ShutdownMode::Fast, 1, Some(StopLevel::Terminate)),
        (ShutdownMode::Immediate, 1, Some(StopLevel::Quit)),
    ];
    for (mode, sessions, told) in table {
        let mut cluster = TestCluster::new();
        for _ in 0..sessions {
            cluster.step(Event::SessionOpened);
        }
        cluster.running(0, SHARED, RestartPolicy::after_secs(5));
        let actions = cluster.step(Event::ShutdownRequested(mode));
        let expected: Vec<Action> =
            told.map(|told| Action::Stop(key(0), told)).into_iter().collect();
        assert_eq!(actions, expected, "{mode}");
        if told.is_none() {
            // Live programs may still have workers started.
            cluster.running(1, ISOLATED, RestartPolicy::Never);
            let last_gone = cluster.step(Event::SessionClosed);
            assert_eq!(last_gone.len(), 2, "then both get a stop signal: {last_gone:?}");
            cluster.exits(1, ExitCause::Exited(0));
        }
        cluster.exits(0, ExitCause::Exited(1));
        assert_eq!(cluster.state.stage(), Stage::Over(0), "{mode}");
    }
}

#[test]
fn a_stricter_shutdown_overrides_a_milder_one_and_never_the_reverse() {
    let mut cluster = TestCluster::new();
    cluster.running(0, SHARED, RestartPolicy::Never);
    cluster.step(Event::ShutdownRequested(ShutdownMode::Fast));
    assert_eq!(cluster.step(Event::ShutdownRequested(ShutdownMode::Smart)), []);
    assert_eq!(
        cluster.step(Event::ShutdownRequested(ShutdownMode::Immediate)),
        [Action::Stop(key(0), StopLevel::Quit)]
    );
    assert_eq!(cluster.step(Event::ShutdownRequested(ShutdownMode::Fast)), []);
    assert_eq!(cluster.state.shutdown, Some(ShutdownMode::Immediate));
    assert_eq!(cluster.later(QUIT_GRACE), [Action::Stop(key(0), StopLevel::Kill)]);
}

#[test]
fn unstarted_workers_are_dropped_at_shutdown_and_later_ones_are_refused() {
    let policy = Policy { initial_phase: StartTime::PostmasterStart, ..Policy::default() };
    let mut cluster = TestCluster::with(policy);
    cluster.running_at_start(0);
    cluster.register(1, worker(ISOLATED, RestartPolicy::after_secs(5)));
    let gone =
        never_ran(ExitCause::NotStarted(NotStarted::ShuttingDown), 0, Some(AskedBy::Shutdown));
    let actions = cluster.step(Event::ShutdownRequested(ShutdownMode::Fast));
    assert_eq!(
        actions,
        [
            Action::Unregister(key(1), gone),
            Action::Notify(NotifyTarget::Session(1), News::Ended),
            Action::Stop(key(0), StopLevel::Terminate),
        ]
    );
    assert_eq!(
        cluster.register(2, worker(ISOLATED, RestartPolicy::Never)),
        [Action::Unregister(key(2), gone), Action::Notify(NotifyTarget::Session(2), News::Ended)]
    );
    cluster.exits(0, ExitCause::Exited(0));
    assert_eq!(cluster.state.stage(), Stage::Over(0));
}

/// Breaks if a grace time holds for terminate requests only, or the end of the launcher has none.
#[test]
fn grace_times_hold_on_every_way_down() {
    let grace = Duration::from_secs(3);
    let fast = Event::ShutdownRequested(ShutdownMode::Fast);
    let smart = Event::ShutdownRequested(ShutdownMode::Smart);
    let terminate = Event::TerminateRequested(key(0));
    let (of_cluster, forever) = (Grace::OfCluster, Grace::Forever);
    let (own, seven) = (Grace::After(seconds(7)), Some(seconds(7)));
    // the cluster's grace, the worker's, way down -> when a worker that ignores SIGTERM is killed
    let table = [
        (Some(grace), of_cluster, terminate.clone(), Some(grace)),
        (Some(grace), of_cluster, fast.clone(), Some(grace)),
        (Some(grace), of_cluster, smart.clone(), Some(grace)),
        (Some(grace), of_cluster, Event::LauncherGone, Some(grace)),
        (Some(grace), own, terminate.clone(), seven),
        (Some(grace), own, fast.clone(), seven),
        (Some(grace), own, smart.clone(), seven),
        (Some(grace), own, Event::LauncherGone, seven),
        (None, own, terminate.clone(), seven),
        (None, own, fast.clone(), seven),
        (Some(grace), forever, terminate.clone(), None),
        (Some(grace), forever, fast.clone(), None),
        (Some(grace), forever, smart.clone(), None),
        (Some(grace), forever, Event::LauncherGone, Some(BOUNDED_GRACE)),
        (None, of_cluster, terminate, None),
        (None, of_cluster, fast, None),
        (None, of_cluster, smart, None),
        (None, of_cluster, Event::LauncherGone, Some(BOUNDED_GRACE)),
        (Some(Duration::MAX), of_cluster, Event::LauncherGone, Some(BOUNDED_GRACE)),
    ];
    for (terminate_grace, worker, event, killed) in table {
        let row = format!("{terminate_grace:?} {worker:?} {event:?}");
        let mut cluster = TestCluster::with(Policy { terminate_grace, ..Policy::default() });
        cluster.register(0, graceful(worker));
        cluster.starts(0);
        assert_eq!(cluster.step(event), [Action::Stop(key(0), StopLevel::Terminate)], "{row}");
        let due = cluster.state.next_deadline().map(|at| at - cluster.now);
        assert_eq!(due, killed, "{row}");
        if let Some(killed) = killed {
            assert_eq!(cluster.later(killed), [Action::Stop(key(0), StopLevel::Kill)], "{row}");
        }
    }
}

/// A worker with shared state and a grace of its own.
fn graceful(grace: Grace) -> Box<BackgroundWorker> {
    let builder = BackgroundWorker::builder("w").function("f").flags(SHARED);
    Box::new(builder.restart(RestartPolicy::after_secs(5)).grace(grace).build().unwrap())
}

/// Breaks if a shutdown gives a worker that was told to end before a new grace, or if the
/// launcher's end leaves one with a grace of "for ever" that an earlier request gave.
#[test]
fn a_later_request_makes_no_clock_longer() {
    let fast = Event::ShutdownRequested(ShutdownMode::Fast);
    for second in [Event::TerminateRequested(key(0)), fast.clone(), Event::LauncherGone] {
        let mut cluster = TestCluster::new();
        cluster.register(0, graceful(Grace::After(seconds(3))));
        cluster.starts(0);
        cluster.step(Event::TerminateRequested(key(0)));
        assert_eq!(cluster.later(seconds(2)), []);
        assert_eq!(cluster.step(second.clone()), [], "{second:?}");
        let kill = [Action::Stop(key(0), StopLevel::Kill)];
        assert_eq!(cluster.later(seconds(1)), kill, "{second:?}");
    }
    for first in [Event::TerminateRequested(key(0)), fast] {
        let mut cluster = TestCluster::new();
        cluster.register(0, graceful(Grace::Forever));
        cluster.starts(0);
        cluster.step(first.clone());
        assert_eq!(cluster.state.next_deadline(), None, "{first:?}");
        cluster.step(Event::LauncherGone);
        let kill = [Action::Stop(key(0), StopLevel::Kill)];
        assert_eq!(cluster.later(BOUNDED_GRACE), kill, "{first:?}");
    }
}

/// Breaks if the clocks of graces are forgotten when a stricter mode comes.
#[test]
fn a_stricter_mode_keeps_the_clocks_that_run() {
    let mut cluster = TestCluster::new();
    cluster.register(0, graceful(Grace::After(seconds(3))));
    cluster.starts(0);
    cluster.step(Event::ShutdownRequested(ShutdownMode::Fast));
    cluster.later(seconds(1));
    let quit = [Action::Stop(key(0), StopLevel::Quit)];
    assert_eq!(cluster.step(Event::ShutdownRequested(ShutdownMode::Immediate)), quit);
    assert_eq!(cluster.later(seconds(2)), [Action::Stop(key(0), StopLevel::Kill)]);
}

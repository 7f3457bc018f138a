//! Shutdown modes.

use super::super::action::Action;
use super::super::action::News;
use super::super::cluster::Policy;
use super::super::cluster::QUIT_GRACE;
use super::super::cluster::Stage;
use super::super::event::Event;
use super::super::registry::NotifyTarget;
use super::super::registry::StopSignal;
use super::super::shutdown::LAUNCHER_GRACE;
use super::{ISOLATED, SHARED, TestCluster, key, never_ran, worker};
use bgw_core::{ExitCause, NotStarted, RestartPolicy, ShutdownMode, StartTime};
use std::time::Duration;

#[test]
fn each_shutdown_mode_does_what_its_row_says() {
    // mode, programs attached -> the stop signal that a running worker gets at once
    let table = [
        (ShutdownMode::Smart, 0, Some(StopSignal::Terminate)),
        (ShutdownMode::Smart, 1, None),
        (ShutdownMode::Fast, 1, Some(StopSignal::Terminate)),
        (ShutdownMode::Immediate, 1, Some(StopSignal::Quit)),
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
        [Action::Stop(key(0), StopSignal::Quit)]
    );
    assert_eq!(cluster.step(Event::ShutdownRequested(ShutdownMode::Fast)), []);
    assert_eq!(cluster.state.shutdown, Some(ShutdownMode::Immediate));
    assert_eq!(cluster.later(QUIT_GRACE), [Action::Stop(key(0), StopSignal::Kill)]);
}

#[test]
fn unstarted_workers_are_dropped_at_shutdown_and_later_ones_are_refused() {
    let policy = Policy { initial_phase: StartTime::PostmasterStart, ..Policy::default() };
    let mut cluster = TestCluster::with(policy);
    cluster.running_at_start(0);
    cluster.register(1, worker(ISOLATED, RestartPolicy::after_secs(5)));
    let gone = never_ran(ExitCause::NotStarted(NotStarted::ShuttingDown), 0, false);
    let actions = cluster.step(Event::ShutdownRequested(ShutdownMode::Fast));
    assert_eq!(
        actions,
        [
            Action::Unregister(key(1), gone),
            Action::Notify(NotifyTarget::Session(1), News::Ended),
            Action::Stop(key(0), StopSignal::Terminate),
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
    // grace time, way down -> when a worker that ignores SIGTERM is killed
    let table = [
        (Some(grace), fast.clone(), Some(grace)),
        (Some(grace), smart.clone(), Some(grace)),
        (Some(grace), Event::LauncherGone, Some(grace)),
        (None, fast, None),
        (None, smart, None),
        (None, Event::LauncherGone, Some(LAUNCHER_GRACE)),
        (Some(Duration::MAX), Event::LauncherGone, Some(LAUNCHER_GRACE)),
    ];
    for (terminate_grace, event, killed) in table {
        let row = format!("{terminate_grace:?} {event:?}");
        let mut cluster = TestCluster::with(Policy { terminate_grace, ..Policy::default() });
        cluster.running(0, SHARED, RestartPolicy::after_secs(5));
        assert_eq!(cluster.step(event), [Action::Stop(key(0), StopSignal::Terminate)], "{row}");
        let due = cluster.state.next_deadline().map(|at| at - cluster.now);
        assert_eq!(due, killed, "{row}");
        if let Some(killed) = killed {
            assert_eq!(cluster.later(killed), [Action::Stop(key(0), StopSignal::Kill)], "{row}");
        }
    }
}

//! The grace time of one worker.

use super::super::action::Action;
use super::super::cluster::{Policy, QUIT_GRACE};
use super::super::ending::Exit;
use super::super::event::Event;
use super::super::group::GROUP_GRACE;
use super::super::shutdown_order::ShutdownOrder;
use super::super::stop_level::StopLevel;
use super::super::terminate::BOUNDED_GRACE;
use super::{TestCluster, key, pid, process_end, seconds};
use bgw_core::{BackgroundWorker, ExitCause, Grace, ShutdownMode};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
const FAST: Event = Event::ShutdownRequested(ShutdownMode::Fast);
const SMART: Event = Event::ShutdownRequested(ShutdownMode::Smart);
const IMMEDIATE: Event = Event::ShutdownRequested(ShutdownMode::Immediate);

/// A cluster with this grace time, and a running worker for each of `graces`.
fn cluster(terminate_grace: Option<Duration>, graces: &[Grace]) -> TestCluster {
    let mut cluster = TestCluster::with(Policy { terminate_grace, ..Policy::default() });
    for (index, &grace) in (0..).zip(graces) {
        let worker = BackgroundWorker::builder("w").function("f").grace(grace).build();
        cluster.register(index, Box::new(worker.unwrap()));
        cluster.starts(index);
    }
    cluster
}

fn killed(index: u32) -> Vec<Action> {
    vec![Action::Stop(key(index), StopLevel::Kill)]
}

/// How long from now until the next deadline.
fn due(cluster: &TestCluster) -> Option<Duration> {
    cluster.state.next_deadline().map(|at| at - cluster.now)
}

/// Breaks if one way down knows the grace time of the cluster alone.
#[test]
fn the_grace_time_of_a_worker_holds_on_every_way_down() {
    let own = Grace::After(seconds(2));
    // of the cluster, of the worker -> when it is killed; also when the launcher has gone
    let table = [
        (None, own, Some(seconds(2)), seconds(2)),
        (Some(seconds(1)), own, Some(seconds(2)), seconds(2)),
        (Some(seconds(3)), own, Some(seconds(2)), seconds(2)),
        (Some(seconds(3)), Grace::OfCluster, Some(seconds(3)), seconds(3)),
        (Some(seconds(3)), Grace::Bounded, Some(seconds(3)), seconds(3)),
        (None, Grace::Bounded, Some(BOUNDED_GRACE), BOUNDED_GRACE),
        (Some(seconds(3)), Grace::Forever, None, BOUNDED_GRACE),
        (None, Grace::OfCluster, None, BOUNDED_GRACE),
        (None, Grace::After(Duration::ZERO), Some(Duration::ZERO), Duration::ZERO),
    ];
    for (of_cluster, of_worker, usual, launcher_gone) in table {
        let ways = [
            (Event::TerminateRequested(key(0)), usual),
            (SMART, usual),
            (FAST, usual),
            (Event::LauncherGone, Some(launcher_gone)),
        ];
        for (event, expected) in ways {
            let row = format!("{of_cluster:?} {of_worker:?} {event:?}");
            let mut cluster = cluster(of_cluster, &[of_worker]);
            assert_eq!(cluster.step(event), [Action::Stop(key(0), StopLevel::Terminate)], "{row}");
            assert_eq!(due(&cluster), expected, "{row}");
            if let Some(expected) = expected {
                assert_eq!(cluster.later(expected), killed(0), "{row}");
            }
        }
    }
}

/// Breaks if the first grace time that is over ends all workers of a shutdown.
#[test]
fn each_worker_is_killed_at_the_end_of_its_own_grace_time() {
    let graces = [Grace::After(seconds(5)), Grace::Forever, Grace::OfCluster];
    let mut cluster = cluster(Some(seconds(2)), &graces);
    cluster.step(FAST);
    assert_eq!(cluster.later(seconds(2)), killed(2));
    assert_eq!(cluster.later(seconds(3)), killed(0));
    assert_eq!(due(&cluster), None, "worker 1 may take for ever");
    cluster.step(Event::LauncherGone);
    assert_eq!(cluster.later(BOUNDED_GRACE), killed(1), "but not without the launcher");
}

#[test]
fn a_stricter_request_keeps_running_clocks() {
    let graces = [Grace::After(seconds(3))];
    let stricter = [Event::TerminateRequested(key(0)), SMART, FAST, Event::LauncherGone, IMMEDIATE];
    let first = [Event::TerminateRequested(key(0)), FAST];
    for (first, stricter) in first.iter().flat_map(|first| stricter.iter().map(move |s| (first, s)))
    {
        let row = format!("{first:?}, then {stricter:?}");
        let mut cluster = cluster(None, &graces);
        cluster.step(first.clone());
        assert_eq!(cluster.later(seconds(2)), [], "{row}");
        cluster.step(stricter.clone());
        assert_eq!(due(&cluster), Some(seconds(1)), "{row}");
        assert_eq!(cluster.later(seconds(1)), killed(0), "{row}");
    }
}

#[test]
fn immediate_shutdown_knows_no_grace_time() {
    for grace in [Grace::After(Duration::ZERO), Grace::After(DAY), Grace::Forever] {
        let mut cluster = cluster(None, &[grace]);
        assert_eq!(cluster.step(IMMEDIATE), [Action::Stop(key(0), StopLevel::Quit)]);
        cluster.step(Event::LauncherGone);
        assert_eq!(due(&cluster), Some(QUIT_GRACE), "{grace:?}");
        assert_eq!(cluster.later(QUIT_GRACE), killed(0), "{grace:?}");
    }
}

/// Breaks if what is left of a group gets a grace time of its own after that of its leader.
#[test]
fn what_is_left_of_a_group_has_the_rest_of_the_grace_time() {
    // grace time, told to end -> when the group is killed, if the leader ends 2 s later
    let table = [
        (Grace::After(seconds(3)), true, seconds(1)),
        (Grace::After(seconds(3)), false, seconds(3)),
        (Grace::After(DAY), true, GROUP_GRACE),
        (Grace::Forever, true, GROUP_GRACE),
        (Grace::OfCluster, true, Duration::ZERO),
    ];
    for (grace, told, expected) in table {
        let mut cluster = cluster(Some(seconds(2)), &[grace]);
        if told {
            cluster.step(FAST);
        }
        cluster.later(seconds(2));
        let end = process_end(0, ExitCause::Exited(0));
        let exit = Exit { end, dirty: false, group_left: true, random: 0 };
        cluster.step(Event::ChildExited { key: key(0), exit });
        assert_eq!(due(&cluster), Some(expected), "{grace:?} {told}");
        let kill = [Action::StopGroup(pid(0), StopLevel::Kill)];
        assert_eq!(cluster.later(expected), kill, "{grace:?} {told}");
    }
}

/// Breaks if a kill waits for a clock, or spares what is left of a group.
#[test]
fn a_kill_is_at_once_and_once_and_for_all() {
    let kill = Event::KillRequested(key(0));
    let group = [Action::StopGroup(pid(0), StopLevel::Kill)];
    for told in [None, Some(Event::TerminateRequested(key(0))), Some(FAST), Some(IMMEDIATE)] {
        let mut cluster = cluster(None, &[Grace::Forever]);
        if let Some(told) = told.clone() {
            cluster.step(told);
        }
        assert_eq!(cluster.step(kill.clone()), killed(0), "{told:?}");
        assert_eq!(cluster.step(kill.clone()), [], "{told:?}");
        let end = process_end(0, ExitCause::Signaled { signal: 9, core_dumped: false });
        let exit = Exit { end, dirty: false, group_left: true, random: 0 };
        cluster.step(Event::ChildExited { key: key(0), exit });
        assert_eq!(cluster.step(kill.clone()), group, "{told:?}");
        cluster.step(Event::GroupEnded { leader: pid(0) });
        assert!(cluster.is_empty(), "{told:?}");
        assert_eq!(cluster.step(kill.clone()), [], "{told:?}");
    }
}

/// Breaks if the time holds for a smart shutdown, is told anew by a stricter one, or spares a
/// worker whose grace is longer.
#[test]
fn whoever_is_left_at_the_shutdown_timeout_is_killed() {
    let timed = || {
        let mut cluster = cluster(None, &[Grace::Forever, Grace::After(DAY)]);
        cluster.state.policy.shutdown_timeout = Some(seconds(3));
        cluster
    };
    let both = [killed(0), killed(1)].concat();
    for event in [FAST, Event::LauncherGone] {
        let mut cluster = timed();
        cluster.step(event);
        assert_eq!(cluster.later(seconds(2)), []);
        assert_eq!(cluster.later(seconds(1)), both);
    }
    let mut smart = timed();
    smart.step(SMART);
    assert_eq!(smart.later(seconds(9)), []);
    smart.step(FAST);
    assert_eq!(smart.later(seconds(2)), []);
    assert_eq!(smart.later(seconds(1)), both, "from the fast request on");
    let mut stricter = timed();
    stricter.step(FAST);
    stricter.later(seconds(1));
    stricter.step(IMMEDIATE);
    assert_eq!(stricter.later(seconds(2)), both, "a stricter mode keeps running clocks");
}

/// Breaks if a worker that others come before loses its grace while it waits, or has none when the
/// launcher has gone.
#[test]
fn a_grace_begins_when_the_worker_is_told() {
    for (event, expected) in [(FAST, Some(seconds(2))), (Event::LauncherGone, Some(seconds(2)))] {
        let own = [Grace::After(seconds(2)), Grace::Forever];
        let mut cluster = cluster(None, &own);
        cluster.state.policy.shutdown_order = ShutdownOrder::Registration;
        let launcher_gone = matches!(event, Event::LauncherGone);
        assert_eq!(cluster.step(event), [Action::Stop(key(1), StopLevel::Terminate)]);
        assert_eq!(due(&cluster), launcher_gone.then_some(BOUNDED_GRACE));
        cluster.later(seconds(30));
        let next = cluster.exits(1, ExitCause::Exited(0));
        assert!(next.contains(&Action::Stop(key(0), StopLevel::Terminate)), "{next:?}");
        assert_eq!(due(&cluster), expected);
        assert_eq!(cluster.later(seconds(2)), killed(0));
    }
    let mut all = cluster(None, &[Grace::Forever, Grace::Forever]);
    all.state.policy.shutdown_order = ShutdownOrder::Registration;
    assert_eq!(all.step(FAST).len(), 1);
    let quit = [0, 1].map(|index| Action::Stop(key(index), StopLevel::Quit));
    assert_eq!(all.step(IMMEDIATE), quit, "it knows no order");
}

//! How long a next run beside another one may take to be ready.

use super::super::action::Action;
use super::super::event::Event;
use super::super::hand_over::START_PATIENCE;
use super::super::rolls::Roll;
use super::super::stop_level::StopLevel;
use super::overlap::{EXIT_0, EXIT_1, builder, entry, exits, serving, starting, starts_beside};
use super::overlap_roll::answer;
use super::{TestCluster, key, pid, seconds};
use bgw_core::{ExitCause, RollOutcome};
use std::time::Duration;

/// Breaks if a next run that never says that it is ready keeps its berth from others for ever.
#[test]
fn a_next_run_without_a_start_timeout_has_a_minute_and_more_if_it_asks() {
    let look = [Action::LookBeside(key(0))];
    let told = Action::StopBeside(key(0), StopLevel::Terminate);
    for (timeout, patience) in [(None, START_PATIENCE), (Some(seconds(90)), seconds(90))] {
        let worker = builder();
        let worker = timeout.map_or(worker.clone(), |timeout| worker.start_timeout(timeout));
        let mut cluster = starting(worker);
        serving(&mut cluster, 1, builder());
        cluster.step(Event::JobsDone(key(1)));
        assert_eq!(cluster.later(patience - Duration::from_millis(1)), []);
        assert_eq!(cluster.later(Duration::from_millis(1)), look);
        // It has asked for as much again, then for a day, of which it gets the rest of ten times.
        for (asked, rest) in [(patience, patience), (seconds(86_400), 8 * patience)] {
            let until = Some(cluster.now + asked);
            assert_eq!(cluster.step(Event::BesideStillStarts { key: key(0), until }), []);
            assert_eq!(cluster.later(rest), look);
        }
        let out = cluster.step(Event::BesideStillStarts { key: key(0), until: None });
        assert!(out.contains(&told), "{out:?}");
        assert_eq!(cluster.state.next_to_start(), None, "it lives");
        let out = exits(&mut cluster, 0, 100, EXIT_0);
        let [Action::ReportBeside(_, ending), Action::FreeBerth(_)] = &out[..] else {
            panic!("{out:?}")
        };
        assert_eq!(ending.cause, ExitCause::StartTimedOut);
        assert_eq!(entry(&cluster, 0).pid(), Some(pid(0)));
        assert_eq!(cluster.state.next_to_start(), Some(key(1)), "who waited for the berth");
    }
    // As the worker's run it has no limit.
    let mut cluster = starting(builder());
    exits(&mut cluster, 0, 0, EXIT_1);
    assert_eq!(cluster.later(seconds(599)), []);
}

/// Breaks if a roll that gives more than a minute had only that.
#[test]
fn the_time_of_a_roll_is_that_of_its_next_runs() {
    for before in [false, true] {
        let mut cluster = TestCluster::new();
        serving(&mut cluster, 0, builder());
        if before {
            cluster.step(Event::JobsDone(key(0)));
            starts_beside(&mut cluster, 0, 100);
            cluster.later(seconds(50));
        }
        let roll = Roll {
            number: 7,
            at_once: 1,
            ready_within: seconds(300),
            stop_first: false,
            workers: vec![key(0)],
        };
        cluster.step(Event::RollRequested(roll));
        if !before {
            starts_beside(&mut cluster, 0, 100);
        }
        assert_eq!(cluster.later(seconds(299)), [], "{before}");
        let out = cluster.later(seconds(1));
        assert_eq!(answer(&out), Some(vec![RollOutcome::NotReady]), "{before}");
        assert!(out.contains(&Action::StopBeside(key(0), StopLevel::Terminate)), "{out:?}");
    }
}

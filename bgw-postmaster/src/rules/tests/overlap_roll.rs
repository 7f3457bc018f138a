//! Rolls whose next runs start beside the serving ones.

use super::super::action::Action;
use super::super::cluster::Policy;
use super::super::event::Event;
use super::super::registry::Entry;
use super::super::rolls::Roll;
use super::super::stop_level::StopLevel;
use super::overlap::{EXIT_0, EXIT_1, builder, entry, exits, of, serving, starting, starts_beside};
use super::{TestCluster, key, pid, seconds};
use bgw_core::{BackgroundWorker, Ready, RestartPolicy, RollOutcome};

/// Workers that are ready, and a roll over them.
fn rolling(count: u32, overlap: u32) -> TestCluster {
    let mut cluster = TestCluster::with(Policy { overlap, ..Policy::default() });
    for index in 0..count {
        let worker = BackgroundWorker::builder("w").function("f").ready(Ready::Call);
        serving(&mut cluster, index, worker.restart(RestartPolicy::after_secs(5)));
    }
    let (at_once, workers) = (overlap as usize, (0..count).map(key).collect());
    let roll = Roll { number: 7, at_once, ready_within: seconds(10), stop_first: false, workers };
    cluster.step(Event::RollRequested(roll));
    cluster
}

pub(super) fn answer(out: &[Action]) -> Option<Vec<RollOutcome>> {
    out.iter().find_map(|action| match action {
        Action::RollEnded(7, outcomes) => Some(outcomes.clone()),
        _ => None,
    })
}

fn are_ready(cluster: &TestCluster) -> usize {
    let ready = |entry: &&Entry| entry.pid().is_some() && entry.ready_at.is_some();
    cluster.state.registry().iter().filter(ready).count()
}

#[test]
fn during_a_roll_no_fewer_are_ready_than_before() {
    for overlap in 1..=3 {
        let mut cluster = rolling(4, overlap);
        let mut out = Vec::new();
        let mut turn = 0;
        for index in 0..4 {
            while let Some(key) = cluster.state.next_to_start() {
                let process = pid(of(key.index, 1));
                cluster.step(Event::Forked { key, pid: process, random: 0 });
                turn += 1;
            }
            assert_eq!(turn, (index + overlap).min(4));
            cluster.step(Event::ReadyBeside(key(index)));
            assert_eq!(are_ready(&cluster), 4);
            // Long after the time of the next run: it is ready.
            assert_eq!(answer(&cluster.later(seconds(1))), None);
            out = exits(&mut cluster, index, index, EXIT_0);
            assert_eq!(are_ready(&cluster), 4);
        }
        assert_eq!(answer(&out), Some(vec![RollOutcome::Done; 4]));
        assert_eq!(cluster.state.next_deadline(), None);
    }
}

#[test]
fn a_roll_has_no_second_try_and_stops_what_is_late() {
    use RollOutcome::{Ended, NotBegun, NotReady};
    let mut cluster = rolling(2, 1);
    starts_beside(&mut cluster, 0, 100);
    let out = exits(&mut cluster, 0, 100, EXIT_1);
    assert_eq!(answer(&out), Some(vec![Ended, NotBegun]));
    assert_eq!((entry(&cluster, 0).overlap, are_ready(&cluster)), (None, 2));
    assert_eq!((cluster.state.next_to_start(), cluster.state.next_deadline()), (None, None));
    let mut cluster = rolling(2, 1);
    // It waits for its fork: no time passes.
    assert_eq!(answer(&cluster.later(seconds(11))), None);
    starts_beside(&mut cluster, 0, 100);
    let out = cluster.later(seconds(10));
    assert_eq!(answer(&out), Some(vec![NotReady, NotBegun]));
    assert!(out.contains(&Action::StopBeside(key(0), StopLevel::Terminate)), "{out:?}");
    exits(&mut cluster, 0, 100, EXIT_0);
    assert_eq!((entry(&cluster, 0).overlap, are_ready(&cluster)), (None, 2));
    let mut cluster = rolling(1, 1);
    starts_beside(&mut cluster, 0, 100);
    // The old run fails: the next one is what follows, and has its time.
    assert_eq!(answer(&exits(&mut cluster, 0, 0, EXIT_1)), None);
    assert_eq!(answer(&cluster.step(Event::Ready(key(0)))), Some(vec![RollOutcome::Done]));
}

#[test]
fn a_worker_that_is_being_recycled_is_rolled_too() {
    for state in ["due", "pausing", "starting", "leaving"] {
        let mut cluster = starting(builder());
        match state {
            "due" => {
                serving(&mut cluster, 1, builder());
                cluster.step(Event::JobsDone(key(1)));
            }
            "pausing" => drop(exits(&mut cluster, 0, 100, EXIT_1)),
            "leaving" => drop(cluster.step(Event::ReadyBeside(key(0)))),
            _ => {}
        }
        let rolled = u32::from(state == "due");
        let (number, at_once, ready_within) = (7, 1, seconds(10));
        let workers = vec![key(rolled)];
        let roll = Roll { number, at_once, ready_within, stop_first: false, workers };
        assert_eq!(answer(&cluster.step(Event::RollRequested(roll))), None, "{state}");
        let mut old = of(rolled, 0);
        match state {
            "due" => {
                cluster.step(Event::ReadyBeside(key(0)));
                exits(&mut cluster, 0, 0, EXIT_0);
            }
            "leaving" => {
                exits(&mut cluster, 0, 0, EXIT_0);
                old = 100;
            }
            _ => {}
        }
        if state != "starting" {
            starts_beside(&mut cluster, rolled, 300);
        }
        assert_eq!(answer(&cluster.step(Event::ReadyBeside(key(rolled)))), None, "{state}");
        let out = exits(&mut cluster, rolled, old, EXIT_0);
        assert_eq!(answer(&out), Some(vec![RollOutcome::Done]), "{state}");
    }
}

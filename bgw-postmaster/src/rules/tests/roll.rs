//! Rolls.

use super::super::action::Action;
use super::super::event::Event;
use super::super::roll::RollObjection;
use super::super::rolls::Roll;
use super::super::stop_level::StopLevel;
use super::{CRASH, SHARED, TestCluster, key, pid, seconds, worker};
use bgw_core::{
    BackgroundWorker, ExitCause, Ready, RestartPolicy, RollOutcome,
    RollOutcome::{Done, Ended, NotBegun, NotReady},
    ShutdownMode,
};
use std::time::Duration;

const EXIT_0: ExitCause = ExitCause::Exited(0);
const EXIT_1: ExitCause = ExitCause::Exited(1);
const WITHIN: Duration = seconds(10);

/// Workers that are ready, and a roll over them.
fn rolling(count: u32, at_once: usize) -> (TestCluster, Vec<Action>) {
    let mut cluster = TestCluster::new();
    for index in 0..count {
        let worker = BackgroundWorker::builder("w").function("f").ready(Ready::Call);
        let worker = worker.restart(RestartPolicy::after_secs(5)).build().unwrap();
        cluster.register(index, Box::new(worker));
        cluster.starts(index);
        cluster.step(Event::Ready(key(index)));
    }
    let workers = (0..count).map(key).collect();
    let roll = Roll { number: 7, at_once, ready_within: WITHIN, stop_first: true, workers };
    let out = cluster.step(Event::RollRequested(roll));
    (cluster, out)
}

/// Who is told to make place.
fn told(out: &[Action]) -> Vec<u32> {
    let told = |action: &Action| match action {
        Action::Stop(key, StopLevel::Terminate) => Some(key.index),
        _ => None,
    };
    out.iter().filter_map(told).collect()
}

fn answer(out: &[Action]) -> Option<Vec<RollOutcome>> {
    out.iter().find_map(|action| match action {
        Action::RollEnded(7, outcomes) => Some(outcomes.clone()),
        _ => None,
    })
}

/// The old run ends and the next one starts.
fn makes_place(cluster: &mut TestCluster, index: u32) {
    let out = cluster.exits(index, EXIT_0);
    assert_eq!((told(&out), answer(&out)), (vec![], None));
    cluster.starts(index);
}

#[test]
fn workers_make_place_one_by_one_or_as_many_as_may_and_the_next_one_once_one_is_ready() {
    for at_once in 1..=5 {
        let (mut cluster, mut out) = rolling(4, at_once);
        let mut begun = Vec::new();
        for index in 0..4 {
            begun.extend(told(&out));
            assert_eq!(begun.len(), (index as usize + at_once).min(4), "{at_once} at once");
            assert_eq!(answer(&out), None);
            makes_place(&mut cluster, index);
            out = cluster.step(Event::Ready(key(index)));
        }
        assert_eq!(begun, [0, 1, 2, 3]);
        assert_eq!(answer(&out), Some(vec![Done; 4]), "{at_once} at once");
        for entry in cluster.state.registry().iter() {
            assert_eq!((entry.restarts, entry.streak.failures), (0, 0));
        }
        assert_eq!(cluster.state.next_deadline(), None);
    }
    assert_eq!(answer(&rolling(0, 1).1), Some(vec![]));
}

/// Fails if a roll goes on after a failure, or leaves a worker in hand alone.
#[test]
fn a_roll_stops_at_its_first_failure_and_sees_those_in_hand_through() {
    let (mut cluster, _) = rolling(4, 2);
    makes_place(&mut cluster, 0);
    // The next run fails, while the old one of the other worker in hand still lives.
    let out = cluster.exits(0, EXIT_1);
    assert_eq!((told(&out), answer(&out)), (vec![], None));
    makes_place(&mut cluster, 1);
    let out = cluster.step(Event::Ready(key(1)));
    assert_eq!(told(&out), [0; 0]);
    assert_eq!(answer(&out), Some(vec![Ended, Done, NotBegun, NotBegun]));
    // What failed is restarted by its policy.
    cluster.later(seconds(5));
    cluster.starts(0);
}

#[test]
fn a_next_run_that_is_not_ready_in_time_fails_the_roll_and_goes_on() {
    let (mut cluster, _) = rolling(2, 1);
    // However long the old one takes.
    cluster.later(seconds(55));
    makes_place(&mut cluster, 0);
    let out = cluster.later(WITHIN - Duration::from_millis(1));
    assert_eq!(answer(&out), None);
    let out = cluster.later(Duration::from_millis(1));
    assert_eq!(answer(&out), Some(vec![NotReady, NotBegun]));
    assert_eq!(told(&out), [0; 0]);
    assert_eq!(cluster.state.registry().get(key(0)).unwrap().pid(), Some(pid(0)));
}

/// Fails if a start that has to be tried again counts as a failed run.
#[test]
fn a_lost_start_and_a_failed_fork_are_no_failure_while_there_is_time() {
    let (mut cluster, _) = rolling(1, 1);
    makes_place(&mut cluster, 0);
    assert_eq!(answer(&cluster.step(Event::StartLost { key: key(0), pid: pid(0) })), None);
    assert_eq!(cluster.state.next_to_start(), Some(key(0)));
    let failed = Event::ForkFailed { key: key(0), errno: libc::EAGAIN, random: 0 };
    assert_eq!(answer(&cluster.step(failed)), None);
    cluster.later(seconds(5));
    cluster.starts(0);
    assert_eq!(answer(&cluster.step(Event::Ready(key(0)))), Some(vec![Done]));
}

#[test]
fn a_worker_that_is_terminated_or_gone_fails_the_roll() {
    let (mut cluster, _) = rolling(2, 1);
    let out = cluster.step(Event::TerminateRequested(key(0)));
    assert_eq!(answer(&out), Some(vec![Ended, NotBegun]));
    let (mut cluster, _) = rolling(2, 1);
    cluster.step(Event::TerminateRequested(key(1)));
    cluster.exits(1, EXIT_0);
    makes_place(&mut cluster, 0);
    assert_eq!(answer(&cluster.step(Event::Ready(key(0)))), Some(vec![Done, Ended]));
}

#[test]
fn a_reset_and_a_shutdown_end_rolls() {
    let (mut cluster, _) = rolling(2, 1);
    cluster.register(5, worker(SHARED, RestartPolicy::Never));
    cluster.starts(5);
    let out = cluster.exits(5, CRASH);
    assert_eq!(answer(&out), Some(vec![RollOutcome::Reset, NotBegun]));
    let (mut cluster, _) = rolling(2, 1);
    let out = cluster.step(Event::ShutdownRequested(ShutdownMode::Fast));
    assert_eq!(answer(&out), Some(vec![RollOutcome::ShuttingDown, NotBegun]));
}

#[test]
fn a_worker_in_a_pause_starts_at_once_and_counts_once_it_is_ready() {
    let (mut cluster, _) = rolling(2, 1);
    cluster.exits_after(1, EXIT_1, Duration::ZERO);
    makes_place(&mut cluster, 0);
    cluster.step(Event::Ready(key(0)));
    cluster.starts(1);
    assert_eq!(answer(&cluster.step(Event::Ready(key(1)))), Some(vec![Done, Done]));
    assert_eq!(cluster.state.registry().get(key(1)).unwrap().streak.failures, 1);
}

#[test]
fn each_objection_holds() {
    let (mut cluster, _) = rolling(2, 1);
    let object = |cluster: &TestCluster, index| cluster.state.objection_to_roll(key(index));
    for index in 0..2 {
        assert_eq!(object(&cluster, index), Some(RollObjection::RolledAlready));
    }
    makes_place(&mut cluster, 0);
    cluster.step(Event::Ready(key(0)));
    assert_eq!(object(&cluster, 0), None, "it is done");
    cluster.register(2, worker(SHARED, RestartPolicy::Never));
    assert_eq!(object(&cluster, 2), Some(RollObjection::NeverRestarted));
    cluster.register(3, worker(SHARED, RestartPolicy::after_secs(1)));
    assert_eq!(object(&cluster, 3), Some(RollObjection::Undeclared));
    assert_eq!(object(&cluster, 4), Some(RollObjection::NotRegistered));
}

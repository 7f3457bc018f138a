//! Named groups: OTP's table of restarts, and the rounds.

use super::super::action::Action;
use super::super::cluster::{Cluster, Policy};
use super::super::event::Event;
use super::super::registry::Progress;
use super::super::stop_level::StopLevel;
use super::{CRASH, ISOLATED, SHARED, TestCluster, key, never_ran, pid, seconds};
use crate::named_group::{Group, Strategy};
use bgw_core::{
    BackgroundWorker, BackgroundWorkerBuilder, ExitCause, NotStarted, Ready, RestartOn,
    RestartPolicy, WorkerFlags,
};
use std::collections::HashMap;
use std::time::Instant;

pub(super) const EXIT_0: ExitCause = ExitCause::Exited(0);
pub(super) const EXIT_1: ExitCause = ExitCause::Exited(1);

pub(super) const STRATEGIES: [Strategy; 3] =
    [Strategy::OneForOne, Strategy::RestForOne, Strategy::OneForAll];

pub(super) fn member() -> BackgroundWorkerBuilder {
    BackgroundWorker::builder("m").function("f").group("g")
}

pub(super) fn restarting() -> BackgroundWorkerBuilder {
    member().restart(RestartPolicy::after_secs(5)).reset_after(seconds(1))
}

/// A cluster with one group, and its members, which run.
pub(super) fn group(group: Group, members: &[BackgroundWorkerBuilder]) -> TestCluster {
    let state = Cluster::new(Policy::default()).with_groups(vec![group]);
    let mut cluster = TestCluster { state, now: Instant::now() };
    for (index, builder) in (0..).zip(members) {
        cluster.register(index, Box::new(builder.clone().build().unwrap()));
        cluster.starts(index);
        cluster.step(Event::Ready(key(index)));
    }
    cluster
}

fn named(strategy: Strategy) -> Group {
    Group::new("g").strategy(strategy).intensity(100, seconds(3600))
}

fn three(strategy: Strategy) -> TestCluster {
    group(named(strategy), &[restarting(), restarting(), restarting()])
}

/// Who gets the stop signal by these actions.
pub(super) fn told(actions: &[Action]) -> Vec<u32> {
    let told = actions.iter().filter_map(|action| match action {
        Action::Stop(key, StopLevel::Terminate) => Some(key.index),
        _ => None,
    });
    told.collect()
}

pub(super) fn unregistered(actions: &[Action]) -> Vec<u32> {
    let gone = actions.iter().filter_map(|action| match action {
        Action::Unregister(key, _) => Some(key.index),
        _ => None,
    });
    gone.collect()
}

impl TestCluster {
    fn next_ones(&mut self) -> Vec<u32> {
        std::iter::from_fn(|| self.state.next_to_start()).map(|key| key.index).collect()
    }

    /// Has the next ones stop that are told to, until nobody is. Returns their order.
    pub(super) fn stop_all_told(&mut self, mut actions: Vec<Action>) -> Vec<u32> {
        let mut order = Vec::new();
        while let [index] = told(&actions)[..] {
            order.push(index);
            actions = self.exits(index, EXIT_0);
        }
        order
    }

    /// Starts one after the other, until nobody is to start. Returns their order.
    pub(super) fn start_all(&mut self) -> Vec<u32> {
        let mut order = Vec::new();
        while let [index] = self.next_ones()[..] {
            order.push(index);
            self.step(Event::Forked { key: key(index), pid: pid(index), random: 0 });
            self.step(Event::Ready(key(index)));
        }
        order
    }

    pub(super) fn all_running(&self) -> Vec<u32> {
        let running = |entry: &&super::super::registry::Entry| {
            matches!(entry.progress, Progress::Running { .. })
        };
        self.state.registry().iter().filter(running).map(|entry| entry.key.index).collect()
    }
}

/// OTP's table: which ends of which child are followed by a restart, and whom it concerns.
#[test]
fn a_member_s_end_concerns_whom_the_strategy_says() {
    let temporary = member();
    let transient = restarting();
    let permanent = restarting().restart_on(RestartOn::Always);
    let abnormal = restarting().restart_on(RestartOn::OnAbnormal);
    // A member; whether exit 0, exit 1 and a crash restart it.
    let table = [
        (temporary, [false, false, false]),
        (transient, [false, true, true]),
        (permanent, [true, true, true]),
        (abnormal, [false, false, true]),
    ];
    // Who starts again when member 1 is restarted, and the order in which the others stop.
    let concerned: [(&[u32], &[u32]); 3] = [(&[1], &[]), (&[1, 2], &[2]), (&[0, 1, 2], &[2, 0])];
    for (strategy, (again, others)) in STRATEGIES.into_iter().zip(concerned) {
        for (middle, restarts) in &table {
            for (cause, restarted) in [EXIT_0, EXIT_1, CRASH].into_iter().zip(restarts) {
                let case = format!("{strategy:?}, {middle:?}, {cause}");
                let members = [restarting(), middle.clone(), restarting()];
                let mut cluster = group(named(strategy), &members);
                let actions = cluster.exits(1, cause);
                if !restarted {
                    assert_eq!(unregistered(&actions), [1], "{case}");
                    assert_eq!(told(&actions), [0; 0], "{case}");
                    assert_eq!(cluster.all_running(), [0, 2], "{case}");
                    continue;
                }
                assert_eq!(unregistered(&actions), [0; 0], "{case}");
                assert_eq!(cluster.stop_all_told(actions), others, "{case}");
                assert_eq!(cluster.start_all(), [0; 0], "the pause comes first: {case}");
                cluster.later(seconds(5));
                assert_eq!(cluster.start_all(), again, "{case}");
                assert_eq!(cluster.all_running(), [0, 1, 2], "{case}");
            }
        }
    }
}

#[test]
fn a_crash_that_leaves_shared_state_in_doubt_resets_the_cluster_and_starts_in_order() {
    for strategy in STRATEGIES {
        let shared = restarting().flags(SHARED).ready(Ready::Call);
        let mut cluster = group(named(strategy), &[shared.clone(), shared.clone(), shared]);
        let actions = cluster.exits(1, CRASH);
        assert_eq!(told(&actions), [0; 0]);
        let quits =
            actions.iter().filter(|action| matches!(action, Action::Stop(_, StopLevel::Quit)));
        assert_eq!(quits.count(), 2, "{actions:?}");
        cluster.exits(0, ExitCause::Exited(2));
        let actions = cluster.exits(2, ExitCause::Exited(2));
        assert!(
            actions.iter().any(|action| matches!(action, Action::ResetSlots(_))),
            "{actions:?}"
        );
        let new_keys: HashMap<_, _> = (0..3).map(|index| (key(index), key(index))).collect();
        cluster.step(Event::SlotsReset { new_keys });
        assert_eq!(cluster.start_all(), [0, 1, 2]);
        assert_eq!(cluster.all_running(), [0, 1, 2]);
    }
}

/// Would fail if readiness were not waited for, or were waited for where nobody promises it.
#[test]
fn members_start_one_by_one_each_when_the_one_before_is_ready() {
    let declared = restarting().ready(Ready::Call);
    let members = [declared.clone(), restarting(), declared, restarting()];
    let mut cluster = group(named(Strategy::OneForAll), &members);
    let actions = cluster.exits(0, EXIT_1);
    assert_eq!(cluster.stop_all_told(actions), [3, 2, 1]);
    cluster.later(seconds(5));
    let forks = |cluster: &mut TestCluster, index| {
        assert_eq!(cluster.next_ones(), [index]);
        cluster.step(Event::Forked { key: key(index), pid: pid(index), random: 0 });
    };
    forks(&mut cluster, 0);
    assert_eq!(cluster.next_ones(), [0; 0], "the first has not said that it is ready");
    cluster.step(Event::Ready(key(0)));
    forks(&mut cluster, 1);
    forks(&mut cluster, 2);
    assert_eq!(cluster.next_ones(), [0; 0]);
    cluster.step(Event::Ready(key(2)));
    forks(&mut cluster, 3);
    assert!(cluster.state.named[0].round.is_none());
}

#[test]
fn a_failure_while_the_round_starts_stops_those_again_that_it_concerns() {
    for (strategy, others) in [(Strategy::RestForOne, &[][..]), (Strategy::OneForAll, &[0][..])] {
        let mut cluster = three(strategy);
        let actions = cluster.exits(0, EXIT_1);
        assert_eq!(cluster.stop_all_told(actions), [2, 1]);
        cluster.later(seconds(5));
        for index in [0, 1] {
            assert_eq!(cluster.next_ones(), [index]);
            if index == 0 {
                cluster.step(Event::Forked { key: key(0), pid: pid(0), random: 0 });
            }
        }
        cluster.step(Event::Forked { key: key(1), pid: pid(1), random: 0 });
        // Member 2 is about to start.
        let actions = cluster.exits(1, EXIT_1);
        assert_eq!(cluster.stop_all_told(actions), others, "{strategy:?}");
        assert_eq!(cluster.next_ones(), [0; 0], "member 2 waits");
        cluster.later(seconds(5));
        let all: &[u32] = if others.is_empty() { &[1, 2] } else { &[0, 1, 2] };
        assert_eq!(cluster.start_all(), all);
    }
}

/// Would fail if an end during the stop were a failure of its own.
#[test]
fn ends_while_the_round_stops_belong_to_it() {
    let limits = Group::new("g").strategy(Strategy::OneForAll).intensity(1, seconds(3600));
    let mut cluster = group(limits, &[restarting(), restarting(), restarting()]);
    let actions = cluster.exits(1, EXIT_1);
    assert_eq!(told(&actions), [2]);
    let by_itself = cluster.exits(0, CRASH);
    assert_eq!((told(&by_itself), unregistered(&by_itself)), (vec![], vec![]));
    let killed = ExitCause::Signaled { signal: 9, core_dumped: false };
    let last = cluster.exits(2, killed);
    assert_eq!(unregistered(&last), [0; 0]);
    cluster.later(seconds(5));
    assert_eq!(cluster.start_all(), [0, 1, 2]);
    let streak = |index| cluster.state.registry().get(key(index)).unwrap().streak.failures;
    assert_eq!([0, 1, 2].map(streak), [0, 1, 0], "the others are as they were");
}

#[test]
fn siblings_that_never_restart_are_stopped_and_unregistered() {
    let members = [member(), restarting(), member()];
    let mut cluster = group(named(Strategy::OneForAll), &members);
    let actions = cluster.exits(1, EXIT_1);
    assert_eq!(told(&actions), [2]);
    let actions = cluster.exits(2, EXIT_0);
    assert_eq!((unregistered(&actions), told(&actions)), (vec![2], vec![0]));
    assert_eq!(unregistered(&cluster.exits(0, EXIT_0)), [0]);
    cluster.later(seconds(5));
    assert_eq!(cluster.start_all(), [1]);
}

/// Would hang if a round waited for a member that has gone.
#[test]
fn a_terminated_member_leaves_the_others_wherever_the_round_is() {
    // Before the round: nobody else is concerned.
    let mut cluster = three(Strategy::OneForAll);
    let terminate = |index| Event::TerminateRequested(key(index));
    assert_eq!(told(&cluster.step(terminate(1))), [1]);
    assert_eq!(told(&cluster.exits(1, EXIT_1)), [0; 0]);
    assert_eq!(cluster.all_running(), [0, 2]);

    for terminated in 0..3 {
        // While it stops: 1 has failed, 2 is told.
        let mut cluster = three(Strategy::OneForAll);
        cluster.exits(1, EXIT_1);
        let mut actions = cluster.step(terminate(terminated));
        if terminated == 0 {
            assert_eq!(told(&actions), [0]);
            assert_eq!(unregistered(&cluster.exits(0, EXIT_0)), [0]);
        }
        actions.extend(cluster.exits(2, EXIT_0));
        if told(&actions).contains(&0) && terminated != 0 {
            cluster.exits(0, EXIT_0);
        }
        if terminated != 1 {
            assert_eq!(cluster.start_all(), [0; 0], "the pause of 1");
            cluster.later(seconds(5));
        }
        let left: Vec<u32> = (0..3).filter(|&index| index != terminated).collect();
        assert_eq!(cluster.start_all(), left, "terminated: {terminated}");

        // While it pauses.
        let mut cluster = three(Strategy::OneForAll);
        let actions = cluster.exits(1, EXIT_1);
        assert_eq!(cluster.stop_all_told(actions), [2, 0]);
        assert_eq!(unregistered(&cluster.step(terminate(terminated))), [terminated]);
        if terminated != 1 {
            assert_eq!(cluster.start_all(), [0; 0], "the pause of 1");
            cluster.later(seconds(5));
        }
        assert_eq!(cluster.start_all(), left, "terminated: {terminated}");
    }

    // While it starts, and the others wait for this one to be ready.
    let declared = restarting().ready(Ready::Call);
    let members = [declared.clone(), declared.clone(), declared];
    let mut cluster = group(named(Strategy::OneForAll), &members);
    let actions = cluster.exits(1, EXIT_1);
    cluster.stop_all_told(actions);
    cluster.later(seconds(5));
    cluster.starts(0);
    assert_eq!(told(&cluster.step(terminate(0))), [0]);
    assert_eq!(cluster.next_ones(), [0; 0]);
    assert_eq!(unregistered(&cluster.exits(0, EXIT_0)), [0]);
    assert_eq!(cluster.start_all(), [1, 2]);
}

#[test]
fn a_member_that_waits_for_another_worker_does_not_hold_the_round_up() {
    let mut cluster = group(named(Strategy::OneForAll), &[]);
    let target = BackgroundWorker::builder("t").function("f").unique();
    let target = target.restart(RestartPolicy::after_secs(60));
    cluster.register(0, Box::new(target.build().unwrap()));
    cluster.starts(0);
    let waiting = restarting().after("t", bgw_core::After::Started);
    for (index, builder) in [(1, waiting), (2, restarting())] {
        cluster.register(index, Box::new(builder.build().unwrap()));
        cluster.starts(index);
    }
    cluster.exits(0, EXIT_1);
    let actions = cluster.exits(2, EXIT_1);
    assert_eq!(cluster.stop_all_told(actions), [1]);
    cluster.later(seconds(5));
    assert_eq!(cluster.start_all(), [2]);
    cluster.later(seconds(55));
    assert_eq!(cluster.start_all(), [0, 1]);
}

#[test]
fn a_worker_of_an_unknown_group_is_refused() {
    let mut cluster = TestCluster::new();
    let actions = cluster.register(0, Box::new(member().build().unwrap()));
    let cause = ExitCause::NotStarted(NotStarted::Refused);
    assert!(actions.contains(&Action::Unregister(key(0), never_ran(cause, 0, None))));
    let isolated = WorkerFlags::CLASS_PARALLEL | ISOLATED;
    assert_eq!(member().flags(isolated).build().unwrap_err().field(), "group");
}

//! Workers that start after others, and unique names.

use super::super::action::{Action, News};
use super::super::after::{Standing, standing};
use super::super::event::Event;
use super::super::registry::{Entry, NotifyTarget, Progress};
use super::{TestCluster, key, never_ran, pid, seconds};
use bgw_core::{
    After, BackgroundWorker, BackgroundWorkerBuilder, ExitCause, NotStarted, Ready, RestartPolicy,
};
use std::time::Instant;

const EXIT_0: ExitCause = ExitCause::Exited(0);
const EXIT_1: ExitCause = ExitCause::Exited(1);

fn named(name: &str) -> BackgroundWorkerBuilder {
    BackgroundWorker::builder(name).function("f").unique().ready(Ready::Call)
}

fn restarting(name: &str) -> BackgroundWorkerBuilder {
    named(name).restart(RestartPolicy::after_secs(5))
}

impl TestCluster {
    fn add(&mut self, index: u32, builder: BackgroundWorkerBuilder) -> Vec<Action> {
        self.register(index, Box::new(builder.build().unwrap()))
    }

    fn queue(&mut self) -> Vec<u32> {
        std::iter::from_fn(|| self.state.next_to_start()).map(|key| key.index).collect()
    }
}

/// What follows when worker `index` does not start, for this reason.
fn not_started(index: u32, why: NotStarted) -> [Action; 2] {
    let ending = never_ran(ExitCause::NotStarted(why), 0, None);
    [
        Action::Unregister(key(index), ending),
        Action::Notify(NotifyTarget::Session(index.into()), News::Ended),
    ]
}

#[test]
fn each_condition_holds_as_the_table_has_it() {
    let entry = |progress, ready| Entry {
        progress,
        ready_at: ready,
        ..Entry::new(key(0), named("a").build().unwrap(), None)
    };
    let now = Instant::now();
    let running = Progress::Running { pid: pid(0), stop_signal: None };
    let told = Entry { terminate: true, ..entry(running, Some(now)) };
    let lost = || Standing::Lost(Box::default());
    let waits = || Standing::Waits;
    let met = || Standing::Met;
    let table = [
        (None, [lost(), lost(), lost()]),
        (Some(entry(Progress::Clearing { restart: None }, None)), [lost(), lost(), lost()]),
        (Some(entry(Progress::Clearing { restart: Some(now) }, None)), [waits(), waits(), waits()]),
        (Some(entry(Progress::Unstarted, None)), [waits(), waits(), waits()]),
        (Some(entry(Progress::Resting { due: now }, Some(now))), [waits(), waits(), waits()]),
        (Some(told), [waits(), waits(), waits()]),
        (Some(entry(running, None)), [met(), waits(), waits()]),
        (Some(entry(running, Some(now))), [met(), met(), waits()]),
    ];
    for (target, row) in &table {
        let conditions = [After::Started, After::Ready, After::Done];
        let found = conditions.map(|condition| standing(condition, target.as_ref(), false));
        assert_eq!(&found, row, "{target:?}");
        assert_eq!(standing(After::Done, target.as_ref(), true), Standing::Met);
        assert_eq!(standing(After::Started, target.as_ref(), true), row[0]);
    }
}

#[test]
fn a_second_unique_worker_of_a_name_is_refused_until_the_first_has_ended() {
    let mut cluster = TestCluster::new();
    cluster.add(0, named("a"));
    assert_eq!(cluster.add(1, named("a")), not_started(1, NotStarted::NameTaken));
    cluster.add(2, BackgroundWorker::builder("a").function("f"));
    assert_eq!(cluster.queue(), [0, 2], "a name that is not unique does not count");
    cluster.step(Event::Forked { key: key(0), pid: pid(0), random: 0 });
    cluster.exits(0, EXIT_1);
    assert_eq!(cluster.add(3, named("a")), []);
    assert_eq!(cluster.add(4, named("a")), not_started(4, NotStarted::NameTaken));
}

#[test]
fn a_worker_starts_once_all_its_conditions_hold_at_once() {
    let mut cluster = TestCluster::new();
    cluster.add(0, restarting("a"));
    cluster.add(1, named("b"));
    let third =
        named("c").after("a", After::Started).after("a", After::Ready).after("b", After::Done);
    cluster.add(2, third);
    assert_eq!(cluster.queue(), [0, 1]);
    cluster.step(Event::Forked { key: key(0), pid: pid(0), random: 0 });
    cluster.step(Event::Forked { key: key(1), pid: pid(1), random: 0 });
    cluster.exits(1, EXIT_0);
    assert_eq!(cluster.queue(), [0; 0], "a is not ready");
    cluster.step(Event::Ready(key(0)));
    assert_eq!(cluster.state.start_queue.len(), 1);
    cluster.exits(0, EXIT_1);
    assert_eq!(cluster.queue(), [0; 0], "a failed before c was forked");
    cluster.later(seconds(5));
    cluster.starts(0);
    assert_eq!(cluster.queue(), [0; 0], "the run of before was ready, this one is not");
    cluster.step(Event::Ready(key(0)));
    assert_eq!(cluster.queue(), [2]);
}

#[test]
fn a_target_that_ends_for_good_ends_the_whole_chain_that_waits() {
    let mut cluster = TestCluster::new();
    cluster.add(0, named("a"));
    cluster.add(1, named("b").after("a", After::Ready));
    cluster.add(2, named("c").after("b", After::Started));
    cluster.add(3, named("d").after("b", After::Done));
    // It waits for its target and for its phase.
    cluster.starts(0);
    let mut expected = Vec::new();
    let actions = cluster.exits(0, EXIT_0);
    expected.extend(actions[..2].iter().cloned());
    for index in [1, 2, 3] {
        expected.extend(not_started(index, NotStarted::Dependency));
    }
    let sorted = |mut actions: Vec<Action>| {
        actions.sort_by_key(|action| format!("{action:?}"));
        actions
    };
    assert_eq!(sorted(actions), sorted(expected));
    assert!(cluster.is_empty());
}

#[test]
fn a_running_dependent_is_left_alone_and_looks_at_its_next_start() {
    let mut cluster = TestCluster::new();
    cluster.add(0, named("a"));
    cluster.add(1, restarting("b").after("a", After::Started));
    cluster.starts(0);
    cluster.starts(1);
    let actions = cluster.exits(0, EXIT_1);
    assert!(!actions.iter().any(|action| matches!(action, Action::Stop(..))), "{actions:?}");
    cluster.exits(1, EXIT_1);
    let actions = cluster.later(seconds(5));
    assert!(matches!(actions[..], [Action::Unregister(..), Action::Notify(..)]), "{actions:?}");
    assert!(cluster.is_empty());
}

#[test]
fn a_name_that_is_unknown_or_closes_a_circle_is_refused() {
    let mut cluster = TestCluster::new();
    let refused = |index| not_started(index, NotStarted::Refused);
    assert_eq!(cluster.add(0, named("a").after("x", After::Started)), refused(0));
    cluster.add(1, named("a"));
    cluster.add(2, named("b").after("a", After::Started));
    cluster.starts(1);
    cluster.starts(2);
    cluster.exits(1, EXIT_0);
    assert_eq!(cluster.add(3, named("a").after("b", After::Started)), refused(3));
    assert_eq!(cluster.add(4, named("a")), []);
}

/// Would overflow the stack if each step of the chain were a call.
#[test]
fn a_long_chain_that_is_lost_takes_no_stack() {
    let mut cluster = TestCluster::new();
    cluster.add(0, named("0"));
    for index in 1..50_000u32 {
        let before = (index - 1).to_string();
        cluster.add(index, named(&index.to_string()).after(before, After::Started));
    }
    cluster.step(Event::TerminateRequested(key(0)));
    assert!(cluster.is_empty());
}

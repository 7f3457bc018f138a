//! Next runs that start beside the serving ones.

use super::super::action::{Action, News};
use super::super::cluster::{Policy, Stage};
use super::super::ending::{Ending, Exit};
use super::super::event::Event;
use super::super::overlap::Overlap;
use super::super::registry::{Entry, NotifyTarget, Progress};
use super::super::stop_level::StopLevel;
use super::{CRASH, SHARED, TestCluster, key, pid, process_end, seconds, worker};
use bgw_core::{
    AskedBy, BackgroundWorker, BackgroundWorkerBuilder, ExitCause, Grace, Ready, Recycle, Recycled,
    RestartPolicy, ShutdownMode,
};
use std::collections::HashMap;
use std::time::Duration;

pub(super) const EXIT_0: ExitCause = ExitCause::Exited(0);
pub(super) const EXIT_1: ExitCause = ExitCause::Exited(1);

pub(super) fn builder() -> BackgroundWorkerBuilder {
    let recycle = Recycle::new().jobs(10).lifetime(seconds(600)).jitter(0.0).overlap();
    let worker = BackgroundWorker::builder("w").function("f").ready(Ready::Call);
    worker.restart(RestartPolicy::after_secs(5)).grace(Grace::After(seconds(60))).recycle(recycle)
}

/// A worker that is ready.
pub(super) fn serving(cluster: &mut TestCluster, index: u32, builder: BackgroundWorkerBuilder) {
    cluster.register(index, Box::new(builder.build().unwrap()));
    cluster.starts(index);
    cluster.step(Event::Ready(key(index)));
}

/// The process of run `run` of worker `index`.
pub(super) fn of(index: u32, run: u32) -> u32 {
    index + 100 * run
}

/// The next run of worker `index` starts, as process number `process`.
pub(super) fn starts_beside(cluster: &mut TestCluster, index: u32, process: u32) -> Vec<Action> {
    assert_eq!(cluster.state.next_to_start(), Some(key(index)));
    assert!(cluster.state.starts_beside(key(index)));
    assert_eq!(entry(cluster, index).next_restarts(), entry(cluster, index).restarts);
    cluster.step(Event::Forked { key: key(index), pid: pid(process), random: 0 })
}

/// Process number `process` of worker `index` ends.
pub(super) fn exits(
    cluster: &mut TestCluster,
    index: u32,
    process: u32,
    cause: ExitCause,
) -> Vec<Action> {
    exits_with(cluster, index, process, cause, false)
}

fn exits_with(
    cluster: &mut TestCluster,
    index: u32,
    process: u32,
    cause: ExitCause,
    group_left: bool,
) -> Vec<Action> {
    let exit = Exit { end: process_end(process, cause), dirty: false, group_left, random: 0 };
    cluster.step(Event::ChildExited { key: key(index), exit })
}

pub(super) fn entry(cluster: &TestCluster, index: u32) -> &Entry {
    cluster.state.registry().get(key(index)).unwrap()
}

fn serves(cluster: &TestCluster, index: u32) -> Option<bgw_core::Pid> {
    cluster.state.registry().get(key(index)).and_then(Entry::pid)
}

fn notify(index: u32, news: News) -> Action {
    Action::Notify(NotifyTarget::Session(index.into()), news)
}

/// A worker whose next run starts beside it.
pub(super) fn starting(builder: BackgroundWorkerBuilder) -> TestCluster {
    let mut cluster = TestCluster::new();
    serving(&mut cluster, 0, builder);
    cluster.step(Event::JobsDone(key(0)));
    starts_beside(&mut cluster, 0, of(0, 1));
    cluster
}

/// The same once the next run has taken the place.
fn leaving(builder: BackgroundWorkerBuilder) -> TestCluster {
    let mut cluster = starting(builder);
    cluster.step(Event::ReadyBeside(key(0)));
    cluster
}

#[test]
fn the_next_run_starts_is_ready_serves_and_only_then_the_former_is_told() {
    let mut cluster = TestCluster::new();
    serving(&mut cluster, 0, builder());
    for run in 0..10 {
        let before = entry(&cluster, 0).pid();
        assert_eq!(cluster.step(Event::JobsDone(key(0))), [Action::TellRecycling(key(0))]);
        // Said again, and at another limit.
        assert_eq!(cluster.step(Event::JobsDone(key(0))), []);
        assert_eq!(cluster.later(seconds(600)), []);
        let next = of(0, run + 1);
        let out = starts_beside(&mut cluster, 0, next);
        assert_eq!(out, [Action::TellBesideStarted(key(0), pid(next))]);
        assert_eq!(serves(&cluster, 0), before);
        let out = cluster.step(Event::ReadyBeside(key(0)));
        let handed_over = Action::HandOver { key: key(0), pid: pid(next), ready: true };
        let told = Action::StopBeside(key(0), StopLevel::Terminate);
        assert_eq!(out, [handed_over, notify(0, News::Started), told]);
        assert_eq!(serves(&cluster, 0), Some(pid(next)));
        assert_eq!(cluster.step(Event::ReadyBeside(key(0))), [], "said again");
        let out = exits(&mut cluster, 0, of(0, run), EXIT_0);
        let ending = Ending {
            pause: Some(Duration::ZERO),
            recycled: Some(Recycled::Jobs),
            ..super::ended(of(0, run), EXIT_0, 0, Some(AskedBy::Recycle))
        };
        let report = Action::ReportBeside(key(0), ending);
        assert_eq!(out, [report, notify(0, News::Ended), Action::FreeBerth(key(0))]);
        let entry = entry(&cluster, 0);
        assert_eq!((entry.restarts, entry.streak.failures, entry.overlap), (0, 0, None));
        assert!(entry.ready_at.is_some());
    }
}

#[test]
fn no_more_than_the_overlap_of_the_cluster_have_a_second_process_and_turns_are_in_order() {
    for overlap in [1, 2, 5] {
        let mut cluster = TestCluster::with(Policy { overlap, ..Policy::default() });
        (0..4).for_each(|index| serving(&mut cluster, index, builder()));
        (0..4).for_each(|index| drop(cluster.step(Event::JobsDone(key(index)))));
        let mut lent: Vec<u32> = Vec::new();
        let mut turn = 0;
        while turn < 4 || !lent.is_empty() {
            while let Some(key) = cluster.state.next_to_start() {
                assert_eq!(key.index, turn, "{overlap}");
                let process = pid(of(turn, 1));
                cluster.step(Event::Forked { key, pid: process, random: 0 });
                lent.push(turn);
                turn += 1;
            }
            assert_eq!(lent.len(), (overlap as usize).min(lent.len() + 4 - turn as usize));
            let index = lent.remove(0);
            cluster.step(Event::ReadyBeside(key(index)));
            assert_eq!(cluster.state.next_to_start(), None, "the former still has a berth");
            exits(&mut cluster, index, index, EXIT_0);
        }
    }
    let mut cluster = TestCluster::with(Policy { overlap: 0, ..Policy::default() });
    cluster.register(0, Box::new(builder().build().unwrap()));
    assert!(cluster.is_empty(), "refused");
}

#[test]
fn a_next_run_that_fails_is_tried_again_after_ever_longer_pauses_while_the_old_one_serves() {
    let mut cluster = TestCluster::new();
    let policy = RestartPolicy::Fixed(Duration::ZERO);
    serving(&mut cluster, 0, builder().restart(policy).give_up(1, seconds(5)).start_attempts(1));
    cluster.step(Event::JobsDone(key(0)));
    let mut pauses = Vec::new();
    for failure in 1..=12 {
        if failure % 2 == 0 {
            starts_beside(&mut cluster, 0, of(0, failure));
            let out = exits(&mut cluster, 0, of(0, failure), EXIT_1);
            assert!(!out.iter().any(|action| matches!(action, Action::Notify(..))), "{out:?}");
        } else {
            assert_eq!(cluster.state.next_to_start(), Some(key(0)));
            let random = 0;
            cluster.step(Event::ForkFailed { key: key(0), errno: libc::EAGAIN, random });
        }
        assert_eq!(serves(&cluster, 0), Some(pid(0)));
        let Some(Overlap::Pausing { due, .. }) = entry(&cluster, 0).overlap else { panic!() };
        let pause = due.duration_since(cluster.now);
        cluster.later(pause - Duration::from_millis(1));
        assert_eq!(cluster.state.next_to_start(), None);
        cluster.later(Duration::from_millis(1));
        pauses.push(pause.as_millis());
    }
    assert_eq!(pauses[..5], [100, 200, 400, 800, 1_600]);
    assert_eq!(pauses[9..], [30_000; 3]);
    starts_beside(&mut cluster, 0, of(0, 99));
    cluster.step(Event::ReadyBeside(key(0)));
    assert_eq!(entry(&cluster, 0).streak.failures, 0, "none of it counts for the worker");
}

/// What the end of the serving run leads to while the next one starts.
#[test]
fn when_the_old_run_ends_the_next_one_follows_if_any_is_to() {
    for (cause, restarts) in [(EXIT_1, 1), (CRASH, 1)] {
        let mut cluster = starting(builder().start_timeout(seconds(30)));
        let out = exits(&mut cluster, 0, 0, cause);
        let over = Action::HandOver { key: key(0), pid: pid(100), ready: false };
        let [Action::ReportStopped(_, ending), ended, handed, freed, started] = &out[..] else {
            panic!("{out:?}")
        };
        assert_eq!((ending.pause, ending.streak), (Some(Duration::ZERO), 1));
        assert_eq!((ended, handed), (&notify(0, News::Ended), &over));
        assert_eq!((freed, started), (&Action::FreeBerth(key(0)), &notify(0, News::Started)));
        let now = entry(&cluster, 0);
        assert_eq!((now.restarts, now.overlap, now.ready_at), (restarts, None, None));
        // Its time goes on, and its failure is one of §3.
        assert_eq!(cluster.later(seconds(30)), [Action::LookAtStart(key(0))]);
        exits(&mut cluster, 0, 100, EXIT_1);
        assert!(matches!(entry(&cluster, 0).progress, Progress::Resting { .. }));
        assert_eq!(entry(&cluster, 0).streak.failures, 2);
    }
    // One that has done its work has no next run.
    let mut cluster = starting(builder());
    let out = exits(&mut cluster, 0, 0, EXIT_0);
    assert!(out.contains(&Action::StopBeside(key(0), StopLevel::Terminate)), "{out:?}");
    assert!(matches!(out[1], Action::ReportClearing(..)), "{out:?}");
    let out = exits(&mut cluster, 0, 100, EXIT_0);
    assert!(matches!(
        out[..],
        [Action::ReportBeside(..), Action::FreeBerth(_), Action::Unregister(..)]
    ));
    assert!(cluster.is_empty());
    // One that is given up, neither.
    let mut cluster = starting(builder().give_up(1, seconds(60)));
    exits(&mut cluster, 0, 0, EXIT_1);
    exits(&mut cluster, 0, 100, EXIT_1);
    let mut cluster = starting(builder().restart(RestartPolicy::Fixed(seconds(61))));
    exits(&mut cluster, 0, 0, EXIT_1);
    assert_eq!(serves(&cluster, 0), Some(pid(100)), "no pause, however long it is");
}

#[test]
fn a_terminated_worker_ends_with_both_of_its_processes() {
    for leaves in [false, true] {
        for first in [false, true] {
            let mut cluster = if leaves { leaving(builder()) } else { starting(builder()) };
            let serving = if leaves { 100 } else { 0 };
            let out = cluster.step(Event::TerminateRequested(key(0)));
            assert_eq!(out[0], Action::Stop(key(0), StopLevel::Terminate));
            let told = Action::StopBeside(key(0), StopLevel::Terminate);
            assert_eq!(out.contains(&told), !leaves, "one that leaves was told before");
            assert_eq!(cluster.step(Event::ReadyBeside(key(0))), [], "too late");
            let kills = cluster.later(seconds(60));
            assert!(kills.contains(&Action::Stop(key(0), StopLevel::Kill)), "{kills:?}");
            assert!(kills.contains(&Action::StopBeside(key(0), StopLevel::Kill)), "{kills:?}");
            let order = if first { [100 - serving, serving] } else { [serving, 100 - serving] };
            exits(&mut cluster, 0, order[0], EXIT_0);
            assert!(!cluster.is_empty(), "one process is left");
            let out = exits(&mut cluster, 0, order[1], EXIT_0);
            assert!(matches!(out.last(), Some(Action::Unregister(..) | Action::Notify(..))));
            assert!(cluster.is_empty());
            assert_eq!(cluster.state.next_deadline(), None, "{leaves}, {first}");
        }
    }
    for wait in [false, true] {
        // Without a process: due behind another one, or in a pause.
        let mut cluster = starting(builder());
        serving(&mut cluster, 1, builder());
        let other = if wait {
            exits(&mut cluster, 0, 100, EXIT_1);
            0
        } else {
            cluster.step(Event::JobsDone(key(1)));
            1
        };
        cluster.step(Event::TerminateRequested(key(other)));
        assert_eq!(entry(&cluster, other).overlap, None);
        exits(&mut cluster, other, other, EXIT_0);
        assert!(cluster.state.registry().get(key(other)).is_none());
    }
}

#[test]
fn a_shutdown_waits_for_both_and_a_kill_hits_both() {
    for leaves in [false, true] {
        for mode in [ShutdownMode::Smart, ShutdownMode::Fast, ShutdownMode::Immediate] {
            let mut cluster = if leaves { leaving(builder()) } else { starting(builder()) };
            cluster.step(Event::ShutdownRequested(mode));
            let serving = if leaves { 100 } else { 0 };
            exits(&mut cluster, 0, serving, EXIT_0);
            assert_eq!(cluster.state.stage(), Stage::Stopping, "{mode:?}");
            exits(&mut cluster, 0, 100 - serving, EXIT_0);
            assert_eq!(cluster.state.stage(), Stage::Over(0), "{mode:?}");
            assert!(cluster.is_empty());
        }
        let mut cluster = if leaves { leaving(builder()) } else { starting(builder()) };
        let out = cluster.step(Event::KillRequested(key(0)));
        assert!(out.contains(&Action::Stop(key(0), StopLevel::Kill)));
        assert!(out.contains(&Action::StopBeside(key(0), StopLevel::Kill)));
    }
}

#[test]
fn a_reset_ends_both_and_one_starts() {
    for leaves in [false, true] {
        let mut cluster = if leaves { leaving(builder()) } else { starting(builder()) };
        cluster.register(1, worker(SHARED, RestartPolicy::after_secs(1)));
        cluster.starts(1);
        let out = cluster.exits(1, CRASH);
        assert!(out.contains(&Action::Stop(key(0), StopLevel::Quit)), "{out:?}");
        assert!(out.contains(&Action::StopBeside(key(0), StopLevel::Quit)), "{out:?}");
        for process in [0, 100] {
            let out = exits(&mut cluster, 0, process, CRASH);
            let resets = out.iter().any(|action| matches!(action, Action::ResetSlots(_)));
            assert_eq!(resets, process == 100, "{out:?}");
        }
        let new_keys: HashMap<_, _> = [(key(0), key(0)), (key(1), key(1))].into();
        cluster.step(Event::SlotsReset { new_keys });
        cluster.starts(0);
        assert_eq!((entry(&cluster, 0).overlap, serves(&cluster, 0)), (None, Some(pid(0))));
    }
}

#[test]
fn a_crash_of_the_second_process_with_shared_memory_resets_the_cluster() {
    for leaves in [false, true] {
        let shared = builder().flags(SHARED);
        let mut cluster = if leaves { leaving(shared) } else { starting(shared) };
        let (second, serving) = if leaves { (0, 100) } else { (100, 0) };
        let out = exits(&mut cluster, 0, second, CRASH);
        assert!(out.contains(&Action::Stop(key(0), StopLevel::Quit)), "{out:?}");
        let out = exits(&mut cluster, 0, serving, CRASH);
        assert!(out.iter().any(|action| matches!(action, Action::ResetSlots(_))), "{out:?}");
        cluster.step(Event::SlotsReset { new_keys: [(key(0), key(0))].into() });
        cluster.starts(0);
    }
}

#[test]
fn what_a_former_run_leaves_is_no_clock_of_the_run_that_serves() {
    let mut cluster = leaving(builder());
    let out = exits_with(&mut cluster, 0, 0, EXIT_0, true);
    assert!(out.contains(&Action::StopGroup(pid(0), StopLevel::Terminate)), "{out:?}");
    assert_eq!(entry(&cluster, 0).kill_at, None);
    let out = cluster.later(seconds(60));
    assert!(out.contains(&Action::StopGroup(pid(0), StopLevel::Kill)), "{out:?}");
    assert!(!out.iter().any(|action| matches!(action, Action::Stop(..))), "{out:?}");
    cluster.step(Event::TerminateRequested(key(0)));
    let kill_at = entry(&cluster, 0).kill_at;
    cluster.step(Event::GroupEnded { leader: pid(0) });
    assert_eq!((entry(&cluster, 0).kill_at, kill_at.is_some()), (kill_at, true));
}

/// Breaks if a limit that is reached while the former run ends in its time is forgotten.
#[test]
fn a_limit_that_is_reached_early_is_seen_to_once_the_former_run_has_ended() {
    let mut cluster = leaving(builder());
    assert_eq!(cluster.step(Event::JobsDone(key(0))), []);
    let out = exits(&mut cluster, 0, 0, EXIT_0);
    assert_eq!(out.last(), Some(&Action::TellRecycling(key(0))));
    starts_beside(&mut cluster, 0, 200);
    let mut cluster = leaving(builder());
    cluster.step(Event::JobsDone(key(0)));
    cluster.step(Event::TerminateRequested(key(0)));
    exits(&mut cluster, 0, 0, EXIT_0);
    assert_eq!(entry(&cluster, 0).overlap, None);
}

/// The run that serves fails while the former one has not ended.
#[test]
fn no_third_process_starts_while_the_former_run_lives() {
    let mut cluster = leaving(builder());
    exits(&mut cluster, 0, 100, EXIT_1);
    cluster.later(seconds(6));
    assert_eq!(cluster.state.next_to_start(), None);
    exits(&mut cluster, 0, 0, EXIT_0);
    cluster.starts(0);
}

#[test]
fn a_next_run_that_is_late_is_stopped_and_one_that_asks_gets_more_time() {
    let mut cluster = starting(builder().start_timeout(seconds(10)));
    assert_eq!(cluster.later(seconds(10)), [Action::LookBeside(key(0))]);
    let until = Some(cluster.now + seconds(5));
    assert_eq!(cluster.step(Event::BesideStillStarts { key: key(0), until }), []);
    assert_eq!(cluster.later(seconds(5)), [Action::LookBeside(key(0))]);
    let told = Action::StopBeside(key(0), StopLevel::Terminate);
    assert_eq!(cluster.step(Event::BesideStillStarts { key: key(0), until: None }), [told]);
    assert_eq!(cluster.step(Event::ReadyBeside(key(0))), []);
    let out = exits(&mut cluster, 0, 100, EXIT_0);
    let Action::ReportBeside(_, ending) = &out[0] else { panic!("{out:?}") };
    assert_eq!(ending.cause, ExitCause::StartTimedOut);
    assert!(matches!(entry(&cluster, 0).overlap, Some(Overlap::Pausing { .. })));
}

#[test]
fn a_start_that_is_lost_is_made_up_for() {
    let mut cluster = starting(builder());
    let (key, lost) = (key(0), pid(100));
    assert_eq!(cluster.step(Event::StartLost { key, pid: lost }), []);
    starts_beside(&mut cluster, 0, 200);
    let out = cluster.step(Event::ReadyBeside(key));
    assert_eq!(out[0], Action::HandOver { key, pid: pid(200), ready: true });
}

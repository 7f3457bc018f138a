//! Workers that are replaced by their next run.

use super::super::action::{Action, News};
use super::super::ending::{Ending, Exit};
use super::super::event::Event;
use super::super::recycle::{LOOKS_IN_A_ROW, REPLACE_GRACE};
use super::super::registry::NotifyTarget;
use super::super::run_limits::{FIRST_LOOK, LOOK_EVERY};
use super::super::stop_level::StopLevel;
use super::{CRASH, SHARED, TestCluster, ended, key, pid, process_end, seconds, worker};
use bgw_core::{
    AskedBy, BackgroundWorker, BackgroundWorkerBuilder, ExitCause, Grace, Recycle, Recycled,
    RestartPolicy, ShutdownMode, WorkerFlags,
};
use std::collections::HashMap;
use std::time::Duration;

const EXIT_0: ExitCause = ExitCause::Exited(0);
const MIB: u64 = 1 << 20;
const FOREVER: Duration = Duration::from_secs(40 * 86_400);

fn builder(recycle: Recycle) -> BackgroundWorkerBuilder {
    let worker = BackgroundWorker::builder("w").function("f");
    worker.restart(RestartPolicy::after_secs(5)).recycle(recycle.jitter(0.0))
}

fn all() -> Recycle {
    Recycle::new().jobs(10).lifetime(seconds(600)).rss(8 * MIB)
}

fn running(cluster: &mut TestCluster, index: u32, builder: BackgroundWorkerBuilder) {
    cluster.register(index, Box::new(builder.build().unwrap()));
    cluster.starts(index);
}

fn told(index: u32) -> Vec<Action> {
    let stop = Action::Stop(key(index), StopLevel::Terminate);
    vec![Action::TellRecycling(key(index)), stop]
}

fn ended_so(index: u32, why: Recycled, cause: ExitCause) -> Vec<Action> {
    let ending = ended(index, cause, 0, Some(AskedBy::Recycle));
    let ending = Ending { pause: Some(Duration::ZERO), recycled: Some(why), ..ending };
    let target = NotifyTarget::Session(index.into());
    vec![Action::ReportStopped(key(index), ending), Action::Notify(target, News::Ended)]
}

/// Lets a worker reach one of its limits.
fn reach(cluster: &mut TestCluster, index: u32, why: Recycled) -> Vec<Action> {
    match why {
        Recycled::Jobs => cluster.step(Event::JobsDone(key(index))),
        Recycled::Lifetime => {
            let mut out = cluster.later(seconds(600));
            out.retain(|action| !matches!(action, Action::ReadMemory(_)));
            out
        }
        _ => cluster.step(Event::MemoryRead { key: key(index), bytes: 8 * MIB }),
    }
}

const EACH: [Recycled; 3] = [Recycled::Jobs, Recycled::Lifetime, Recycled::Memory];

/// Fails if a limit ends a worker for good, if its next run is a restart or a failure, or waits.
#[test]
fn at_each_limit_the_worker_is_told_and_its_next_run_is_no_restart() {
    for why in EACH {
        for cause in [EXIT_0, ExitCause::Exited(1), CRASH] {
            let mut cluster = TestCluster::new();
            running(&mut cluster, 0, builder(all()).grace(Grace::After(seconds(86_400))));
            assert_eq!(reach(&mut cluster, 0, why), told(0), "{why}");
            // Said again, and at another limit.
            assert!(EACH.iter().all(|&again| reach(&mut cluster, 0, again).is_empty()));
            assert_eq!(cluster.exits(0, cause), ended_so(0, why, cause), "{why}");
            cluster.starts(0);
            let entry = cluster.state.registry().get(key(0)).unwrap();
            assert_eq!((entry.restarts, entry.streak.failures), (0, 0), "{why}");
            // The limits are this run's.
            assert_eq!(reach(&mut cluster, 0, why), told(0), "{why}");
        }
    }
}

#[test]
fn recycling_leaves_failures_and_restarts_as_they_are() {
    let mut cluster = TestCluster::new();
    running(&mut cluster, 0, builder(all()).give_up(3, seconds(100)));
    let fails = |cluster: &mut TestCluster| {
        cluster.exits_after(0, CRASH, Duration::ZERO);
        cluster.later(seconds(5));
    };
    for _ in 0..2 {
        fails(&mut cluster);
        cluster.starts(0);
        // Long enough to be a good run, and no failure: nothing is forgotten.
        cluster.later(seconds(3));
        cluster.step(Event::JobsDone(key(0)));
        cluster.exits(0, EXIT_0);
        cluster.starts(0);
    }
    let entry = cluster.state.registry().get(key(0)).unwrap();
    assert_eq!((entry.restarts, entry.streak.failures), (2, 2));
    fails(&mut cluster);
    cluster.starts(0);
    // The fourth failure within its time, however often it was recycled.
    fails(&mut cluster);
    assert!(cluster.is_empty(), "given up");
}

/// Fails if a limit is reached early, or a look at memory is one too many or too few.
#[test]
fn below_a_limit_nothing_happens_and_nobody_is_looked_at_in_vain() {
    let mut cluster = TestCluster::new();
    running(&mut cluster, 0, builder(Recycle::new().lifetime(seconds(600))));
    assert_eq!(cluster.later(seconds(599)), []);
    // Neither of these is a limit of it.
    assert_eq!(cluster.step(Event::JobsDone(key(0))), []);
    assert_eq!(cluster.step(Event::MemoryRead { key: key(0), bytes: u64::MAX }), []);
    assert_eq!(cluster.later(seconds(1)), told(0));
    let mut cluster = TestCluster::new();
    running(&mut cluster, 0, builder(Recycle::new().rss(8 * MIB)));
    let milli = Duration::from_millis(1);
    for wait in [FIRST_LOOK, LOOK_EVERY - FIRST_LOOK, LOOK_EVERY, LOOK_EVERY] {
        assert_eq!(cluster.later(wait - milli), []);
        assert_eq!(cluster.later(milli), [Action::ReadMemory(key(0))]);
        assert_eq!(cluster.step(Event::MemoryRead { key: key(0), bytes: MIB / 10 }), []);
    }
    assert_eq!(cluster.step(Event::MemoryRead { key: key(0), bytes: 8 * MIB - 1 }), []);
    assert_eq!(cluster.step(Event::MemoryRead { key: key(0), bytes: 8 * MIB }), told(0));
    cluster.exits(0, EXIT_0);
    assert_eq!(cluster.state.next_deadline(), None, "nobody runs, so nobody is looked at");
    cluster.starts(0);
    assert_eq!(cluster.later(FIRST_LOOK), [Action::ReadMemory(key(0))]);
}

/// Fails if a worker that is about to reach its limit is looked at as late as all others, if they
/// are looked at with it, or if it is once it stays as it is.
#[test]
fn a_worker_that_grows_towards_its_limit_is_looked_at_sooner_and_nobody_else() {
    let mut cluster = TestCluster::new();
    for index in 0..2 {
        running(&mut cluster, index, builder(Recycle::new().rss(100 * MIB)));
    }
    let both = [0, 1].map(|index| Action::ReadMemory(key(index)));
    let found = |cluster: &mut TestCluster, index, mib: u64| {
        cluster.step(Event::MemoryRead { key: key(index), bytes: mib * MIB })
    };
    assert_eq!(cluster.later(FIRST_LOOK), both);
    let all_at = cluster.now + LOOK_EVERY - FIRST_LOOK;
    assert_eq!(found(&mut cluster, 0, 20), []);
    assert_eq!(found(&mut cluster, 1, 1), []);
    // 80 MiB are left, 20 MiB a second: a quarter of 4 s.
    assert_eq!(cluster.later(seconds(1)), [Action::ReadMemory(key(0))]);
    assert_eq!(found(&mut cluster, 0, 40), []);
    assert_eq!(cluster.later(Duration::from_millis(750)), [Action::ReadMemory(key(0))]);
    assert_eq!(found(&mut cluster, 0, 40), [], "it does not grow on");
    let left = all_at.duration_since(cluster.now);
    assert_eq!(cluster.later(left - Duration::from_millis(1)), []);
    assert_eq!(cluster.later(Duration::from_millis(1)), both);
    assert_eq!(found(&mut cluster, 0, 99), []);
    let looked = cluster.later(Duration::from_millis(100));
    assert_eq!(looked, [Action::ReadMemory(key(0))], "it grows again");
    // Gone, it is not looked at, and told to end not looked at in vain.
    assert_eq!(found(&mut cluster, 0, 99), []);
    assert_eq!(found(&mut cluster, 0, 100), told(0));
    cluster.exits(0, EXIT_0);
    assert_eq!(cluster.later(LOOK_EVERY - Duration::from_millis(100)), [both[1].clone()]);
}

/// Fails if a leak that begins just after a look is seen only 5 s later though the worker's beats
/// are looked at meanwhile, if that takes a deadline of its own, or if very many are looked at so.
#[test]
fn a_worker_that_beats_is_looked_at_with_its_beats() {
    for (count, every, gap, looked) in [
        (1, 2_000, 1_000, 1),
        // Not at each look at beats.
        (1, 200, 100, 0),
        (1, 200, 500, 1),
        (LOOKS_IN_A_ROW, 2_000, 1_000, LOOKS_IN_A_ROW),
        (LOOKS_IN_A_ROW + 1, 2_000, 1_000, 0),
    ] {
        let mut cluster = TestCluster::new();
        for index in 0..count {
            let worker = builder(Recycle::new().rss(100 * MIB));
            running(&mut cluster, index as u32, worker.heartbeat(Duration::from_millis(every)));
        }
        cluster.later(FIRST_LOOK);
        for index in 0..count {
            cluster.step(Event::MemoryRead { key: key(index as u32), bytes: 0 });
        }
        if count > LOOKS_IN_A_ROW {
            let last = cluster.later(Duration::from_millis(1));
            assert_eq!(last, [Action::ReadMemory(key(LOOKS_IN_A_ROW as u32))]);
        }
        let deadline = cluster.state.next_deadline().unwrap();
        assert!(deadline > cluster.now + Duration::from_millis(1), "no look of its own");
        let out = cluster.later(Duration::from_millis(gap));
        let looks = out.iter().filter(|action| matches!(action, Action::ReadMemory(_))).count();
        assert_eq!(looks, looked, "{count}, {every} ms, {gap} ms: {out:?}");
    }
}

/// Fails if thousands of looks hold up other events, or some worker is left out.
#[test]
fn many_workers_are_looked_at_a_part_at_a_time_and_each_of_them_once() {
    let mut cluster = TestCluster::new();
    let count = LOOKS_IN_A_ROW * 2 + 1;
    for index in 0..count {
        running(&mut cluster, index as u32, builder(Recycle::new().rss(MIB)));
    }
    for wait in [FIRST_LOOK, LOOK_EVERY - FIRST_LOOK, LOOK_EVERY] {
        let mut looked = cluster.later(wait);
        assert_eq!(looked.len(), LOOKS_IN_A_ROW);
        looked.extend(cluster.later(Duration::from_millis(1)));
        assert_eq!(looked.len(), LOOKS_IN_A_ROW * 2);
        looked.extend(cluster.later(Duration::from_millis(1)));
        let each = (0..count).map(|index| Action::ReadMemory(key(index as u32)));
        assert_eq!(looked, each.collect::<Vec<_>>());
    }
}

#[test]
fn the_limits_of_a_fleet_that_starts_together_are_reached_one_after_the_other() {
    let mut cluster = TestCluster::new();
    let recycle = Recycle::new().lifetime(seconds(100)).rss(100 * MIB).jitter(0.5);
    let worker = builder(all()).recycle(recycle).build().unwrap();
    for index in 0..4 {
        cluster.register(index, Box::new(worker.clone()));
        assert_eq!(cluster.state.next_to_start(), Some(key(index)));
        // The same share of both limits.
        let random = (index << 30) | (index << 14);
        cluster.step(Event::Forked { key: key(index), pid: pid(index), random });
    }
    // 37.5 s, 25 s and 12.5 s less than 100 s.
    for (index, bytes) in [(3, 62), (2, 74), (1, 87), (0, 99)] {
        let event = |mib: u64| Event::MemoryRead { key: key(index), bytes: mib * MIB };
        assert_eq!(cluster.step(event(bytes)), [], "worker {index}");
    }
    for (millis, index) in [(62_500, 3), (12_500, 2), (12_500, 1), (12_500, 0)] {
        let mut out = cluster.later(Duration::from_millis(millis));
        out.retain(|action| !matches!(action, Action::ReadMemory(_)));
        assert_eq!(out, told(index));
    }
}

/// Fails if a worker that is deaf for ever would never be replaced, or one that may take longer is
/// killed early.
#[test]
fn a_worker_that_does_not_make_place_is_killed_after_its_grace() {
    let killed = [Action::Stop(key(0), StopLevel::Kill)];
    for (grace, time) in [
        (Grace::Forever, REPLACE_GRACE),
        (Grace::OfCluster, REPLACE_GRACE),
        (Grace::After(seconds(3)), seconds(3)),
        (Grace::After(seconds(300)), seconds(300)),
    ] {
        let mut cluster = TestCluster::new();
        running(&mut cluster, 0, builder(Recycle::new().jobs(1)).grace(grace));
        assert_eq!(cluster.step(Event::JobsDone(key(0))), told(0));
        assert_eq!(cluster.later(time - Duration::from_millis(1)), [], "{grace:?}");
        assert_eq!(cluster.later(Duration::from_millis(1)), killed, "{grace:?}");
        let cause = ExitCause::Signaled { signal: 9, core_dumped: false };
        let out = cluster.exits(0, cause);
        let Action::ReportStopped(_, ending) = out[0] else { panic!("{out:?}") };
        assert!(ending.killed && ending.recycled == Some(Recycled::Jobs), "{grace:?}, {ending:?}");
        cluster.starts(0);
        assert_eq!(cluster.later(FOREVER), [], "the clock was that run's");
    }
}

#[test]
fn a_terminate_request_and_a_shutdown_win_over_recycling() {
    let running_out = || {
        let mut cluster = TestCluster::new();
        running(&mut cluster, 0, builder(all()));
        cluster.step(Event::JobsDone(key(0)));
        cluster
    };
    let unregistered = |by| Action::Unregister(key(0), ended(0, EXIT_0, 0, Some(by)));
    let mut cluster = running_out();
    assert_eq!(cluster.step(Event::TerminateRequested(key(0))), []);
    assert_eq!(cluster.exits(0, EXIT_0)[0], unregistered(AskedBy::Terminate));
    let mut cluster = running_out();
    cluster.step(Event::ShutdownRequested(ShutdownMode::Fast));
    assert_eq!(cluster.exits(0, EXIT_0)[0], unregistered(AskedBy::Shutdown));
    // Told to end, it is not told again at a limit.
    let mut cluster = TestCluster::new();
    running(&mut cluster, 0, builder(all()));
    cluster.step(Event::TerminateRequested(key(0)));
    assert!(EACH.iter().all(|&why| reach(&mut cluster, 0, why).is_empty()));
}

/// Fails if a worker that makes place while a crash resets the cluster is lost, or if its limits
/// of before hold after it.
#[test]
fn a_reset_takes_recycled_workers_along_and_draws_their_limits_anew() {
    let mut cluster = TestCluster::new();
    let lifetime = Recycle::new().lifetime(seconds(600)).rss(MIB);
    running(&mut cluster, 0, builder(lifetime));
    running(&mut cluster, 1, builder(lifetime));
    cluster.register(2, worker(SHARED, RestartPolicy::Never));
    cluster.starts(2);
    cluster.later(seconds(400));
    cluster.step(Event::MemoryRead { key: key(0), bytes: MIB });
    cluster.exits(2, CRASH);
    let signal = |signal| ExitCause::Signaled { signal, core_dumped: false };
    let stopped = cluster.exits(0, EXIT_0);
    assert!(
        matches!(stopped[0], Action::ReportStopped(_, Ending { recycled: Some(_), .. })),
        "{stopped:?}"
    );
    cluster.exits(1, signal(3));
    let new_keys = HashMap::from([(key(0), key(0)), (key(1), key(1))]);
    cluster.step(Event::SlotsReset { new_keys });
    cluster.starts(0);
    cluster.starts(1);
    let restarts = |index| cluster.state.registry().get(key(index)).unwrap().restarts;
    assert_eq!((restarts(0), restarts(1)), (0, 1));
    let mut out = cluster.later(seconds(599));
    assert!(!out.is_empty() && out.iter().all(|a| matches!(a, Action::ReadMemory(_))), "{out:?}");
    out = cluster.later(seconds(1));
    assert!([told(0), told(1)].concat().iter().all(|action| out.contains(action)), "{out:?}");
}

/// Fails if a crash while a worker makes place is taken for its orderly end.
#[test]
fn a_crash_of_a_recycled_worker_with_shared_state_resets_the_cluster_and_counts() {
    let mut cluster = TestCluster::new();
    running(&mut cluster, 0, builder(all()).flags(WorkerFlags::SHMEM_ACCESS));
    cluster.step(Event::JobsDone(key(0)));
    let out = cluster.exits(0, CRASH);
    assert!(matches!(out[0], Action::ReportStopped(_, Ending { recycled: None, streak: 1, .. })));
    assert!(matches!(out.last(), Some(Action::ResetSlots(_))), "{out:?}");
}

/// Fails if the next run starts beside what the last one has left behind.
#[test]
fn the_next_run_waits_for_what_the_last_one_has_left_behind() {
    let mut cluster = TestCluster::new();
    running(&mut cluster, 0, builder(all()));
    cluster.step(Event::JobsDone(key(0)));
    let end = process_end(0, EXIT_0);
    let exit = Exit { end, dirty: false, group_left: true, random: 0 };
    let mut out = cluster.step(Event::ChildExited { key: key(0), exit });
    out.retain(|action| !matches!(action, Action::StopGroup(..)));
    assert_eq!(out, ended_so(0, Recycled::Jobs, EXIT_0));
    assert_eq!(cluster.state.next_to_start(), None);
    cluster.step(Event::GroupEnded { leader: pid(0) });
    cluster.starts(0);
}

#[test]
fn a_start_that_is_lost_and_a_failed_fork_change_no_count_of_a_recycled_worker() {
    let mut cluster = TestCluster::new();
    running(&mut cluster, 0, builder(all()));
    cluster.step(Event::JobsDone(key(0)));
    cluster.exits(0, EXIT_0);
    cluster.starts(0);
    cluster.step(Event::StartLost { key: key(0), pid: pid(0) });
    assert_eq!(cluster.state.next_to_start(), Some(key(0)));
    cluster.step(Event::ForkFailed { key: key(0), errno: libc::EAGAIN, random: 0 });
    cluster.later(seconds(60));
    cluster.starts(0);
    assert_eq!(cluster.state.registry().get(key(0)).unwrap().restarts, 0);
    // Nothing of the lost run is left: one look at memory, one lifetime.
    let looks = cluster.later(FIRST_LOOK);
    assert_eq!(looks, [Action::ReadMemory(key(0))]);
    assert_eq!(reach(&mut cluster, 0, Recycled::Lifetime), told(0));
}

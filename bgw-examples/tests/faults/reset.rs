//! The promise: a crash reset loses nothing, whatever comes while the slots are made anew: another
//! crash, a terminate, a registration, a program that takes any free slot.
//!
//! Would catch: a second reset, a forgotten request, a slot given to the wrong worker.

use crate::support::fault::{AT_ONCE, CAPACITY, cluster};
use crate::support::{
    Cluster, Log, PATIENCE, connect, kill, ready, shared, simple, started, wait_for_state,
    wait_until_asleep,
};
use bgw_backend::{Handle, Pid, RegisterError, WorkerInfo, WorkerStatus};
use process_test::{Child, Signal, Test, fork_child, tests, wait_until};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_crash_during_the_reset_is_part_of_the_same_reset => [B38, R14],
        terminate_in_a_crash_reset_is_not_lost => [B26],
        a_reset_keeps_the_slots_of_workers_that_restart => [B35],
        a_registration_across_a_reset_gets_a_new_handle => [B36],
        a_registration_that_two_resets_overtake_explains_itself => [D01, D08],
        a_registration_that_a_reset_overtakes_keeps_its_report_through_any_number => [D01, D08],
        nothing_is_lost_while_the_postmaster_is_stopped_between_two_lives => [D01, D08],
    ]
}

/// The postmaster is stopped between the SIGQUIT to one worker and the SIGQUIT to the next. Would
/// fail if the crash in between began a second reset, and time out if it were forgotten.
fn a_crash_during_the_reset_is_part_of_the_same_reset() {
    let log = Log::start();
    let cluster = cluster("stop:before_signal=stop@2");
    let sharing = || -> Handle { cluster.backend.register(&shared("sleep", AT_ONCE)).unwrap() };
    let handles = [sharing(), sharing(), sharing()];
    let pids = handles.each_ref().map(ready);
    let life = handles[0].id().incarnation();
    kill(pids[0], Signal::SIGABRT);
    wait_for_state(cluster.launched.pid(), 'T', "before the second SIGQUIT");
    kill(pids[2], Signal::SIGABRT);
    kill(cluster.launched.pid(), Signal::SIGCONT);
    wait_until("all run again", PATIENCE, || {
        let workers = cluster.backend.workers();
        let runs = |status: &_| matches!(status, WorkerStatus::Started(pid) if !pids.contains(pid));
        workers.len() == 3 && workers.iter().all(|info| runs(&info.status))
    });
    for info in cluster.backend.workers() {
        assert_eq!(info.handle.incarnation(), life.wrapping_add(2) | 1, "one reset, no more");
    }
    assert_eq!(log.count("terminating any other active worker processes"), 1, "{}", log.text());
    assert_eq!(log.count("making the slots anew"), 1, "{}", log.text());
    assert_eq!(log.count("was terminated by signal 6"), 2, "{}", log.text());
    cluster.end();
}

/// The worker has ended in a crash reset and would restart when terminate comes. Would fail if a
/// request were lost that comes just before the slots are made anew.
fn terminate_in_a_crash_reset_is_not_lost() {
    // The last point comes before the word of the second and last end: the request is in the word
    // that it replaces.
    for (point, times) in [("reset:before", 1), ("reset:new_life", 1), ("exit:before_word", 2)] {
        let cluster = cluster(&format!("{point}=stop@{times}"));
        let sharing = || -> Handle { cluster.backend.register(&shared("sleep", AT_ONCE)).unwrap() };
        let (crashing, ends) = (sharing(), sharing());
        let (pid, _) = (ready(&crashing), ready(&ends));
        kill(pid, Signal::SIGABRT);
        wait_for_state(cluster.launched.pid(), 'T', point);
        ends.terminate().unwrap();
        kill(cluster.launched.pid(), Signal::SIGCONT);
        wait_until(&format!("{point}: the other worker runs"), PATIENCE, || {
            let runs = |info: &WorkerInfo| {
                info.ready && info.handle.incarnation() != ends.id().incarnation()
            };
            cluster.backend.workers().iter().any(runs)
        });
        cluster.backend.ping().unwrap();
        assert_eq!(cluster.backend.workers().len(), 1, "{point}: it came again");
        assert!(matches!(ends.wait_for_shutdown().unwrap(), WorkerStatus::Stopped(_)), "{point}");
        cluster.end();
    }
}

/// A program takes every free slot while the slots are made anew. Would fail if it got the slot of
/// a worker that restarts.
fn a_reset_keeps_the_slots_of_workers_that_restart() {
    for point in ["reset:freed", "reset:before_place"] {
        let cluster = cluster(&format!("{point}=stop"));
        let workers: Vec<_> = (0..CAPACITY - 1)
            .map(|_| cluster.backend.register(&shared("sleep", AT_ONCE)).unwrap())
            .collect();
        let pids: Vec<_> = workers.iter().map(ready).collect();
        kill(pids[0], Signal::SIGABRT);
        wait_for_state(cluster.launched.pid(), 'T', point);
        let register = || cluster.backend.register(&simple("socket"));
        let new = register().unwrap();
        let refused = register().unwrap_err();
        assert!(matches!(refused, RegisterError::NoFreeSlot { .. }), "{point}: {refused}");
        kill(cluster.launched.pid(), Signal::SIGCONT);
        ready(&new);
        wait_until(&format!("{point}: all run"), PATIENCE, || {
            let workers = cluster.backend.workers();
            workers.len() == CAPACITY as usize && workers.iter().all(|info| info.ready)
        });
        cluster.end();
    }
}

/// A registration is stopped before its claim while the slots are made anew. Would fail if its
/// handle had the incarnation from before: it would read a running worker as ended.
fn a_registration_across_a_reset_gets_a_new_handle() {
    let cluster = cluster("");
    let crashing = cluster.backend.register(&shared("sleep", AT_ONCE)).unwrap();
    let mut registering = stopped_in_a_registration(&cluster, "claim:before_mark", |handle| {
        started(handle);
    });
    crash(&cluster, crashing.id().incarnation());
    registering.kill(Signal::SIGCONT);
    assert_eq!(registering.wait().code(), Some(0));
    cluster.end();
}

/// A program that registers a worker that sleeps, and is stopped at `point` of that; it does `then`
/// with the handle when it goes on.
fn stopped_in_a_registration(cluster: &Cluster, point: &str, then: impl Fn(&Handle)) -> Child {
    let child = fork_child(|| {
        let backend = connect(&cluster.folder);
        shmem_slots::fault::arm(&format!("{point}=stop"));
        then(&backend.register(&simple("sleep")).unwrap());
    });
    wait_for_state(Pid::new(child.pid().as_raw().unsigned_abs()).unwrap(), 'T', point);
    child
}

/// The worker that shares memory crashes, in life `before` of the slots. Returns the next life,
/// once it runs again.
fn crash(cluster: &Cluster, before: u32) -> u32 {
    let of_life = |there: fn(u32, u32) -> bool| {
        let meant = |info: &WorkerInfo| {
            let shares = info.worker.restart() == AT_ONCE;
            let runs = info.ready && matches!(info.status, WorkerStatus::Started(_));
            shares && runs && there(info.handle.incarnation(), before)
        };
        cluster.backend.workers().into_iter().find(meant)
    };
    let mut sharing = None;
    wait_until("the worker that shares memory runs", PATIENCE, || {
        sharing = of_life(|life, before| life == before);
        sharing.is_some()
    });
    let WorkerStatus::Started(pid) = sharing.unwrap().status else { panic!("it has ended") };
    kill(pid, Signal::SIGABRT);
    let mut again = None;
    wait_until("the slots are made anew", PATIENCE, || {
        again = of_life(|life, before| life != before);
        again.is_some()
    });
    again.unwrap().handle.incarnation()
}

/// A registration is stopped between its publication and its handle while the slots are made anew
/// twice. Would fail if its handle had the incarnation of after both: the report is of the one in
/// which it was published.
fn a_registration_that_two_resets_overtake_explains_itself() {
    let cluster = cluster("");
    let crashing = cluster.backend.register(&shared("sleep", AT_ONCE)).unwrap();
    let mut registering = stopped_in_a_registration(&cluster, "publish:after_swap", |handle| {
        let WorkerStatus::Stopped(Some(report)) = handle.status() else {
            panic!("{handle}: {}", handle.status())
        };
        assert!(report.reset && handle.crash_reset().is_some(), "{report:?}");
    });
    let next = crash(&cluster, crashing.id().incarnation());
    crash(&cluster, next);
    registering.kill(Signal::SIGCONT);
    assert_eq!(registering.wait().code(), Some(0));
    cluster.end();
}

/// It is published in the middle of a reset, which ends it before the postmaster takes it in: the
/// word of its slot alone says who keeps it. Would fail if the next reset freed the slot: its next
/// tenant would have the place of the report at the one after that.
fn a_registration_that_a_reset_overtakes_keeps_its_report_through_any_number() {
    let cluster = cluster("reset:set_aside=stop");
    let crashing = cluster.backend.register(&shared("sleep", AT_ONCE)).unwrap();
    let (pid, mut life) = (ready(&crashing), crashing.id().incarnation());
    // Its slot is not kept, so that the worker stays there.
    drop(crashing);
    kill(pid, Signal::SIGABRT);
    wait_for_state(cluster.launched.pid(), 'T', "in the reset");
    let overtaken = cluster.backend.register(&simple("sleep")).unwrap();
    kill(cluster.launched.pid(), Signal::SIGCONT);
    let runs_in_another = |life: u32| {
        let runs = |info: &WorkerInfo| info.ready && info.handle.incarnation() != life;
        cluster.backend.workers().into_iter().find(runs).map(|info| info.handle.incarnation())
    };
    wait_until("the slots are made anew", PATIENCE, || runs_in_another(life).is_some());
    life = runs_in_another(life).unwrap();
    for _ in 0..3 {
        life = crash(&cluster, life);
        // It has the lowest free slot.
        started(&cluster.backend.register(&simple("sleep")).unwrap());
    }
    let WorkerStatus::Stopped(Some(report)) = overtaken.status() else {
        panic!("{overtaken}: {}", overtaken.status())
    };
    assert!(report.reset && overtaken.crash_reset().is_some(), "{report:?}");
    cluster.end();
}

/// The postmaster is stopped when the next life of the slots has begun and every slot is still one
/// of the life before. Meanwhile one program takes all free slots and another one waits. Would time
/// out if a registration of this moment or a wait that sleeps through it were forgotten, and fail
/// if a slot were.
fn nothing_is_lost_while_the_postmaster_is_stopped_between_two_lives() {
    let cluster = cluster("reset:new_life=stop");
    let postmaster = cluster.launched.pid();
    let crashing = cluster.backend.register(&shared("sleep", AT_ONCE)).unwrap();
    let pid = ready(&crashing);
    let mut waiter = fork_child(|| {
        let theirs = connect(&cluster.folder).handle(crashing.id());
        let status = theirs.wait_for_end_timeout(PATIENCE).unwrap();
        assert!(matches!(status, WorkerStatus::Stopped(Some(_))), "{status}");
    });
    wait_until_asleep(Pid::new(waiter.pid().as_raw().unsigned_abs()).unwrap());
    kill(pid, Signal::SIGABRT);
    wait_for_state(postmaster, 'T', "between two lives");
    let mut handles = Vec::new();
    let full = loop {
        match cluster.backend.register(&simple("sleep")) {
            Ok(handle) => handles.push(handle),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, RegisterError::NoFreeSlot { .. }), "{full}");
    assert!(!handles.is_empty());
    kill(postmaster, Signal::SIGCONT);
    let ended = handles.iter().filter(|handle| told(handle)).count();
    assert_eq!(waiter.wait().code(), Some(0));
    // Those that run are all that is registered, beside the one that restarts.
    let left = handles.len() - ended + 1;
    wait_until("nobody else is there", PATIENCE, || cluster.backend.workers().len() == left);
    drop(handles);
    for info in cluster.backend.workers() {
        let handle = cluster.backend.handle(info.handle);
        handle.terminate().unwrap();
        handle.wait_for_end_timeout(PATIENCE).unwrap();
    }
    let all: Vec<_> =
        (0..CAPACITY).map(|_| cluster.backend.register(&simple("sleep")).unwrap()).collect();
    for handle in &all {
        started(handle);
    }
    cluster.end();
}

/// It runs, or it has ended since the slots were made anew, and says so: true then.
#[track_caller]
fn told(handle: &Handle) -> bool {
    match handle.wait_for_startup_timeout(PATIENCE).unwrap() {
        WorkerStatus::Started(_) => false,
        WorkerStatus::Stopped(Some(report)) => {
            assert!(report.reset && handle.crash_reset().is_some(), "{report}");
            true
        }
        other => panic!("{handle}: {other}"),
    }
}

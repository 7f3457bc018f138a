//! The promise: a crash with shared state resets the whole cluster; any other end resets nobody.
//!
//! Would catch: a neighbour that keeps its process, a never-restart worker that comes back, a
//! handle that survives the reset, an isolated worker whose crash ends others.

use crate::support::{
    Cluster, PATIENCE, connect, kill, note_path, read_note, ready, shared, simple, started,
    stopped, wait_until_asleep, worker, write_note,
};
use bgw_backend::{
    BackgroundWorker, CrashReset, ExitCause, ExitReport, Handle, NotStarted, Pid, RestartPolicy,
    StartTime, Worker, WorkerError, WorkerFlags, WorkerStatus, entry,
};
use process_test::{Signal, Test, fork_child, tests, wait_until};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_crash_with_shared_state_resets_the_cluster => [B34, B35, B36, S09],
        the_worker_that_caused_a_reset_runs_again_after_it => [R26],
        process_exit_with_shared_state_is_a_crash,
        without_restart_after_crash_the_postmaster_ends => [B37],
        a_handle_from_before_a_reset_explains_it => [D08],
        a_reset_replaces_no_report => [D08, D01],
        a_second_reset_shows_no_older_report => [D08],
        two_resets_before_the_first_look_lose_no_end => [D01, D08],
        a_worker_stays_in_its_slot_when_a_reset_finds_no_free_one => [D01, D08],
        a_registration_during_a_reset_explains_itself => [D08],
        a_crash_of_an_isolated_worker_touches_nobody,
        a_killed_program_or_isolated_worker_resets_nobody => [S09],
    ]
}

/// Would fail if a neighbour kept its process, if a never-restart worker came back, or if an old
/// handle answered for a new worker.
fn a_crash_with_shared_state_resets_the_cluster() {
    let cluster =
        Cluster::with(|builder| builder.max_workers(8).initial_phase(StartTime::ConsistentState));
    // It waits for a phase that does not come before the crash.
    let unstarted = cluster.backend.register(&simple("sleep")).unwrap();
    let shared = |function, restart| {
        let flags = bgw_backend::WorkerFlags::SHMEM_ACCESS;
        let early = worker(function).start_time(StartTime::ConsistentState);
        early.flags(flags).restart(restart).build().unwrap()
    };
    let simple =
        |function| worker(function).start_time(StartTime::ConsistentState).build().unwrap();
    let (crashing, pid) = cluster.start(&shared("sleep", RestartPolicy::after_secs(60)));
    let (neighbour, other) = cluster.start(&shared("sleep", RestartPolicy::after_secs(60)));
    let (isolated, _) = cluster.start(&simple("sleep"));
    for handle in [&crashing, &neighbour, &isolated] {
        ready(handle);
    }
    kill(pid, Signal::SIGABRT);
    wait_until("both restartable workers run again", PATIENCE, || {
        let running = |info: &bgw_backend::WorkerInfo| matches!(info.status, WorkerStatus::Started(now) if now != pid && now != other);
        cluster.backend.workers().iter().filter(|info| running(info)).count() == 2
    });
    assert_eq!(cluster.backend.workers().len(), 2, "the never-restart workers are gone");
    for handle in [&crashing, &neighbour, &isolated, &unstarted] {
        assert!(
            matches!(handle.status(), WorkerStatus::Stopped(_)),
            "{handle} is from before the reset"
        );
        assert!(matches!(handle.wait_for_shutdown().unwrap(), WorkerStatus::Stopped(_)));
    }
    crashing.terminate().unwrap();
    cluster.backend.ping().unwrap();
    assert_eq!(cluster.backend.workers().len(), 2, "an old handle ends no worker");
    cluster.start(&simple("sleep"));
    cluster.end();
}

/// Would fail if the pid of the crashed run stayed on record: the postmaster would take the worker
/// for a running one.
fn the_worker_that_caused_a_reset_runs_again_after_it() {
    type Crash = fn(Pid);
    let crashes: [(&str, Crash); 4] = [
        ("SIGKILL", |pid| kill(pid, Signal::SIGKILL)),
        ("SIGABRT", |pid| kill(pid, Signal::SIGABRT)),
        ("exit code 7", |_| write_note("leave", "7").unwrap()),
        ("exit code 1", |_| write_note("leave", "1").unwrap()),
    ];
    let cluster = Cluster::with(|builder| builder.function("leaves", entry(leaves)));
    let culprit = BackgroundWorker::builder("culprit")
        .function("leaves")
        .flags(WorkerFlags::SHMEM_ACCESS)
        .restart(RestartPolicy::after_secs(3600));
    let (handle, mut pid) = cluster.start(&culprit.build().unwrap());
    ready(&handle);
    let (bystander, _) = cluster.start(&shared("sleep", RestartPolicy::after_secs(3600)));
    ready(&bystander);
    let find = |name: &str| {
        let workers = cluster.backend.workers();
        workers.into_iter().find(|info| info.worker.name() == name)
    };
    for (how, crash) in crashes {
        let before = find("sleep").unwrap().handle;
        wait_until_asleep(pid);
        crash(pid);
        wait_until(&format!("the culprit runs again after {how}"), PATIENCE, || {
            let now = find("culprit").filter(|info| info.ready).map(|info| info.status);
            matches!(now, Some(WorkerStatus::Started(now)) if now != pid)
        });
        let Some(WorkerStatus::Started(now)) = find("culprit").map(|info| info.status) else {
            panic!("after {how} the culprit ran for a moment only")
        };
        pid = now;
        assert_eq!(cluster.backend.workers().len(), 2, "{how}: each once");
        wait_until(&format!("{how} was a crash, and reset the bystander"), PATIENCE, || {
            find("sleep").is_some_and(|info| info.handle != before && info.ready)
        });
    }
    let handle = cluster.backend.handle(find("culprit").unwrap().handle);
    handle.terminate().unwrap();
    assert!(stopped(&handle).unregistered);
    cluster.end();
}

/// Leaves by `exit` when its note says so, without a return to the library.
fn leaves(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.handle_terminate();
    worker.unblock_signals()?;
    worker.ready();
    while !worker.should_stop() {
        let note = note_path("leave");
        if let Ok(code) = std::fs::read_to_string(&note) {
            std::fs::remove_file(&note)?;
            std::process::exit(code.parse().unwrap());
        }
        worker.sleep(Some(Duration::from_millis(2)))?;
    }
    Ok(())
}

/// The report and the reset of a handle from before; status, waits, the registrant's handle and
/// one that is made anew have one answer.
#[track_caller]
fn explained(cluster: &Cluster, handle: &Handle) -> (ExitReport, CrashReset) {
    let WorkerStatus::Stopped(Some(report)) = handle.wait_for_end_timeout(PATIENCE).unwrap() else {
        panic!("{handle}: {}", handle.status())
    };
    let mut reset = handle.crash_reset().expect("it says that it was reset");
    for handle in [handle, &cluster.backend.handle(handle.id())] {
        let stopped = WorkerStatus::Stopped(Some(report.clone()));
        assert_eq!(handle.exit_report().as_ref(), Some(&report));
        assert_eq!(handle.status(), stopped);
        assert_eq!(handle.wait_for_shutdown().unwrap(), stopped);
        let now = handle.crash_reset().expect("it goes on saying so");
        // The successor may come between two looks, and nothing else changes.
        reset.successor = reset.successor.or(now.successor);
        assert_eq!(now, reset);
    }
    assert!(report.reset && report.unregistered, "{report:?}");
    (report, reset)
}

/// Would fail if a handle said a bare "stopped", if it named another culprit or successor, or if
/// the ends of later tenants of its slot changed what it says.
fn a_handle_from_before_a_reset_explains_it() {
    let cluster = Cluster::with(|builder| builder.max_workers(6).allow_commands(true));
    let policy = RestartPolicy::after_secs(3600);
    let (culprit, pid) = cluster.start(&shared("sleep", policy));
    let (neighbour, other) = cluster.start(&shared("sleep", RestartPolicy::Never));
    let (isolated, _) = cluster.start(&simple("sleep"));
    let command = BackgroundWorker::builder("command").command("sleep", ["1000"]).build().unwrap();
    let (command, _) = cluster.start(&command);
    for handle in [&culprit, &neighbour, &isolated] {
        ready(handle);
    }
    let foreign = cluster.backend.handle(culprit.id());
    let waiter =
        std::thread::spawn(move || (foreign.wait_for_end().unwrap(), foreign.crash_reset()));
    kill(pid, Signal::SIGABRT);
    let (report, reset) = explained(&cluster, &culprit);
    assert_eq!((reset.culprit, reset.pid, reset.cause), (culprit.id(), pid, report.cause));
    assert!(matches!(report.cause, ExitCause::Signaled { signal: 6, .. }), "{report}");
    assert_eq!((report.pid, report.requested()), (Some(pid), false), "its own report stays");
    let (status, seen) = waiter.join().unwrap();
    assert_eq!((status, seen), (WorkerStatus::Stopped(Some(report)), Some(reset)));

    let successor = cluster.backend.handle(reset.successor.unwrap());
    ready(&successor);
    assert_eq!(cluster.backend.find("sleep"), std::slice::from_ref(&successor));
    let (quit, by) = explained(&cluster, &neighbour);
    assert_eq!((quit.pid, quit.requested()), (Some(other), true), "{quit}");
    assert_eq!((by.culprit, by.pid, by.successor), (culprit.id(), pid, None));
    for handle in [&isolated, &command] {
        let (_, by) = explained(&cluster, handle);
        assert_eq!((by.culprit, by.successor), (culprit.id(), None));
    }
    assert_eq!(successor.crash_reset(), None);
    let seen_before = explained(&cluster, &cluster.backend.handle(culprit.id()));
    successor.terminate().unwrap();
    stopped(&successor);
    for _ in 0..12 {
        stopped(&cluster.backend.register(&simple("quick")).unwrap());
    }
    assert_eq!(explained(&cluster, &cluster.backend.handle(culprit.id())), seen_before);
    cluster.end();
}

/// Would fail if a worker in its restart pause lost its report by a reset, or an unread end of
/// before the reset did.
fn a_reset_replaces_no_report() {
    let cluster = Cluster::with(|builder| builder.max_workers(4));
    let hour = Duration::from_secs(3600);
    let resting = cluster.backend.register(&crate::support::restarting("fail", hour)).unwrap();
    let failed = stopped(&resting);
    assert_eq!(failed.cause, ExitCause::Exited(1));
    let unread = cluster.backend.register(&simple("quick")).unwrap();
    let done = stopped(&cluster.backend.handle(unread.id()));
    let (culprit, pid) = cluster.start(&shared("sleep", RestartPolicy::Never));
    kill(pid, Signal::SIGABRT);
    let (report, reset) = explained(&cluster, &resting);
    assert_eq!((report.cause, report.pid), (failed.cause, failed.pid));
    assert_eq!(report.ended_at, failed.ended_at);
    assert_eq!(reset.culprit, culprit.id());
    assert!(reset.successor.is_some());
    for _ in 0..12 {
        stopped(&cluster.backend.register(&simple("quick")).unwrap());
    }
    assert_eq!(unread.wait_for_end().unwrap(), WorkerStatus::Stopped(Some(done)));
    assert_eq!(unread.crash_reset(), None, "it had ended before");
    explained(&cluster, &culprit);
    cluster.end();
}

/// Would fail if the report of before the first reset, which says that the worker will be
/// restarted, showed again when a second reset takes the place of what the first has set aside.
fn a_second_reset_shows_no_older_report() {
    let cluster = Cluster::with(|builder| builder.max_workers(2));
    let hour = Duration::from_secs(3600);
    let (bystander, _) = cluster.start(&shared("sleep", RestartPolicy::Fixed(hour)));
    let foreign = cluster.backend.handle(bystander.id());
    for round in 0..2 {
        let [current] = &cluster.backend.find("sleep")[..] else { panic!("one bystander") };
        ready(current);
        let (culprit, pid) = cluster.start(&shared("default", RestartPolicy::Never));
        ready(&culprit);
        kill(pid, Signal::SIGABRT);
        let (report, reset) = explained(&cluster, current);
        assert!(report.requested(), "it quit with the others: {report}");
        assert_eq!(reset.culprit, culprit.id(), "{round}");
        let report = foreign.exit_report();
        assert!(
            report.as_ref().is_none_or(|report| report.reset && report.unregistered),
            "{report:?}"
        );
        wait_until("the bystander runs again", PATIENCE, || {
            cluster.backend.find("sleep").iter().any(|handle| handle.is_ready())
        });
    }
    cluster.end();
}

/// A worker with shared state crashes; waits until the worker named "sleep" runs after the reset.
fn crash_beside_the_sleeper(cluster: &Cluster) {
    let [before] = &cluster.backend.find("sleep")[..] else { panic!("one sleeper") };
    let (culprit, pid) = cluster.start(&shared("default", RestartPolicy::Never));
    ready(&culprit);
    kill(pid, Signal::SIGABRT);
    wait_until("the sleeper runs again", PATIENCE, || {
        let now = cluster.backend.find("sleep");
        now.iter().any(|handle| handle != before && handle.is_ready())
    });
}

/// Would fail if a reset freed a slot whose registrant has not looked: the second reset set the
/// report of the slot's next tenant aside in the place of that one, and the first look of the
/// registrant found a bare "stopped".
fn two_resets_before_the_first_look_lose_no_end() {
    let cluster = Cluster::with(|builder| builder.max_workers(12));
    let (sleeper, pid) = cluster.start(&shared("sleep", RestartPolicy::after_secs(3600)));
    ready(&sleeper);
    let bystander = BackgroundWorker::builder("bystander").function("sleep").build().unwrap();
    let (neighbour, other) = cluster.start(&bystander);
    ready(&neighbour);
    let done = cluster.backend.register(&simple("quick")).unwrap();
    stopped(&cluster.backend.handle(done.id()));
    let first = sleeper.id();
    crash_beside_the_sleeper(&cluster);
    let second = cluster.backend.find("sleep")[0].id();
    // In whatever slot a reset has left free.
    let fillers: Vec<Handle> = (0..3).map(|_| cluster.start(&bystander).0).collect();
    for _ in 0..3 {
        crash_beside_the_sleeper(&cluster);
    }
    for _ in 0..24 {
        stopped(&cluster.backend.register(&simple("quick")).unwrap());
    }
    let (report, reset) = explained(&cluster, &sleeper);
    assert_eq!((report.pid, reset.successor), (Some(pid), Some(second)), "not any later one");
    let (report, reset) = explained(&cluster, &neighbour);
    assert_eq!((report.pid, reset.successor), (Some(other), None));
    assert_eq!(done.exit_report().map(|report| report.cause), Some(ExitCause::Exited(0)));
    for filler in &fillers {
        explained(&cluster, filler);
    }
    let mut slots: Vec<u32> = Vec::new();
    let mut handles: Vec<Handle> = Vec::new();
    for _ in 0..11 {
        let handle = cluster.backend.register(&simple("sleep")).unwrap();
        slots.push(handle.id().slot());
        handles.push(handle);
    }
    assert!(slots.contains(&first.slot()), "held no longer than until its registrant has looked");
    cluster.end();
}

/// Would fail if the worker lost its place to an unread end, or if the end of its life before the
/// reset, whose slot it goes on in, could not be read.
fn a_worker_stays_in_its_slot_when_a_reset_finds_no_free_one() {
    let cluster = Cluster::with(|builder| builder.max_workers(2));
    let (sleeper, pid) = cluster.start(&shared("sleep", RestartPolicy::after_secs(3600)));
    ready(&sleeper);
    let (culprit, crashes) = cluster.start(&shared("default", RestartPolicy::Never));
    ready(&culprit);
    kill(crashes, Signal::SIGABRT);
    wait_until("the sleeper runs again", PATIENCE, || {
        let now = cluster.backend.find("sleep");
        now.iter().any(|handle| *handle != sleeper && handle.is_ready())
    });
    let [now] = &cluster.backend.find("sleep")[..] else { panic!("one sleeper") };
    assert_eq!(now.id().slot(), sleeper.id().slot(), "the other slot is kept for its registrant");
    for handle in [&sleeper, &culprit] {
        let (report, reset) = explained(&cluster, handle);
        let expected = if handle == &sleeper { pid } else { crashes };
        assert_eq!((report.pid, reset.culprit), (Some(expected), culprit.id()));
    }
    assert_eq!(sleeper.crash_reset().unwrap().successor, Some(now.id()));
    cluster.end();
}

/// Would fail if a registration that a reset has overtaken said a bare "stopped".
fn a_registration_during_a_reset_explains_itself() {
    let cluster = Cluster::with(|builder| builder.max_workers(8));
    let (culprit, pid) = cluster.start(&shared("sleep", RestartPolicy::after_secs(3600)));
    ready(&culprit);
    kill(pid, Signal::SIGABRT);
    let mut handles = Vec::new();
    wait_until("the reset is over", PATIENCE, || {
        if let Ok(handle) = cluster.backend.register(&simple("quick")) {
            handles.push(handle);
        }
        culprit.crash_reset().is_some_and(|reset| reset.successor.is_some())
    });
    for handle in &handles {
        let report = stopped(handle);
        if report.reset {
            let (report, reset) = explained(&cluster, handle);
            // It came before the postmaster saw the crash, or after.
            let never_ran = report.cause == ExitCause::NotStarted(NotStarted::ClusterReset);
            assert!(never_ran || report.requested(), "{report}");
            assert_eq!((reset.culprit, reset.successor), (culprit.id(), None));
        } else {
            assert_eq!(report.cause, ExitCause::Exited(0), "{report}");
        }
    }
    cluster.end();
}

/// Exit code 0, but it left in the middle of its work: its clean-up mark says so.
fn process_exit_with_shared_state_is_a_crash() {
    let cluster = Cluster::new();
    let (bystander, first) = cluster.start(&shared("sleep", RestartPolicy::after_secs(60)));
    ready(&bystander);
    cluster.backend.register(&shared("exit", RestartPolicy::Never)).unwrap();
    wait_until("the bystander was restarted by the reset", PATIENCE, || {
        // Not the worker that exits, which also runs for a moment.
        let again = |info: &bgw_backend::WorkerInfo| matches!(info.status, WorkerStatus::Started(pid) if pid != first);
        cluster.backend.workers().iter().any(|info| info.worker.name() == "sleep" && again(info))
    });
    cluster.end();
}

/// Would hang if the postmaster made the slots anew.
fn without_restart_after_crash_the_postmaster_ends() {
    let cluster = Cluster::with(|builder| builder.restart_after_crash(false));
    let (_handle, pid) = cluster.start(&shared("sleep", RestartPolicy::after_secs(0)));
    kill(pid, Signal::SIGKILL);
    assert_eq!(cluster.launched.wait().unwrap(), ExitCause::Exited(1));
}

/// Would fail if a crash without shared state reset the cluster.
fn a_crash_of_an_isolated_worker_touches_nobody() {
    let cluster = Cluster::new();
    let (bystander, pid) = cluster.start(&shared("sleep", RestartPolicy::after_secs(60)));
    let (crashing, victim) = cluster.start(&simple("sleep"));
    kill(victim, Signal::SIGABRT);
    assert!(matches!(stopped(&crashing).cause, ExitCause::Signaled { signal: 6, .. }));
    // In a reset this one would not start.
    started(&cluster.backend.register(&simple("sleep")).unwrap());
    assert_eq!(bystander.status(), WorkerStatus::Started(pid));
    cluster.end();
}

/// Would fail if the end of an attached program reset the cluster, or kept a slot.
fn a_killed_program_or_isolated_worker_resets_nobody() {
    let cluster = Cluster::with(|builder| builder.max_workers(3));
    let (bystander, pid) = cluster.start(&shared("sleep", RestartPolicy::after_secs(60)));
    let folder = cluster.folder.clone();
    let mut program = fork_child(move || {
        let backend = connect(&folder);
        started(&backend.register(&simple("sleep")).unwrap());
        write_note("registered", "").unwrap();
        std::process::abort();
    });
    read_note("registered");
    assert_eq!(program.wait().signal(), Some(Signal::SIGABRT));
    let isolated = worker("sleep").restart(RestartPolicy::Fixed(Duration::ZERO)).build().unwrap();
    let (crashing, victim) = cluster.start(&isolated);
    kill(victim, Signal::SIGKILL);
    wait_until(
        "the isolated one runs again",
        PATIENCE,
        || matches!(crashing.status(), WorkerStatus::Started(now) if now != victim),
    );
    assert_eq!(bystander.status(), WorkerStatus::Started(pid));
    assert_eq!(cluster.backend.workers().len(), 3, "the worker of the dead program goes on");
    cluster.end();
}

//! The promise: a worker that who registers it gives to a spare itself starts once, is the
//! postmaster's like any other, and starts in the ordinary way where it cannot be given so.
//!
//! Would catch: a registration that rings the postmaster, one that runs twice or never, a start
//! after the gate was closed, a run that the postmaster does not take on.

use crate::support::{
    Cluster, PATIENCE, kill, note_path, raw, ready, restarting, shared, simple, spares, started,
    stopped, the_end, title, wait_for_reset, wait_for_spares, wait_until_asleep, worker,
    write_note,
};
use bgw_backend::{
    BackgroundWorker, EventKind, EventsFrom, ExitCause, Handle, NotStarted, Orphaned, Pid,
    RestartPolicy, ShutdownMode, StartTime, Worker, WorkerError, WorkerStatus, entry,
};
use bgw_postmaster::{PostmasterBuilder, Reuse};
use process_test::{Signal, Test, fork_child, tests, wait_until};
use std::io::Write;
use std::time::{Duration, Instant};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_registration_starts_in_a_spare_without_the_postmaster => [J35],
        the_postmaster_reports_restarts_and_stops_what_it_has_not_started => [J34],
        each_of_many_registrations_runs_once => [J35],
        a_worker_that_was_given_to_a_spare_registers_as_any_other => [J34],
        nothing_begins_once_a_shutdown_has_begun => [J36],
        nothing_begins_once_a_reset_has_begun => [J36],
        a_spare_that_is_stopped_or_killed_costs_a_delay => [J37],
        a_registrant_that_dies_after_it_woke_a_spare_leaves_a_worker => [J37],
        a_notify_target_is_told_after_the_fact => [J39],
        what_cannot_be_given_to_a_spare_starts_in_the_ordinary_way => [J40],
        the_event_of_a_start_comes_within_a_moment,
        a_process_that_serves_again_is_given_the_next_worker,
        without_the_setting_the_postmaster_starts_every_worker,
    ]
}

fn count(_: &mut Worker) -> Result<(), WorkerError> {
    let path = std::env::temp_dir().join("count");
    std::fs::OpenOptions::new().create(true).append(true).open(path)?.write_all(b"x")?;
    Ok(())
}

fn serve(_: &mut Worker) -> Result<(), WorkerError> {
    Ok(())
}

pub(crate) fn counted() -> usize {
    std::fs::read(std::env::temp_dir().join("count")).map_or(0, |bytes| bytes.len())
}

fn configured(builder: PostmasterBuilder, spares: usize) -> PostmasterBuilder {
    builder
        .max_workers(128)
        .warm_spares(spares)
        .direct_starts(true)
        .function("count", entry(count))
        .function("registers", entry(registers))
        .reusable_function("serve", Reuse::new(), entry(serve))
}

/// A cluster whose spares may be given workers.
pub(crate) fn cluster(spares: usize) -> Cluster {
    let cluster = Cluster::with(|builder| configured(builder, spares));
    settled(&cluster, spares);
    cluster
}

/// Waits until all spares may be given workers.
pub(crate) fn settled(cluster: &Cluster, spares: usize) {
    wait_for_spares(cluster, spares);
    cluster.backend.ping().unwrap();
    wait_until_asleep(cluster.launched.pid());
}

/// Registers while the postmaster is stopped.
pub(crate) fn register_past(cluster: &Cluster, worker: &BackgroundWorker) -> Handle {
    kill(cluster.launched.pid(), Signal::SIGSTOP);
    cluster.backend.register(worker).unwrap()
}

pub(crate) fn go_on(cluster: &Cluster) {
    kill(cluster.launched.pid(), Signal::SIGCONT);
}

/// Would time out if the registration needed the postmaster.
fn a_registration_starts_in_a_spare_without_the_postmaster() {
    let cluster = cluster(2);
    let before = spares(&cluster);
    let handle = register_past(&cluster, &simple("sleep"));
    let pid = ready(&handle);
    assert!(before.contains(&pid), "{pid} was none of {before:?}");
    assert_eq!(title(pid), "bgworker: sleep");
    go_on(&cluster);
    assert_eq!(started(&handle), pid, "it is taken on, and not started again");
    handle.terminate().unwrap();
    let report = stopped(&handle);
    assert_eq!((report.cause, report.restarts), (ExitCause::Exited(0), 0));
    assert_eq!(report.pid, Some(pid));
    settled(&cluster, 2);
    cluster.end();
}

/// Would fail if the postmaster did not know the worker as it knows its own.
fn the_postmaster_reports_restarts_and_stops_what_it_has_not_started() {
    let cluster = cluster(2);
    // It is told that the worker is to end before it has looked at the start.
    let handle = register_past(&cluster, &simple("sleep"));
    ready(&handle);
    handle.terminate().unwrap();
    go_on(&cluster);
    let report = stopped(&handle);
    assert!(report.requested() && report.cause == ExitCause::Exited(0), "{report:?}");
    settled(&cluster, 2);
    // It dies before that.
    let handle = register_past(&cluster, &simple("sleep"));
    let pid = ready(&handle);
    kill(pid, Signal::SIGKILL);
    go_on(&cluster);
    let killed = ExitCause::Signaled { signal: 9, core_dumped: false };
    assert_eq!(stopped(&handle).cause, killed);
    settled(&cluster, 2);
    let handle = register_past(&cluster, &simple("fail"));
    go_on(&cluster);
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(1));
    settled(&cluster, 2);
    // Its policy counts.
    let handle = register_past(&cluster, &restarting("sleep", Duration::ZERO));
    let first = ready(&handle);
    kill(first, Signal::SIGKILL);
    go_on(&cluster);
    wait_until(
        "it runs again",
        PATIENCE,
        || matches!(handle.status(), WorkerStatus::Started(pid) if pid != first),
    );
    handle.terminate().unwrap();
    let WorkerStatus::Stopped(Some(report)) = handle.wait_for_end_timeout(PATIENCE).unwrap() else {
        panic!("it has no report");
    };
    assert_eq!(report.restarts, 1);
    cluster.end();
}

/// Would fail if a worker ran twice or never, however the registrations of three processes, their
/// spares and the postmaster overtake each other.
fn each_of_many_registrations_runs_once() {
    const EACH: usize = 100;
    let cluster = cluster(4);
    let folder = cluster.folder.clone();
    let mut programs: Vec<_> = (0..3)
        .map(|_| {
            let folder = folder.clone();
            fork_child(move || {
                let backend = bgw_backend::Backend::connect(&folder).unwrap();
                for _ in 0..EACH / 4 {
                    let handles: Vec<_> =
                        (0..4).map(|_| backend.register(&simple("count")).unwrap()).collect();
                    for handle in handles {
                        assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
                    }
                }
            })
        })
        .collect();
    for program in &mut programs {
        assert_eq!(program.wait().code(), Some(0));
    }
    assert_eq!(counted(), 3 * EACH);
    settled(&cluster, 4);
    cluster.end();
}

/// Registers another one, which is to be notified and counted as its own.
fn registers(worker: &mut Worker) -> Result<(), WorkerError> {
    let backend = worker.backend();
    let handle = backend.register(&simple("count"))?;
    let told = BackgroundWorker::builder("told").function("count").notify(backend.pid()).build()?;
    let told = backend.register(&told)?;
    for handle in [handle, told] {
        handle.wait_for_shutdown_timeout(PATIENCE)?;
    }
    write_note("registered", "")?;
    Ok(())
}

/// Would fail if the postmaster did not know who runs by itself when it asks for something.
fn a_worker_that_was_given_to_a_spare_registers_as_any_other() {
    let cluster = cluster(2);
    let handle = cluster.backend.register(&simple("registers")).unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    assert!(note_path("registered").exists());
    assert_eq!(counted(), 2);
    cluster.end();
}

/// A spare is given a worker and stopped before it takes it. Would fail if the worker began, or
/// were lost.
fn nothing_begins_once_a_shutdown_has_begun() {
    let cluster = cluster(1);
    let spare = spares(&cluster)[0];
    kill(spare, Signal::SIGSTOP);
    let handle = register_past(&cluster, &simple("count"));
    cluster.launched.shutdown(ShutdownMode::Fast).unwrap();
    go_on(&cluster);
    match handle.wait_for_end_timeout(PATIENCE).unwrap() {
        WorkerStatus::Stopped(Some(report)) => {
            assert_eq!(report.cause, ExitCause::NotStarted(NotStarted::ShuttingDown));
        }
        other => assert_eq!(other, WorkerStatus::PostmasterDied),
    }
    assert_eq!(cluster.launched.wait().unwrap(), ExitCause::Exited(0));
    assert_eq!(counted(), 0);
}

/// The same with a crash. Would fail if the worker began in the memory that is reset.
fn nothing_begins_once_a_reset_has_begun() {
    let cluster = cluster(1);
    let (_, crashes) = cluster.start(&shared("sleep", RestartPolicy::Never));
    settled(&cluster, 1);
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    let spare = spares(&cluster)[0];
    kill(spare, Signal::SIGSTOP);
    let handle = register_past(&cluster, &simple("count"));
    kill(crashes, Signal::SIGKILL);
    wait_until("it has crashed", PATIENCE, || !process_test::alive(raw(crashes)));
    go_on(&cluster);
    let report = the_end(&handle);
    assert_eq!(report.cause, ExitCause::NotStarted(NotStarted::ClusterReset));
    wait_for_reset(&mut events);
    // It finds what it was given, and the gate closed; afterwards it serves as before.
    // On a slow machine it was ended before, as one that does not wake.
    let _ = nix::sys::signal::kill(raw(spare), Signal::SIGCONT);
    settled(&cluster, 1);
    assert_eq!(counted(), 0);
    assert_eq!(stopped(&cluster.backend.register(&simple("count")).unwrap()).restarts, 0);
    assert_eq!(counted(), 1);
    cluster.end();
}

/// Nobody rings, and the registrant does not wait. Would time out if the postmaster did not look by
/// itself.
fn a_spare_that_is_stopped_or_killed_costs_a_delay() {
    for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
        let cluster = cluster(1);
        let spare = spares(&cluster)[0];
        if signal == Signal::SIGKILL {
            kill(cluster.launched.pid(), Signal::SIGSTOP);
        }
        kill(spare, signal);
        let handle = cluster.backend.register(&simple("count")).unwrap();
        if signal == Signal::SIGKILL {
            go_on(&cluster);
        }
        wait_until("the worker runs", PATIENCE, || counted() == 1);
        let report = stopped(&handle);
        assert_eq!((report.cause, report.restarts), (ExitCause::Exited(0), 0));
        assert_ne!(report.pid, Some(spare));
        wait_until("the spare is replaced", PATIENCE, || {
            !process_test::alive(raw(spare)) && spares(&cluster).len() == 1
        });
        cluster.end();
        let _ = std::fs::remove_file(std::env::temp_dir().join("count"));
    }
}

/// Would fail if the worker depended on the process that woke its spare.
fn a_registrant_that_dies_after_it_woke_a_spare_leaves_a_worker() {
    let cluster = cluster(1);
    let folder = cluster.folder.clone();
    let mut program = fork_child(move || {
        let backend = bgw_backend::Backend::connect(&folder).unwrap();
        std::mem::forget(backend.register(&simple("count")).unwrap());
        nix::sys::signal::raise(Signal::SIGKILL).unwrap();
    });
    assert_eq!(program.wait().signal(), Some(Signal::SIGKILL));
    wait_until("the worker has run", PATIENCE, || counted() == 1);
    settled(&cluster, 1);
    assert_eq!(counted(), 1);
    cluster.end();
}

/// Would fail if the signal came before the slot said so, or the postmaster were passed by.
fn a_notify_target_is_told_after_the_fact() {
    let cluster = cluster(1);
    let notifications = cluster.backend.enable_notifications();
    notifications.unwrap();
    let told = worker("sleep").notify(cluster.backend.pid()).build().unwrap();
    let handle = register_past(&cluster, &told);
    assert_eq!(handle.status(), WorkerStatus::NotYetStarted);
    go_on(&cluster);
    assert!(cluster.backend.wait_for_notification(Some(PATIENCE)).unwrap());
    assert!(matches!(handle.status(), WorkerStatus::Started(_)));
    cluster.end();
}

/// Would fail if one of them began without the postmaster, or ended differently for it.
fn what_cannot_be_given_to_a_spare_starts_in_the_ordinary_way() {
    let quick = || worker("count");
    let ordinary = [
        quick().unique().build().unwrap(),
        quick().job(Orphaned::GoOn).build().unwrap(),
        BackgroundWorker::builder("c").command("true", [""; 0]).build().unwrap(),
    ];
    let cluster = cluster(2);
    let mut runs = 0;
    for worker in ordinary {
        let handle = register_past(&cluster, &worker);
        assert_eq!(handle.status(), WorkerStatus::NotYetStarted, "{worker:?}");
        go_on(&cluster);
        assert_eq!(stopped(&handle).cause, ExitCause::Exited(0), "{worker:?}");
        runs += usize::from(worker.name() != "c");
        assert_eq!(counted(), runs);
        settled(&cluster, 2);
    }
    // More than there are spares.
    kill(cluster.launched.pid(), Signal::SIGSTOP);
    let handles: Vec<_> =
        (0..5).map(|_| cluster.backend.register(&simple("count")).unwrap()).collect();
    wait_until("two have run", PATIENCE, || counted() == runs + 2);
    go_on(&cluster);
    for handle in handles {
        assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    }
    assert_eq!(counted(), runs + 5);
    cluster.end();
    // A phase that is not reached: the gate is closed.
    let cluster =
        Cluster::with(|builder| configured(builder, 1).initial_phase(StartTime::PostmasterStart));
    settled(&cluster, 1);
    let early = worker("count").start_time(StartTime::PostmasterStart).build().unwrap();
    let handle = register_past(&cluster, &early);
    assert_eq!(handle.status(), WorkerStatus::NotYetStarted);
    go_on(&cluster);
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    cluster.end();
}

/// Nobody rings. Would time out if the start were told only with the next cause to look.
fn the_event_of_a_start_comes_within_a_moment() {
    let cluster = cluster(1);
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    let (handle, pid) = cluster.start(&simple("sleep"));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let event = events.next_timeout(deadline.saturating_duration_since(Instant::now()));
        let event = event.unwrap().expect("the start is told");
        if event.kind == EventKind::Started && event.handle == Some(handle.id()) {
            assert_eq!(event.pid, Some(pid));
            break;
        }
    }
    cluster.end();
}

/// Would fail if a process that has served were given nothing, or something it must not have.
fn a_process_that_serves_again_is_given_the_next_worker() {
    let cluster = cluster(1);
    let handle = cluster.backend.register(&simple("serve")).unwrap();
    let first = stopped(&handle).pid;
    // Itself, and the one that was forked in its place.
    settled(&cluster, 2);
    let handle = register_past(&cluster, &simple("serve"));
    started_or_over(&handle);
    go_on(&cluster);
    assert_eq!(stopped(&handle).pid, first);
    settled(&cluster, 2);
    let handle = register_past(&cluster, &simple("sleep"));
    assert_ne!(Some(ready(&handle)), first);
    go_on(&cluster);
    cluster.end();
}

fn started_or_over(handle: &Handle) {
    wait_until("it has begun", PATIENCE, || handle.status() != WorkerStatus::NotYetStarted);
}

/// Would fail if the setting were on by default.
fn without_the_setting_the_postmaster_starts_every_worker() {
    let cluster = Cluster::with(|builder| builder.max_workers(8).warm_spares(1));
    settled(&cluster, 1);
    let handle = register_past(&cluster, &simple("sleep"));
    let early = handle.wait_for_startup_timeout(Duration::from_millis(100));
    assert!(early.is_err(), "{early:?}");
    go_on(&cluster);
    let pid: Pid = ready(&handle);
    assert_eq!(title(pid), "bgworker: sleep");
    cluster.end();
}

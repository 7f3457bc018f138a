//! The promise: a view shows each worker's pid, type, start time, state and wait; and workers can
//! be ended by the resource that they use.
//!
//! Would catch: facts of a slot's former tenant, a wait without its name, a tag that ends workers
//! which do not allow it.

use crate::support::{
    Cluster, Log, PATIENCE, connect, read_note, ready, simple, stopped, worker, write_note,
};
use bgw_backend::{
    BackgroundWorker, Pid, Worker, WorkerError, WorkerFlags, WorkerInfo, WorkerStatus, entry,
    wait_all,
};
use process_test::{Test, fork_child, tests, wait_until};
use std::time::SystemTime;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        the_view_shows_pid_type_start_time_and_state => [B68],
        the_view_shows_no_notify_target_that_has_ended => [B25],
        an_empty_type_becomes_the_name_and_is_shown => [B46],
        a_type_is_found_by_pid_while_the_worker_runs => [B69],
        a_named_wait_is_visible_while_it_lasts => [B82, S04],
        terminate_by_tag_ends_interruptible_workers_only => [B81, S05],
    ]
}

fn only(cluster: &Cluster) -> WorkerInfo {
    let mut workers = cluster.backend.workers();
    assert_eq!(workers.len(), 1, "{workers:?}");
    workers.remove(0)
}

/// Would fail if the view showed a fact of the slot's former tenant or of a former start.
fn the_view_shows_pid_type_start_time_and_state() {
    let cluster = Cluster::new();
    for kind in ["first kind", "second kind"] {
        let before = SystemTime::now();
        let description = worker("sleep").worker_type(kind).build().unwrap();
        let (handle, pid) = cluster.start(&description);
        ready(&handle);
        let info = only(&cluster);
        assert_eq!(info.handle, handle.id());
        assert_eq!(info.worker, description);
        assert_eq!(info.worker.worker_type(), kind);
        assert_eq!(info.status, WorkerStatus::Started(pid));
        let started = info.started_at.unwrap();
        assert!(started >= before && started <= SystemTime::now(), "{started:?}");
        assert!(info.ready && !info.terminating);
        handle.terminate().unwrap();
        stopped(&handle);
    }
    cluster.end();
}

/// Would fail if the view showed who was to be told when the worker was registered: the pid may be
/// a stranger's by now.
fn the_view_shows_no_notify_target_that_has_ended() {
    let cluster = Cluster::new();
    let folder = cluster.folder.clone();
    let mut program = fork_child(move || {
        let backend = connect(&folder);
        backend.enable_notifications().unwrap();
        let description = worker("sleep").notify(backend.pid()).build().unwrap();
        ready(&backend.register(&description).unwrap());
        write_note("registered", "").unwrap();
        read_note("looked");
    });
    read_note("registered");
    let target = Pid::new(program.pid().as_raw().unsigned_abs());
    assert_eq!(only(&cluster).worker.notify(), target);
    write_note("looked", "").unwrap();
    wait_until("the program has ended", PATIENCE, || !process_test::alive(program.pid()));
    assert_eq!(only(&cluster).worker.notify(), None, "it has ended, and was not reaped yet");
    program.wait();
    assert_eq!(only(&cluster).worker.notify(), None);
    cluster.end();
}

/// Would fail if the view or the log showed no type, or the name instead of the type.
fn an_empty_type_becomes_the_name_and_is_shown() {
    let log = Log::start();
    let cluster = Cluster::new();
    let named = |kind: &str| {
        BackgroundWorker::builder("the name").function("fail").worker_type(kind).build().unwrap()
    };
    for (kind, shown) in [("", "the name"), ("the kind", "the kind")] {
        let handle = cluster.backend.register(&named(kind)).unwrap();
        let listed = cluster.backend.workers();
        assert!(listed.iter().all(|info| info.worker.worker_type() == shown), "{listed:?}");
        stopped(&handle);
        log.wait_for(&format!("background worker \"{shown}\" (PID "));
    }
    cluster.end();
}

/// Would fail if an ended worker were found, or if the answer were another type.
fn a_type_is_found_by_pid_while_the_worker_runs() {
    let cluster = Cluster::new();
    let (_other, _) = cluster.start(&simple("sleep"));
    let description = worker("sleep").worker_type("wanted").build().unwrap();
    let (handle, pid) = cluster.start(&description);
    assert_eq!(cluster.backend.worker_type_by_pid(pid).as_deref(), Some("wanted"));
    handle.terminate().unwrap();
    stopped(&handle);
    assert_eq!(cluster.backend.worker_type_by_pid(pid), None);
    cluster.end();
}

fn napper(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.handle_terminate();
    worker.unblock_signals()?;
    worker.name_waits(Some("NapperMain"));
    worker.sleep(None)?;
    worker.name_waits(None);
    worker.ready();
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    Ok(())
}

/// Would time out if the view did not show the name while the worker sleeps, and fail if it stayed.
fn a_named_wait_is_visible_while_it_lasts() {
    let cluster = Cluster::with(|builder| builder.function("nap", entry(napper)));
    let (handle, _) = cluster.start(&simple("nap"));
    wait_until("the view shows the wait", PATIENCE, || {
        only(&cluster).wait_event.as_deref() == Some("NapperMain")
    });
    handle.set_latch().unwrap();
    ready(&handle);
    assert_eq!(only(&cluster).wait_event, None);
    cluster.end();
}

/// Would fail if a worker without the flag or with another tag ended, or if one with both did not.
fn terminate_by_tag_ends_interruptible_workers_only() {
    let cluster = Cluster::new();
    let tagged = |tag: &str, flags| worker("sleep").tag(tag).flags(flags).build().unwrap();
    let (ends, _) = cluster.start(&tagged("db1", WorkerFlags::INTERRUPTIBLE));
    let (holds, _) = cluster.start(&tagged("db1", WorkerFlags::empty()));
    let (other, _) = cluster.start(&tagged("db2", WorkerFlags::INTERRUPTIBLE));
    let (untagged, _) = cluster.start(&simple("sleep"));
    let release = cluster.backend.terminate_by_tag("db1").unwrap();
    assert_eq!(release.asked, [ends]);
    assert_eq!(release.holding, std::slice::from_ref(&holds));
    wait_all(&release.asked, Some(PATIENCE)).unwrap();
    cluster.backend.ping().unwrap();
    for handle in [&holds, &other, &untagged] {
        assert!(matches!(handle.status(), WorkerStatus::Started(_)), "{handle}");
    }
    let none = cluster.backend.terminate_by_tag("").unwrap();
    assert!(none.asked.is_empty() && none.holding.is_empty(), "an empty tag names no resource");
    cluster.end();
}

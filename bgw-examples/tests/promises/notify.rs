//! The promise: the notify target gets SIGUSR1 when its worker starts and when it ends, after the
//! fact. Nobody else ever does.
//!
//! Would catch: a signal before the slot says so, a slot still taken when its end is notified, a
//! target kept as a number that another process owns by now. The tests of reused pids run in a pid
//! namespace of their own, where they choose the next pid. That takes root; without it they are
//! skipped.

use crate::support::{
    Cluster, PATIENCE, alive, connect, functions, kill, raw, read_note, ready, shared, simple,
    started, stopped, wait_for_reset, worker, write_note,
};
use bgw_backend::{
    Backend, EventsFrom, Pid, RegisterError, RestartPolicy, Worker, WorkerError, WorkerFlags,
    WorkerStatus, entry,
};
use bgw_postmaster::{Postmaster, StaticError};
use process_test::{
    Signal, Stranger, Test, choose_next_pid, fork_child, in_pid_namespace, tests, wait_until,
};
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) fn tests() -> Vec<Test> {
    [
        tests![
            the_target_is_signalled_at_the_start_and_at_the_end => [B21, B22],
            without_a_target_nobody_is_signalled => [B23],
            a_worker_outlives_its_notify_target => [B09, B25],
            a_notify_target_other_than_the_caller_is_refused => [B24],
            a_notify_target_without_a_handler_is_refused,
            a_static_worker_with_a_notify_target_is_refused => [B03],
            a_reused_pid_of_a_backend_is_not_signalled => [R07],
            a_reused_pid_is_not_signalled_after_a_reset => [R06],
        ],
        process_test::watchdog(
            std::time::Duration::from_secs(120),
            tests![
                the_slot_is_free_before_its_end_is_notified => [R09],
            ],
        ),
    ]
    .concat()
}

/// Would fail if one of the two signals did not come, or came before the fact.
fn the_target_is_signalled_at_the_start_and_at_the_end() {
    let cluster = Cluster::new();
    cluster.backend.enable_notifications().unwrap();
    let description = worker("sleep").notify(cluster.backend.pid()).build().unwrap();
    let handle = cluster.backend.register(&description).unwrap();
    assert!(cluster.backend.wait_for_notification(Some(PATIENCE)).unwrap());
    assert!(matches!(handle.status(), WorkerStatus::Started(_)), "the fact comes first");
    handle.terminate().unwrap();
    assert!(cluster.backend.wait_for_notification(Some(PATIENCE)).unwrap());
    assert!(matches!(handle.status(), WorkerStatus::Stopped(Some(_))), "the fact comes first");
    cluster.end();
}

static SIGNALS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

fn count_signals() {
    // SAFETY: the handler only adds to an atomic.
    let before = unsafe { libc::signal(libc::SIGUSR1, count as *const () as libc::sighandler_t) };
    assert_ne!(before, libc::SIG_ERR);
}

/// Would fail if the registering process were the target by default.
fn without_a_target_nobody_is_signalled() {
    let cluster = Cluster::new();
    count_signals();
    for _ in 0..20 {
        let (handle, _) = cluster.start(&simple("sleep"));
        handle.terminate().unwrap();
        stopped(&handle);
    }
    cluster.backend.ping().unwrap();
    assert_eq!(SIGNALS.load(Ordering::Relaxed), 0);
    cluster.end();
}

/// Would fail if the worker ended with its handle, or if a target that is gone ended the
/// postmaster.
fn a_worker_outlives_its_notify_target() {
    let cluster = Cluster::new();
    let folder = cluster.folder.clone();
    let mut child = fork_child(move || {
        let backend = connect(&folder);
        backend.enable_notifications().unwrap();
        let description = worker("sleep").notify(backend.pid()).build().unwrap();
        started(&backend.register(&description).unwrap());
    });
    assert_eq!(child.wait().code(), Some(0));
    let workers = cluster.backend.workers();
    assert_eq!(workers.len(), 1, "the worker goes on without its registrant");
    let handle = cluster.backend.handle(workers[0].handle);
    handle.terminate().unwrap();
    stopped(&handle);
    assert!(process_test::alive(raw(cluster.launched.pid())));
    cluster.end();
}

/// Would fail if a backend could have another process signalled.
fn a_notify_target_other_than_the_caller_is_refused() {
    let cluster = Cluster::new();
    let (running, worker_pid) = cluster.start(&simple("sleep"));
    let folder = cluster.folder.clone();
    let peer = fork_child(move || {
        let _attached = connect(&folder);
        write_note("attached", "").unwrap();
        loop {
            std::thread::park();
        }
    });
    read_note("attached");
    let stranger = fork_child(|| {
        loop {
            std::thread::park();
        }
    });
    let pid = |child: &process_test::Child| Pid::new(child.pid().as_raw().unsigned_abs()).unwrap();
    let targets = [cluster.launched.pid(), worker_pid, pid(&peer), pid(&stranger)];
    for target in targets {
        let description = worker("sleep").notify(target).build().unwrap();
        let refused = cluster.backend.register(&description).unwrap_err();
        assert!(matches!(refused, RegisterError::NotifyTarget { .. }), "{refused}");
    }
    assert_eq!(cluster.backend.workers().len(), 1, "nothing else is registered");
    assert!(targets.into_iter().all(alive), "SIGUSR1 would have killed them");
    assert_eq!(running.status(), WorkerStatus::Started(worker_pid));
    cluster.end();
}

/// Would end this process if the registration passed: SIGUSR1 kills whoever does not handle it.
fn a_notify_target_without_a_handler_is_refused() {
    let cluster = Cluster::new();
    let description = worker("sleep").notify(cluster.backend.pid()).build().unwrap();
    let refused = cluster.backend.register(&description).unwrap_err();
    assert!(matches!(refused, RegisterError::NotifyUnhandled), "{refused}");
    cluster.backend.enable_notifications().unwrap();
    let handle = cluster.backend.register(&description).unwrap();
    assert!(cluster.backend.wait_for_notification(Some(PATIENCE)).unwrap());
    started(&handle);
    cluster.end();
}

/// Would fail if the worker were registered, or if the postmaster did not start without it.
fn a_static_worker_with_a_notify_target_is_refused() {
    let mut postmaster = functions(Postmaster::builder()).build().unwrap();
    let with_target = worker("sleep").notify(bgw_backend::Pid::this()).build().unwrap();
    let refused = postmaster.register(with_target).unwrap_err();
    assert!(matches!(refused, StaticError::NotifyTarget { .. }), "{refused}");
    let mut launched = postmaster.launch().unwrap();
    let backend = Backend::over(launched.take_control().unwrap()).unwrap();
    assert!(backend.workers().is_empty());
    backend.shutdown(bgw_backend::ShutdownMode::Fast).unwrap();
    launched.wait().unwrap();
}

/// Registers again after each wake-up, 10,000 times, with a single slot. Would fail if a
/// notification came before the slot is free.
fn the_slot_is_free_before_its_end_is_notified() {
    const ROUNDS: u32 = 10_000;
    let cluster = Cluster::with(|builder| builder.max_workers(1));
    cluster.backend.enable_notifications().unwrap();
    let description = worker("quick").notify(cluster.backend.pid()).build().unwrap();
    for round in 0..ROUNDS {
        let handle = match cluster.backend.register(&description) {
            Ok(handle) => handle,
            Err(error @ RegisterError::NoFreeSlot { .. }) => panic!("round {round}: {error}"),
            Err(error) => panic!("{error}"),
        };
        while !matches!(handle.status(), WorkerStatus::Stopped(_)) {
            assert!(cluster.backend.wait_for_notification(Some(PATIENCE)).unwrap());
        }
    }
    cluster.end();
}

/// A process with this very pid, which SIGUSR1 would end.
fn stranger(pid: Pid) -> Stranger {
    choose_next_pid(raw(pid));
    let stranger = Stranger::new();
    assert_eq!(stranger.pid().as_raw(), pid.as_raw(), "the pid is reused");
    stranger
}

/// A child of the backend keeps its connection open, so the postmaster does not notice its end.
/// Would fail if the target were signalled by its pid: the stranger has it by then.
fn a_reused_pid_of_a_backend_is_not_signalled() {
    in_pid_namespace(|| {
        let cluster = Cluster::new();
        let folder = cluster.folder.clone();
        let mut backend = fork_child(move || {
            let backend = connect(&folder);
            backend.enable_notifications().unwrap();
            let description = worker("sleep").notify(backend.pid()).build().unwrap();
            started(&backend.register(&description).unwrap());
            // SAFETY: the child only lives on, until the namespace ends.
            if unsafe { nix::unistd::fork() }.unwrap().is_child() {
                loop {
                    std::thread::park();
                }
            }
        });
        let pid = Pid::new(backend.pid().as_raw().unsigned_abs()).unwrap();
        assert_eq!(backend.wait().code(), Some(0));
        let mut stranger = stranger(pid);
        let handle = cluster.backend.handle(cluster.backend.workers()[0].handle);
        handle.terminate().unwrap();
        stopped(&handle);
        cluster.backend.ping().unwrap();
        assert!(stranger.answers(), "the stranger got no signal");
        drop(stranger);
        cluster.end();
    });
}

/// Registers a worker that survives resets, with itself as the notify target.
fn registers(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.handle_terminate();
    worker.unblock_signals()?;
    let backend = worker.backend();
    let description = bgw_backend::BackgroundWorker::builder("kept")
        .function("sleep")
        .flags(WorkerFlags::SHMEM_ACCESS)
        .restart(RestartPolicy::after_secs(3600))
        .notify(backend.pid())
        .build()
        .map_err(|error| error.to_string())?;
    backend.register(&description)?.wait_for_ready()?;
    write_note("registered", "")?;
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    Ok(())
}

/// Would fail if a worker that restarts after a reset kept its target as a pid.
fn a_reused_pid_is_not_signalled_after_a_reset() {
    in_pid_namespace(|| {
        let cluster = Cluster::with(|builder| builder.function("registers", entry(registers)));
        let (target, pid) = cluster.start(&worker("registers").build().unwrap());
        read_note("registered");
        let (crashing, victim) = cluster.start(&shared("sleep", RestartPolicy::Never));
        ready(&crashing);
        let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
        kill(victim, Signal::SIGABRT);
        // Before that, the kept worker may still be in its old run.
        wait_for_reset(&mut events);
        let kept = || {
            let kept =
                cluster.backend.workers().into_iter().find(|info| info.worker.name() == "kept");
            kept.filter(|info| matches!(info.status, WorkerStatus::Started(_)) && info.ready)
        };
        wait_until("the target is gone and the kept worker runs again", PATIENCE, || {
            let reaped = nix::sys::signal::kill(raw(pid), None).is_err();
            reaped && matches!(target.status(), WorkerStatus::Stopped(_)) && kept().is_some()
        });
        let mut stranger = stranger(pid);
        let handle = cluster.backend.handle(kept().unwrap().handle);
        handle.terminate().unwrap();
        stopped(&handle);
        cluster.backend.ping().unwrap();
        assert!(stranger.answers(), "the stranger got no signal");
        drop(stranger);
        cluster.end();
    });
}

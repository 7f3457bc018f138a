//! The promise: bad input gets an error that names the field, and nothing is half registered; what
//! goes wrong in the child or at the fork reaches whoever waits.
//!
//! Would catch: a slot that stays taken after a refusal, a waiter that is not told of a failed
//! start, a postmaster that ends because a fork failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bgw_backend::{
    BackgroundWorker, ExitCause, InvalidWorker, NotStarted, RegisterError, RestartPolicy,
    StartTime, WorkerFlags, WorkerStatus,
};
use process_test::{fork_child, tests, wait_until};
use std::process::ExitCode;
use std::time::Duration;
use support::{Cluster, PATIENCE, restarting, simple, started, stopped, worker};

fn main() -> ExitCode {
    process_test::main(tests![
        every_wrong_description_is_refused_and_names_its_field => [B43, B44, B45, B47, B67],
        a_notify_target_that_is_not_the_caller_is_refused => [B24],
        a_notify_target_that_would_be_killed_is_refused,
        an_unknown_function_is_refused_and_an_unloadable_library_is_exit_1_in_the_child => [B52],
        a_command_that_does_not_exist_is_exit_1_in_the_child,
        a_command_runs_and_its_exit_code_comes_back,
        a_failed_fork_is_told_and_retried_by_policy => [B17, B39, R02],
        a_static_worker_too_many_is_refused_and_the_rest_starts => [B04],
        a_second_postmaster_is_refused_while_the_first_or_its_children_live => [B79],
        a_postmaster_with_a_second_thread_does_not_launch => [R23],
    ])
}

/// Would fail if one of these were registered, or another field blamed.
fn every_wrong_description_is_refused_and_names_its_field() {
    let long = "x".repeat(96);
    let base = || BackgroundWorker::builder("w").function("f");
    let cases: Vec<(&str, Result<BackgroundWorker, InvalidWorker>)> = vec![
        ("name", BackgroundWorker::builder(long.clone()).function("f").build()),
        ("name", BackgroundWorker::builder("a\0b").function("f").build()),
        ("name", BackgroundWorker::builder("").function("f").build()),
        ("worker_type", base().worker_type(long.clone()).build()),
        ("function", BackgroundWorker::builder("w").function(long).build()),
        ("library", BackgroundWorker::builder("w").library("x".repeat(1024), "f").build()),
        ("restart", base().restart(RestartPolicy::after_secs(86_401)).build()),
        ("flags", base().flags(WorkerFlags::from_bits_retain(0x8000)).build()),
        ("flags", base().flags(WorkerFlags::DATABASE_CONNECTION).build()),
        ("extra", base().extra(&[0; 129]).build()),
        ("entry", BackgroundWorker::builder("w").build()),
    ];
    for (row, (field, result)) in cases.into_iter().enumerate() {
        let error = result.expect_err(field);
        assert_eq!(error.field(), field, "row {row}: {error}");
    }
    let database = WorkerFlags::SHMEM_ACCESS | WorkerFlags::DATABASE_CONNECTION;
    let early = base().flags(database).start_time(StartTime::PostmasterStart).build();
    assert!(matches!(early, Err(InvalidWorker::DatabaseAtPostmasterStart)), "{early:?}");
    let parallel = base().flags(WorkerFlags::CLASS_PARALLEL).restart(RestartPolicy::after_secs(1));
    assert!(matches!(parallel.build(), Err(InvalidWorker::ParallelMustNeverRestart)));
}

/// Would fail if a backend could name a stranger.
fn a_notify_target_that_is_not_the_caller_is_refused() {
    let cluster = Cluster::new();
    let description = worker("sleep").notify(cluster.launched.pid()).build().unwrap();
    let refused = cluster.backend.register(&description).unwrap_err();
    assert!(matches!(refused, RegisterError::NotifyTarget { .. }), "{refused}");
    assert!(cluster.backend.workers().is_empty(), "nothing is half registered");
    cluster.end();
}

fn a_notify_target_that_would_be_killed_is_refused() {
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

/// Would fail if a slot stayed taken, or the waiter were not told.
fn an_unknown_function_is_refused_and_an_unloadable_library_is_exit_1_in_the_child() {
    let cluster = Cluster::new();
    let refused = cluster.backend.register(&simple("missing")).unwrap_err();
    assert!(matches!(&refused, RegisterError::UnknownFunction { name, .. } if name == "missing"));
    assert!(cluster.backend.workers().is_empty(), "nothing is half registered");
    let mut postmaster = bgw_postmaster::Postmaster::builder().build().unwrap();
    let refused = postmaster.register(simple("missing")).unwrap_err();
    assert!(refused.to_string().contains("missing"), "{refused}");
    let library = BackgroundWorker::builder("l").library("/no/such/library.so", "main").build();
    let handle = cluster.backend.register(&library.unwrap()).unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(1));
    cluster.end();
}

fn a_command_that_does_not_exist_is_exit_1_in_the_child() {
    let cluster = Cluster::new();
    let description =
        BackgroundWorker::builder("c").command("/no/such/program", ["x"]).build().unwrap();
    let handle = cluster.backend.register(&description).unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(1));
    cluster.end();
}

fn a_command_runs_and_its_exit_code_comes_back() {
    let cluster = Cluster::new();
    let description = BackgroundWorker::builder("c")
        .command("sh", ["-c", "test \"$1\" = \"a b\" && exit 5", "sh", "a b"])
        .build()
        .unwrap();
    let handle = cluster.backend.register(&description).unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(5));
    let sleeper = BackgroundWorker::builder("c").command("sleep", ["1000"]).build().unwrap();
    let (handle, _) = cluster.start(&sleeper);
    handle.terminate().unwrap();
    let report = stopped(&handle);
    assert_eq!(report.cause, ExitCause::Signaled { signal: 15, core_dumped: false });
    assert!(report.requested);
    cluster.end();
}

/// `RLIMIT_NPROC` counts the processes of a user, and does not bind root: so a child becomes nobody.
fn a_failed_fork_is_told_and_retried_by_policy() {
    const NOBODY: u32 = 65534;
    let is_root = nix::unistd::geteuid().is_root();
    if is_root {
        let folder = std::env::temp_dir();
        nix::unistd::chown(&folder, Some(NOBODY.into()), Some(NOBODY.into())).unwrap();
    }
    let mut child = fork_child(move || {
        if is_root {
            nix::unistd::setresgid(NOBODY.into(), NOBODY.into(), NOBODY.into()).unwrap();
            nix::unistd::setresuid(NOBODY.into(), NOBODY.into(), NOBODY.into()).unwrap();
        }
        let mut postmaster = support::functions(bgw_postmaster::Postmaster::builder())
            .build()
            .unwrap()
            .launch()
            .unwrap();
        let backend = bgw_backend::Backend::over(postmaster.take_control().unwrap()).unwrap();
        forks_fail(&postmaster, &backend);
        backend.shutdown(bgw_backend::ShutdownMode::Fast).unwrap();
        assert_eq!(postmaster.wait().unwrap(), ExitCause::Exited(0));
    });
    assert_eq!(child.wait().code(), Some(0));
}

fn forks_fail(launched: &bgw_postmaster::Launched, backend: &bgw_backend::Backend) {
    let postmaster = launched.pid();
    set_process_limit(postmaster, 1);
    // In this order: the slot of the one that never restarts is free at once, and its report goes
    // with the next registration.
    let again = backend.register(&restarting("sleep", Duration::from_millis(300))).unwrap();
    let never = backend.register(&simple("sleep")).unwrap();
    let failed = |cause| matches!(cause, ExitCause::NotStarted(NotStarted::ForkFailed { errno }) if errno == libc::EAGAIN);
    assert!(matches!(never.wait_for_startup().unwrap(), WorkerStatus::Stopped(Some(_))));
    let report = stopped(&never);
    assert!(failed(report.cause) && report.unregistered, "{report:?}");
    let report = stopped(&again);
    assert!(failed(report.cause) && !report.unregistered, "{report:?}");
    set_process_limit(postmaster, libc::RLIM_INFINITY);
    wait_until("the other one is started by its policy", PATIENCE, || {
        matches!(again.status(), WorkerStatus::Started(_))
    });
    assert_eq!(backend.workers().len(), 1, "the one that never restarts is gone");
}

fn set_process_limit(pid: bgw_backend::Pid, limit: u64) {
    let (_, hard) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NPROC).unwrap();
    let new = libc::rlimit { rlim_cur: limit.min(hard), rlim_max: hard };
    // SAFETY: `new` is valid for the call, and no old limit is asked for.
    let done = unsafe {
        libc::prlimit(pid.as_raw(), libc::RLIMIT_NPROC, &raw const new, std::ptr::null_mut())
    };
    assert_eq!(done, 0, "prlimit: {}", std::io::Error::last_os_error());
}

/// Would fail if the third one were taken, or took the place of another.
fn a_static_worker_too_many_is_refused_and_the_rest_starts() {
    let mut postmaster =
        support::functions(bgw_postmaster::Postmaster::builder()).max_workers(2).build().unwrap();
    let named = |name: &str| BackgroundWorker::builder(name).function("sleep").build().unwrap();
    postmaster.register(named("one")).unwrap();
    postmaster.register(named("two")).unwrap();
    let refused = postmaster.register(named("three")).unwrap_err();
    assert!(refused.to_string().contains("three"), "{refused}");
    let mut launched = postmaster.launch().unwrap();
    let backend = bgw_backend::Backend::over(launched.take_control().unwrap()).unwrap();
    for info in backend.workers() {
        started(&backend.handle(info.handle));
    }
    assert_eq!(backend.workers().len(), 2);
    backend.shutdown(bgw_backend::ShutdownMode::Fast).unwrap();
    launched.wait().unwrap();
}

/// Would fail if the folder were locked by the postmaster alone, or stayed locked at its end.
fn a_second_postmaster_is_refused_while_the_first_or_its_children_live() {
    let cluster = Cluster::new();
    let handle = cluster.backend.register(&simple("sleep")).unwrap();
    support::ready(&handle);
    let second = || bgw_postmaster::Postmaster::builder().runtime_dir(&cluster.folder).build();
    let refused = second().unwrap_err();
    assert!(matches!(refused, bgw_postmaster::BuildError::InUse { .. }), "{refused}");
    let folder = cluster.folder.clone();
    cluster.end();
    bgw_postmaster::Postmaster::builder().runtime_dir(folder).build().unwrap();
}

/// Would fail if threads were not counted before a fork.
fn a_postmaster_with_a_second_thread_does_not_launch() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || wait.recv());
    let refused = bgw_postmaster::Postmaster::builder().build().unwrap().launch().unwrap_err();
    assert!(matches!(refused, bgw_postmaster::RunError::Threads { threads: 2 }), "{refused}");
    drop(go);
    assert!(thread.join().unwrap().is_err());
}

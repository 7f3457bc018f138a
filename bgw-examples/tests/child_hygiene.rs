//! The promise: a worker starts clean: its own descriptors, signals as documented, no state of the
//! postmaster.
//!
//! Would catch: a pidfd or socket of the postmaster that leaks into a worker, a signal that is
//! delivered before the worker is ready, a blocked SIGQUIT.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bgw_backend::{BackgroundWorker, ShutdownMode, Worker, WorkerError, WorkerFlags, entry};
use bgw_postmaster::Postmaster;
use process_test::{fork_child, tests, wait_until};
use std::process::ExitCode;
use support::{
    Cluster, PATIENCE, connect, functions, read_note, simple, started, stopped, write_note,
};

fn main() -> ExitCode {
    process_test::main(tests![
        a_worker_has_no_descriptor_of_the_postmaster => [R24],
        signals_at_entry_are_blocked_and_disposed_as_documented => [B53, B56],
        a_passed_descriptor_arrives_under_its_name,
        terminate_during_the_start_never_loses_the_request,
        a_program_that_was_the_postmaster_has_its_signals_back,
    ])
}

fn list_descriptors(_: &mut Worker) -> Result<(), WorkerError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let target = std::fs::read_link(entry?.path()).unwrap_or_default();
        found.push(target.to_string_lossy().into_owned());
    }
    write_note("descriptors", &found.join("\n"))?;
    Ok(())
}

/// Would fail if the fence were left out: each of these kinds is open in the postmaster; or if its
/// placeholders stayed open.
fn a_worker_has_no_descriptor_of_the_postmaster() {
    // Leaves numbers free below it, which the postmaster must not give to what it opens later.
    let high = nix::fcntl::fcntl(std::io::stdin(), nix::fcntl::FcntlArg::F_DUPFD(60)).unwrap();
    let nulls = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter(|entry| {
            let target = std::fs::read_link(entry.as_ref().unwrap().path());
            target.is_ok_and(|target| target == std::path::Path::new("/dev/null"))
        })
        .count();
    assert!(high >= 60);
    let cluster =
        Cluster::with(|builder| builder.max_workers(8).function("list", entry(list_descriptors)));
    for _ in 0..3 {
        cluster.start(&simple("sleep"));
    }
    stopped(&cluster.backend.register(&simple("list")).unwrap());
    let found = read_note("descriptors");
    let count = |what: &str| found.lines().filter(|line| line.contains(what)).count();
    assert_eq!(count("eventpoll"), 0, "{found}");
    assert_eq!(count("signalfd"), 0, "{found}");
    assert_eq!(count("socket:"), 0, "{found}");
    assert_eq!(count("memfd"), 1, "the region that it has mapped anyway: {found}");
    assert_eq!(count("eventfd"), 1, "the doorbell alone: {found}");
    assert_eq!(count("/dev/null"), nulls, "the program's own: {found}");
    assert_eq!(count("pidfd"), 1, "the postmaster's alone: {found}");
    cluster.end();
}

fn signal_sets(_: &mut Worker) -> Result<(), WorkerError> {
    write_note("signals", &std::fs::read_to_string("/proc/self/status")?)?;
    Ok(())
}

/// Would fail if a signal could come before the worker is ready, or SIGQUIT could not.
fn signals_at_entry_are_blocked_and_disposed_as_documented() {
    let cluster = Cluster::with(|builder| builder.function("signals", entry(signal_sets)));
    let database = WorkerFlags::SHMEM_ACCESS | WorkerFlags::DATABASE_CONNECTION;
    for flags in [WorkerFlags::empty(), database] {
        let description = BackgroundWorker::builder("signals").function("signals").flags(flags);
        stopped(&cluster.backend.register(&description.build().unwrap()).unwrap());
        let status = read_note("signals");
        std::fs::remove_file(support::note_path("signals")).unwrap();
        let set = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
        };
        let has = |set: u64, signal: i32| set >> (signal - 1) & 1 == 1;
        let (blocked, ignored, caught) = (set("SigBlk:"), set("SigIgn:"), set("SigCgt:"));
        let is_database = flags == database;
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1, libc::SIGCHLD] {
            assert!(has(blocked, signal), "{signal} is blocked until the worker unblocks it");
        }
        assert!(!has(blocked, libc::SIGQUIT) && has(caught, libc::SIGQUIT));
        assert!(has(caught, libc::SIGTERM));
        for signal in [libc::SIGHUP, libc::SIGPIPE, libc::SIGUSR2] {
            assert!(has(ignored, signal), "{signal} is ignored");
        }
        for signal in [libc::SIGINT, libc::SIGUSR1] {
            assert_eq!(has(caught, signal), is_database, "{signal}");
            assert_eq!(has(ignored, signal), !is_database, "{signal}");
        }
        assert!(!has(ignored, libc::SIGCHLD) && !has(caught, libc::SIGCHLD));
    }
    cluster.end();
}

fn read_passed(worker: &mut Worker) -> Result<(), WorkerError> {
    let fd = worker.descriptor("greeting").ok_or("nothing was passed")?;
    let text = std::io::read_to_string(std::fs::File::from(fd.try_clone_to_owned()?))?;
    assert!(worker.descriptor("other").is_none());
    write_note("passed", &text)?;
    Ok(())
}

fn a_passed_descriptor_arrives_under_its_name() {
    let path = std::env::temp_dir().join("greeting");
    std::fs::write(&path, "good morning").unwrap();
    let file = std::fs::File::open(&path).unwrap();
    let cluster = Cluster::with(|builder| {
        builder.function("read", entry(read_passed)).descriptor("greeting", file)
    });
    stopped(&cluster.backend.register(&simple("read")).unwrap());
    assert_eq!(read_note("passed"), "good morning");
    cluster.end();
}

fn terminate_during_the_start_never_loses_the_request() {
    let cluster = Cluster::new();
    for round in 0..300 {
        let handle = cluster.backend.register(&simple("sleep")).unwrap();
        if round % 3 == 0 {
            started(&handle);
        }
        handle.terminate().unwrap();
        assert!(stopped(&handle).requested, "round {round}");
    }
    cluster.end();
}

/// Would fail if a handler that the postmaster sets for its workers, or its mask, were left behind.
fn a_program_that_was_the_postmaster_has_its_signals_back() {
    let folder = std::env::temp_dir().join("cluster");
    let path = folder.clone();
    let mut program = fork_child(move || {
        let postmaster = functions(Postmaster::builder().runtime_dir(path)).build().unwrap();
        let sets = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let is_set = |line: &&str| {
                ["SigBlk", "SigIgn", "SigCgt"].iter().any(|set| line.starts_with(set))
            };
            status.lines().filter(is_set).map(str::to_owned).collect::<Vec<_>>()
        };
        let before = sets();
        assert_eq!(postmaster.run().unwrap(), 0);
        assert_eq!(sets(), before);
    });
    wait_until("the postmaster listens", PATIENCE, || folder.join("postmaster.pid").exists());
    connect(&folder).shutdown(ShutdownMode::Fast).unwrap();
    assert_eq!(program.wait().code(), Some(0));
}

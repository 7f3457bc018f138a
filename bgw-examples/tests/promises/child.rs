//! The promise: a worker starts clean: with its own descriptors and session, its signals as
//! documented, nothing of the postmaster's.
//!
//! Would catch: a pidfd or socket that leaks into a worker, a signal delivered before the worker is
//! ready, a blocked SIGQUIT.

use crate::support::{
    Cluster, kill, note_path, read_note, ready, simple, started, stopped, worker, write_note,
};
use bgw_backend::{BackgroundWorker, Worker, WorkerError, WorkerFlags, entry};
use process_test::{Signal, Test, tests};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_worker_is_in_its_own_session_and_its_title_shows_its_name => [B58],
        a_worker_has_no_descriptor_of_the_postmaster => [R24],
        a_passed_descriptor_arrives_under_its_name,
        signal_masks_and_dispositions_at_entry_match_the_documentation => [B53, B56],
        sighup_at_the_postmaster_reaches_every_worker => [B55],
    ]
}

/// Would fail without `setsid`, or if the title stayed the program's.
fn a_worker_is_in_its_own_session_and_its_title_shows_its_name() {
    let cluster = Cluster::new();
    let (handle, _) = cluster.start(&simple("sleep"));
    let pid = ready(&handle);
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    assert_eq!(fields[1], cluster.launched.pid().to_string(), "parent");
    assert_eq!(fields[3], pid.to_string(), "session");
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(String::from_utf8_lossy(&line).starts_with("bgworker: sleep"), "{line:?}");
    cluster.end();
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

/// Each of these kinds is open in the postmaster. Would fail if a child closed too little, or if
/// the placeholders below the descriptor floor stayed open.
fn a_worker_has_no_descriptor_of_the_postmaster() {
    // The postmaster must not use the free numbers below this one for what it opens later.
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
    assert_eq!(
        count("memfd"),
        2,
        "the region, which it has mapped anyway, and the events: {found}"
    );
    assert_eq!(count("eventfd"), 1, "only the doorbell: {found}");
    assert_eq!(count("/dev/null"), nulls, "the program's own: {found}");
    assert_eq!(count("pidfd"), 1, "only the postmaster's: {found}");
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

fn signal_sets(_: &mut Worker) -> Result<(), WorkerError> {
    write_note("signals", &std::fs::read_to_string("/proc/self/status")?)?;
    Ok(())
}

/// Would fail if a signal could arrive before the worker unblocks it, or if SIGQUIT could not.
fn signal_masks_and_dispositions_at_entry_match_the_documentation() {
    let cluster = Cluster::with(|builder| builder.function("signals", entry(signal_sets)));
    let database = WorkerFlags::SHMEM_ACCESS | WorkerFlags::DATABASE_CONNECTION;
    for flags in [WorkerFlags::empty(), database] {
        let description = BackgroundWorker::builder("signals").function("signals").flags(flags);
        stopped(&cluster.backend.register(&description.build().unwrap()).unwrap());
        let status = read_note("signals");
        std::fs::remove_file(note_path("signals")).unwrap();
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

/// Would time out if one worker got no SIGHUP, and fail if it killed a worker that does not handle
/// it.
fn sighup_at_the_postmaster_reaches_every_worker() {
    let cluster = Cluster::new();
    let (ignores, _) = cluster.start(&simple("sleep"));
    ready(&ignores);
    for number in 0..3 {
        let description = worker("reloads").main_arg(number).build().unwrap();
        ready(&cluster.backend.register(&description).unwrap());
    }
    kill(cluster.launched.pid(), Signal::SIGHUP);
    for number in 0..3 {
        read_note(&format!("reload-{number}"));
    }
    started(&ignores);
    cluster.end();
}

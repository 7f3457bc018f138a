//! The promise: a command becomes its program as if started from scratch: none of the postmaster's
//! descriptors, default signals, its own session, the program's environment. A program that cannot
//! run says why. Both ways of starting it keep this: in the postmaster's memory, and by a fork.
//!
//! Would catch: a signal that stays blocked or ignored over `execve`, a leaked descriptor, a stack
//! that two children use at once.

use crate::support::{Cluster, Log, PATIENCE, stopped};
use bgw_backend::{BackgroundWorker, ExitCause, NotStarted, RestartPolicy, WorkerStatus};
use process_test::{Test, tests};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_command_starts_clean,
        a_command_gets_the_environment_and_is_found_in_path,
        a_script_without_a_shebang_runs_in_the_shell,
        a_program_that_cannot_run_is_reported_and_logged,
        a_program_that_cannot_run_is_restarted_by_its_policy,
        a_burst_of_commands_runs_completely,
        a_command_reports_its_exit_code_and_ends_on_terminate,
    ]
}

/// A cluster for each way to start a command.
fn clusters() -> impl Iterator<Item = Cluster> {
    [false, true]
        .into_iter()
        .map(|fork| Cluster::with(|builder| builder.max_workers(64).run_atfork_handlers(fork)))
}

fn run(cluster: &Cluster, program: &str, args: &[&str]) -> ExitCause {
    let args = args.iter().map(|&arg| arg.to_owned());
    let worker = BackgroundWorker::builder("c").command(program, args).build().unwrap();
    stopped(&cluster.backend.register(&worker).unwrap()).cause
}

/// The file of `cp`'s own process, which it copies.
fn own_file(cluster: &Cluster, name: &str) -> String {
    let copy = std::env::temp_dir().join("copy");
    let from = format!("/proc/self/{name}");
    assert_eq!(run(cluster, "cp", &[&from, copy.to_str().unwrap()]), ExitCause::Exited(0));
    let text = std::fs::read_to_string(&copy).unwrap();
    std::fs::remove_file(copy).unwrap();
    text
}

/// Would fail if the command kept the postmaster's mask, an ignored signal, its session or a
/// descriptor.
fn a_command_starts_clean() {
    for cluster in clusters() {
        let status = own_file(&cluster, "status");
        for set in ["SigBlk:", "SigIgn:", "SigCgt:"] {
            let line = status.lines().find(|line| line.starts_with(set)).unwrap();
            let bits = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
            // 32 and 33 are the C library's own, as the process that started the tests left them.
            assert_eq!(bits & !(3 << 31), 0, "{line}");
        }
        let stat = own_file(&cluster, "stat");
        let pid = stat.split(' ').next().unwrap();
        let session = stat.rsplit_once(')').unwrap().1.split(' ').nth(4).unwrap();
        assert_eq!(pid, session, "{stat}");
        let list = std::env::temp_dir().join("list");
        let script = format!("ls -l /proc/$$/fd > {}", list.display());
        assert_eq!(run(&cluster, "sh", &["-c", &script]), ExitCause::Exited(0));
        let found = std::fs::read_to_string(list).unwrap();
        for kind in ["eventpoll", "signalfd", "socket:", "memfd", "eventfd", "pidfd"] {
            assert!(!found.contains(kind), "{kind}: {found}");
        }
        cluster.end();
    }
}

/// Would fail if the environment were lost, or if `PATH` were searched in another order.
fn a_command_gets_the_environment_and_is_found_in_path() {
    let folders = ["first", "second"].map(|name| std::env::temp_dir().join(name));
    for folder in &folders {
        std::fs::create_dir(folder).unwrap();
    }
    script(&folders[1], "found", "#!/bin/sh\nexit 7\n", 0o755);
    // It exists but cannot be executed, so the search goes on.
    script(&folders[0], "found", "#!/bin/sh\nexit 8\n", 0o644);
    let [first, second] = folders.each_ref().map(|folder| folder.display());
    let path = format!("{first}:{second}:{}", std::env::var("PATH").unwrap());
    // SAFETY: this process has one thread.
    unsafe { std::env::set_var("PATH", path) };
    // SAFETY: as above.
    unsafe { std::env::set_var("BGW_TEST_WORD", "a b") };
    for cluster in clusters() {
        assert_eq!(run(&cluster, "found", &[]), ExitCause::Exited(7));
        let asks = "test \"$BGW_TEST_WORD\" = 'a b' && exit 6";
        assert_eq!(run(&cluster, "sh", &["-c", asks]), ExitCause::Exited(6));
        cluster.end();
    }
}

fn script(folder: &Path, name: &str, text: &str, mode: u32) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Would fail if `ENOEXEC` ended the command, or if its arguments were shifted.
fn a_script_without_a_shebang_runs_in_the_shell() {
    let path = script(&std::env::temp_dir(), "plain", "test \"$1$2\" = ab && exit 9\n", 0o755);
    for cluster in clusters() {
        assert_eq!(run(&cluster, &path, &["a", "b"]), ExitCause::Exited(9));
        cluster.end();
    }
}

/// Would fail if the reason were lost or read as an exit code of the program, or if the child went
/// on in the postmaster's code.
fn a_program_that_cannot_run_is_reported_and_logged() {
    let log = Log::start();
    let closed = script(&std::env::temp_dir(), "closed", "exit 0\n", 0o644);
    for cluster in clusters() {
        let failed = |errno| ExitCause::NotStarted(NotStarted::ExecFailed { errno });
        assert_eq!(run(&cluster, "/no/such/program", &["x"]), failed(libc::ENOENT));
        assert_eq!(run(&cluster, "no-such-program", &[]), failed(libc::ENOENT));
        assert_eq!(run(&cluster, &closed, &[]), failed(libc::EACCES));
        let worker = BackgroundWorker::builder("c").command("/no/such/program", ["x"]);
        let report = stopped(&cluster.backend.register(&worker.build().unwrap()).unwrap());
        assert_eq!((report.pid, report.user_time), (None, Duration::ZERO), "it did not run");
        assert!(report.unregistered);
        cluster.end();
    }
    log.wait_for(") ends: running \"/no/such/program\" failed: No such file");
    log.wait_for(") ends: running \"no-such-program\" failed: No such file");
    log.wait_for(&format!("running \"{closed}\" failed: Permission denied"));
}

/// Would fail if one failed `execve` were final.
fn a_program_that_cannot_run_is_restarted_by_its_policy() {
    for cluster in clusters() {
        let late = std::env::temp_dir().join("late");
        let worker = BackgroundWorker::builder("c").command(late.to_str().unwrap(), [""; 0]);
        let worker = worker.restart(RestartPolicy::Fixed(Duration::from_millis(20)));
        let handle = cluster.backend.register(&worker.build().unwrap()).unwrap();
        assert!(!stopped(&handle).unregistered);
        script(&std::env::temp_dir(), "late", "#!/bin/sh\nexit 0\n", 0o755);
        let status = handle.wait_for_end_timeout(PATIENCE).unwrap();
        let WorkerStatus::Stopped(Some(report)) = status else { panic!("{status}") };
        assert_eq!(report.cause, ExitCause::Exited(0));
        std::fs::remove_file(late).unwrap();
        cluster.end();
    }
}

/// Would fail if two children at a time used one stack or one exec plan. All wait until the last is
/// registered, since the next registration may take an ended worker's slot with its report.
fn a_burst_of_commands_runs_completely() {
    let gate = std::env::temp_dir().join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for cluster in clusters() {
        for _ in 0..5 {
            let handles: Vec<_> = (0..40u8)
                .map(|code| {
                    // Opening it for reading waits for a writer.
                    let script = format!(": < {}; exit {code}", gate.display());
                    let worker = BackgroundWorker::builder("c").command("sh", ["-c", &script]);
                    cluster.backend.register(&worker.build().unwrap()).unwrap()
                })
                .collect();
            let writer = std::fs::OpenOptions::new().read(true).write(true).open(&gate).unwrap();
            for (code, handle) in (0..40).zip(&handles) {
                assert_eq!(stopped(handle).cause, ExitCause::Exited(code));
            }
            drop(writer);
        }
        cluster.end();
    }
}

/// Would fail if an argument were split or lost, or if SIGTERM were not recorded as requested.
fn a_command_reports_its_exit_code_and_ends_on_terminate() {
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
    assert!(report.requested());
    cluster.end();
}

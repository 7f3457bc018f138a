//! The promise: a worker that drops its privileges keeps none of them, and still ends with its
//! postmaster.
//!
//! Would catch: an id or a group that is left, a parent-death signal that the change of the user
//! disarms. Needs root; skipped without.

use crate::support::{Cluster, Log, PATIENCE, alive, kill, ready, simple, started, stopped};
use bgw_backend::{
    Backend, BackgroundWorker, ExitCause, NotStarted, Pid, PrivilegeError, RegisterError,
    ShutdownMode, Worker, WorkerError, WorkerStatus, entry,
};
use bgw_postmaster::PostmasterBuilder;
use nix::unistd::{Uid, seteuid, setuid};
use process_test::{Signal, Test, tests, wait_until};

/// The user and group "nobody" of every system, by number.
const NOBODY: &str = "65534";

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_worker_that_dropped_its_privileges_has_none_left => [D16],
        a_worker_that_dropped_its_privileges_dies_with_its_postmaster => [D05, D16],
        a_worker_that_dropped_its_privileges_asks_on_if_it_has_asked_before => [D16],
        an_unknown_user_or_group_is_named => [D16],
        functions_alone_may_be_registered_unless_the_builder_allows_more => [D16],
        privileges_are_not_dropped_where_a_command_would_give_them_back => [D16],
        a_worker_that_changed_its_user_by_itself_has_no_command_run => [D16],
    ]
}

fn root_only() {
    if !nix::unistd::geteuid().is_root() {
        process_test::skip("only root has privileges to drop".to_owned());
    }
}

/// Drops its privileges, then computes without a look at anything.
fn drops(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.drop_privileges(NOBODY, NOBODY)?;
    worker.ready();
    loop {
        std::thread::park();
    }
}

/// A cluster as built by default: backends may register functions alone.
fn functions_only(configure: impl FnOnce(PostmasterBuilder) -> PostmasterBuilder) -> Cluster {
    Cluster::with(|builder| configure(builder.allow_commands(false).allow_libraries(false)))
}

fn cluster() -> Cluster {
    functions_only(|builder| builder.function("drops", entry(drops)))
}

/// A line of `/proc/PID/status`.
fn status(pid: Pid, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
    line.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Would fail if a saved id, a supplementary group or a capability were left.
fn a_worker_that_dropped_its_privileges_has_none_left() {
    root_only();
    let cluster = cluster();
    let handle = cluster.backend.register(&simple("drops")).unwrap();
    let pid = ready(&handle);
    let four = [NOBODY; 4].join(" ");
    assert_eq!((status(pid, "Uid"), status(pid, "Gid")), (four.clone(), four));
    assert_eq!(status(pid, "Groups"), NOBODY);
    assert_eq!(status(pid, "NoNewPrivs"), "1");
    assert_eq!(status(pid, "CapEff"), "0000000000000000");
    kill(pid, Signal::SIGKILL);
    assert!(matches!(stopped(&handle).cause, ExitCause::Signaled { .. }));
    cluster.end();
}

/// Would fail without the second arming: the kernel clears the signal when the user changes.
fn a_worker_that_dropped_its_privileges_dies_with_its_postmaster() {
    root_only();
    let cluster = cluster();
    let pid = ready(&cluster.backend.register(&simple("drops")).unwrap());
    kill(cluster.launched.pid(), Signal::SIGKILL);
    wait_until("the worker is gone", PATIENCE, || !alive(pid));
}

/// Would fail if a misspelt name left the worker with all its privileges, or without a reason.
/// Asks before it drops its privileges, or not, and says how it fares afterwards.
fn asks(worker: &mut Worker) -> Result<(), WorkerError> {
    let backend = worker.backend();
    if worker.main_arg() == 1 {
        backend.ping()?;
    }
    worker.drop_privileges(NOBODY, NOBODY)?;
    let answer = backend.ping();
    let other = backend.register(&simple("sleep"))?;
    started(&other);
    other.terminate()?;
    Ok(answer?)
}

fn a_worker_that_dropped_its_privileges_asks_on_if_it_has_asked_before() {
    root_only();
    let cluster = functions_only(|builder| builder.function("asks", entry(asks)));
    for (asked_before, code) in [(1, 0), (0, 1)] {
        let worker = BackgroundWorker::builder("asks").function("asks").main_arg(asked_before);
        let handle = cluster.backend.register(&worker.build().unwrap()).unwrap();
        assert_eq!(stopped(&handle).cause, ExitCause::Exited(code), "{asked_before}");
    }
    cluster.end();
}

fn an_unknown_user_or_group_is_named() {
    let cluster = functions_only(|builder| {
        builder.function(
            "misspelt",
            entry(|worker| -> Result<(), WorkerError> {
                let no_user = worker.drop_privileges("no-such-user", NOBODY).unwrap_err();
                assert!(no_user.to_string().contains("no-such-user"), "{no_user}");
                let no_group = worker.drop_privileges(NOBODY, "no-such-group").unwrap_err();
                assert!(no_group.to_string().contains("no-such-group"), "{no_group}");
                Ok(())
            }),
        )
    });
    let report = stopped(&cluster.backend.register(&simple("misspelt")).unwrap());
    assert_eq!(report.cause, ExitCause::Exited(0));
    cluster.end();
}

fn beyond_functions() -> [BackgroundWorker; 2] {
    let command = BackgroundWorker::builder("c").command("true", [""; 0]);
    let library = BackgroundWorker::builder("l").library("/no/such/library.so", "main");
    [command, library].map(|builder| builder.build().unwrap())
}

/// Would fail if a setting were on by default, or turned on by the other one.
fn functions_alone_may_be_registered_unless_the_builder_allows_more() {
    for (commands, libraries) in [(false, false), (true, false), (false, true)] {
        let cluster =
            Cluster::with(|builder| builder.allow_commands(commands).allow_libraries(libraries));
        let [command, library] = beyond_functions().map(|worker| cluster.backend.register(&worker));
        for (registered, allowed) in [(command, commands), (library, libraries)] {
            match registered {
                Ok(handle) => {
                    assert!(allowed);
                    let report = stopped(&handle);
                    assert_ne!(report.cause, ExitCause::NotStarted(NotStarted::Refused));
                }
                Err(RegisterError::NotAllowed { .. }) => assert!(!allowed),
                Err(error) => panic!("{error}"),
            }
        }
        stopped(&cluster.backend.register(&simple("quick")).unwrap());
        cluster.end();
    }
    let default = bgw_postmaster::Postmaster::builder().build().unwrap();
    let mut launched = default.launch().unwrap();
    let backend = Backend::over(launched.take_control().unwrap()).unwrap();
    for worker in beyond_functions() {
        assert!(matches!(backend.register(&worker), Err(RegisterError::NotAllowed { .. })));
    }
    launched.shutdown(ShutdownMode::Fast).unwrap();
    launched.wait().unwrap();
}

/// Would fail if a worker that can register a command believed that it has no privileges.
fn privileges_are_not_dropped_where_a_command_would_give_them_back() {
    let main = |worker: &mut Worker| -> Result<(), WorkerError> {
        let refused = worker.drop_privileges(NOBODY, NOBODY).unwrap_err();
        assert!(matches!(refused, PrivilegeError::CommandsAllowed), "{refused}");
        Ok(())
    };
    for commands in [true, false] {
        let cluster = Cluster::with(|builder| {
            let builder = builder.allow_commands(commands).allow_libraries(!commands);
            builder.function("refused", entry(main))
        });
        let report = stopped(&cluster.backend.register(&simple("refused")).unwrap());
        assert_eq!(report.cause, ExitCause::Exited(0));
        cluster.end();
    }
}

/// Registers a command as it is, as another user for a while, and as another user for good, and
/// says how each ended.
fn changes_its_user(worker: &mut Worker) -> Result<(), WorkerError> {
    let [command, _] = beyond_functions();
    let nobody = Uid::from_raw(NOBODY.parse().unwrap());
    let mut ends = Vec::new();
    let mut registers = || {
        let handle = worker.backend().register(&command).unwrap();
        match handle.wait_for_end().unwrap() {
            WorkerStatus::Stopped(Some(report)) => ends.push(report.cause),
            other => panic!("{other}"),
        }
    };
    registers();
    seteuid(nobody).unwrap();
    registers();
    seteuid(Uid::from_raw(0)).unwrap();
    registers();
    setuid(nobody).unwrap();
    registers();
    let refused = ExitCause::NotStarted(NotStarted::Refused);
    assert_eq!(ends, [ExitCause::Exited(0), refused, ExitCause::Exited(0), refused]);
    Ok(())
}

/// Would fail if a command ran with privileges that the process which registered it has dropped.
fn a_worker_that_changed_its_user_by_itself_has_no_command_run() {
    root_only();
    let log = Log::start();
    let cluster = Cluster::with(|builder| builder.function("changes", entry(changes_its_user)));
    let report = stopped(&cluster.backend.register(&simple("changes")).unwrap());
    assert_eq!(report.cause, ExitCause::Exited(0), "{}", log.text());
    log.wait_for(&format!("process {}, which registered a command", report.pid.unwrap()));
    cluster.end();
}

//! The promise: a worker that drops its privileges keeps none of them, and still ends with its
//! postmaster.
//!
//! Would catch: an id or a group that is left, a parent-death signal that the change of the user
//! disarms. Needs root; skipped without.

use crate::support::{Cluster, PATIENCE, alive, kill, ready, simple, stopped};
use bgw_backend::{ExitCause, Pid, Worker, WorkerError, entry};
use process_test::{Signal, Test, tests, wait_until};

/// The user and group "nobody" of every system, by number.
const NOBODY: &str = "65534";

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_worker_that_dropped_its_privileges_has_none_left => [D16],
        a_worker_that_dropped_its_privileges_dies_with_its_postmaster => [D05, D16],
        an_unknown_user_or_group_is_named => [D16],
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

fn cluster() -> Cluster {
    Cluster::with(|builder| builder.function("drops", entry(drops)))
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
fn an_unknown_user_or_group_is_named() {
    let cluster = Cluster::with(|builder| {
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

//! The promise: a process that somebody traces ends like any other. While its tracer holds its end
//! back, only those wait who want to know of that end.
//!
//! Of a traced process that has ended the kernel tells its tracer, and its parent only when the
//! tracer has let go of it.
//!
//! Would catch: a loop that spins on a pidfd which is readable and says nothing, a wait for a
//! process that cannot be reaped.

use crate::support::{
    Cluster, PATIENCE, guardian_of, kill, raw, read_note, ready, simple, spares, stopped,
    the_guardian_of, wait_for_spares, wait_until_asleep, write_note,
};
use bgw_backend::{ExitCause, Pid, ShutdownMode, WorkerStatus};
use nix::sys::ptrace;
use nix::sys::wait::waitpid;
use process_test::{Child, Signal, Test, fork_child, tests, wait_until, zombies_of};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_worker_that_dies_traced_stops_nobody => [D14],
        a_shutdown_waits_asleep_for_a_worker_that_died_traced => [D14],
        a_spare_that_dies_traced_stops_nobody => [D14],
        a_guardian_that_dies_traced_is_replaced => [D14],
        spares_and_a_guardian_that_are_traced_keep_no_postmaster_from_its_end => [D14],
    ]
}

const KILLED: ExitCause = ExitCause::Signaled { signal: 9, core_dumped: false };

/// A program that traces a process, as a debugger does.
struct Tracer {
    process: Child,
    traced: Pid,
}

impl Tracer {
    /// Traces `pid`. Skips the test where that is not allowed.
    fn of(pid: Pid) -> Self {
        let note = move |what: &str| format!("{what}-{pid}");
        let process = fork_child(move || {
            let seized = ptrace::seize(raw(pid), ptrace::Options::empty());
            write_note(&note("seized"), if seized.is_ok() { "yes" } else { "no" }).unwrap();
            if seized.is_ok() {
                read_note(&note("take"));
                waitpid(raw(pid), None).unwrap();
            }
        });
        if read_note(&note("seized")) == "no" {
            process_test::skip("this user may not trace its own processes");
        }
        Self { process, traced: pid }
    }

    /// Kills the traced process. It has ended when this returns.
    fn kill_traced(&self) {
        kill(self.traced, Signal::SIGKILL);
        wait_until("the traced process has ended", PATIENCE, || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.traced)).unwrap();
            stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
        });
    }

    /// It takes the end of the traced process.
    fn takes_the_end(mut self) {
        write_note(&format!("take-{}", self.traced), "").unwrap();
        assert_eq!(self.process.wait().code(), Some(0));
    }

    /// It dies.
    fn dies(mut self) {
        self.process.kill(Signal::SIGKILL);
        self.process.wait();
    }
}

/// Serves others, and sleeps when there is nothing to do.
fn is_at_its_service(cluster: &Cluster) {
    wait_until_asleep(cluster.launched.pid());
    assert_eq!(
        stopped(&cluster.backend.register(&simple("quick")).unwrap()).cause,
        ExitCause::Exited(0)
    );
    cluster.backend.ping().unwrap();
    wait_until_asleep(cluster.launched.pid());
}

/// Would time out if the postmaster never slept again, and fail if it did not learn of the end.
fn a_worker_that_dies_traced_stops_nobody() {
    let cluster = Cluster::new();
    for let_go in [Tracer::takes_the_end, Tracer::dies] {
        let handle = cluster.backend.register(&simple("sleep")).unwrap();
        let pid = ready(&handle);
        let tracer = Tracer::of(pid);
        tracer.kill_traced();
        is_at_its_service(&cluster);
        assert_eq!(handle.status(), WorkerStatus::Started(pid), "nobody can know more");
        let_go(tracer);
        let report = stopped(&handle);
        assert_eq!((report.cause, report.pid), (KILLED, Some(pid)));
        is_at_its_service(&cluster);
        assert!(zombies_of(raw(cluster.launched.pid())).is_empty());
    }
    cluster.end();
}

/// Would time out if the postmaster spun, and fail if it ended before its worker was reaped.
fn a_shutdown_waits_asleep_for_a_worker_that_died_traced() {
    let cluster = Cluster::new();
    let tracer = Tracer::of(ready(&cluster.backend.register(&simple("sleep")).unwrap()));
    tracer.kill_traced();
    cluster.launched.shutdown(ShutdownMode::Fast).unwrap();
    wait_until("the shutdown has begun", PATIENCE, || {
        cluster.backend.register(&simple("quick")).is_err()
            || bgw_backend::Backend::connect(&cluster.folder).is_err()
    });
    wait_until_asleep(cluster.launched.pid());
    tracer.takes_the_end();
    assert_eq!(cluster.launched.wait().unwrap(), ExitCause::Exited(0));
}

/// Would time out if the postmaster waited until it can reap the spare.
fn a_spare_that_dies_traced_stops_nobody() {
    let cluster = Cluster::with(|builder| builder.warm_spares(2));
    for let_go in [Tracer::takes_the_end, Tracer::dies] {
        wait_for_spares(&cluster, 2);
        let tracer = Tracer::of(spares(&cluster)[0]);
        tracer.kill_traced();
        is_at_its_service(&cluster);
        wait_for_spares(&cluster, 2);
        let_go(tracer);
        wait_until("the dead spare is reaped", PATIENCE, || {
            zombies_of(raw(cluster.launched.pid())).is_empty()
        });
    }
    cluster.end();
}

/// Would time out if the postmaster waited until it can reap its guardian.
fn a_guardian_that_dies_traced_is_replaced() {
    let cluster = Cluster::new();
    let postmaster = cluster.launched.pid();
    for let_go in [Tracer::takes_the_end, Tracer::dies] {
        let tracer = Tracer::of(the_guardian_of(postmaster));
        tracer.kill_traced();
        wait_until("there is another guardian", PATIENCE, || guardian_of(postmaster).is_some());
        is_at_its_service(&cluster);
        let_go(tracer);
        wait_until("the dead guardian is reaped", PATIENCE, || {
            zombies_of(raw(postmaster)).is_empty()
        });
    }
    cluster.end();
}

/// Would time out if the postmaster waited, at its end, until it can reap everybody.
fn spares_and_a_guardian_that_are_traced_keep_no_postmaster_from_its_end() {
    let cluster = Cluster::with(|builder| builder.warm_spares(2));
    wait_for_spares(&cluster, 2);
    let guardian = the_guardian_of(cluster.launched.pid());
    let traced = spares(&cluster).into_iter().chain([guardian]);
    let tracers: Vec<Tracer> = traced.map(Tracer::of).collect();
    tracers[0].kill_traced();
    cluster.end();
    tracers.into_iter().for_each(Tracer::takes_the_end);
}

//! The promise: a worker that starts in a warm spare keeps every promise of a start, whatever
//! happens between two steps of a warm start.
//!
//! The tests arm every point in the lists, and one that is never reached fails them.

use crate::support::fault::{
    AT_ONCE, Waiter, a_new_postmaster_takes_over, cluster_with, descriptors, in_postmaster,
    in_spares, lies_in_worker, nothing_leaked, unregistered,
};
use crate::support::{
    Cluster, PATIENCE, alive, kill, raw, ready, simple, started, wait_for_spares, wait_for_state,
    worker,
};
use bgw_backend::{ExitCause, NotStarted, Pid, RestartPolicy, WorkerStatus};
use process_test::{Signal, Test, tests, wait_until};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        terminate_at_each_step_of_a_spare_ends_the_worker => [R11, S06],
        a_spare_killed_before_it_takes_its_job_is_replaced_and_afterwards_reported,
        a_terminated_worker_in_a_killed_spare_is_not_restarted,
        the_postmasters_death_at_each_step_of_a_warm_start_is_noticed => [R13, B18],
        a_spare_stopped_at_each_step_ends_with_its_postmaster => [R13],
    ]
}

const SPARES: usize = 2;

const KILLED: ExitCause = ExitCause::Signaled { signal: 9, core_dumped: false };

/// A cluster whose spares are all asleep.
fn cluster(faults: &str) -> Cluster {
    let cluster = cluster_with(faults, |builder| builder.warm_spares(SPARES));
    wait_for_spares(&cluster, SPARES);
    cluster
}

/// Would fail if a signal that comes before the spare is awake were lost, or killed it like a spare
/// without a worker.
fn terminate_at_each_step_of_a_spare_ends_the_worker() {
    for point in in_postmaster(&["spare:", "report:"]).into_iter().chain(in_spares()) {
        let cluster = cluster(&format!("{point}=stop"));
        cluster.backend.enable_notifications().unwrap();
        let postmaster = cluster.launched.pid();
        let descriptors = descriptors(postmaster);
        let description = worker("default").restart(AT_ONCE).notify(cluster.backend.pid());
        let handle = cluster.backend.register(&description.build().unwrap()).unwrap();
        let who = if lies_in_worker(point) { started(&handle) } else { postmaster };
        wait_for_state(who, 'T', point);
        // A stop signal continues whoever it stops.
        handle.terminate().unwrap();
        if !lies_in_worker(point) {
            kill(who, Signal::SIGCONT);
        }
        let report = unregistered(&handle, point);
        assert_eq!((report.cause, report.restarts), (ExitCause::Exited(1), 0), "{point}");
        assert!(report.requested(), "{point}");
        nothing_leaked(&cluster, descriptors, point);
        cluster.end();
    }
}

/// Would fail if a worker that never began were reported as ended, or if one that began were not.
fn a_spare_killed_before_it_takes_its_job_is_replaced_and_afterwards_reported() {
    for point in in_spares() {
        let never_began = point == "waking:woken";
        for restart in [RestartPolicy::Never, AT_ONCE] {
            let cluster = cluster(&format!("{point}=kill"));
            let descriptors = descriptors(cluster.launched.pid());
            let description = worker("brief").restart(restart).build().unwrap();
            let handle = cluster.backend.register(&description).unwrap();
            let report = unregistered(&handle, point);
            let expected = match (never_began, restart) {
                (true, _) => (ExitCause::Exited(0), 0),
                (false, RestartPolicy::Never) => (KILLED, 0),
                (false, _) => (ExitCause::Exited(0), 1),
            };
            assert_eq!((report.cause, report.restarts), expected, "{point}, {restart:?}");
            nothing_leaked(&cluster, descriptors, point);
            cluster.end();
        }
    }
}

/// Would fail if another spare got the worker in spite of terminate.
fn a_terminated_worker_in_a_killed_spare_is_not_restarted() {
    let cluster = cluster("waking:woken=stop");
    let descriptors = descriptors(cluster.launched.pid());
    let description = worker("sleep").restart(AT_ONCE).build().unwrap();
    let handle = cluster.backend.register(&description).unwrap();
    let pid = started(&handle);
    wait_for_state(pid, 'T', "waking:woken");
    // The postmaster learns of both at once: a stop signal would continue the spare.
    kill(cluster.launched.pid(), Signal::SIGSTOP);
    handle.terminate().unwrap();
    kill(pid, Signal::SIGKILL);
    kill(cluster.launched.pid(), Signal::SIGCONT);
    let report = unregistered(&handle, "waking:woken");
    assert_eq!(report.cause, ExitCause::NotStarted(NotStarted::Terminated));
    nothing_leaked(&cluster, descriptors, "waking:woken");
    cluster.end();
}

/// Would time out if a spare outlived its postmaster, or if a waiter slept on.
fn the_postmasters_death_at_each_step_of_a_warm_start_is_noticed() {
    for point in in_postmaster(&["spare:"]) {
        let cluster = cluster(&format!("{point}=kill"));
        let postmaster = cluster.launched.pid();
        let waiter = Waiter::attach(&cluster.folder, "a");
        kill(postmaster, Signal::SIGSTOP);
        let handle = cluster.backend.register(&simple("sleep")).unwrap();
        waiter.wait_for(&handle);
        kill(postmaster, Signal::SIGCONT);
        wait_until(&format!("{point} is reached"), PATIENCE, || !alive(postmaster));
        assert_eq!(cluster.launched.wait().unwrap(), KILLED, "{point}");
        let died = "postmaster died".to_owned();
        assert_eq!(waiter.answers(point), (died.clone(), died), "{point}");
        a_new_postmaster_takes_over(point);
    }
}

/// Would time out if a spare had no parent-death signal while it becomes a worker, or none
/// afterwards.
fn a_spare_stopped_at_each_step_ends_with_its_postmaster() {
    let afterwards = ["child:before_signals", "child:before_entry"];
    for point in in_spares().into_iter().chain(afterwards) {
        let cluster = cluster(&format!("{point}=stop"));
        let handle = cluster.backend.register(&simple("deaf")).unwrap();
        let pid: Pid = started(&handle);
        wait_for_state(pid, 'T', point);
        ready(&cluster.backend.register(&simple("socket")).unwrap());
        kill(cluster.launched.pid(), Signal::SIGKILL);
        assert_eq!(cluster.launched.wait().unwrap(), KILLED, "{point}");
        assert_eq!(handle.wait_for_shutdown().unwrap(), WorkerStatus::PostmasterDied, "{point}");
        // It is dead already if it still has the signal of its sleep.
        let _ = nix::sys::signal::kill(raw(pid), Signal::SIGCONT);
        wait_until(&format!("{point}: it has ended"), PATIENCE, || !alive(pid));
        a_new_postmaster_takes_over(point);
    }
}

//! The promise: whatever happens between two lives of one process, each life is reported once, and
//! what is meant for one reaches no other.
//!
//! The tests arm every point in the lists, and one that is never reached fails them.

use crate::support::fault::{a_new_postmaster_takes_over, cluster_with, in_postmaster, in_rest};
use crate::support::{
    Cluster, PATIENCE, alive, kill, ready, simple, spares, started, stopped, wait_for_spares,
    wait_for_state,
};
use bgw_backend::{ExitCause, Pid, Worker, WorkerError, entry};
use bgw_postmaster::Reuse;
use process_test::{Signal, Test, tests, wait_until};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_process_killed_at_each_step_between_two_lives_loses_no_life => [J31, J32],
        a_process_stopped_at_each_step_between_two_lives_goes_on_where_it_was => [J32],
        a_terminate_that_comes_with_the_end_ends_the_life_and_not_the_spare => [J32],
        a_terminate_for_a_life_that_the_process_has_not_taken_yet_is_not_lost => [J32],
        the_postmasters_death_at_each_step_of_an_end_ends_the_process,
    ]
}

const KILLED: ExitCause = ExitCause::Signaled { signal: 9, core_dumped: false };

/// A cluster with one spare, asleep.
fn cluster(faults: &str) -> Cluster {
    let cluster = cluster_with(faults, |builder| {
        let builder = builder.warm_spares(1);
        let brief = |worker: &mut Worker| -> Result<(), WorkerError> {
            worker.unblock_signals()?;
            worker.ready();
            Ok(())
        };
        // A signal that is pending when it begins ends its wait with an error.
        let short = |worker: &mut Worker| -> Result<(), WorkerError> {
            worker.unblock_signals()?;
            worker.sleep(Some(Duration::from_millis(10)))?;
            Ok(())
        };
        let patient = |worker: &mut Worker| -> Result<(), WorkerError> {
            worker.unblock_signals()?;
            worker.ready();
            loop {
                worker.sleep(None)?;
            }
        };
        builder
            .reusable_function("short", Reuse::new(), entry(short))
            .reusable_function("again", Reuse::new(), entry(brief))
            .reusable_function("patient", Reuse::new(), entry(patient))
    });
    wait_for_spares(&cluster, 1);
    cluster
}

/// True for the points that a process passes before anybody can know that its worker has ended.
fn is_before_the_news(point: &str) -> bool {
    matches!(point, "rest:before_look" | "rest:over")
}

/// Would time out if a life whose process died were lost, and fail if it were reported twice or if
/// the next one were reported in its place.
fn a_process_killed_at_each_step_between_two_lives_loses_no_life() {
    for point in in_rest() {
        let cluster = cluster(&format!("{point}=kill"));
        let handle = cluster.backend.register(&simple("again")).unwrap();
        let report = stopped(&handle);
        let pid = report.pid.unwrap();
        if is_before_the_news(point) {
            assert_eq!(report.cause, KILLED, "{point}");
        } else {
            let ends = [KILLED, ExitCause::Exited(0)];
            assert!(ends.contains(&report.cause), "{point}: {report:?}");
        }
        wait_until(&format!("{point}: it has ended"), PATIENCE, || !alive(pid));
        for _ in 0..3 {
            let next = stopped(&cluster.backend.register(&simple("again")).unwrap());
            assert_eq!(next.cause, ExitCause::Exited(0), "{point}");
            assert_ne!(next.pid, Some(pid), "{point}");
        }
        assert_eq!(stopped(&handle), report, "{point}: each look gives the same");
        cluster.end();
    }
}

/// Would time out if the end of a life, or the start of the next one, were forgotten.
fn a_process_stopped_at_each_step_between_two_lives_goes_on_where_it_was() {
    for point in in_rest() {
        let cluster = cluster(&format!("{point}=stop"));
        let pid: Pid = spares(&cluster)[0];
        let handle = cluster.backend.register(&simple("again")).unwrap();
        wait_for_state(pid, 'T', point);
        if is_before_the_news(point) {
            // It may be there before the postmaster has published its start.
            assert_eq!(started(&handle), pid, "{point}");
            kill(pid, Signal::SIGCONT);
            assert_eq!(stopped(&handle).cause, ExitCause::Exited(0), "{point}");
        } else {
            assert_eq!(stopped(&handle).cause, ExitCause::Exited(0), "{point}");
            let next = cluster.backend.register(&simple("again")).unwrap();
            assert_eq!(started(&next), pid, "{point}: it is a spare");
            kill(pid, Signal::SIGCONT);
            assert_eq!(stopped(&next).cause, ExitCause::Exited(0), "{point}");
        }
        wait_until(&format!("{point}: it rests"), PATIENCE, || spares(&cluster).contains(&pid));
        cluster.end();
    }
}

/// Would fail if the signal of a terminate that the worker has not seen were left for the next one.
fn a_terminate_that_comes_with_the_end_ends_the_life_and_not_the_spare() {
    for point in in_rest().into_iter().filter(|point| is_before_the_news(point)) {
        let cluster = cluster(&format!("{point}=stop"));
        let handle = cluster.backend.register(&simple("again")).unwrap();
        let pid = ready(&handle);
        wait_for_state(pid, 'T', point);
        // A stop signal continues whoever it stops.
        handle.terminate().unwrap();
        let report = stopped(&handle);
        assert_eq!((report.cause, report.requested()), (ExitCause::Exited(0), true), "{point}");
        let next = cluster.backend.register(&simple("short")).unwrap();
        let report = stopped(&next);
        assert_eq!((report.cause, report.pid), (ExitCause::Exited(0), Some(pid)), "{point}");
        cluster.end();
    }
}

/// Would time out if a process discarded the stop signal of its next worker with those of the last.
fn a_terminate_for_a_life_that_the_process_has_not_taken_yet_is_not_lost() {
    let afterwards = in_rest().into_iter().filter(|point| !is_before_the_news(point));
    for point in afterwards.chain(["waking:woken"]) {
        let nth = if point == "waking:woken" { 2 } else { 1 };
        let cluster = cluster(&format!("{point}=stop@{nth}"));
        let handle = cluster.backend.register(&simple("again")).unwrap();
        let pid = stopped(&handle).pid.unwrap();
        if nth == 1 {
            wait_for_state(pid, 'T', point);
        } else {
            wait_until("it rests", PATIENCE, || spares(&cluster).contains(&pid));
        }
        let next = cluster.backend.register(&simple("patient")).unwrap();
        assert_eq!(started(&next), pid, "{point}");
        wait_for_state(pid, 'T', point);
        next.terminate().unwrap();
        let report = stopped(&next);
        assert_eq!((report.cause, report.requested()), (ExitCause::Exited(1), true), "{point}");
        cluster.end();
    }
}

/// Would time out if a process whose worker has ended waited for a dead postmaster.
fn the_postmasters_death_at_each_step_of_an_end_ends_the_process() {
    for point in in_postmaster(&["life:"]) {
        let cluster = cluster(&format!("{point}=kill"));
        let former = spares(&cluster);
        cluster.backend.register(&simple("again")).unwrap();
        assert_eq!(cluster.launched.wait().unwrap(), KILLED, "{point}");
        for pid in former {
            wait_until(&format!("{point}: it has ended"), PATIENCE, || !alive(pid));
        }
        a_new_postmaster_takes_over(point);
    }
}

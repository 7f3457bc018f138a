//! The promise: a roll whose next runs start beside the old ones takes no worker out of service,
//! and stops at its first failure without harm.
//!
//! Would catch: a moment with fewer ready workers, an old run that goes although the next one
//! failed.

use crate::overlap::{HOUR, cluster_with, end, gone, noted_pid, remove, served, serving};
use crate::support::{Cluster, PATIENCE, alive, ready, stopped, worker, write_note};
use bgw_backend::{
    AnswerError, AskError, ExitCause, Handle, NotStarted, Pid, Ready, Roll, RollError, RollOutcome,
    WorkerStatus,
};
use process_test::{Test, tests};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        during_a_roll_there_are_never_fewer_ready_than_before => [P48],
        a_roll_stops_at_a_next_run_that_fails_and_the_old_one_serves_on => [P47],
        a_roll_stops_what_is_late_and_the_old_run_serves_on => [P47],
        what_the_cluster_has_no_room_for_is_refused_by_name,
    ]
}

fn fleet(cluster: &Cluster, count: u64) -> (Vec<Handle>, Vec<Pid>) {
    (0..count).map(|number| serving(cluster, number)).unzip()
}

/// Would fail if one worker were not ready for a moment.
fn during_a_roll_there_are_never_fewer_ready_than_before() {
    for at_once in [1, 3] {
        let cluster = cluster_with(|builder| builder.overlap(at_once));
        let (handles, before) = fleet(&cluster, 4);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watch = || {
                while !over.load(Ordering::Relaxed) {
                    assert!(handles.iter().all(Handle::is_ready), "all are ready");
                }
            };
            let watching = scope.spawn(watch);
            for _ in 0..3 {
                let report = cluster.backend.roll(&handles, Roll::new(at_once, PATIENCE)).unwrap();
                assert!(report.is_complete(), "{report:?}");
            }
            over.store(true, Ordering::Relaxed);
            watching.join().unwrap();
        });
        assert!(!before.into_iter().any(alive));
        end(cluster, &handles.iter().collect::<Vec<_>>());
        std::fs::remove_dir_all(std::env::temp_dir().join("cluster")).unwrap();
    }
}

fn a_roll_stops_at_a_next_run_that_fails_and_the_old_one_serves_on() {
    let cluster = cluster_with(|builder| builder);
    let (handles, before) = fleet(&cluster, 3);
    write_note("order-1", "fail").unwrap();
    let report = cluster.backend.roll(&handles, Roll::new(1, PATIENCE)).unwrap();
    assert_eq!((report.done, report.not_begun), (vec![handles[0].id()], vec![handles[2].id()]));
    let [(failed, why, last)] = &report.failed[..] else { panic!("{:?}", report.failed) };
    assert_eq!((*failed, *why), (handles[1].id(), RollOutcome::Ended));
    assert_eq!(last.as_ref().unwrap().cause, ExitCause::Exited(1));
    for number in [1, 2] {
        assert_eq!(handles[number].status(), WorkerStatus::Started(before[number]));
        assert!(handles[number].is_ready());
    }
    // Nothing is left of the roll: another one may take them.
    remove("order-1");
    assert!(cluster.backend.roll(&handles, Roll::new(1, PATIENCE)).unwrap().is_complete());
    end(cluster, &handles.iter().collect::<Vec<_>>());
}

fn a_roll_stops_what_is_late_and_the_old_run_serves_on() {
    let cluster = cluster_with(|builder| builder);
    let (handles, before) = fleet(&cluster, 2);
    write_note("order-0", "wait").unwrap();
    let soon = Duration::from_millis(300);
    let report = cluster.backend.roll(&handles, Roll::new(1, soon)).unwrap();
    assert_eq!(report.failed, [(handles[0].id(), RollOutcome::NotReady, None)]);
    assert_eq!(report.not_begun, [handles[1].id()]);
    gone(noted_pid("waits-0"));
    for (handle, before) in handles.iter().zip(before) {
        assert_eq!(handle.status(), WorkerStatus::Started(before));
    }
    remove("order-0");
    assert!(cluster.backend.roll(&handles, Roll::new(1, PATIENCE)).unwrap().is_complete());
    end(cluster, &handles.iter().collect::<Vec<_>>());
}

fn what_the_cluster_has_no_room_for_is_refused_by_name() {
    let cluster = cluster_with(|builder| builder.overlap(0));
    let handle = cluster.backend.register(&served(0).build().unwrap()).unwrap();
    let report = stopped(&handle);
    assert_eq!(report.cause, ExitCause::NotStarted(NotStarted::Refused), "{report}");
    let words = report.returned.last_words().map(ToString::to_string).unwrap_or_default();
    assert!(words.contains("overlap of 0"), "{words}");
    let plain = worker("serve").ready(Ready::Call).restart(HOUR).build().unwrap();
    let plain = cluster.backend.register(&plain).unwrap();
    let pid = ready(&plain);
    let refused =
        cluster.backend.roll(std::slice::from_ref(&plain), Roll::new(1, PATIENCE)).unwrap_err();
    assert!(matches!(&refused, RollError::Answer(AnswerError::Ask(AskError::Refused { .. }))));
    assert!(refused.to_string().contains("at_once is 1, the limit is 0"), "{refused}");
    assert_eq!(plain.pid(), Some(pid));
    let roll = Roll::stop_first(1, PATIENCE);
    assert!(cluster.backend.roll(std::slice::from_ref(&plain), roll).unwrap().is_complete());
    end(cluster, &[&plain]);
}

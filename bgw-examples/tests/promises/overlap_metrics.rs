//! The promise: what two runs of a worker count while one takes the place of the other is all in
//! the sum, and the gauge of each counts as long as it lives.
//!
//! Would catch: two processes that write one gauge, an end that takes another process's gauge.

use crate::support::{
    Cluster, PATIENCE, kill, note_path, read_note, ready, stopped, worker, write_note,
};
use bgw_backend::{Pid, Ready, RestartPolicy, Roll, Worker, WorkerError, entry};
use process_test::{Signal, Test, tests, wait_until};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![two_runs_of_a_worker_have_one_counter_and_two_gauges => [J47]]
}

const TICK: Option<Duration> = Some(Duration::from_millis(5));

/// Counts one job. The first run sets its gauge to 5, the next one to 70, and waits for `go`. Stays
/// while there is `stay`.
fn hands_over(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.handle_terminate();
    worker.unblock_signals()?;
    worker.counter("done")?.add(1);
    let is_next = note_path("next").exists();
    worker.gauge("open")?.set(if is_next { 70 } else { 5 });
    if is_next {
        write_note("waits", &std::process::id().to_string())?;
        while !note_path("go").exists() {
            worker.sleep(TICK)?;
        }
    }
    worker.ready();
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    write_note("told", "")?;
    while note_path("stay").exists() {
        std::thread::sleep(TICK.unwrap_or_default());
    }
    Ok(())
}

/// Would fail if the two wrote one gauge, or if the end of the former run took that of the next.
fn two_runs_of_a_worker_have_one_counter_and_two_gauges() {
    for dies in [false, true] {
        let cluster = Cluster::with(|builder| {
            let declared = builder.counter("done", "").gauge("open", "");
            declared.function("hands_over", entry(hands_over))
        });
        let said = || {
            let metrics = cluster.backend.metrics();
            (metrics.counter("done").unwrap(), metrics.gauge("open").unwrap())
        };
        let hour = RestartPolicy::after_secs(3600);
        let description = worker("hands_over").ready(Ready::Call).restart(hour).build().unwrap();
        let handle = cluster.backend.register(&description).unwrap();
        let first = ready(&handle);
        assert_eq!(said(), (1, 5));
        write_note("next", "").unwrap();
        write_note("stay", "").unwrap();
        std::thread::scope(|scope| {
            let handles = std::slice::from_ref(&handle);
            let roll = scope.spawn(|| cluster.backend.roll(handles, Roll::new(1, PATIENCE)));
            let next = read_note("waits").parse::<Pid>().unwrap();
            assert_eq!(said(), (2, 75), "both live");
            if dies {
                kill(first, Signal::SIGKILL);
                wait_until("the next run serves", PATIENCE, || handle.pid() == Some(next));
                assert_eq!(said(), (2, 70));
            }
            write_note("go", "").unwrap();
            if !dies {
                read_note("told");
                assert_eq!((handle.pid(), said()), (Some(next), (2, 75)), "both live");
            }
            std::fs::remove_file(note_path("stay")).unwrap();
            assert!(roll.join().unwrap().unwrap().is_complete());
        });
        assert_eq!(said(), (2, 70), "the former run has ended");
        handle.terminate().unwrap();
        stopped(&handle);
        assert_eq!(said(), (2, 0));
        cluster.end();
        std::fs::remove_dir_all(std::env::temp_dir().join("cluster")).unwrap();
        for note in ["next", "go", "waits", "told"] {
            let _ = std::fs::remove_file(note_path(note));
        }
    }
}

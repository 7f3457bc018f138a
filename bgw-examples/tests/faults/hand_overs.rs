//! The promise: a postmaster that dies in a hand-over takes both runs with it, and one that is
//! stopped there loses nothing.

use crate::support::fault::{a_new_postmaster_takes_over, cluster_with, in_postmaster};
use crate::support::{
    PATIENCE, alive, kill, note_path, ready, the_end, wait_for_state, worker, write_note,
};
use bgw_backend::{
    BackgroundWorker, ExitCause, Handle, Pid, Ready, Recycle, RestartPolicy, Worker, WorkerError,
    WorkerStatus, entry,
};
use process_test::{Signal, Test, tests, wait_until};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        the_death_in_a_hand_over_takes_both_runs => [P46],
        a_postmaster_that_is_stopped_in_a_hand_over_loses_nothing => [P44, P46],
    ]
}

/// Notes that it runs, and serves. `work` is one job for whoever is woken.
fn serve(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.handle_terminate();
    worker.unblock_signals()?;
    write_note(&format!("run-{}", std::process::id()), "")?;
    worker.ready();
    while !worker.should_stop() {
        if std::fs::remove_file(note_path("work")).is_ok() {
            worker.job_done();
        }
        worker.sleep(None)?;
    }
    Ok(())
}

fn served() -> BackgroundWorker {
    let recycle = Recycle::new().jobs(1).overlap();
    let restart = RestartPolicy::Fixed(Duration::from_secs(3600));
    let worker = worker("serve").ready(Ready::Call).restart(restart).recycle(recycle);
    worker.build().unwrap()
}

fn recycle(handle: &Handle) {
    write_note("work", "").unwrap();
    assert!(handle.set_latch().unwrap());
}

/// The runs that have noted themselves. Their notes are gone afterwards.
fn runs() -> Vec<Pid> {
    let mut runs = Vec::new();
    for file in std::fs::read_dir(std::env::temp_dir()).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().to_string_lossy().into_owned();
        if let Some(pid) = name.strip_prefix("note-run-") {
            runs.push(pid.parse().unwrap());
            std::fs::remove_file(file.path()).unwrap();
        }
    }
    runs
}

fn the_death_in_a_hand_over_takes_both_runs() {
    for point in in_postmaster(&["hand_over:"]) {
        let cluster = cluster_with(&format!("{point}=kill"), |builder| {
            builder.function("serve", entry(serve))
        });
        let handle = cluster.backend.register(&served()).unwrap();
        ready(&handle);
        recycle(&handle);
        let postmaster = cluster.launched.pid();
        wait_until(&format!("{point} is reached"), PATIENCE, || !alive(postmaster));
        let killed = ExitCause::Signaled { signal: 9, core_dumped: false };
        assert_eq!(cluster.launched.wait().unwrap(), killed, "{point}");
        assert_eq!(handle.wait_for_shutdown().unwrap(), WorkerStatus::PostmasterDied, "{point}");
        a_new_postmaster_takes_over(point);
        let runs = runs();
        assert_eq!(runs.len(), 2, "{point}");
        assert!(!runs.into_iter().any(alive), "{point}");
    }
}

fn a_postmaster_that_is_stopped_in_a_hand_over_loses_nothing() {
    for point in in_postmaster(&["hand_over:"]) {
        let cluster = cluster_with(&format!("{point}=stop"), |builder| {
            builder.function("serve", entry(serve))
        });
        let handle = cluster.backend.register(&served()).unwrap();
        let first = ready(&handle);
        recycle(&handle);
        let postmaster = cluster.launched.pid();
        wait_for_state(postmaster, 'T', point);
        let status = handle.status();
        assert!(matches!(status, WorkerStatus::Started(_)), "{point}: it is {status}");
        assert!(handle.is_ready(), "{point}");
        // Whoever is woken meanwhile, it is one of the two, and no set is lost.
        assert!(handle.set_latch().unwrap(), "{point}");
        kill(postmaster, Signal::SIGCONT);
        wait_until("the next run serves", PATIENCE, || {
            handle.pid().is_some_and(|pid| pid != first)
        });
        wait_until("the former run is gone", PATIENCE, || !alive(first));
        handle.terminate().unwrap();
        the_end(&handle);
        cluster.end();
        assert_eq!(runs().len(), 2, "{point}");
        std::fs::remove_dir_all(std::env::temp_dir().join("cluster")).unwrap();
    }
}

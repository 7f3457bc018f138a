//! The promise: when the process that submitted a job is gone, the job is terminated, or goes on,
//! as was chosen at its submission; a worker that is no job goes on.
//!
//! Would catch: a job that works for nobody, one that ends although its submitter is there, one
//! that outlives its submitter because it was not taken in, or rested.

use crate::support::{
    Cluster, PATIENCE, connect, kill, read_note, ready, simple, started, stopped, worker,
    write_note,
};
use bgw_backend::{
    AskedBy, Backend, BackgroundWorkerBuilder, ExitCause, Handle, Orphaned, Pid, RestartPolicy,
    Worker, WorkerError, WorkerHandle, entry,
};
use process_test::{Child, Signal, Test, fork_child, tests};
use std::path::Path;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        jobs_end_with_their_submitter_or_go_on_as_it_chose => [J04],
        a_job_ends_when_its_submitter_closes_its_last_connection => [J04],
        jobs_that_have_not_started_or_are_in_a_pause_end_with_their_submitter => [J04],
    ]
}

/// A job that runs `function`, and ends with its submitter.
fn job(function: &str) -> BackgroundWorkerBuilder {
    worker(function).job(Orphaned::Terminate)
}

fn cluster() -> Cluster {
    Cluster::with(|builder| {
        builder
            .max_workers(16)
            .function("fails", |_| Err("it fails".into()))
            .function("submits", entry(submits))
    })
}

/// Registers a job that ends with its submitter, one that goes on, and a plain worker; notes them.
fn submit_three(backend: &Backend, name: &str) -> [Handle; 3] {
    let all = [job("sleep"), worker("sleep").job(Orphaned::GoOn), worker("sleep")];
    let all = all.map(|job| backend.register(&job.build().unwrap()).unwrap());
    let ids: Vec<String> = all.iter().map(|handle| handle.id().to_string()).collect();
    write_note(name, &ids.join(" ")).unwrap();
    all
}

fn submitted_by(cluster: &Cluster, name: &str) -> [Handle; 3] {
    let ids: Vec<WorkerHandle> = read_note(name).split(' ').map(|id| id.parse().unwrap()).collect();
    let all = [ids[0], ids[1], ids[2]].map(|id| cluster.backend.handle(id));
    let _ = [&all[0], &all[1], &all[2]].map(ready);
    all
}

/// Submits three workers, and then ends as its argument says.
fn submits(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.handle_terminate();
    worker.unblock_signals()?;
    let all = submit_three(&worker.backend(), "of-worker");
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    drop(all);
    Ok(())
}

fn submitting_program(folder: &Path, name: &'static str) -> Child {
    let folder = folder.to_owned();
    fork_child(move || {
        let all = submit_three(&connect(&folder), name);
        read_note(&format!("{name}-goes"));
        drop(all);
        // Without a connection, it lives on.
        read_note(&format!("{name}-ends"));
    })
}

/// Of three workers of a submitter that has gone, the first one ends, and the others run on.
fn the_first_one_ends(cluster: &Cluster, all: &[Handle; 3], pids: [Pid; 3]) {
    let report = stopped(&all[0]);
    assert_eq!(report.asked_by, Some(AskedBy::Submitter), "{report}");
    assert_eq!(report.cause, ExitCause::Exited(0), "in good order");
    cluster.backend.ping().unwrap();
    for (handle, pid) in all.iter().zip(pids).skip(1) {
        assert_eq!(started(handle), pid);
        handle.terminate().unwrap();
        stopped(handle);
    }
}

/// Would time out if nobody told the job, and fail if it told the others.
fn jobs_end_with_their_submitter_or_go_on_as_it_chose() {
    let cluster = cluster();
    let mut program = submitting_program(&cluster.folder, "of-program");
    let all = submitted_by(&cluster, "of-program");
    let pids = [&all[0], &all[1], &all[2]].map(started);
    let others = submit_three(&cluster.backend, "of-test");
    program.kill(Signal::SIGKILL);
    program.wait();
    the_first_one_ends(&cluster, &all, pids);
    let submitter = cluster.backend.register(&simple("submits")).unwrap();
    let all = submitted_by(&cluster, "of-worker");
    let pids = [&all[0], &all[1], &all[2]].map(started);
    submitter.terminate().unwrap();
    the_first_one_ends(&cluster, &all, pids);
    let _ = [&others[0], &others[1], &others[2]].map(started);
    cluster.end();
}

/// Would fail if a closed connection of several ended the jobs.
fn a_job_ends_when_its_submitter_closes_its_last_connection() {
    let cluster = cluster();
    let mut program = submitting_program(&cluster.folder, "closing");
    let all = submitted_by(&cluster, "closing");
    let pids = [&all[0], &all[1], &all[2]].map(started);
    let second = connect(&cluster.folder);
    let job = second.register(&job("sleep").build().unwrap()).unwrap();
    let (id, pid) = (job.id(), ready(&job));
    drop((second, job));
    cluster.backend.ping().unwrap();
    write_note("closing-goes", "").unwrap();
    the_first_one_ends(&cluster, &all, pids);
    assert!(program.try_wait().is_none(), "it lives");
    write_note("closing-ends", "").unwrap();
    assert_eq!(program.wait().code(), Some(0));
    assert_eq!(started(&cluster.backend.handle(id)), pid, "this process has another connection");
    cluster.end();
}

/// Would time out if a job that the postmaster takes in after its submitter's death went on, or one
/// stayed in its pause.
fn jobs_that_have_not_started_or_are_in_a_pause_end_with_their_submitter() {
    let cluster = cluster();
    let folder = cluster.folder.clone();
    let hour = RestartPolicy::Fixed(Duration::from_secs(3600));
    let mut program = fork_child(move || {
        let backend = connect(&folder);
        let resting = backend.register(&job("fails").restart(hour).build().unwrap()).unwrap();
        stopped(&resting);
        write_note("resting", &resting.id().to_string()).unwrap();
        read_note("go-on");
        let unseen = backend.register(&job("sleep").build().unwrap()).unwrap();
        write_note("unseen", &unseen.id().to_string()).unwrap();
        read_note("never");
    });
    let named = |name: &str| cluster.backend.handle(read_note(name).parse().unwrap());
    let resting = named("resting");
    let postmaster = cluster.launched.pid();
    kill(postmaster, Signal::SIGSTOP);
    write_note("go-on", "").unwrap();
    let unseen = named("unseen");
    program.kill(Signal::SIGKILL);
    program.wait();
    kill(postmaster, Signal::SIGCONT);
    // The postmaster may see the registration before it sees the death.
    for (handle, runs) in [(resting, 1..=1), (unseen, 0..=1)] {
        let outcome = handle.wait_for_outcome_timeout(PATIENCE).unwrap();
        assert!(outcome.runs().is_some_and(|count| runs.contains(&count)), "{outcome}");
        assert_eq!(outcome.report().unwrap().asked_by, Some(AskedBy::Submitter), "{outcome}");
    }
    assert!(cluster.backend.workers().is_empty());
    cluster.end();
}

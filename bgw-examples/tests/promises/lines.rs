//! The promise: a worker asks its postmaster whatever a program can ask, with and without a runtime
//! folder, and its connection keeps nobody out and holds nothing up.
//!
//! Would catch: a worker that has to know a path, a name that is left behind, a shutdown that waits
//! for a worker's own connection, a spare that serves once because it has asked.

use crate::support::reuse::{cluster_with, run_and_rest};
use crate::support::{
    PATIENCE, connect, functions, note_path, ready, simple, stopped, worker, write_note,
};
use bgw_backend::{
    AskError, AttachError, Backend, ExitCause, Refusal, ShutdownMode, Worker, WorkerError, entry,
};
use bgw_postmaster::{Launched, Postmaster, PostmasterBuilder, Reuse};
use process_test::{Test, fork_child, tests, wait_until};
use std::path::{Path, PathBuf};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_worker_asks_with_and_without_a_runtime_folder,
        a_nameless_socket_is_for_workers_alone,
        connections_of_workers_take_no_place_of_programs,
        a_connection_of_a_worker_holds_up_no_shutdown,
        a_process_that_has_asked_serves_again,
    ]
}

fn launch(builder: PostmasterBuilder) -> (Launched, Backend) {
    let builder = functions(builder).max_workers(64).function("asks", entry(asks));
    let builder = builder.function("crowds", entry(crowds));
    let mut launched = builder.build().unwrap().launch().unwrap();
    let backend = Backend::over(launched.take_control().unwrap()).unwrap();
    (launched, backend)
}

fn end(launched: &Launched) {
    launched.shutdown(ShutdownMode::Fast).unwrap();
    assert_eq!(launched.wait().unwrap(), ExitCause::Exited(0));
}

/// Asks this and that, and sleeps until it is told to end if its argument says so.
fn asks(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.handle_terminate();
    worker.unblock_signals()?;
    let backend = worker.backend();
    backend.ping()?;
    let nested = simple("quick");
    let handle = backend.register_timeout(&nested, PATIENCE)?;
    handle.wait_for_end()?;
    backend.ping()?;
    worker.ready();
    while worker.main_arg() == 1 && !worker.should_stop() {
        worker.sleep(None)?;
    }
    Ok(())
}

fn sleeping() -> bgw_backend::BackgroundWorker {
    worker("asks").main_arg(1).build().unwrap()
}

/// Fails if a worker needs a folder to ask, or if the name of its way stays.
fn a_worker_asks_with_and_without_a_runtime_folder() {
    let folder = std::env::temp_dir().join("cluster");
    for builder in [Postmaster::builder(), Postmaster::builder().runtime_dir(&folder)] {
        let (launched, backend) = launch(builder);
        let left = std::fs::read_dir(std::env::temp_dir()).unwrap();
        let left = left
            .filter(|one| one.as_ref().unwrap().file_name().to_string_lossy().starts_with(".bgw."));
        assert_eq!(left.count(), 0);
        let handle = backend.register(&simple("asks")).unwrap();
        assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
        // The name of the socket may be gone.
        let _ = std::fs::remove_file(folder.join("control.sock"));
        let handle = backend.register(&simple("asks")).unwrap();
        assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
        end(&launched);
    }
}

/// The door of a worker, as others of its user can reach it.
fn door_of(pid: bgw_backend::Pid) -> PathBuf {
    let all = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let is_door = |path: &Path| {
        std::fs::read_link(path).is_ok_and(|target| target.to_string_lossy().contains("/.bgw."))
    };
    all.map(|one| one.unwrap().path()).find(|path| is_door(path)).unwrap()
}

/// Fails if a program that is no worker attaches to a postmaster without a folder.
fn a_nameless_socket_is_for_workers_alone() {
    let (launched, backend) = launch(Postmaster::builder());
    let handle = backend.register(&sleeping()).unwrap();
    let door = door_of(ready(&handle));
    let mut stranger = fork_child(move || {
        let refused = Backend::connect(&door).unwrap_err();
        let AttachError::Ask(AskError::Refused { reason: Refusal::NotAllowed, detail }) = refused
        else {
            panic!("{refused}");
        };
        assert!(detail.contains("only workers"), "{detail}");
    });
    assert_eq!(stranger.wait().code(), Some(0));
    backend.ping().unwrap();
    end(&launched);
}

/// Opens as many connections as it can.
fn crowds(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.handle_terminate();
    worker.unblock_signals()?;
    let folder = std::env::temp_dir().join("cluster");
    let mut all = Vec::new();
    let refused = loop {
        match Backend::connect(&folder) {
            Ok(backend) => all.push(backend),
            Err(error) => break error,
        }
    };
    let text = format!("{} {refused:?}", all.len());
    write_note(&format!("crowd-{}", worker.main_arg()), &text)?;
    worker.ready();
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    Ok(())
}

/// Fails if workers count as attached programs, or if one of them can have any number.
fn connections_of_workers_take_no_place_of_programs() {
    let folder = std::env::temp_dir().join("cluster");
    let (launched, backend) = launch(Postmaster::builder().runtime_dir(&folder).max_sessions(2));
    for number in 0..6 {
        let crowd = worker("crowds").main_arg(number).build().unwrap();
        ready(&backend.register(&crowd).unwrap());
        let text = std::fs::read_to_string(note_path(&format!("crowd-{number}"))).unwrap();
        assert!(text.starts_with("4 ") && text.contains("this worker has 4 connections"), "{text}");
    }
    let second = connect(&folder);
    let full = format!("{:?}", Backend::connect(&folder).unwrap_err());
    assert!(full.contains("2 programs are attached"), "{full}");
    ready(&backend.register(&sleeping()).unwrap());
    drop(second);
    wait_until("there is a place again", PATIENCE, || Backend::connect(&folder).is_ok());
    end(&launched);
}

/// Hangs if a smart shutdown waits until workers have hung up, which they do at their end.
fn a_connection_of_a_worker_holds_up_no_shutdown() {
    let (launched, backend) = launch(Postmaster::builder().stop_with_launcher(false));
    let handle = backend.register(&sleeping()).unwrap();
    let pid = ready(&handle);
    launched.shutdown(ShutdownMode::Smart).unwrap();
    drop((handle, backend));
    assert_eq!(launched.wait().unwrap(), ExitCause::Exited(0));
    assert!(!crate::support::alive(pid));
}

/// Fails if the connection is a descriptor too many for the next life, or is still there in it.
fn a_process_that_has_asked_serves_again() {
    let cluster = cluster_with(1, Reuse::new(), |builder| {
        builder.reusable_function("asks again", Reuse::new(), entry(asks))
    });
    let pid = run_and_rest(&cluster, "asks again", 0);
    for _ in 0..3 {
        assert_eq!(run_and_rest(&cluster, "asks again", 0), pid);
    }
    cluster.end();
}

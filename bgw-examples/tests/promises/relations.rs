//! The promise: a unique name is one worker's alone, and a worker that starts after others starts
//! when what it waits for is true, or is told that it never will be.
//!
//! Would catch: two workers of one unique name, a name that stays taken, a worker that starts too
//! early, or waits for ever for one that has gone.

use crate::support::waiter::waiting_thread;
use crate::support::{
    Cluster, PATIENCE, connect, monotonic_nanos, note_path, read_note, ready, simple, started,
    stopped, worker, write_note,
};
use bgw_backend::{
    After, BackgroundWorker, BackgroundWorkerBuilder, ExitCause, Handle, NotStarted, Ready,
    RegisterError, RelationError, RestartPolicy, Worker, WorkerError, WorkerFlags, WorkerStatus,
    entry,
};
use process_test::{Signal, Test, fork_child, tests, wait_until};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        of_two_processes_that_claim_a_name_one_wins_each_time => [P55],
        a_unique_worker_is_found_and_its_name_is_free_at_its_end => [P55],
        a_dependent_waits_through_the_restarts_of_its_target => [P52],
        all_that_wait_for_a_target_are_told_when_it_has_gone_for_good => [P53],
        a_running_dependent_runs_on_when_its_target_has_gone => [P53],
        a_circle_is_refused_by_its_names_and_nobody_is_registered => [P54],
        a_batch_in_any_order_starts_in_the_order_of_its_targets,
        after_a_reset_targets_start_before_their_dependents,
    ]
}

const HOUR: Duration = Duration::from_secs(3600);

type Done = Result<(), WorkerError>;

fn unique(name: &str, function: &str) -> BackgroundWorkerBuilder {
    BackgroundWorker::builder(name).function(function).unique().ready(Ready::Call)
}

/// Notes when it began and when it said that it is ready, and sleeps.
fn note_and_sleep(worker: &mut Worker) -> Done {
    worker.handle_terminate();
    worker.unblock_signals()?;
    let began = monotonic_nanos();
    // So that one that does not wait for this one would begin earlier.
    std::thread::sleep(Duration::from_millis(50));
    let name = format!("{}-{}", worker.name(), worker.restarts());
    write_note(&name, &format!("{began} {}", monotonic_nanos()))?;
    worker.ready();
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    Ok(())
}

/// When the run of this name began, and when it was ready.
fn run(name: &str, restarts: u32) -> (u64, u64) {
    let note = read_note(&format!("{name}-{restarts}"));
    let (began, ready) = note.split_once(' ').unwrap();
    (began.parse().unwrap(), ready.parse().unwrap())
}

/// Fails until a note lets it run.
fn fail_or_sleep(worker: &mut Worker) -> Done {
    if !note_path("may-run").exists() {
        return Err("not yet".into());
    }
    note_and_sleep(worker)
}

fn noting() -> Cluster {
    Cluster::with(|builder| {
        builder
            .max_workers(16)
            .function("note", entry(note_and_sleep))
            .function("fail or sleep", entry(fail_or_sleep))
    })
}

/// A worker in a pause of an hour.
fn pausing(cluster: &Cluster, name: &str) -> Handle {
    let target = unique(name, "fail or sleep").restart(RestartPolicy::Fixed(HOUR));
    let target = cluster.backend.register(&target.build().unwrap()).unwrap();
    let report = stopped(&target);
    assert_eq!((report.streak, report.unregistered), (1, false));
    target
}

fn is_ready(handle: &Handle) {
    ready(handle);
}

/// True if the worker got the name: it runs. Else it was refused, at once or by the postmaster.
fn won(handle: &Result<Handle, RegisterError>) -> bool {
    match handle {
        Ok(handle) => match handle.wait_for_startup_timeout(PATIENCE).unwrap() {
            WorkerStatus::Started(_) => true,
            WorkerStatus::Stopped(Some(report)) => {
                let taken = ExitCause::NotStarted(NotStarted::NameTaken);
                assert!(report.cause == taken && report.unregistered, "{report:?}");
                false
            }
            other => panic!("{other}"),
        },
        Err(RegisterError::Relation(RelationError::NameTaken { name })) => {
            assert_eq!(name, "only");
            false
        }
        Err(error) => panic!("{error}"),
    }
}

/// Would fail if both sides looked, and neither looked again; or if a name stayed taken.
fn of_two_processes_that_claim_a_name_one_wins_each_time() {
    const ROUNDS: usize = 100;
    let cluster = Cluster::new();
    let only = unique("only", "sleep").build().unwrap();
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    let folder = cluster.folder.clone();
    let mut other = fork_child(|| {
        let backend = connect(&folder);
        let only = unique("only", "sleep").build().unwrap();
        let mut byte = [0];
        for _ in 0..ROUNDS {
            theirs.read_exact(&mut byte).unwrap();
            let handle = backend.register(&only);
            let has_won = won(&handle);
            theirs.write_all(&[u8::from(has_won)]).unwrap();
            theirs.read_exact(&mut byte).unwrap();
            if has_won {
                handle.as_ref().unwrap().terminate().unwrap();
                handle.unwrap().wait_for_end_timeout(PATIENCE).unwrap();
            }
            theirs.write_all(&[0]).unwrap();
        }
    });
    for round in 0..ROUNDS {
        let mut byte = [0];
        ours.write_all(&[0]).unwrap();
        let handle = cluster.backend.register(&only);
        let we = won(&handle);
        ours.read_exact(&mut byte).unwrap();
        assert_ne!(we, byte == [1], "round {round}");
        assert_eq!(cluster.backend.find("only").len(), 1, "round {round}");
        if we {
            handle.as_ref().unwrap().terminate().unwrap();
            handle.unwrap().wait_for_end_timeout(PATIENCE).unwrap();
        }
        ours.write_all(&[0]).unwrap();
        ours.read_exact(&mut byte).unwrap();
    }
    assert_eq!(other.wait().code(), Some(0));
    cluster.end();
}

fn a_unique_worker_is_found_and_its_name_is_free_at_its_end() {
    let cluster = Cluster::new();
    let plain = simple("sleep");
    let (other, _) = cluster.start(&plain);
    let only = unique("sleep", "sleep").build().unwrap();
    for _ in 0..3 {
        let (first, _) = cluster.start(&only);
        assert_eq!(cluster.backend.find("sleep"), [first.clone(), other.clone()]);
        let refused = cluster.backend.register(&only).unwrap_err();
        assert!(refused.to_string().contains("\"sleep\""), "{refused}");
        assert_eq!(connect(&cluster.folder).find("sleep").first(), Some(&first));
        first.terminate().unwrap();
        first.wait_for_end_timeout(PATIENCE).unwrap();
        assert_eq!(cluster.backend.find("sleep"), std::slice::from_ref(&other));
    }
    cluster.end();
}

/// Would fail if a target in its pause counted as gone, or as started.
fn a_dependent_waits_through_the_restarts_of_its_target() {
    let cluster = noting();
    let target = pausing(&cluster, "db");
    let dependents = [After::Started, After::Ready].map(|condition| {
        let name = format!("{condition:?}");
        let dependent = BackgroundWorker::builder(name).function("note").after("db", condition);
        cluster.backend.register(&dependent.build().unwrap()).unwrap()
    });
    for failures in 2..4 {
        target.restart_now().unwrap();
        wait_until("it has failed again", PATIENCE, || {
            let report = target.exit_report();
            report.is_some_and(|report| report.restarts + 1 == failures)
        });
        cluster.backend.ping().unwrap();
        assert_eq!(dependents[1].status(), WorkerStatus::NotYetStarted);
    }
    write_note("may-run", "").unwrap();
    target.restart_now().unwrap();
    dependents.iter().for_each(is_ready);
    assert!(run("Ready", 0).0 > run("db", 3).1, "it waited until its target was ready");
    cluster.end();
}

/// Would hang if a dependent were left to wait, or only the first of a chain were told.
fn all_that_wait_for_a_target_are_told_when_it_has_gone_for_good() {
    let cluster = noting();
    let target = pausing(&cluster, "db");
    let register = |worker: BackgroundWorkerBuilder| {
        cluster.backend.register(&worker.build().unwrap()).unwrap()
    };
    let waiting = [
        register(unique("a", "note").after("db", After::Ready)),
        register(unique("b", "note").after("a", After::Started)),
        register(worker("sleep").after("b", After::Done)),
    ];
    let threads = waiting
        .clone()
        .map(|handle| waiting_thread(move || handle.wait_for_startup_timeout(PATIENCE).unwrap()));
    // One that the postmaster takes in later finds no target.
    cluster.backend.ping().unwrap();
    target.terminate().unwrap();
    for (handle, thread) in waiting.iter().zip(threads) {
        let WorkerStatus::Stopped(Some(report)) = thread.join().unwrap() else {
            panic!("{handle}")
        };
        assert_eq!(report.cause, ExitCause::NotStarted(NotStarted::Dependency));
        assert!(report.unregistered && report.pid.is_none(), "{report:?}");
        handle.wait_for_end_timeout(PATIENCE).unwrap();
    }
    assert!(cluster.backend.workers().is_empty());
    let unknown = worker("sleep").after("db", After::Started).build().unwrap();
    let unknown = cluster.backend.register(&unknown).unwrap_err().to_string();
    assert!(unknown.contains("\"db\""), "{unknown}");
    cluster.end();
}

fn a_running_dependent_runs_on_when_its_target_has_gone() {
    let cluster = noting();
    let (target, _) = cluster.start(&unique("db", "sleep").build().unwrap());
    let dependent = worker("sleep").after("db", After::Ready).build().unwrap();
    let (dependent, pid) = cluster.start(&dependent);
    target.terminate().unwrap();
    target.wait_for_end_timeout(PATIENCE).unwrap();
    cluster.backend.ping().unwrap();
    assert_eq!(dependent.status(), WorkerStatus::Started(pid));
    cluster.end();
}

fn a_circle_is_refused_by_its_names_and_nobody_is_registered() {
    let cluster = noting();
    let started = |name: &str, target: &str| unique(name, "note").after(target, After::Started);
    let batch = [started("a", "b"), started("b", "c"), started("c", "a"), unique("d", "note")];
    let batch = batch.map(|worker| worker.build().unwrap());
    let refused = cluster.backend.register_all(&batch).unwrap_err().to_string();
    assert!(refused.contains("\"a\" after \"b\" after \"c\" after \"a\""), "{refused}");
    assert!(cluster.backend.workers().is_empty());
    let itself = started("a", "a").build().unwrap_err().to_string();
    assert!(itself.contains("\"a\""), "{itself}");

    // One by one: the first has gone, the second still names it.
    let (first, _) = cluster.start(&unique("a", "note").build().unwrap());
    cluster.start(&started("b", "a").build().unwrap());
    first.terminate().unwrap();
    first.wait_for_end_timeout(PATIENCE).unwrap();
    let refused = cluster.backend.register(&started("a", "b").build().unwrap()).unwrap_err();
    assert!(refused.to_string().contains("\"a\" after \"b\" after \"a\""), "{refused}");
    let late = unique("b", "note").build().unwrap();
    let refused = cluster.backend.register_all(&[unique("e", "note").build().unwrap(), late]);
    assert!(refused.unwrap_err().to_string().contains("\"b\""));
    assert!(cluster.backend.find("e").is_empty(), "nobody of the batch is registered");
    let never = worker("sleep").after("b", After::Ready).build().unwrap();
    assert!(cluster.backend.register(&never).is_ok(), "b declares that it says ready");
    cluster.end();
}

/// Would fail if the postmaster took new workers in slot order.
fn a_batch_in_any_order_starts_in_the_order_of_its_targets() {
    let cluster = noting();
    let ready_after = |name: &str, target: &str| unique(name, "note").after(target, After::Ready);
    let batch = [ready_after("c", "b"), ready_after("b", "a"), unique("a", "note")];
    let handles = cluster.backend.register_all(&batch.map(|worker| worker.build().unwrap()));
    let handles = handles.unwrap();
    handles.iter().for_each(is_ready);
    assert_eq!(cluster.backend.find("c"), std::slice::from_ref(&handles[0]));
    assert!(run("a", 0).1 < run("b", 0).0 && run("b", 0).1 < run("c", 0).0);
    cluster.end();
}

/// Would fail if all started at once after a reset, as those without relations do.
fn after_a_reset_targets_start_before_their_dependents() {
    let cluster = noting();
    let shared = |builder: BackgroundWorkerBuilder| {
        builder.flags(WorkerFlags::SHMEM_ACCESS).restart(RestartPolicy::after_secs(1))
    };
    let batch = [
        shared(unique("dependent", "note").after("target", After::Ready)),
        shared(unique("target", "note")),
    ];
    let batch = batch.map(|worker| worker.build().unwrap());
    let handles = cluster.backend.register_all(&batch).unwrap();
    handles.iter().for_each(is_ready);
    crate::support::kill(started(&handles[1]), Signal::SIGKILL);
    assert!(run("dependent", 1).0 > run("target", 1).1);
    cluster.end();
}

//! The promise: a worker is asked to end by its own stop signal, and so is what it has started.
//!
//! It is killed after its own grace.
//!
//! Would catch: a signal that is lost because the worker still ignores it, a reload that stops a
//! worker, a process of the group that hears nothing, a grace that holds on one way down only.

use crate::support::{
    Cluster, PATIENCE, alive, functions, kill, note_path, read_note, ready, started, stopped,
    the_end, wait_for_spares, worker, write_note,
};
use bgw_backend::{
    AskError, AskedBy, Backend, BackgroundWorker, BackgroundWorkerBuilder, ConnectOptions,
    ExitCause, Grace, Handle, Pid, RestartPolicy, ShutdownMode, StopSignal, Worker, WorkerError,
    WorkerFlags, WorkerHandle, WorkerStatus, entry,
};
use bgw_postmaster::Postmaster;
use process_test::{Signal, Test, fork_child, tests, wait_until};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        each_stop_signal_ends_functions_in_order,
        each_stop_signal_reaches_commands,
        a_reload_does_not_stop_a_worker_whose_stop_signal_is_sighup,
        a_stop_signal_that_comes_before_the_worker_handles_it_is_not_lost,
        the_stop_signal_reaches_grandchildren_and_stopped_groups => [P18],
        the_own_grace_of_a_deaf_worker_holds_on_every_way_down => [P19],
        the_own_grace_of_a_deaf_worker_holds_when_the_launcher_has_gone => [P19],
        a_worker_with_a_grace_of_its_own_leaves_the_others_theirs,
        kill_ends_deaf_workers_now_and_resets_nobody => [P20, P21],
        whoever_is_left_at_the_shutdown_timeout_is_killed => [P27],
        kill_of_a_worker_between_two_runs_unregisters_it,
        kill_hits_no_stranger,
    ]
}

const OF_FUNCTIONS: [StopSignal; 4] =
    [StopSignal::Term, StopSignal::Int, StopSignal::Hup, StopSignal::Usr2];

/// A worker that is a shell: it notes its pid once `setup` is done.
fn shell(setup: &str, then: &str) -> BackgroundWorkerBuilder {
    let note = note_path("shell").display().to_string();
    let script = format!("{setup} echo $$ > {note}.part; mv {note}.part {note}; {then}");
    BackgroundWorker::builder("shell").command("/bin/sh", ["-c".to_owned(), script])
}

fn start_shell(cluster: &Cluster, builder: BackgroundWorkerBuilder) -> (Handle, Pid) {
    let handle = cluster.backend.register(&builder.build().unwrap()).unwrap();
    let pid = read_note("shell").trim().parse().unwrap();
    std::fs::remove_file(note_path("shell")).unwrap();
    (handle, pid)
}

#[track_caller]
fn ended(handle: &Handle) -> ExitCause {
    the_end(handle).cause
}

/// The report of one that had to be killed says so.
#[track_caller]
fn was_killed(handle: &Handle, by: AskedBy) {
    let report = the_end(handle);
    assert_eq!((report.cause, report.killed, report.asked_by), (KILLED, true, Some(by)));
}

/// Would fail if a stop signal other than SIGTERM were ignored, or if a spare or a worker with a
/// database kept its handlers for it.
fn each_stop_signal_ends_functions_in_order() {
    let database = WorkerFlags::SHMEM_ACCESS | WorkerFlags::DATABASE_CONNECTION;
    for spares in [0, 1] {
        let cluster = Cluster::with(|builder| builder.warm_spares(spares));
        for stop in OF_FUNCTIONS {
            for flags in [WorkerFlags::empty(), database] {
                wait_for_spares(&cluster, spares);
                let description = worker("sleep").stop(stop).flags(flags).build().unwrap();
                let handle = cluster.backend.register(&description).unwrap();
                ready(&handle);
                handle.terminate().unwrap();
                assert_eq!(stopped(&handle).cause, ExitCause::Exited(0), "{stop}, {spares} spares");
            }
        }
        // SIGTERM means what it always does.
        let description = worker("sleep").stop(StopSignal::Int).build().unwrap();
        let (handle, pid) = cluster.start(&description);
        ready(&handle);
        kill(pid, Signal::SIGTERM);
        assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
        cluster.end();
        std::fs::remove_dir_all(std::env::temp_dir().join("cluster")).unwrap();
    }
}

/// Would fail if a command got SIGTERM in place of its own stop signal.
fn each_stop_signal_reaches_commands() {
    let cluster = Cluster::new();
    let all = [StopSignal::Quit, StopSignal::Usr1, StopSignal::Winch];
    for stop in OF_FUNCTIONS.into_iter().chain(all) {
        let name = stop.to_string();
        let setup = format!("trap 'exit 7' {};", &name[3..]);
        let builder = shell(&setup, "while :; do sleep 0.01; done").stop(stop);
        let (handle, _) = start_shell(&cluster, builder);
        handle.terminate().unwrap();
        assert_eq!(ended(&handle), ExitCause::Exited(7), "{stop}");
    }
    cluster.end();
}

fn cannot_reload(worker: &mut Worker) -> Result<(), WorkerError> {
    let error = worker.handle_reload().unwrap_err();
    write_note("refused", &format!("{error:?}"))?;
    worker.handle_terminate();
    worker.unblock_signals()?;
    worker.ready();
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    Ok(())
}

/// Would fail if SIGHUP meant two things to one worker.
fn a_reload_does_not_stop_a_worker_whose_stop_signal_is_sighup() {
    let cluster = Cluster::with(|builder| builder.function("reload", entry(cannot_reload)));
    let description = worker("reload").stop(StopSignal::Hup).build().unwrap();
    let (handle, pid) = cluster.start(&description);
    ready(&handle);
    let text = read_note("refused");
    assert!(text.contains("SIGHUP is the stop signal of this worker"), "{text}");
    cluster.backend.reload().unwrap();
    // By the time of this answer the reload has been forwarded to everybody.
    let (other, _) = cluster.start(&worker("sleep").build().unwrap());
    ready(&other);
    assert_eq!(handle.status(), WorkerStatus::Started(pid), "the reload left it alone");
    handle.terminate().unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    cluster.end();
}

/// Would hang if the signal were ignored, and so discarded, on the way to the worker's handlers.
fn a_stop_signal_that_comes_before_the_worker_handles_it_is_not_lost() {
    for spares in [0, 2] {
        let cluster = Cluster::with(|builder| builder.warm_spares(spares));
        for round in 0..200 {
            let stop = OF_FUNCTIONS[round % 4];
            let description = worker("sleep").stop(stop).build().unwrap();
            let handle = cluster.backend.register(&description).unwrap();
            started(&handle);
            handle.terminate().unwrap();
            assert_eq!(stopped(&handle).cause, ExitCause::Exited(0), "{stop}, round {round}");
        }
        cluster.end();
        std::fs::remove_dir_all(std::env::temp_dir().join("cluster")).unwrap();
    }
}

/// Starts a program and leaves it running while it sleeps.
fn parent(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.handle_terminate();
    // A program inherits the mask.
    worker.unblock_signals()?;
    let mut child = std::process::Command::new("sleep").arg("1000").spawn()?;
    write_note("grandchild", &child.id().to_string())?;
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    child.wait()?;
    Ok(())
}

/// Would hang if the grandchild did not get the signal, or if SIGCONT did not follow it.
fn the_stop_signal_reaches_grandchildren_and_stopped_groups() {
    let cluster = Cluster::with(|builder| builder.function("parent", entry(parent)));
    let note = note_path("grandchild").display().to_string();
    let setup = format!("sleep 1000 & echo $! > {note}.part; mv {note}.part {note};");
    for is_stopped in [false, true] {
        for command in [false, true] {
            for stop in [StopSignal::Term, StopSignal::Usr2] {
                let builder = if command { shell(&setup, "wait") } else { worker("parent") };
                let never = builder.stop(stop).restart(RestartPolicy::Never).build().unwrap();
                let (handle, leader) = cluster.start(&never);
                let grandchild: Pid = read_note("grandchild").trim().parse().unwrap();
                std::fs::remove_file(note_path("grandchild")).unwrap();
                if is_stopped {
                    kill(grandchild, Signal::SIGSTOP);
                    kill(leader, Signal::SIGSTOP);
                }
                handle.terminate().unwrap();
                let cause = ended(&handle);
                let by_signal =
                    ExitCause::Signaled { signal: stop.number() as u8, core_dumped: false };
                let expected = if command { by_signal } else { ExitCause::Exited(0) };
                assert_eq!(cause, expected, "{stop}");
                wait_until("the grandchild is gone", PATIENCE, || !alive(grandchild));
            }
        }
    }
    cluster.end();
}

const KILLED: ExitCause = ExitCause::Signaled { signal: 9, core_dumped: false };
const SHORT: Grace = Grace::After(Duration::from_millis(50));

/// A function and a command that do not hear SIGTERM, nor does what the command has started.
fn start_deaf(cluster: &Cluster) -> ([Handle; 2], [Pid; 3]) {
    let description = worker("stubborn").grace(SHORT).build().unwrap();
    let (function, first) = cluster.start(&description);
    ready(&function);
    let note = note_path("grandchild").display().to_string();
    let setup = format!("trap '' TERM; sleep 1000 & echo $! > {note}.part; mv {note}.part {note};");
    let (command, second) = start_shell(cluster, shell(&setup, "wait").grace(SHORT));
    let third = read_note("grandchild").trim().parse().unwrap();
    std::fs::remove_file(note_path("grandchild")).unwrap();
    ([function, command], [first, second, third])
}

/// Would hang if the cluster's grace, which is for ever, were taken.
fn the_own_grace_of_a_deaf_worker_holds_on_every_way_down() {
    for mode in [None, Some(ShutdownMode::Smart), Some(ShutdownMode::Fast)] {
        let cluster = Cluster::new();
        let (handles, pids) = start_deaf(&cluster);
        if let Some(mode) = mode {
            let Cluster { launched, backend, .. } = cluster;
            if mode == ShutdownMode::Fast {
                launched.shutdown(mode).unwrap();
                handles.iter().for_each(|handle| was_killed(handle, AskedBy::Shutdown));
                drop((handles, backend));
            } else {
                // It waits for those that could ask.
                drop((handles, backend));
                launched.shutdown(mode).unwrap();
            }
            assert_eq!(launched.wait().unwrap(), ExitCause::Exited(0), "{mode}");
        } else {
            for handle in &handles {
                handle.terminate().unwrap();
                handle.terminate().unwrap();
                was_killed(handle, AskedBy::Terminate);
            }
            cluster.end();
        }
        for pid in pids {
            assert!(!alive(pid), "{mode:?}");
        }
        std::fs::remove_dir_all(std::env::temp_dir().join("cluster")).unwrap();
    }
}

/// Would take a minute if the worker's own grace were not looked at, and hang if none were.
fn the_own_grace_of_a_deaf_worker_holds_when_the_launcher_has_gone() {
    let mut launcher = fork_child(|| {
        let folder = std::env::temp_dir().join("cluster");
        let builder = functions(Postmaster::builder().runtime_dir(folder));
        let mut launched = builder.build().unwrap().launch().unwrap();
        let backend = Backend::over(launched.take_control().unwrap()).unwrap();
        let description = worker("stubborn").grace(SHORT).build().unwrap();
        let pid = ready(&backend.register(&description).unwrap());
        write_note("pids", &format!("{} {pid}", launched.pid())).unwrap();
        kill(Pid::new(std::process::id()).unwrap(), Signal::SIGKILL);
    });
    launcher.wait();
    for pid in read_note("pids").split(' ') {
        let pid = pid.parse().unwrap();
        wait_until("the process is gone", PATIENCE, || !alive(pid));
    }
}

/// Would fail if the shortest grace held for all.
fn a_worker_with_a_grace_of_its_own_leaves_the_others_theirs() {
    let cluster = Cluster::with(|builder| builder.terminate_grace(Duration::from_millis(1)));
    let description = worker("stubborn").grace(Grace::Forever).build().unwrap();
    let (patient, pid) = cluster.start(&description);
    ready(&patient);
    patient.terminate().unwrap();
    let (handles, _) = start_deaf(&cluster);
    handles[0].terminate().unwrap();
    assert_eq!(ended(&handles[0]), KILLED);
    assert_eq!(patient.status(), WorkerStatus::Started(pid), "its grace is for ever");
    kill(pid, Signal::SIGKILL);
    let report = the_end(&patient);
    assert_eq!(report.cause, KILLED);
    assert!(!report.killed && report.requested(), "the SIGKILL was ours");
    handles[1].terminate().unwrap();
    assert_eq!(ended(&handles[1]), KILLED);
    cluster.end();
}

/// Would hang if a grace of "for ever" held for a kill, and fail if the cluster were reset.
fn kill_ends_deaf_workers_now_and_resets_nobody() {
    let cluster = Cluster::new();
    let shared = |grace| worker("stubborn").flags(WorkerFlags::SHMEM_ACCESS).grace(grace);
    let bystander = worker("sleep").flags(WorkerFlags::SHMEM_ACCESS).build().unwrap();
    let (bystander, pid) = cluster.start(&bystander);
    let fixed = RestartPolicy::Fixed(Duration::ZERO);
    let deaf = cluster.backend.register(&shared(Grace::Forever).restart(fixed).build().unwrap());
    let deaf = deaf.unwrap();
    ready(&deaf);
    deaf.terminate().unwrap();
    deaf.kill().unwrap();
    was_killed(&deaf, AskedBy::Kill);
    let report = stopped(&deaf);
    assert!(report.requested() && report.unregistered);
    deaf.kill().unwrap();
    // Nobody has asked these to end before.
    let (handles, pids) = start_deaf(&cluster);
    for handle in &handles {
        handle.kill().unwrap();
        was_killed(handle, AskedBy::Kill);
    }
    assert!(!pids.into_iter().any(alive));
    // The end of a grace is no crash either.
    let late = cluster.backend.register(&shared(SHORT).build().unwrap()).unwrap();
    ready(&late);
    late.terminate().unwrap();
    assert_eq!(ended(&late), KILLED);
    cluster.backend.ping().unwrap();
    assert_eq!(bystander.status(), WorkerStatus::Started(pid));
    cluster.end();
}

/// Would time out if it stayed on the list for the hour until its restart.
fn kill_of_a_worker_between_two_runs_unregisters_it() {
    let cluster = Cluster::new();
    let hour = RestartPolicy::Fixed(Duration::from_secs(3600));
    let description = worker("fail").restart(hour).build().unwrap();
    let handle = cluster.backend.register(&description).unwrap();
    assert!(!stopped(&handle).unregistered);
    handle.kill().unwrap();
    assert_eq!(ended(&handle), ExitCause::Exited(1), "the report of its run stays");
    assert!(stopped(&handle).unregistered);
    cluster.end();
}

/// Would fail if the next worker in the slot were killed, or if an attachment that may only look
/// could kill.
fn kill_hits_no_stranger() {
    let cluster = Cluster::with(|builder| builder.max_workers(1));
    let (before, _) = cluster.start(&worker("sleep").build().unwrap());
    before.terminate().unwrap();
    ended(&before);
    let (next, pid) = cluster.start(&worker("sleep").build().unwrap());
    let id = next.id();
    assert_eq!(id.slot(), before.id().slot());
    let (slot, generation, incarnation) = (id.slot(), id.generation(), id.incarnation());
    let strangers = [
        before.id(),
        WorkerHandle::new(slot, generation, incarnation ^ 2),
        WorkerHandle::new(u32::MAX, generation, incarnation),
    ];
    for stranger in strangers {
        cluster.backend.handle(stranger).kill().unwrap();
    }
    let options = ConnectOptions { read_only: true, ..ConnectOptions::default() };
    let observer = Backend::connect_with(&cluster.folder, options).unwrap();
    let refused = observer.handle(id).kill().unwrap_err();
    assert!(matches!(refused, AskError::Refused { .. }), "{refused}");
    // It still ends in order, which one that was killed does not.
    assert_eq!(next.status(), WorkerStatus::Started(pid));
    next.terminate().unwrap();
    assert_eq!(ended(&next), ExitCause::Exited(0));
    cluster.end();
}

/// Would take as long as the watchdog has patience if the time were not kept: for ever is the grace
/// of both.
fn whoever_is_left_at_the_shutdown_timeout_is_killed() {
    let cluster = Cluster::with(|builder| builder.shutdown_timeout(Duration::from_millis(50)));
    let function = worker("stubborn").grace(Grace::Forever).build().unwrap();
    let handle = cluster.backend.register(&function).unwrap();
    let deaf = ready(&handle);
    let command = shell("trap '' TERM;", "sleep 1000; :").grace(Grace::Forever);
    let (command, leader) = start_shell(&cluster, command);
    let Cluster { launched, backend, .. } = cluster;
    launched.shutdown(ShutdownMode::Fast).unwrap();
    was_killed(&handle, AskedBy::Shutdown);
    was_killed(&command, AskedBy::Shutdown);
    drop(backend);
    assert_eq!(launched.wait().unwrap(), ExitCause::Exited(0));
    assert!(!alive(deaf) && !alive(leader));
}

//! The promise: what a worker starts goes with it, a deaf worker goes at the end of its grace time
//! on every way down, and no orphan is left to be reaped.
//!
//! Would catch: a shell that ends while its program lives on, a run that starts beside what the
//! last one left, a postmaster that waits for ever for a deaf worker, zombies in a container.

use crate::support::{
    Cluster, PATIENCE, alive, functions, kill, note_path, raw, read_note, ready, simple, started,
    stopped, worker, write_note,
};
use bgw_backend::{
    Backend, BackgroundWorker, ExitCause, Handle, Pid, RestartPolicy, ShutdownMode, Worker,
    WorkerError, WorkerStatus, entry,
};
use bgw_postmaster::Postmaster;
use nix::sched::{CloneFlags, unshare};
use process_test::{Signal, Test, fork_child, tests, wait_until, zombies_of};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        terminate_ends_what_a_shell_has_started => [D04],
        a_shell_ends_because_what_it_waits_for_does => [D04],
        what_a_worker_leaves_behind_is_stopped_and_waited_for => [D02, D04, P23],
        a_deaf_process_is_killed_before_the_next_run => [D04, P23],
        a_stopped_group_hears_its_stop_signal => [D04],
        a_grace_time_holds_in_smart_and_fast_shutdown => [D03],
        a_deaf_worker_is_killed_when_the_launcher_has_gone => [D03],
        a_grace_time_beyond_the_clock_is_for_ever => [D03, D10],
        as_pid_1_the_postmaster_reaps_orphans => [D20],
        a_daemon_that_a_worker_started_is_left_alone_and_reaped,
    ]
}

/// A shell that writes the pid of what it starts, and waits.
/// The shell takes its signal only when `sleep` has ended. Would time out if the leader of the
/// group alone got it: `sleep` is not left behind, so nobody would end it.
fn a_shell_ends_because_what_it_waits_for_does() {
    let cluster = Cluster::new();
    let note = note_path("trap").display().to_string();
    let script = format!("trap 'exit 5' TERM; : > {note}; sleep 1000");
    let command = BackgroundWorker::builder("shell").command("/bin/sh", ["-c", &script]);
    let (handle, pid) = cluster.start(&command.build().unwrap());
    read_note("trap");
    let children = || process_test::descendants(raw(pid));
    wait_until("it waits", PATIENCE, || children().iter().any(|&child| title_of(child) == "sleep"));
    handle.terminate().unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(5));
    cluster.end();
}

fn title_of(pid: process_test::Pid) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

fn shell(name: &str, script: &str, restart: RestartPolicy) -> BackgroundWorker {
    let note = note_path(name).display().to_string();
    let script = format!("{script} echo $! > {note}.part; mv {note}.part {note}; wait");
    let worker = BackgroundWorker::builder(name).command("/bin/sh", ["-c".to_owned(), script]);
    worker.restart(restart).build().unwrap()
}

fn noted_pid(name: &str) -> Pid {
    read_note(name).trim().parse().unwrap()
}

#[track_caller]
fn gone(what: &str, pid: Pid) {
    wait_until(&format!("{what} {pid} is gone"), PATIENCE, || !alive(pid));
}

#[track_caller]
fn ended(handle: &Handle) {
    let status = handle.wait_for_end_timeout(PATIENCE).unwrap();
    assert!(matches!(status, WorkerStatus::Stopped(Some(_))), "{status}");
}

/// Fails if the stop signal goes to the shell alone.
fn terminate_ends_what_a_shell_has_started() {
    for fork in [false, true] {
        let cluster = Cluster::with(|builder| builder.run_atfork_handlers(fork));
        let worker = shell("grandchild", "sleep 1000 &", RestartPolicy::Never);
        let handle = cluster.backend.register(&worker).unwrap();
        let grandchild = noted_pid("grandchild");
        std::fs::remove_file(note_path("grandchild")).unwrap();
        handle.terminate().unwrap();
        ended(&handle);
        gone("the grandchild", grandchild);
        cluster.end();
    }
}

/// Starts a program and returns without waiting for it.
fn leave_behind(worker: &mut Worker) -> Result<(), WorkerError> {
    let script = if worker.main_arg() == 1 { "trap '' TERM; sleep 1000" } else { "sleep 1000" };
    let child = std::process::Command::new("/bin/sh").args(["-c", script]).spawn()?;
    let note = format!("left-{}", worker.restarts());
    write_note(&note, &child.id().to_string())?;
    if worker.restarts() > 0 {
        worker.handle_terminate();
        worker.unblock_signals()?;
        while !worker.should_stop() {
            worker.sleep(None)?;
        }
    }
    Err("left something behind".into())
}

/// Fails if the end is told late, or if `wait_for_end` returns while something lives.
fn what_a_worker_leaves_behind_is_stopped_and_waited_for() {
    let cluster = Cluster::with(|builder| builder.function("leave", entry(leave_behind)));
    let handle = cluster.backend.register(&worker("leave").main_arg(1).build().unwrap()).unwrap();
    let report = stopped(&handle);
    assert_eq!(report.cause, ExitCause::Exited(1), "reported at once");
    assert!(report.unregistered, "{report}: it is not restarted");
    let left = noted_pid("left-0");
    assert!(alive(left), "it ignores SIGTERM, and has five seconds");
    assert!(!cluster.backend.workers().is_empty(), "so its slot is not free yet");
    ended(&handle);
    assert!(!alive(left), "no process of the worker is left");
    assert!(cluster.backend.workers().is_empty());
    cluster.end();
}

/// Fails if the next run starts beside what the last one left.
fn a_deaf_process_is_killed_before_the_next_run() {
    let grace = Duration::from_millis(50);
    let cluster = Cluster::with(|builder| {
        builder.terminate_grace(grace).function("leave", entry(leave_behind))
    });
    let description = worker("leave").main_arg(1).restart(RestartPolicy::Fixed(Duration::ZERO));
    let handle = cluster.backend.register(&description.build().unwrap()).unwrap();
    let first = noted_pid("left-0");
    let second = noted_pid("left-1");
    assert!(!alive(first), "gone before the second run began");
    handle.terminate().unwrap();
    ended(&handle);
    assert!(!alive(second));
    cluster.end();
}

/// Fails without SIGCONT: a stopped process keeps SIGTERM pending.
fn a_stopped_group_hears_its_stop_signal() {
    let cluster = Cluster::new();
    let worker = shell("stopped", "sleep 1000 &", RestartPolicy::Never);
    let handle = cluster.backend.register(&worker).unwrap();
    let grandchild = noted_pid("stopped");
    let shell = started(&handle);
    for pid in [grandchild, shell] {
        kill(pid, Signal::SIGSTOP);
    }
    handle.terminate().unwrap();
    ended(&handle);
    gone("the grandchild", grandchild);
    cluster.end();
}

/// Fails if a grace time holds for terminate requests only: the postmaster then waits for ever.
fn a_grace_time_holds_in_smart_and_fast_shutdown() {
    for mode in [ShutdownMode::Smart, ShutdownMode::Fast] {
        let grace = Duration::from_millis(50);
        let cluster = Cluster::with(|builder| builder.terminate_grace(grace));
        let function = cluster.backend.register(&simple("stubborn")).unwrap();
        ready(&function);
        let script = "trap '' TERM; sleep 1000 &";
        cluster.backend.register(&shell("deaf", script, RestartPolicy::Never)).unwrap();
        let grandchild = noted_pid("deaf");
        std::fs::remove_file(note_path("deaf")).unwrap();
        let Cluster { launched, backend, .. } = cluster;
        drop((function, backend));
        launched.shutdown(mode).unwrap();
        assert_eq!(launched.wait().unwrap(), ExitCause::Exited(0), "{mode}");
        gone("the grandchild", grandchild);
    }
}

/// Fails if a launcher's end has no grace time: the postmaster then holds its folder for ever.
fn a_deaf_worker_is_killed_when_the_launcher_has_gone() {
    let mut launcher = fork_child(|| {
        let folder = std::env::temp_dir().join("cluster");
        let builder = functions(Postmaster::builder().runtime_dir(folder));
        let builder = builder.terminate_grace(Duration::from_millis(50));
        let mut launched = builder.build().unwrap().launch().unwrap();
        let backend = Backend::over(launched.take_control().unwrap()).unwrap();
        let pid = ready(&backend.register(&simple("stubborn")).unwrap());
        write_note("pids", &format!("{} {pid}", launched.pid())).unwrap();
        kill(Pid::this(), Signal::SIGKILL);
    });
    launcher.wait();
    for pid in read_note("pids").split(' ') {
        gone("the process", pid.parse().unwrap());
    }
}

/// Fails if such a time is added to the clock: that panics in the postmaster.
fn a_grace_time_beyond_the_clock_is_for_ever() {
    let cluster = Cluster::with(|builder| builder.terminate_grace(Duration::MAX));
    let handle = cluster.backend.register(&simple("sleep")).unwrap();
    ready(&handle);
    handle.terminate().unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    cluster.end();
}

/// Starts a daemon: a process of a session of its own, whose parent has ended.
fn start_daemon(worker: &mut Worker) -> Result<(), WorkerError> {
    let note = note_path("daemon").display().to_string();
    let daemon = format!("echo $$ > {note}.part; mv {note}.part {note}; read x <&3");
    let script = format!("exec 3<&0; setsid sh -c '{daemon}' &");
    let (reader, writer) = std::io::pipe()?;
    let mut shell = std::process::Command::new("/bin/sh");
    shell.args(["-c", &script]).stdin(reader).spawn()?.wait()?;
    let daemon = read_note("daemon");
    worker.handle_terminate();
    worker.unblock_signals()?;
    write_note("daemon-runs", &daemon)?;
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    // The daemon reads the end of its input, and ends.
    drop(writer);
    Ok(())
}

/// Fails if the postmaster takes a daemon for a part of the worker, or never reaps it.
fn a_daemon_that_a_worker_started_is_left_alone_and_reaped() {
    let cluster = Cluster::with(|builder| builder.function("daemon", entry(start_daemon)));
    let postmaster = raw(cluster.launched.pid());
    let handle = cluster.backend.register(&simple("daemon")).unwrap();
    let daemon: Pid = read_note("daemon-runs").trim().parse().unwrap();
    assert!(alive(daemon));
    handle.terminate().unwrap();
    ended(&handle);
    gone("the daemon", daemon);
    wait_until("no zombie is left", PATIENCE, || zombies_of(postmaster).is_empty());
    cluster.end();
}

/// Fails if the postmaster of a container leaves zombies.
fn as_pid_1_the_postmaster_reaps_orphans() {
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWPID) {
        process_test::skip(format!("a pid namespace needs root: {errno}"));
    }
    let folder = std::env::temp_dir().join("cluster");
    let path = folder.clone();
    let mut first = fork_child(move || {
        assert_eq!(std::process::id(), 1);
        let postmaster = functions(Postmaster::builder().runtime_dir(path)).build().unwrap();
        assert_eq!(postmaster.run().unwrap(), 0);
    });
    wait_until("the postmaster listens", PATIENCE, || folder.join("postmaster.pid").exists());
    // In the same namespace.
    let mut client = fork_child(move || {
        let backend = Backend::connect(&folder).unwrap();
        // Each leaves a child behind that ends at once, in a session of its own.
        let script = "setsid sh -c : &";
        for _ in 0..20 {
            let worker = BackgroundWorker::builder("orphan").command("/bin/sh", ["-c", script]);
            let handle = backend.register(&worker.build().unwrap()).unwrap();
            ended(&handle);
        }
        write_note("ended", "").unwrap();
        read_note("no-zombies");
        backend.shutdown(ShutdownMode::Fast).unwrap();
    });
    read_note("ended");
    wait_until("no zombie is left", PATIENCE, || zombies_of(first.pid()).is_empty());
    write_note("no-zombies", "").unwrap();
    // The end of PID 1 ends the client, too, wherever it is.
    client.wait();
    assert_eq!(first.wait().code(), Some(0));
}

//! The promise: when the postmaster is killed, no process of the cluster is left after a few
//! seconds, and the runtime folder is locked until then. An orderly end leaves no guardian.
//!
//! Would catch: a worker that blocks every signal and lives for ever, a second postmaster beside
//! the commands of the first, a guardian that dies with its postmaster, or that kills a stranger.

use crate::support::{
    Cluster, PATIENCE, alive, connect, functions, guardian_of, kill, note_path, raw, read_note,
    ready, simple, started, stopped, the_guardian_of, write_note,
};
use bgw_backend::{Backend, BackgroundWorker, Pid, ShutdownMode, Worker, WorkerError, entry};
use bgw_postmaster::{BuildError, Postmaster, PostmasterBuilder};
use nix::sys::signal::{SigSet, SigmaskHow, killpg, sigprocmask};
use nix::sys::wait::{WaitStatus, waitpid};
use process_test::{
    Signal, Test, choose_next_pid, descendants, fork_child, in_pid_namespace, mount_own_proc,
    tests, wait_until, zombies_of,
};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        nothing_is_left_of_a_killed_postmaster => [D05, D06],
        nothing_is_left_when_the_c_library_forks => [D05],
        nothing_is_left_of_a_killed_program_that_is_a_postmaster => [D05, D06],
        the_folder_is_locked_while_one_command_lives => [D06, B79],
        a_postmaster_without_workers_leaves_its_folder_at_once,
        an_orderly_end_leaves_no_guardian => [D05],
        a_program_is_given_back_without_a_guardian => [D05, D19],
        a_dead_guardian_is_replaced => [D05],
        the_guardian_cannot_be_reached_and_holds_nothing_else => [D05, D06],
        no_worker_has_the_roster => [D05],
        a_reused_pid_is_not_signalled_by_the_guardian => [D05],
    ]
}

/// Blocks every signal that there is, and computes.
fn masked(worker: &mut Worker) -> Result<(), WorkerError> {
    block_all()?;
    worker.ready();
    loop {
        std::hint::spin_loop();
    }
}

fn block_all() -> Result<(), WorkerError> {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)
        .map_err(std::io::Error::from)?;
    Ok(())
}

/// Starts a program that ignores SIGTERM, in a group of its own, and ends with its postmaster.
fn starts_a_group(worker: &mut Worker) -> Result<(), WorkerError> {
    let mut shell = std::process::Command::new("/bin/sh");
    let child = shell.args(["-c", "trap '' TERM; sleep 1000"]).process_group(0).spawn()?;
    write_note("group", &child.id().to_string())?;
    worker.unblock_signals()?;
    worker.ready();
    loop {
        worker.sleep(None)?;
    }
}

fn with_functions(builder: PostmasterBuilder) -> PostmasterBuilder {
    let builder = builder.function("masked", entry(masked));
    builder.max_workers(64).warm_spares(1).function("group", entry(starts_a_group))
}

/// A shell that writes the pid of what it starts, and waits.
fn shell(name: &str, script: &str) -> BackgroundWorker {
    let note = note_path(name).display().to_string();
    let script = format!("{script} echo $! > {note}.part; mv {note}.part {note}; wait");
    let shell = BackgroundWorker::builder(name).command("/bin/sh", ["-c".to_owned(), script]);
    shell.build().unwrap()
}

fn noted_pid(name: &str) -> Pid {
    read_note(name).trim().parse().unwrap()
}

/// Starts workers of every kind that does not end by itself, and returns all of their processes.
fn populate(backend: &Backend) -> Vec<(String, Pid)> {
    let mut all = Vec::new();
    let mut add = |what: &str, pid: Pid, stop: bool| {
        if stop {
            kill(pid, Signal::SIGSTOP);
        }
        all.push((what.to_owned(), pid));
    };
    for (what, stop) in [("sleep", false), ("sleep", true), ("masked", false), ("masked", true)] {
        let pid = ready(&backend.register(&simple(what)).unwrap());
        add(&format!("function \"{what}\", stopped: {stop}"), pid, stop);
    }
    add("a function with a group", ready(&backend.register(&simple("group")).unwrap()), false);
    add("that group", noted_pid("group"), false);
    for (name, script, stop) in [
        ("deaf", "trap '' TERM; sleep 1000 &", false),
        ("deaf-child", "(trap '' TERM; sleep 1000; true) &", false),
        ("stopped", "sleep 1000 &", true),
        ("busy", "trap '' TERM; while :; do sleep 0.01; done &", false),
    ] {
        let pid = started(&backend.register(&shell(name, script)).unwrap());
        let child = noted_pid(name);
        add(&format!("what the shell \"{name}\" started"), child, stop);
        add(&format!("the shell \"{name}\""), pid, stop);
    }
    all
}

/// Fails unless the folder is locked while one of them lives, and serves another postmaster
/// afterwards.
#[track_caller]
fn none_is_left(folder: &Path, all: &[(String, Pid)]) {
    let build = || Postmaster::builder().runtime_dir(folder).build();
    let refused = build().unwrap_err();
    assert!(matches!(refused, BuildError::InUse { .. }), "{refused}");
    // What the error advises, and no more than it: the postmaster that it may name is dead.
    assert!(refused.to_string().contains("try again"), "{refused}");
    wait_until("the folder is free", PATIENCE, || build().is_ok());
    let left: Vec<_> = all.iter().filter(|(_, pid)| alive(*pid)).collect();
    assert!(left.is_empty(), "the folder is free, and there are {left:?}");
    let cluster = Cluster::new();
    stopped(&cluster.backend.register(&simple("quick")).unwrap());
    cluster.end();
}

/// Fails if the guardian is in the group of its postmaster, or misses a kind of process.
fn nothing_is_left_of_a_killed_postmaster() {
    let cluster = Cluster::with(with_functions);
    let all = populate(&cluster.backend);
    killpg(raw(cluster.launched.pid()), Signal::SIGKILL).unwrap();
    cluster.launched.wait().unwrap();
    none_is_left(&cluster.folder, &all);
}

/// Fails if only workers of the usual fork are listed.
fn nothing_is_left_when_the_c_library_forks() {
    let cluster = Cluster::with(|builder| with_functions(builder).run_atfork_handlers(true));
    let all = populate(&cluster.backend);
    kill(cluster.launched.pid(), Signal::SIGKILL);
    cluster.launched.wait().unwrap();
    none_is_left(&cluster.folder, &all);
}

/// A program that becomes a postmaster, in a group of its own.
fn program(then: impl FnOnce()) -> process_test::Child {
    let program = fork_child(|| {
        nix::unistd::setpgid(raw(Pid::this()), raw(Pid::this())).unwrap();
        let folder = std::env::temp_dir().join("cluster");
        let builder = with_functions(functions(Postmaster::builder().runtime_dir(folder)));
        assert_eq!(builder.build().unwrap().run().unwrap(), 0);
        then();
    });
    let folder = std::env::temp_dir().join("cluster");
    wait_until("the postmaster listens", PATIENCE, || folder.join("postmaster.pid").exists());
    program
}

/// Fails if the guardian is in the program's group or session.
fn nothing_is_left_of_a_killed_program_that_is_a_postmaster() {
    let mut program = program(|| ());
    let folder = std::env::temp_dir().join("cluster");
    let all = populate(&connect(&folder));
    killpg(program.pid(), Signal::SIGKILL).unwrap();
    program.wait();
    none_is_left(&folder, &all);
}

/// Fails if the lock is held by functions and the postmaster alone.
fn the_folder_is_locked_while_one_command_lives() {
    let cluster = Cluster::new();
    let (_, pid) = cluster.start(&shell("deaf", "trap '' TERM; sleep 1000 &"));
    let child = noted_pid("deaf");
    kill(cluster.launched.pid(), Signal::SIGKILL);
    cluster.launched.wait().unwrap();
    let all = [("the shell".to_owned(), pid), ("its child".to_owned(), child)];
    none_is_left(&cluster.folder, &all);
}

/// Fails if a postmaster that takes over at once is refused because of the guardian alone.
fn a_postmaster_without_workers_leaves_its_folder_at_once() {
    for _ in 0..5 {
        let cluster = Cluster::new();
        stopped(&cluster.backend.register(&simple("quick")).unwrap());
        kill(cluster.launched.pid(), Signal::SIGKILL);
        cluster.launched.wait().unwrap();
    }
}

#[track_caller]
/// Fails if the guardian takes the orderly end for a death, or is left as a zombie.
fn an_orderly_end_leaves_no_guardian() {
    for stop in [false, true] {
        let cluster = Cluster::new();
        let guardian = the_guardian_of(cluster.launched.pid());
        if stop {
            kill(guardian, Signal::SIGSTOP);
        }
        cluster.end();
        assert!(!Path::new(&format!("/proc/{guardian}")).exists(), "reaped, stopped: {stop}");
    }
}

/// Fails if something of the guardian stays in a program that was a postmaster.
fn a_program_is_given_back_without_a_guardian() {
    let mut program = program(|| {
        let me = raw(Pid::this());
        assert!(descendants(me).is_empty() && zombies_of(me).is_empty());
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert!(!maps.contains("/dev/zero"), "no shared memory is left: {maps}");
        for target in descriptors_of(Pid::this()) {
            assert!(!target.contains("pidfd") && !target.contains("lock"), "{target}");
        }
    });
    let folder = std::env::temp_dir().join("cluster");
    let backend = connect(&folder);
    stopped(&backend.register(&simple("quick")).unwrap());
    backend.shutdown(ShutdownMode::Fast).unwrap();
    drop(backend);
    assert_eq!(program.wait().code(), Some(0));
}

/// Fails if the postmaster does not see its guardian die, or if the next one does not know the
/// workers.
fn a_dead_guardian_is_replaced() {
    let cluster = Cluster::with(|builder| with_functions(builder).warm_spares(0));
    let postmaster = cluster.launched.pid();
    let pid = ready(&cluster.backend.register(&simple("masked")).unwrap());
    let before = descriptors_of(postmaster).len();
    let mut guardian = the_guardian_of(postmaster);
    for _ in 0..2 {
        kill(guardian, Signal::SIGKILL);
        let another = || guardian_of(postmaster).filter(|&another| another != guardian);
        wait_until("another guardian is there", PATIENCE, || another().is_some());
        guardian = another().unwrap();
    }
    cluster.backend.ping().unwrap();
    assert_eq!(descriptors_of(postmaster).len(), before);
    assert!(zombies_of(raw(postmaster)).is_empty());
    kill(postmaster, Signal::SIGKILL);
    cluster.launched.wait().unwrap();
    none_is_left(&cluster.folder, &[("masked".to_owned(), pid)]);
}

/// What each descriptor of a process leads to.
fn descriptors_of(pid: Pid) -> Vec<String> {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let targets = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets.map(|path| path.display().to_string()).collect()
}

fn is_pending(pid: Pid, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let set = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).unwrap();
    u64::from_str_radix(set.trim(), 16).unwrap() >> (signal as i32 - 1) & 1 == 1
}

/// Fails if Ctrl-C or a signal to a group reaches it, or if it keeps a terminal, a pipe or a socket
/// open.
fn the_guardian_cannot_be_reached_and_holds_nothing_else() {
    let cluster = Cluster::with(with_functions);
    ready(&cluster.backend.register(&simple("sleep")).unwrap());
    let guardian = the_guardian_of(cluster.launched.pid());
    let session = nix::unistd::getsid(Some(raw(guardian))).unwrap();
    assert_eq!(session, raw(guardian), "a session of its own");
    let lock = cluster.folder.join("postmaster.lock").display().to_string();
    let held = descriptors_of(guardian);
    let count = |what: &dyn Fn(&str) -> bool| held.iter().filter(|held| what(held)).count();
    assert_eq!(count(&|held| held == "/dev/null"), 3, "{held:?}");
    assert_eq!(count(&|held| held == lock), 1, "{held:?}");
    assert_eq!(count(&|held| held.contains("pidfd")), 1, "{held:?}");
    assert_eq!(held.len(), 5, "{held:?}");
    for signal in
        [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGTSTP]
    {
        kill(guardian, signal);
        wait_until("it blocks the signal", PATIENCE, || is_pending(guardian, signal));
    }
    assert_eq!(guardian_of(cluster.launched.pid()), Some(guardian));
    cluster.end();
}

/// Writes down whether it has memory that is shared without a file.
fn looks_for_the_roster(_: &mut Worker) -> Result<(), WorkerError> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    write_note("roster", if maps.contains("/dev/zero") { "has it" } else { "has it not" })?;
    Ok(())
}

/// Fails if a worker could name a stranger in the roster, which the guardian then kills.
fn no_worker_has_the_roster() {
    let cluster = Cluster::with(|builder| builder.function("looks", entry(looks_for_the_roster)));
    let postmaster = cluster.launched.pid();
    let maps = || std::fs::read_to_string(format!("/proc/{postmaster}/maps")).unwrap();
    assert!(maps().contains("/dev/zero"), "the postmaster has it");
    let guardian = the_guardian_of(postmaster);
    for round in 0..2 {
        stopped(&cluster.backend.register(&simple("looks")).unwrap());
        assert_eq!(read_note("roster"), "has it not");
        if round == 0 {
            kill(guardian, Signal::SIGKILL);
            let another = || guardian_of(postmaster).filter(|&another| another != guardian);
            wait_until("another guardian is there", PATIENCE, || another().is_some());
        }
    }
    cluster.end();
}

/// The worker ends with its postmaster, and its number goes to a stranger before the guardian has
/// had the time to look. Fails if the stranger is taken for the worker: it is killed five seconds
/// later.
fn a_reused_pid_is_not_signalled_by_the_guardian() {
    in_pid_namespace(|| {
        mount_own_proc();
        let cluster = Cluster::new();
        let pid = ready(&cluster.backend.register(&simple("sleep")).unwrap());
        let began = Instant::now();
        let postmaster = cluster.launched.pid();
        let guardian = the_guardian_of(postmaster);
        kill(guardian, Signal::SIGSTOP);
        kill(postmaster, Signal::SIGKILL);
        cluster.launched.wait().unwrap();
        // The first process of a namespace gets all orphans. The worker's wait fails, or ends for
        // another reason before its loop looks whether to stop.
        let ended = waitpid(raw(pid), None).unwrap();
        assert!(matches!(ended, WaitStatus::Exited(_, 0 | 1)), "{ended:?}");
        let apart = Duration::from_millis(500);
        wait_until("a later process can be told by its clock", PATIENCE, || {
            began.elapsed() > apart
        });
        choose_next_pid(raw(pid));
        let (mut line, mut theirs) = UnixStream::pair().unwrap();
        let mut stranger = fork_child(move || {
            nix::unistd::setsid().unwrap();
            theirs.write_all(&[1]).unwrap();
            theirs.read_exact(&mut [0]).unwrap();
        });
        line.read_exact(&mut [0]).unwrap();
        assert_eq!(stranger.pid(), raw(pid), "the pid is reused, for a session, too");
        kill(guardian, Signal::SIGCONT);
        assert_eq!(waitpid(raw(guardian), None).unwrap(), WaitStatus::Exited(raw(guardian), 0));
        line.write_all(&[1]).unwrap();
        assert_eq!(stranger.wait().code(), Some(0), "the stranger got no signal");
    });
}

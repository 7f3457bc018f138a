//! The promise: each shutdown mode does what it says, whatever the workers do and however many
//! there are.
//!
//! Would catch: a worker that outlives its postmaster, a milder request that replaces a stricter
//! one, a registration that is lost during a shutdown, a loop that starts workers and ignores its
//! signals.

use crate::support::waiter::{waiting_program, waiting_thread};
use crate::support::{
    Cluster, PATIENCE, alive, connect, functions, kill, note_path, read_note, ready, simple,
    started, stopped, worker, write_note,
};
use bgw_backend::{
    BackgroundWorker, ExitCause, Handle, NotStarted, ShutdownMode, StartTime, Worker, WorkerError,
    WorkerStatus, entry,
};
use bgw_postmaster::Postmaster;
use process_test::{Signal, Test, fork_child, tests, wait_until};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        fast_shutdown_ends_every_worker_and_exits_0 => [B72],
        fast_shutdown_ends_the_workers_of_every_phase => [R27],
        smart_shutdown_waits_for_attached_programs => [B71, R15],
        immediate_shutdown_kills_what_does_not_quit => [B73, R16],
        a_stricter_shutdown_overrides_a_milder_one_and_not_the_reverse => [B74],
        every_mode_ends_idle_busy_and_unstarted_workers => [S10],
        shutdown_releases_the_waiter_of_an_unstarted_worker => [B76, R01],
        a_registration_during_a_shutdown_reads_stopped => [B75],
        thousands_of_registrations_do_not_starve_a_shutdown => [B77, R08],
        a_launched_postmaster_ends_with_its_launcher,
        run_gives_the_program_its_signals_back,
        after_run_the_postmaster_is_gone_and_the_program_is_as_it_was => [D19],
    ]
}

/// Would fail if SIGTERM missed a kind of worker, or if the folder kept the socket.
fn fast_shutdown_ends_every_worker_and_exits_0() {
    let cluster = Cluster::new();
    let mut pids = Vec::new();
    for function in ["sleep", "default", "socket", "busy"] {
        let handle = cluster.backend.register(&simple(function)).unwrap();
        pids.push(ready(&handle));
    }
    cluster.launched.shutdown(ShutdownMode::Fast).unwrap();
    assert_eq!(cluster.launched.wait().unwrap(), ExitCause::Exited(0));
    for pid in pids {
        assert!(!alive(pid));
    }
    assert!(!cluster.folder.join("control.sock").exists());
}

/// Would fail if the shutdown waited for the last phase, or if SIGTERM missed the workers of an
/// earlier one: they end with their own exit codes.
fn fast_shutdown_ends_the_workers_of_every_phase() {
    use StartTime::{ConsistentState, PostmasterStart, RecoveryFinished};
    for reached in [PostmasterStart, ConsistentState, RecoveryFinished] {
        for by_signal in [false, true] {
            let cluster = Cluster::with(|builder| builder.initial_phase(PostmasterStart));
            cluster.backend.advance(reached).unwrap();
            let (mut live, mut unstarted) = (Vec::new(), Vec::new());
            for phase in [PostmasterStart, ConsistentState, RecoveryFinished] {
                for (function, code) in [("sleep", 0), ("default", 1)] {
                    let description = worker(function).start_time(phase).build().unwrap();
                    let handle = cluster.backend.register(&description).unwrap();
                    if phase <= reached {
                        ready(&handle);
                        live.push((handle, code));
                    } else {
                        unstarted.push(handle);
                    }
                }
            }
            if by_signal {
                kill(cluster.launched.pid(), Signal::SIGINT);
            } else {
                cluster.backend.shutdown(ShutdownMode::Fast).unwrap();
            }
            for (handle, code) in &live {
                assert_eq!(stopped(handle).cause, ExitCause::Exited(*code), "{reached:?}");
            }
            for handle in &unstarted {
                let never = ExitCause::NotStarted(NotStarted::ShuttingDown);
                assert_eq!(stopped(handle).cause, never, "{reached:?}");
            }
            ended(cluster);
        }
    }
}

/// Would fail if the late worker were refused, or workers ended before the programs left.
fn smart_shutdown_waits_for_attached_programs() {
    // The end of the last program ends it here, not that of the launcher.
    let cluster = Cluster::with(|builder| builder.stop_with_launcher(false));
    let (first, _) = cluster.start(&simple("sleep"));
    let second_program = connect(&cluster.folder);
    cluster.backend.shutdown(ShutdownMode::Smart).unwrap();
    let late = cluster.backend.register(&simple("sleep")).unwrap();
    started(&late);
    assert!(bgw_backend::Backend::connect(&cluster.folder).is_err(), "nobody new is let in");
    assert!(matches!(first.status(), WorkerStatus::Started(_)));
    drop(second_program);
    cluster.backend.ping().unwrap();
    assert!(matches!(first.status(), WorkerStatus::Started(_)), "one program is still there");
    let Cluster { launched, backend, .. } = cluster;
    drop((first, late, backend));
    assert_eq!(launched.wait().unwrap(), ExitCause::Exited(0));
}

/// A command that ignores every stop signal but SIGKILL, and runs.
fn deaf_command(cluster: &Cluster) -> Handle {
    let note = note_path("deaf").display().to_string();
    let script = format!("trap '' TERM QUIT; : > {note}; sleep 1000; :");
    let worker = BackgroundWorker::builder("deaf").command("/bin/sh", ["-c".to_owned(), script]);
    let handle = cluster.backend.register(&worker.build().unwrap()).unwrap();
    read_note("deaf");
    std::fs::remove_file(note_path("deaf")).unwrap();
    handle
}

/// Would fail without the kill after the grace time, or if SIGQUIT were blocked in workers.
fn immediate_shutdown_kills_what_does_not_quit() {
    let cluster = Cluster::new();
    let (quits, _) = cluster.start(&simple("sleep"));
    ready(&quits);
    let stuck = deaf_command(&cluster);
    cluster.launched.shutdown(ShutdownMode::Immediate).unwrap();
    assert_eq!(stopped(&quits).cause, ExitCause::Exited(2));
    assert_eq!(stopped(&stuck).cause, ExitCause::Signaled { signal: 9, core_dumped: false });
    assert_eq!(cluster.launched.wait().unwrap(), ExitCause::Exited(0));
}

/// Waits for the postmaster's orderly end, and removes its folder for the next one.
#[track_caller]
fn ended(cluster: Cluster) {
    assert_eq!(cluster.launched.wait().unwrap(), ExitCause::Exited(0));
    std::fs::remove_dir_all(cluster.folder).unwrap();
}

/// Would hang if the fast shutdown did not replace the smart one, or if it replaced the immediate
/// one, which kills.
fn a_stricter_shutdown_overrides_a_milder_one_and_not_the_reverse() {
    let cluster = Cluster::new();
    let (handle, _) = cluster.start(&simple("sleep"));
    ready(&handle);
    // The smart shutdown waits for this program, which stays attached.
    cluster.backend.shutdown(ShutdownMode::Smart).unwrap();
    cluster.backend.ping().unwrap();
    assert!(matches!(handle.status(), WorkerStatus::Started(_)));
    cluster.backend.shutdown(ShutdownMode::Fast).unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    ended(cluster);
    // Only the immediate shutdown's SIGKILL, five seconds later, ends a deaf worker.
    let cluster = Cluster::new();
    let stuck = deaf_command(&cluster);
    for mode in [ShutdownMode::Immediate, ShutdownMode::Fast, ShutdownMode::Smart] {
        cluster.backend.shutdown(mode).unwrap();
    }
    assert_eq!(stopped(&stuck).cause, ExitCause::Signaled { signal: 9, core_dumped: false });
    ended(cluster);
}

/// Would hang if a mode missed one of the three workers, or left the unstarted one on its list.
fn every_mode_ends_idle_busy_and_unstarted_workers() {
    for mode in [ShutdownMode::Smart, ShutdownMode::Fast, ShutdownMode::Immediate] {
        let cluster = Cluster::with(|builder| builder.initial_phase(StartTime::ConsistentState));
        let early = |function: &str| {
            worker(function).start_time(StartTime::ConsistentState).build().unwrap()
        };
        let idle = cluster.backend.register(&early("sleep")).unwrap();
        let busy = cluster.backend.register(&early("busy")).unwrap();
        let unstarted = cluster.backend.register(&simple("sleep")).unwrap();
        ready(&idle);
        ready(&busy);
        assert_eq!(unstarted.status(), WorkerStatus::NotYetStarted);
        cluster.launched.shutdown(mode).unwrap();
        let Cluster { launched, backend, folder } = cluster;
        if mode == ShutdownMode::Smart {
            // It waits for this program.
            drop((idle, busy, unstarted, backend));
        } else {
            let cause = |handle: &Handle| stopped(handle).cause;
            let quits = mode == ShutdownMode::Immediate;
            assert_eq!(cause(&idle), ExitCause::Exited(if quits { 2 } else { 0 }), "{mode}");
            assert_eq!(cause(&busy), ExitCause::Exited(if quits { 2 } else { 1 }), "{mode}");
            assert_eq!(cause(&unstarted), ExitCause::NotStarted(NotStarted::ShuttingDown));
        }
        assert_eq!(launched.wait().unwrap(), ExitCause::Exited(0), "{mode}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}

/// Would hang if the shutdown forgot unstarted workers.
fn shutdown_releases_the_waiter_of_an_unstarted_worker() {
    let cluster = Cluster::with(|builder| builder.initial_phase(StartTime::PostmasterStart));
    let handle = cluster.backend.register(&simple("sleep")).unwrap();
    let mut waiter = waiting_program(&cluster.folder, handle.id(), |handle| {
        match handle.wait_for_startup().unwrap() {
            WorkerStatus::Stopped(Some(report)) => {
                assert_eq!(report.cause, ExitCause::NotStarted(NotStarted::ShuttingDown));
            }
            other => panic!("{other:?}"),
        }
    });
    cluster.launched.shutdown(ShutdownMode::Fast).unwrap();
    assert_eq!(waiter.wait().code(), Some(0));
    assert_eq!(cluster.launched.wait().unwrap(), ExitCause::Exited(0));
}

/// Would hang if the registration stayed in its slot, and fail if the worker started.
fn a_registration_during_a_shutdown_reads_stopped() {
    let cluster = Cluster::new();
    let (stubborn, pid) = cluster.start(&simple("stubborn"));
    ready(&stubborn);
    cluster.backend.shutdown(ShutdownMode::Fast).unwrap();
    let late = cluster.backend.register(&simple("sleep")).unwrap();
    assert_eq!(stopped(&late).cause, ExitCause::NotStarted(NotStarted::ShuttingDown));
    assert_eq!(cluster.backend.workers().len(), 1, "it is not registered");
    kill(pid, Signal::SIGKILL);
    ended(cluster);
}

/// Requests a shutdown of its postmaster first thing.
fn shuts_down(_: &mut Worker) -> Result<(), WorkerError> {
    nix::sys::signal::kill(nix::unistd::getppid(), Signal::SIGINT).map_err(std::io::Error::from)?;
    Ok(())
}

/// Stopped and continued, the postmaster finds five thousand registrations at once, and the first
/// worker requests a shutdown. Would fail if all started before the postmaster read its signals
/// again.
fn thousands_of_registrations_do_not_starve_a_shutdown() {
    const COUNT: u32 = 5000;
    let cluster = Cluster::with(|builder| {
        builder.max_workers(COUNT).function("shuts_down", entry(shuts_down))
    });
    kill(cluster.launched.pid(), Signal::SIGSTOP);
    let first = cluster.backend.register(&simple("shuts_down")).unwrap();
    let handles: Vec<Handle> =
        (1..COUNT).map(|_| cluster.backend.register(&simple("sleep")).unwrap()).collect();
    kill(cluster.launched.pid(), Signal::SIGCONT);
    stopped(&first);
    ended(cluster);
    // Read when all is over: 5,000 waits, one after the other, take a loaded machine a minute.
    let mut was_started = 0;
    for handle in &handles {
        match handle.status() {
            WorkerStatus::Stopped(Some(report)) => was_started += u32::from(report.pid.is_some()),
            other => panic!("{other:?}"),
        }
    }
    // How many depends on the machine; all of them would be one batch.
    assert!(was_started < COUNT / 2, "{was_started} started before the shutdown began");
}

/// Would fail if the postmaster missed the end of its launcher, or left its workers behind.
fn a_launched_postmaster_ends_with_its_launcher() {
    let mut launcher = fork_child(|| {
        let cluster = Cluster::new();
        let (handle, pid) = cluster.start(&simple("sleep"));
        ready(&handle);
        write_note("pids", &format!("{} {pid}", cluster.launched.pid())).unwrap();
        std::process::abort();
    });
    let pids = read_note("pids");
    launcher.wait();
    for pid in pids.split(' ') {
        let pid: bgw_backend::Pid = pid.parse().unwrap();
        wait_until(&format!("process {pid} has ended"), PATIENCE, || !alive(pid));
    }
}

/// Would fail if `run` left a handler of the postmaster or its mask behind.
fn run_gives_the_program_its_signals_back() {
    let folder = std::env::temp_dir().join("cluster");
    let path = folder.clone();
    let mut program = fork_child(move || {
        let postmaster = functions(Postmaster::builder().runtime_dir(path)).build().unwrap();
        let sets = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let is_set = |line: &&str| {
                ["SigBlk", "SigIgn", "SigCgt"].iter().any(|set| line.starts_with(set))
            };
            status.lines().filter(is_set).map(str::to_owned).collect::<Vec<_>>()
        };
        let before = sets();
        assert_eq!(postmaster.run().unwrap(), 0);
        assert_eq!(sets(), before);
    });
    wait_until("the postmaster listens", PATIENCE, || folder.join("postmaster.pid").exists());
    connect(&folder).shutdown(ShutdownMode::Fast).unwrap();
    assert_eq!(program.wait().code(), Some(0));
}

/// What of this process a postmaster changes, but for signals.
fn robust_list_limit_and_subreaper() -> (usize, String, bool) {
    let (mut head, mut len) = (0usize, 0usize);
    // SAFETY: the kernel writes a pointer and a size to the two.
    let done = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut len) };
    assert_eq!(done, 0);
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    (head, files.to_owned(), nix::sys::prctl::get_child_subreaper().unwrap())
}

fn open_descriptors() -> Vec<String> {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let mut numbers: Vec<_> =
        open.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

/// Would fail if the cluster took the process, which lives on, for its postmaster; if a signal that
/// was for the postmaster hit the program; or if something of the postmaster's stayed.
fn after_run_the_postmaster_is_gone_and_the_program_is_as_it_was() {
    let folder = std::env::temp_dir().join("cluster");
    let path = folder.clone();
    let mut program = fork_child(move || {
        // A descriptor with a high number: all numbers below it are the program's own, too.
        let high = std::fs::File::open("/dev/null").unwrap();
        nix::fcntl::fcntl(&high, nix::fcntl::FcntlArg::F_DUPFD(200)).unwrap();
        let (soft, hard) = (512, 4096);
        let limit = nix::sys::resource::Resource::RLIMIT_NOFILE;
        nix::sys::resource::setrlimit(limit, soft, hard).unwrap();
        let before = (robust_list_limit_and_subreaper(), open_descriptors());
        let postmaster = functions(Postmaster::builder().runtime_dir(path)).build().unwrap();
        assert_eq!(postmaster.run().unwrap(), 0);
        assert_eq!((robust_list_limit_and_subreaper(), open_descriptors()), before);
        // Whatever was sent to the postmaster would have ended the program by now.
        write_note("returned", "").unwrap();
        read_note("looked");
    });
    wait_until("the postmaster listens", PATIENCE, || folder.join("postmaster.pid").exists());
    let backend = connect(&folder);
    let handle = backend.register(&simple("sleep")).unwrap();
    ready(&handle);
    backend.enable_notifications().unwrap();
    let waiting = backend.clone();
    let waiter = waiting_thread(move || waiting.wait_for_notification(None));
    let pid = program.pid();
    for signal in [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGALRM, Signal::SIGTSTP] {
        nix::sys::signal::kill(pid, signal).unwrap();
    }
    backend.shutdown(ShutdownMode::Fast).unwrap();
    read_note("returned");
    let waited = waiter.join().unwrap();
    assert!(matches!(waited, Ok(false)), "{waited:?}");
    assert!(!backend.postmaster_is_alive(), "the process lives, the postmaster does not");
    assert!(backend.register(&simple("sleep")).is_err());
    write_note("looked", "").unwrap();
    assert_eq!(program.wait().code(), Some(0));
}

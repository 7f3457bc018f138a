//! The promise: when the postmaster is killed, every waiter learns of it and every worker ends. Its
//! folder stays locked until the last worker has ended.
//!
//! Would catch: a wait that does not watch the postmaster, a wake-up that one of several waiters
//! keeps to itself, a worker that lives on, a second postmaster beside the children of the first.

use crate::support::waiter::{waiting_program, waiting_threads};
use crate::support::{
    Cluster, PATIENCE, alive, connect, kill, note_path, read_note, ready, simple, the_guardian_of,
    wait_until_asleep, worker, write_note,
};
use bgw_backend::{
    BackgroundWorker, ExitCause, Handle, Pid, RegisterError, SocketInterest, WaitEvents, Worker,
    WorkerError, WorkerStatus, entry,
};
use bgw_postmaster::{BuildError, Postmaster};
use process_test::{Signal, Test, fork_child, tests, wait_until, wait_until_all_asleep};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        the_death_wakes_the_waiters_of_three_programs => [B19],
        the_death_wakes_every_thread_of_a_program => [B19, X05],
        the_death_wakes_sessions_that_share_a_liveness_word => [B19],
        a_program_that_keeps_every_wake_up_does_not_hide_the_death => [B19],
        every_way_in_which_a_postmaster_ends_is_noticed => [B19, B70],
        a_wait_that_begins_after_the_death_ends_at_once => [B19],
        registering_with_a_dead_postmaster_is_an_error,
        every_kind_of_worker_ends_with_its_postmaster => [B70, R13],
        commands_end_with_their_postmaster => [B70, R13],
        a_worker_that_blocks_every_signal_is_killed => [B70, R13],
        a_wait_that_exits_on_the_death_does_not_return => [B65],
        a_second_postmaster_is_refused_while_the_first_lives => [B79],
        surviving_children_keep_the_folder_locked => [B79],
    ]
}

fn kill_postmaster(cluster: &Cluster) {
    kill(cluster.launched.pid(), Signal::SIGKILL);
}

/// The guardian of a killed postmaster, stopped before: what ends meanwhile it has not ended.
struct Idle(Pid);

impl Idle {
    fn kill_postmaster(cluster: &Cluster) -> Self {
        let postmaster = cluster.launched.pid();
        let guardian = the_guardian_of(postmaster);
        kill(guardian, Signal::SIGSTOP);
        let stat = || std::fs::read_to_string(format!("/proc/{guardian}/stat")).unwrap();
        wait_until("it is stopped", PATIENCE, || stat().contains(") T "));
        kill_postmaster(cluster);
        Self(guardian)
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGCONT);
        wait_for_the_end_of(self.0, "the guardian");
    }
}

fn learns_of_the_death(handle: &Handle) {
    let status = handle.wait_for_shutdown_timeout(PATIENCE).unwrap();
    assert_eq!(status, WorkerStatus::PostmasterDied);
}

#[track_caller]
fn wait_for_the_end_of(pid: Pid, what: &str) {
    wait_until(&format!("{what} has ended"), PATIENCE, || !alive(pid));
}

/// Would hang if the wait did not watch the postmaster, or if the death woke one waiter only.
fn the_death_wakes_the_waiters_of_three_programs() {
    let cluster = Cluster::new();
    let (handle, pid) = cluster.start(&simple("sleep"));
    let mut programs =
        [(); 3].map(|()| waiting_program(&cluster.folder, handle.id(), learns_of_the_death));
    kill_postmaster(&cluster);
    for program in &mut programs {
        assert_eq!(program.wait().code(), Some(0));
    }
    wait_for_the_end_of(pid, "the worker");
    cluster.launched.wait().unwrap();
}

/// Kills the postmaster while its guardian, which would wake all waiters, is stopped.
fn kill_postmaster_alone(cluster: &Cluster) -> Pid {
    let postmaster = cluster.launched.pid();
    let guardian = the_guardian_of(postmaster);
    kill(guardian, Signal::SIGSTOP);
    wait_until("the guardian is stopped", PATIENCE, || {
        let stat = std::fs::read_to_string(format!("/proc/{guardian}/stat")).unwrap();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    });
    kill_postmaster(cluster);
    guardian
}

/// All waits of a session sleep on one liveness word, and the kernel wakes one of them. Would time
/// out if that one did not wake the others.
fn the_death_wakes_every_thread_of_a_program() {
    let cluster = Cluster::new();
    let (handle, _) = cluster.start(&simple("sleep"));
    let mut program = waiting_threads(&cluster.folder, handle.id(), 6, learns_of_the_death);
    let guardian = kill_postmaster_alone(&cluster);
    assert_eq!(program.wait().code(), Some(0));
    cluster.launched.wait().unwrap();
    kill(guardian, Signal::SIGCONT);
}

/// There are 511 words for sessions: session n + 511 shares that of session n. Would time out if
/// the one that the kernel wakes did not wake the other.
fn the_death_wakes_sessions_that_share_a_liveness_word() {
    let cluster = Cluster::new();
    let (handle, _) = cluster.start(&simple("sleep"));
    let waiter = || waiting_program(&cluster.folder, handle.id(), learns_of_the_death);
    let mut programs = vec![waiter()];
    for _ in 0..510 {
        drop(connect(&cluster.folder));
    }
    programs.extend([waiter(), waiter()]);
    let guardian = kill_postmaster_alone(&cluster);
    for program in &mut programs {
        assert_eq!(program.wait().code(), Some(0));
    }
    cluster.launched.wait().unwrap();
    kill(guardian, Signal::SIGCONT);
}

/// The words of the shared region that hold the postmaster's thread id: where the kernel marks its
/// death.
fn liveness_words(postmaster: Pid) -> Vec<*const AtomicU32> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    // The ring of events is mapped, too, and read-only.
    let region =
        maps.lines().find(|line| line.contains("/memfd:") && line.contains("rw-s")).unwrap();
    let (first, rest) = region.split_once('-').unwrap();
    let end = rest.split_once(' ').unwrap().0;
    let [first, end] = [first, end].map(|text| usize::from_str_radix(text, 16).unwrap());
    let words = (first..end).step_by(size_of::<u32>()).map(|at| at as *const AtomicU32);
    // SAFETY: the mapping has these words, and it stays for the life of the process.
    let holds = |word: &*const AtomicU32| unsafe { &**word }.load(Ordering::Relaxed);
    words.filter(|word| holds(word) & libc::FUTEX_TID_MASK == postmaster.get()).collect()
}

/// Sleeps on the word, and keeps the wake-up to itself.
fn steal_a_wake_up(word: usize) {
    let word = word as *const AtomicU32;
    // SAFETY: a word of `liveness_words`.
    let held = unsafe { &*word }.load(Ordering::Relaxed);
    // SAFETY: the kernel reads the word, and there is no timeout.
    unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAIT, held, 0, 0, 0) };
    loop {
        std::thread::park();
    }
}

/// Who waits first on a word gets its only wake-up from the kernel. Would time out if nobody but
/// those who wait passed the news on.
fn a_program_that_keeps_every_wake_up_does_not_hide_the_death() {
    let cluster = Cluster::new();
    // It does not wait for the death, so it tells nobody.
    let handle = cluster.backend.register(&simple("deaf")).unwrap();
    let worker = ready(&handle);
    let (folder, postmaster) = (cluster.folder.clone(), cluster.launched.pid());
    let thief = fork_child(move || {
        let _attached = connect(&folder);
        let words = liveness_words(postmaster).into_iter().map(|word| word as usize);
        let words: Vec<usize> = words.collect();
        write_note("words", &words.len().to_string()).unwrap();
        std::thread::scope(|scope| {
            for word in words {
                // Each word has its own thread: one that sleeps on many leaves all with the first.
                scope.spawn(move || steal_a_wake_up(word));
            }
        });
    });
    let words: usize = read_note("words").parse().unwrap();
    assert!(words > 500, "{words}");
    wait_until_all_asleep(thief.pid(), words + 1);
    let mut victim = waiting_program(&cluster.folder, handle.id(), learns_of_the_death);
    kill_postmaster(&cluster);
    assert_eq!(victim.wait().code(), Some(0));
    drop(thief);
    wait_for_the_end_of(worker, "the worker");
    cluster.launched.wait().unwrap();
}

/// Ends the postmaster from inside, once a note says so: its log is code of the program.
struct Ends {
    test: u32,
    how: fn(),
}

impl<S: tracing::Subscriber> Layer<S> for Ends {
    fn on_event(&self, _: &tracing::Event<'_>, _: Context<'_, S>) {
        if std::process::id() != self.test && note_path("now").exists() {
            (self.how)();
        }
    }
}

/// Would time out if only SIGKILL marked the liveness words, or if a postmaster that fails lived
/// on.
fn every_way_in_which_a_postmaster_ends_is_noticed() {
    type End = fn();
    let ways: [(&str, End); 5] = [
        ("exit", || std::process::exit(3)),
        ("abort", || std::process::abort()),
        ("panic", || panic!("on purpose")),
        ("SIGSEGV", || nix::sys::signal::raise(Signal::SIGSEGV).unwrap()),
        ("SIGKILL", || nix::sys::signal::raise(Signal::SIGKILL).unwrap()),
    ];
    for (way, how) in ways {
        let mut program = fork_child(move || {
            let ends = Ends { test: std::process::id(), how };
            tracing_subscriber::registry().with(ends).init();
            let cluster = Cluster::new();
            let (handle, pid) = cluster.start(&simple("sleep"));
            let mut waiters = waiting_threads(&cluster.folder, handle.id(), 3, learns_of_the_death);
            write_note("now", "").unwrap();
            // The postmaster logs it.
            let _ = cluster.backend.register(&simple("quick"));
            assert_eq!(waiters.wait().code(), Some(0));
            wait_for_the_end_of(pid, "the worker");
            assert_ne!(cluster.launched.wait().unwrap(), ExitCause::Exited(0));
            std::fs::remove_dir_all(&cluster.folder).unwrap();
            std::fs::remove_file(note_path("now")).unwrap();
        });
        assert_eq!(program.wait().code(), Some(0), "{way}");
    }
}

/// Would hang if a wait relied on the wake-up only, and fail if the death hid what the slot says.
fn a_wait_that_begins_after_the_death_ends_at_once() {
    let cluster = Cluster::new();
    let (handle, pid) = cluster.start(&simple("sleep"));
    kill_postmaster(&cluster);
    cluster.launched.wait().unwrap();
    assert_eq!(handle.wait_for_shutdown().unwrap(), WorkerStatus::PostmasterDied);
    assert_eq!(handle.wait_for_startup().unwrap(), WorkerStatus::Started(pid), "the slot answers");
    assert!(!cluster.backend.postmaster_is_alive());
    wait_for_the_end_of(pid, "the worker");
}

/// Would fail if a registration claimed a slot that nobody will ever look at.
fn registering_with_a_dead_postmaster_is_an_error() {
    let cluster = Cluster::new();
    kill_postmaster(&cluster);
    cluster.launched.wait().unwrap();
    let refused = cluster.backend.register(&simple("sleep")).unwrap_err();
    assert!(matches!(refused, RegisterError::PostmasterDied { .. }), "{refused}");
}

/// Would time out if one of these waits or loops missed the death. The guardian, which ends them
/// after a while, does not work here, nor in the next two tests.
fn every_kind_of_worker_ends_with_its_postmaster() {
    let cluster = Cluster::new();
    let mut workers = Vec::new();
    for function in ["sleep", "socket", "default", "stubborn", "busy"] {
        let handle = cluster.backend.register(&simple(function)).unwrap();
        let pid = ready(&handle);
        if function != "busy" {
            wait_until_asleep(pid);
        }
        workers.push((function, pid));
    }
    let _idle = Idle::kill_postmaster(&cluster);
    for (function, pid) in workers {
        wait_for_the_end_of(pid, function);
    }
    cluster.launched.wait().unwrap();
}

/// Would fail if a command lost its parent-death signal on the way through `execve`, however it was
/// started.
fn commands_end_with_their_postmaster() {
    let cluster = Cluster::new();
    let mut pids = Vec::new();
    for (program, arguments) in [("sleep", ["1000"].as_slice()), ("tail", &["-f", "/dev/null"])] {
        let command =
            BackgroundWorker::builder(program).command(program, arguments.iter().copied());
        let (_, pid) = cluster.start(&command.build().unwrap());
        let name = || std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
        wait_until("it has become the program", PATIENCE, || name().trim_end() == program);
        pids.push((program, pid));
    }
    let _idle = Idle::kill_postmaster(&cluster);
    for (program, pid) in pids {
        wait_for_the_end_of(pid, program);
    }
    cluster.launched.wait().unwrap();
}

/// Would hang without the timer by which the kernel kills it.
fn a_worker_that_blocks_every_signal_is_killed() {
    let cluster = Cluster::new();
    let handle = cluster.backend.register(&simple("deaf")).unwrap();
    let pid = ready(&handle);
    let _idle = Idle::kill_postmaster(&cluster);
    wait_for_the_end_of(pid, "the worker");
    cluster.launched.wait().unwrap();
}

/// Notes when its wait returns after the postmaster's death.
fn exits_in_its_wait(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.unblock_signals()?;
    let (ours, _theirs) = UnixStream::pair()?;
    worker.ready();
    let by_futex = worker.main_arg() == 0;
    loop {
        let events = WaitEvents::LATCH_SET | WaitEvents::EXIT_ON_POSTMASTER_DEATH;
        let mut sockets = [SocketInterest::readable(ours.as_fd())];
        let sockets = if by_futex { &mut sockets[..0] } else { &mut sockets[..] };
        let _ = worker.wait(events, sockets, None);
        if worker.should_stop() {
            write_note("returned", "")?;
        }
    }
}

/// Would fail if the wait returned, as the one for `POSTMASTER_DEATH` does.
fn a_wait_that_exits_on_the_death_does_not_return() {
    let cluster = Cluster::with(|builder| builder.function("exits", entry(exits_in_its_wait)));
    let pids = [0, 1].map(|way| {
        let description = worker("exits").main_arg(way).build().unwrap();
        ready(&cluster.backend.register(&description).unwrap())
    });
    pids.into_iter().for_each(wait_until_asleep);
    kill_postmaster(&cluster);
    cluster.launched.wait().unwrap();
    for pid in pids {
        wait_for_the_end_of(pid, "the worker");
    }
    assert!(!note_path("returned").exists());
}

fn second_postmaster(cluster: &Cluster) -> Result<Postmaster, BuildError> {
    Postmaster::builder().runtime_dir(&cluster.folder).build()
}

/// Would fail if nothing locked the folder, or if it stayed locked after an orderly end.
fn a_second_postmaster_is_refused_while_the_first_lives() {
    let cluster = Cluster::new();
    let (handle, _) = cluster.start(&simple("sleep"));
    ready(&handle);
    let refused = second_postmaster(&cluster).unwrap_err();
    assert!(matches!(refused, BuildError::InUse { .. }), "{refused}");
    let folder = cluster.folder.clone();
    cluster.end();
    Postmaster::builder().runtime_dir(folder).build().unwrap();
}

/// Would fail if the lock belonged to the postmaster only.
fn surviving_children_keep_the_folder_locked() {
    let cluster = Cluster::new();
    // It does not act on its postmaster's death.
    let (handle, pid) = cluster.start(&simple("deaf"));
    ready(&handle);
    kill_postmaster(&cluster);
    cluster.launched.wait().unwrap();
    let refused = second_postmaster(&cluster).unwrap_err();
    assert!(matches!(refused, BuildError::InUse { .. }), "{refused}");
    kill(pid, Signal::SIGKILL);
    wait_for_the_end_of(pid, "the worker");
    second_postmaster(&cluster).unwrap();
}

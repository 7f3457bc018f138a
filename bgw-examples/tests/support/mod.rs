//! A cluster for a test: a launched postmaster, a backend, and workers of every kind.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

pub mod database;
#[cfg(feature = "fault")]
pub mod fault;
pub mod reuse;
pub mod runtime;
pub mod template;
pub mod waiter;

use bgw_backend::{
    Backend, BackgroundWorker, BackgroundWorkerBuilder, EventKind, Events, ExitReport, Handle, Pid,
    RestartPolicy, ShutdownMode, WaitEvents, Worker, WorkerError, WorkerFlags, WorkerStatus, entry,
};
use bgw_postmaster::{Launched, Postmaster, PostmasterBuilder};
use process_test::{Signal, wait_until};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Cluster {
    pub launched: Launched,
    pub backend: Backend,
    pub folder: PathBuf,
}

impl Cluster {
    /// A postmaster with all functions of this file, configured by `configure`.
    pub fn with(configure: impl FnOnce(PostmasterBuilder) -> PostmasterBuilder) -> Self {
        Self::with_static(configure, Vec::new())
    }

    pub fn new() -> Self {
        Self::with(|builder| builder.max_workers(64))
    }

    pub fn with_static(
        configure: impl FnOnce(PostmasterBuilder) -> PostmasterBuilder,
        workers: Vec<BackgroundWorker>,
    ) -> Self {
        let folder = std::env::temp_dir().join("cluster");
        let mut postmaster =
            configure(functions(Postmaster::builder().runtime_dir(&folder))).build().unwrap();
        for worker in workers {
            postmaster.register(worker).unwrap();
        }
        let mut launched = postmaster.launch().unwrap();
        let backend = Backend::over(launched.take_control().unwrap()).unwrap();
        Self { launched, backend, folder }
    }

    /// Registers a worker and waits for its start.
    pub fn start(&self, worker: &BackgroundWorker) -> (Handle, Pid) {
        let handle = self.backend.register(worker).unwrap();
        let pid = started(&handle);
        (handle, pid)
    }

    /// Shuts down fast, and checks that the postmaster exits with 0.
    pub fn end(self) {
        self.launched.shutdown(ShutdownMode::Fast).unwrap();
        assert_eq!(self.launched.wait().unwrap(), bgw_backend::ExitCause::Exited(0));
    }
}

/// A description of a worker that runs `function`.
pub fn worker(function: &str) -> BackgroundWorkerBuilder {
    BackgroundWorker::builder(function).function(function)
}

pub fn simple(function: &str) -> BackgroundWorker {
    worker(function).build().unwrap()
}

pub fn restarting(function: &str, after: Duration) -> BackgroundWorker {
    worker(function).restart(RestartPolicy::Fixed(after)).build().unwrap()
}

pub fn shared(function: &str, restart: RestartPolicy) -> BackgroundWorker {
    worker(function).flags(WorkerFlags::SHMEM_ACCESS).restart(restart).build().unwrap()
}

/// Waits for the start; the worker must run then.
#[track_caller]
pub fn started(handle: &Handle) -> Pid {
    match handle.wait_for_startup_timeout(PATIENCE).unwrap() {
        WorkerStatus::Started(pid) => pid,
        other => panic!("worker {handle} should run, and is: {other}"),
    }
}

/// Waits for readiness; the worker must run then.
#[track_caller]
pub fn ready(handle: &Handle) -> Pid {
    match handle.wait_for_ready_timeout(PATIENCE).unwrap() {
        WorkerStatus::Started(pid) => pid,
        other => panic!("worker {handle} should be ready, and is: {other}"),
    }
}

/// Whether `events` tell of a crash reset that is over.
pub fn is_reset(events: &mut Events) -> bool {
    let mut all = std::iter::from_fn(|| events.try_next().unwrap());
    all.any(|event| event.kind == EventKind::Reset)
}

/// Waits until a crash reset is over: what is registered from then on runs.
#[track_caller]
pub fn wait_for_reset(events: &mut Events) {
    wait_until("the cluster is reset", PATIENCE, || is_reset(events));
}

/// Waits for the end; there must be a report.
#[track_caller]
pub fn stopped(handle: &Handle) -> ExitReport {
    match handle.wait_for_shutdown_timeout(PATIENCE).unwrap() {
        WorkerStatus::Stopped(Some(report)) => report,
        other => panic!("worker {handle} should have ended, and is: {other:?}"),
    }
}

/// Waits until the registration is over; there must be a report. A restarting worker stops before
/// that, too: see [`stopped`].
#[track_caller]
pub fn the_end(handle: &Handle) -> ExitReport {
    match handle.wait_for_end_timeout(PATIENCE).unwrap() {
        WorkerStatus::Stopped(Some(report)) => report,
        other => panic!("worker {handle} should have ended for good, and is: {other:?}"),
    }
}

pub fn raw(pid: Pid) -> process_test::Pid {
    process_test::Pid::from_raw(pid.as_raw())
}

/// Waits until the process has this state, by the letter that the kernel shows.
#[track_caller]
pub fn wait_for_state(pid: Pid, state: char, why: &str) {
    wait_until(&format!("process {pid} has state {state}: {why}"), PATIENCE, || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(state))
    });
}

pub fn kill(pid: Pid, signal: Signal) {
    nix::sys::signal::kill(raw(pid), signal).unwrap();
}

pub fn alive(pid: Pid) -> bool {
    process_test::alive(raw(pid))
}

/// Waits until the process sleeps in a wait.
#[track_caller]
pub fn wait_until_asleep(pid: Pid) {
    process_test::wait_until_asleep(raw(pid));
}

/// The guardian of a postmaster, by its title; `None` while there is none.
pub fn guardian_of(postmaster: Pid) -> Option<Pid> {
    children(postmaster).into_iter().find(|&pid| title(pid).starts_with("bgw guardian"))
}

/// The guardian of a postmaster, once it has its title.
pub fn the_guardian_of(postmaster: Pid) -> Pid {
    wait_until("there is a guardian", PATIENCE, || guardian_of(postmaster).is_some());
    guardian_of(postmaster).unwrap()
}

/// All processes of a postmaster.
pub fn children(postmaster: Pid) -> Vec<Pid> {
    let all = process_test::descendants(raw(postmaster)).into_iter();
    all.map(|pid| Pid::new(pid.as_raw().unsigned_abs()).unwrap()).collect()
}

/// The clock that all processes share, in nanoseconds.
pub fn monotonic_nanos() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    u64::try_from(now.tv_sec()).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap()
}

/// What the process table shows as the command line of a process.
pub fn title(pid: Pid) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).trim_end_matches('\0').to_owned()
}

/// The spares that sleep until they get a worker.
pub fn spares(cluster: &Cluster) -> Vec<Pid> {
    let mut pids = children(cluster.launched.pid());
    pids.retain(|&pid| title(pid) == "bgworker: spare" && process_test::asleep(raw(pid)));
    pids
}

#[track_caller]
pub fn wait_for_spares(cluster: &Cluster, count: usize) {
    wait_until("the spares are asleep", PATIENCE, || spares(cluster).len() == count);
}

/// A file that a worker writes to tell the test something; complete when it exists.
pub fn note_path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("note-{name}"))
}

pub fn write_note(name: &str, text: &str) -> std::io::Result<()> {
    let path = note_path(name);
    // Two workers may write the same note at once.
    let part = path.with_extension(format!("part-{}", std::process::id()));
    std::fs::write(&part, text)?;
    std::fs::rename(part, path)
}

#[track_caller]
pub fn read_note(name: &str) -> String {
    let path = note_path(name);
    wait_until(&format!("note {name} is written"), PATIENCE, || path.exists());
    std::fs::read_to_string(path).unwrap()
}

/// The log of the postmaster and of its workers. Start it before the cluster.
pub struct Log(PathBuf);

impl Log {
    pub fn start() -> Self {
        let path = std::env::temp_dir().join("log");
        let file = std::fs::OpenOptions::new().create_new(true).append(true).open(&path).unwrap();
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(std::sync::Mutex::new(file))
            .init();
        Self(path)
    }

    pub fn text(&self) -> String {
        std::fs::read_to_string(&self.0).unwrap()
    }

    /// How many lines hold `part`.
    pub fn count(&self, part: &str) -> usize {
        self.text().lines().filter(|line| line.contains(part)).count()
    }

    #[track_caller]
    pub fn wait_for(&self, part: &str) {
        let what = format!("\"{part}\" is logged");
        wait_until(&what, PATIENCE, || self.text().contains(part));
    }
}

type Done = Result<(), WorkerError>;

/// Names all functions to a postmaster, and lets backends register everything else.
pub fn functions(builder: PostmasterBuilder) -> PostmasterBuilder {
    builder
        .allow_commands(true)
        .allow_libraries(true)
        .function("quick", |_| Ok(()))
        .function("fail", |_| Err("this worker fails on purpose".into()))
        .function("panic", |_| panic!("this worker panics on purpose"))
        .function("brief", entry(brief))
        .function("sleep", entry(sleep))
        .function("reloads", entry(reloads))
        .function("default", entry(default_signals))
        .function("stubborn", entry(stubborn))
        .function("exit", entry(|worker| exit_with(worker)))
        .function("socket", entry(wait_on_socket))
        .function("busy", entry(busy_with_checks))
        .function("deaf", entry(deaf))
        .function("describe", entry(describe))
        .function("nested", entry(nested))
}

/// Unblocks its signals, is ready, and returns.
fn brief(worker: &mut Worker) -> Done {
    worker.unblock_signals()?;
    worker.ready();
    Ok(())
}

/// Sleeps on its latch until SIGTERM, and exits with 0.
fn sleep(worker: &mut Worker) -> Done {
    worker.handle_terminate();
    worker.unblock_signals()?;
    worker.ready();
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    Ok(())
}

/// The same, and notes under its argument that it was told to reload: "reload-7".
fn reloads(worker: &mut Worker) -> Done {
    worker.handle_terminate();
    worker.handle_reload()?;
    worker.unblock_signals()?;
    worker.ready();
    while !worker.should_stop() {
        if worker.reload_requested() {
            write_note(&format!("reload-{}", worker.main_arg()), "")?;
        }
        worker.sleep(None)?;
    }
    Ok(())
}

/// Does not handle SIGTERM, which ends it with exit code 1.
fn default_signals(worker: &mut Worker) -> Done {
    worker.unblock_signals()?;
    worker.ready();
    loop {
        worker.sleep(None)?;
    }
}

/// Ignores SIGTERM.
fn stubborn(worker: &mut Worker) -> Done {
    worker.handle_terminate();
    worker.unblock_signals()?;
    worker.ready();
    loop {
        worker.sleep(None)?;
    }
}

/// Exits without a return to the library.
fn exit_with(worker: &Worker) -> Done {
    worker.ready();
    std::process::exit(i32::try_from(worker.main_arg()).unwrap_or(99))
}

fn wait_on_socket(worker: &mut Worker) -> Done {
    worker.handle_terminate();
    worker.unblock_signals()?;
    let (ours, _theirs) = std::os::unix::net::UnixStream::pair()?;
    worker.ready();
    let events =
        WaitEvents::SOCKET_READABLE | WaitEvents::LATCH_SET | WaitEvents::EXIT_ON_POSTMASTER_DEATH;
    while !worker.should_stop() {
        let interest = bgw_backend::SocketInterest::readable(std::os::fd::AsFd::as_fd(&ours));
        worker.wait(events, &mut [interest], None)?;
    }
    Ok(())
}

/// Computes, and checks for interrupts.
fn busy_with_checks(worker: &mut Worker) -> Done {
    worker.unblock_signals()?;
    worker.ready();
    loop {
        worker.check_interrupts()?;
        std::hint::spin_loop();
    }
}

/// Blocks every signal and checks nothing: only the kernel can end it.
fn deaf(worker: &mut Worker) -> Done {
    worker.ready();
    loop {
        std::thread::park_timeout(Duration::from_secs(3600));
    }
}

/// Notes what it knows of itself.
fn describe(worker: &mut Worker) -> Done {
    let text = format!(
        "{}|{}|{}|{:?}|{}",
        worker.name(),
        worker.worker_type(),
        worker.main_arg(),
        worker.extra().to_vec(),
        worker.handle(),
    );
    write_note("describe", &text)?;
    Ok(())
}

/// A worker that registers another one and waits for it.
fn nested(worker: &mut Worker) -> Done {
    worker.handle_terminate();
    worker.unblock_signals()?;
    let inner = BackgroundWorker::builder("inner").function("quick").build();
    let inner = inner.map_err(|error| error.to_string())?;
    let handle = worker.backend().register(&inner)?;
    let status = handle.wait_for_shutdown()?;
    write_note("nested", &format!("{status:?}"))?;
    Ok(())
}

/// Attaches by path, as another program would.
pub fn connect(folder: &Path) -> Backend {
    Backend::connect(folder).unwrap()
}

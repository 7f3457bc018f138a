//! A cluster with a fault in it: the points by where they lie, and processes that wait beside it.

use super::{
    Cluster, PATIENCE, connect, raw, read_note, simple, started, stopped, worker, write_note,
};
use bgw_backend::{
    BackgroundWorker, BackgroundWorkerBuilder, Handle, Pid, RegisterError, RestartPolicy,
    WorkerHandle, WorkerStatus,
};
use bgw_postmaster::PostmasterBuilder;
use process_test::{Child, fork_child, wait_until};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The number of slots of a cluster with faults.
pub const CAPACITY: u32 = 4;

/// All points that a worker passes that is forked and gives nothing back.
pub fn in_workers() -> Vec<&'static str> {
    let all = bgw_postmaster::fault::POINTS.iter().chain(bgw_backend::fault::POINTS).copied();
    all.filter(|point| lies_in_worker(point) && !lies_in_spare(point) && !lies_in_rest(point))
        .filter(|point| !gives_back(point) && !lies_in_template(point))
        .collect()
}

/// All points of a template, and of what it has forked before that has a worker.
pub fn in_templates() -> Vec<&'static str> {
    let all = bgw_postmaster::fault::POINTS.iter().copied();
    all.filter(|point| lies_in_template(point)).collect()
}

fn lies_in_template(point: &str) -> bool {
    point.starts_with("template:") || point.starts_with("sleeper:")
}

/// The points of a worker that gives something back, in the order in which it passes them.
pub fn giving_back() -> Vec<&'static str> {
    let all = bgw_backend::fault::POINTS.iter().chain(bgw_postmaster::fault::POINTS);
    all.copied().filter(|point| gives_back(point)).collect()
}

fn gives_back(point: &str) -> bool {
    point.starts_with("words:") || point.starts_with("result:")
}

/// All points of a spare that becomes a worker.
pub fn in_spares() -> Vec<&'static str> {
    let all = bgw_postmaster::fault::POINTS.iter().copied();
    all.filter(|point| lies_in_spare(point)).collect()
}

/// All points of a worker that becomes a spare again.
pub fn in_rest() -> Vec<&'static str> {
    let all = bgw_postmaster::fault::POINTS.iter().copied();
    all.filter(|point| lies_in_rest(point)).collect()
}

fn lies_in_spare(point: &str) -> bool {
    point.starts_with("waking:")
}

fn lies_in_rest(point: &str) -> bool {
    point.starts_with("rest:")
}

/// All points of the postmaster whose names begin with one of `prefixes`.
pub fn in_postmaster(prefixes: &[&str]) -> Vec<&'static str> {
    let all = bgw_postmaster::fault::POINTS.iter().copied();
    let found: Vec<_> = all
        .filter(|point| !lies_in_worker(point))
        .filter(|point| prefixes.iter().any(|prefix| point.starts_with(prefix)))
        .collect();
    assert!(!found.is_empty(), "no point begins with {prefixes:?}");
    found
}

pub fn lies_in_worker(point: &str) -> bool {
    ["child:", "worker:", "waking:", "rest:", "words:", "result:", "template:", "sleeper:"]
        .iter()
        .any(|prefix| point.starts_with(prefix))
}

/// The points of a forked worker whose step can fail.
pub fn fallible_in_workers() -> Vec<&'static str> {
    let all = bgw_postmaster::fault::FALLIBLE.iter().chain(bgw_backend::fault::FALLIBLE);
    all.copied()
        .filter(|point| lies_in_worker(point) && !lies_in_spare(point) && !lies_in_rest(point))
        .filter(|point| !lies_in_template(point))
        .collect()
}

/// A cluster whose postmaster and workers meet `faults`; later clusters do not.
pub fn cluster(faults: &str) -> Cluster {
    cluster_with(faults, |builder| builder)
}

pub fn cluster_with(
    faults: &str,
    configure: impl FnOnce(PostmasterBuilder) -> PostmasterBuilder,
) -> Cluster {
    arm(faults);
    let cluster = Cluster::with(|builder| configure(builder.max_workers(CAPACITY)));
    arm("");
    cluster
}

/// Sets the faults of the postmasters that are launched from here on.
pub fn arm(faults: &str) {
    // SAFETY: a test's process has one thread.
    unsafe { std::env::set_var("BGW_FAULT", faults) };
}

/// A worker that passes `point`: one that ends after all steps, or a command.
pub fn passing(point: &str) -> BackgroundWorkerBuilder {
    match point {
        "child:before_exec" => BackgroundWorker::builder("brief").command("true", [""; 0]),
        _ => worker("brief"),
    }
}

/// Another program of the cluster, which waits for a worker's start and then for its end.
pub struct Waiter {
    child: Child,
    name: String,
}

impl Waiter {
    /// Attaches a program that waits for nothing yet.
    pub fn attach(folder: &Path, name: &str) -> Self {
        let folder: PathBuf = folder.to_owned();
        let own = name.to_owned();
        for note in ["attached", "go", "starts", "ends", "answer"] {
            let _ = std::fs::remove_file(super::note_path(&format!("{own}-{note}")));
        }
        let child = fork_child(move || {
            let note = |what: &str, text: &str| write_note(&format!("{own}-{what}"), text).unwrap();
            let backend = connect(&folder);
            note("attached", "");
            let id: WorkerHandle = read_note(&format!("{own}-go")).parse().unwrap();
            let handle = backend.handle(id);
            note("starts", "");
            let start = handle.wait_for_startup().unwrap();
            note("ends", "");
            let end = handle.wait_for_shutdown().unwrap();
            if end == WorkerStatus::PostmasterDied {
                assert!(!backend.postmaster_is_alive());
            }
            note("answer", &format!("{}|{}", kind(&start), kind(&end)));
        });
        read_note(&format!("{name}-attached"));
        Self { child, name: name.to_owned() }
    }

    /// Makes it wait for the start of this worker, and returns when it sleeps in that wait.
    pub fn wait_for(&self, handle: &Handle) {
        write_note(&format!("{}-go", self.name), &handle.id().to_string()).unwrap();
        read_note(&format!("{}-starts", self.name));
        self.sleeps();
    }

    /// Returns when it sleeps in the wait for the worker's end.
    pub fn waits_for_the_end(&self) {
        read_note(&format!("{}-ends", self.name));
        self.sleeps();
    }

    fn sleeps(&self) {
        process_test::wait_until_asleep(self.child.pid());
    }

    /// What its waits for the start and for the end returned: `started`, `stopped` or
    /// `postmaster died`.
    #[track_caller]
    pub fn answers(mut self, point: &str) -> (String, String) {
        wait_until(&format!("{point}: {} has its answers", self.name), PATIENCE, || {
            self.child.try_wait().is_some()
        });
        assert_eq!(self.child.wait().code(), Some(0), "{point}");
        let text = read_note(&format!("{}-answer", self.name));
        let (start, end) = text.split_once('|').unwrap();
        (start.to_owned(), end.to_owned())
    }
}

fn kind(status: &WorkerStatus) -> &'static str {
    match status {
        WorkerStatus::Started(_) => "started",
        WorkerStatus::Stopped(_) => "stopped",
        WorkerStatus::PostmasterDied => "postmaster died",
        WorkerStatus::NotYetStarted => "not yet started",
    }
}

pub fn descriptors(pid: Pid) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Checks that nothing has leaked: the postmaster has as many descriptors as `before` and no
/// zombie, and every slot takes a worker.
#[track_caller]
pub fn nothing_leaked(cluster: &Cluster, before: usize, point: &str) {
    let postmaster = cluster.launched.pid();
    wait_until(&format!("{point}: the postmaster has closed what it opened"), PATIENCE, || {
        descriptors(postmaster) == before
    });
    assert!(process_test::zombies_of(raw(postmaster)).is_empty(), "{point}");
    assert!(cluster.backend.workers().is_empty(), "{point}: {:?}", cluster.backend.workers());
    let register = || cluster.backend.register(&simple("sleep"));
    let all: Vec<_> = (0..CAPACITY)
        .map(|_| register().unwrap_or_else(|error| panic!("{point}: a slot is lost: {error}")))
        .collect();
    assert!(matches!(register(), Err(RegisterError::NoFreeSlot { .. })));
    for handle in &all {
        started(handle);
        handle.terminate().unwrap();
    }
    for handle in &all {
        stopped(handle);
    }
}

/// Checks, after a postmaster's death, that its folder is free once its last worker has ended, and
/// that a new postmaster serves there.
#[track_caller]
pub fn a_new_postmaster_takes_over(point: &str) {
    let folder = std::env::temp_dir().join("cluster");
    wait_until(&format!("{point}: all workers have ended"), PATIENCE, || {
        bgw_postmaster::Postmaster::builder().runtime_dir(&folder).build().is_ok()
    });
    let cluster = Cluster::new();
    stopped(&cluster.backend.register(&simple("quick")).unwrap());
    cluster.end();
}

/// Waits until a worker that may restart is unregistered, and returns its last report.
#[track_caller]
pub fn unregistered(handle: &Handle, point: &str) -> bgw_backend::ExitReport {
    let last = || handle.exit_report().filter(|report| report.unregistered);
    wait_until(&format!("{point}: {handle} is unregistered"), PATIENCE, || last().is_some());
    last().unwrap_or_else(|| panic!("{point}"))
}

pub const AT_ONCE: RestartPolicy = RestartPolicy::Fixed(Duration::ZERO);

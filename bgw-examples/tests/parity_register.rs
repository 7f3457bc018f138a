//! The promise: static workers start in their phase, and registering is possible where it should be, and
//! nowhere else.
//!
//! Would catch: a worker that starts before its phase, a postmaster that waits for itself, a static
//! worker in the place of another class.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bgw_backend::{
    AttachError, Backend, BackgroundWorker, RestartPolicy, StartTime, WorkerFlags, WorkerStatus,
};
use bgw_postmaster::{Launched, Postmaster, RunError, StaticError};
use process_test::tests;
use std::cell::Cell;
use std::process::ExitCode;
use support::{Cluster, Log, read_note, simple, started, stopped, worker, write_note};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

fn main() -> ExitCode {
    process_test::main(tests![
        static_workers_start_in_their_phase_and_not_before => [B01, B40, B41, B42],
        no_postmaster_is_left_to_register_with_once_it_runs => [B02],
        a_static_worker_with_a_notify_target_is_refused => [B03],
        the_postmaster_itself_cannot_attach_or_register => [B07],
        an_empty_type_becomes_the_name_and_is_shown => [B46],
        static_workers_of_both_classes_get_slots_of_their_class,
    ])
}

fn at(name: &str, phase: StartTime) -> BackgroundWorker {
    BackgroundWorker::builder(name).function("sleep").start_time(phase).build().unwrap()
}

/// Would fail if a phase were skipped, reached by itself, or not looked at before a fork.
fn static_workers_start_in_their_phase_and_not_before() {
    const PHASES: [StartTime; 3] =
        [StartTime::PostmasterStart, StartTime::ConsistentState, StartTime::RecoveryFinished];
    let workers = PHASES.map(|phase| at(&format!("{phase:?}"), phase));
    let cluster = Cluster::with_static(
        |builder| builder.initial_phase(StartTime::PostmasterStart),
        workers.to_vec(),
    );
    for (reached, phase) in PHASES.into_iter().enumerate() {
        cluster.backend.advance(phase).unwrap();
        assert_eq!(cluster.backend.phase(), phase);
        let listed = cluster.backend.workers();
        for (place, info) in listed.iter().enumerate() {
            assert_eq!(info.worker, workers[place], "in the order of registration");
            let handle = cluster.backend.handle(info.handle);
            if place <= reached {
                started(&handle);
            } else {
                cluster.backend.ping().unwrap();
                assert_eq!(handle.status(), WorkerStatus::NotYetStarted, "held at {reached}");
            }
        }
        assert_eq!(listed.len(), 3);
    }
    // A phase is never taken back.
    cluster.backend.advance(StartTime::PostmasterStart).unwrap();
    started(&cluster.backend.register(&simple("sleep")).unwrap());
    cluster.end();
}

/// Whether a type can be copied: the method of the bound is found first where it holds.
struct Probe<T>(std::marker::PhantomData<T>);

trait Otherwise {
    fn can_be_cloned(&self) -> bool {
        false
    }
}

impl<T> Otherwise for Probe<T> {}

impl<T: Clone> Probe<T> {
    #[allow(clippy::unused_self, reason = "found by method call")]
    fn can_be_cloned(&self) -> bool {
        true
    }
}

/// PostgreSQL logs that a library came too late. Here the compiler says it: whoever launches or runs a
/// postmaster gives it away, and there is no second one. Would not compile if either took a
/// reference, and would fail if it could be cloned.
fn no_postmaster_is_left_to_register_with_once_it_runs() {
    let launch: fn(Postmaster) -> Result<Launched, RunError> = Postmaster::launch;
    let run: fn(Postmaster) -> Result<u8, RunError> = Postmaster::run;
    let _ = (launch, run);
    assert!(Probe::<String>(std::marker::PhantomData).can_be_cloned(), "the probe works");
    assert!(!Probe::<Postmaster>(std::marker::PhantomData).can_be_cloned());
    assert!(!Probe::<Launched>(std::marker::PhantomData).can_be_cloned());
}

/// Would fail if it were registered, or the postmaster did not start without it.
fn a_static_worker_with_a_notify_target_is_refused() {
    let mut postmaster = support::functions(Postmaster::builder()).build().unwrap();
    let with_target = worker("sleep").notify(bgw_backend::Pid::this()).build().unwrap();
    let refused = postmaster.register(with_target).unwrap_err();
    assert!(matches!(refused, StaticError::NotifyTarget { .. }), "{refused}");
    let mut launched = postmaster.launch().unwrap();
    let backend = Backend::over(launched.take_control().unwrap()).unwrap();
    assert!(backend.workers().is_empty());
    backend.shutdown(bgw_backend::ShutdownMode::Fast).unwrap();
    launched.wait().unwrap();
}

/// The only code of a program that runs inside its postmaster: what it does with log lines.
struct Attaching(std::path::PathBuf);

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl<S: tracing::Subscriber> Layer<S> for Attaching {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        if text.0.contains("registering background worker") && !INSIDE.replace(true) {
            let said = match Backend::connect(&self.0) {
                Err(error @ AttachError::Postmaster) => format!("refused: {error}"),
                other => format!("{other:?}"),
            };
            write_note("attached", &said).unwrap();
        }
    }
}

/// Would hang without the check: the postmaster would wait for its own answer.
fn the_postmaster_itself_cannot_attach_or_register() {
    let folder = std::env::temp_dir().join("cluster");
    tracing_subscriber::registry().with(Attaching(folder)).init();
    let cluster = Cluster::new();
    let (handle, _) = cluster.start(&simple("sleep"));
    assert!(read_note("attached").starts_with("refused: this process is a postmaster"));
    assert!(matches!(handle.status(), WorkerStatus::Started(_)), "and it goes on");
    cluster.end();
}

/// Would fail if the view or the log showed nothing, or the name in place of a type that there is.
fn an_empty_type_becomes_the_name_and_is_shown() {
    let log = Log::start();
    let cluster = Cluster::new();
    let named = |kind: &str| {
        BackgroundWorker::builder("the name").function("fail").worker_type(kind).build().unwrap()
    };
    for (kind, shown) in [("", "the name"), ("the kind", "the kind")] {
        let handle = cluster.backend.register(&named(kind)).unwrap();
        let listed = cluster.backend.workers();
        assert!(listed.iter().all(|info| info.worker.worker_type() == shown), "{listed:?}");
        stopped(&handle);
        log.wait_for(&format!("background worker \"{shown}\" (PID "));
    }
    cluster.end();
}

/// Would fail if a static parallel worker took a slot of the others.
fn static_workers_of_both_classes_get_slots_of_their_class() {
    let parallel = worker("sleep")
        .flags(WorkerFlags::SHMEM_ACCESS | WorkerFlags::CLASS_PARALLEL)
        .restart(RestartPolicy::Never)
        .build()
        .unwrap();
    let cluster = Cluster::with_static(
        |builder| builder.max_workers(1).max_parallel_workers(1),
        vec![parallel, simple("sleep")],
    );
    let listed = cluster.backend.workers();
    assert_eq!(listed.len(), 2, "{listed:?}");
    for info in listed {
        started(&cluster.backend.handle(info.handle));
        assert_eq!(info.worker.is_parallel(), info.handle.slot() == 1);
    }
    cluster.end();
}

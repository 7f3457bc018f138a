//! The promise: a registration is whole or refused, and a refusal says which rule it broke.
//!
//! Would catch: a static worker that starts before its phase, a slot that stays taken after a
//! refusal, a field that changes on its way to the worker.

use crate::support::{Cluster, functions, read_note, simple, started, stopped, worker, write_note};
use bgw_backend::{
    AttachError, Backend, BackgroundWorker, ExitCause, InvalidWorker, RegisterError, RestartPolicy,
    StartTime, WorkerFlags, WorkerStatus,
};
use bgw_postmaster::{Launched, Postmaster, RunError};
use process_test::{Test, tests};
use std::cell::Cell;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        static_workers_start_in_their_phase_and_not_before => [B01, B40, B41, B42],
        a_running_postmaster_takes_no_static_worker => [B02],
        one_static_worker_too_many_is_refused_and_the_rest_start => [B04],
        static_workers_of_both_classes_get_slots_of_their_class,
        the_postmaster_cannot_attach_to_itself => [B07],
        an_invalid_description_is_refused_by_field => [B43, B44, B45, B47, B67],
        an_unknown_function_is_refused_and_a_missing_library_exits_1 => [B52],
        a_full_array_refuses_and_recovers => [B08],
        what_was_registered_arrives_unchanged => [B48, B49, B50],
        a_worker_registers_another_worker => [B06],
    ]
}

fn at(name: &str, phase: StartTime) -> BackgroundWorker {
    BackgroundWorker::builder(name).function("sleep").start_time(phase).build().unwrap()
}

/// Would fail if a phase were skipped, came by itself, or were not checked before a fork.
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
    // A phase never goes back.
    cluster.backend.advance(StartTime::PostmasterStart).unwrap();
    started(&cluster.backend.register(&simple("sleep")).unwrap());
    cluster.end();
}

/// Tells whether a type is `Clone`: its own method hides the one of the trait.
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

/// PostgreSQL logs that a library came too late. Here the compiler says so: launching or running a
/// postmaster consumes it. Would not compile if either took a reference, and would fail if a
/// postmaster were `Clone`.
fn a_running_postmaster_takes_no_static_worker() {
    let launch: fn(Postmaster) -> Result<Launched, RunError> = Postmaster::launch;
    let run: fn(Postmaster) -> Result<u8, RunError> = Postmaster::run;
    let _ = (launch, run);
    assert!(Probe::<String>(std::marker::PhantomData).can_be_cloned(), "the probe works");
    assert!(!Probe::<Postmaster>(std::marker::PhantomData).can_be_cloned());
    assert!(!Probe::<Launched>(std::marker::PhantomData).can_be_cloned());
}

/// Would fail if the third worker were registered, or replaced another.
fn one_static_worker_too_many_is_refused_and_the_rest_start() {
    let mut postmaster =
        functions(bgw_postmaster::Postmaster::builder()).max_workers(2).build().unwrap();
    let named = |name: &str| BackgroundWorker::builder(name).function("sleep").build().unwrap();
    postmaster.register(named("one")).unwrap();
    postmaster.register(named("two")).unwrap();
    let refused = postmaster.register(named("three")).unwrap_err();
    assert!(refused.to_string().contains("three"), "{refused}");
    let mut launched = postmaster.launch().unwrap();
    let backend = bgw_backend::Backend::over(launched.take_control().unwrap()).unwrap();
    for info in backend.workers() {
        started(&backend.handle(info.handle));
    }
    assert_eq!(backend.workers().len(), 2);
    backend.shutdown(bgw_backend::ShutdownMode::Fast).unwrap();
    launched.wait().unwrap();
}

/// Would fail if a static parallel worker took a slot of the other class.
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

/// The one piece of a program that runs inside its postmaster: its log subscriber.
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

/// Would hang if it could: the postmaster would wait for its own answer.
fn the_postmaster_cannot_attach_to_itself() {
    let folder = std::env::temp_dir().join("cluster");
    tracing_subscriber::registry().with(Attaching(folder)).init();
    let cluster = Cluster::new();
    let (handle, _) = cluster.start(&simple("sleep"));
    assert!(read_note("attached").starts_with("refused: this process is a postmaster"));
    assert!(matches!(handle.status(), WorkerStatus::Started(_)), "and the postmaster goes on");
    cluster.end();
}

/// Would fail if one of these passed, or if the error named another field.
fn an_invalid_description_is_refused_by_field() {
    let long = "x".repeat(96);
    let base = || BackgroundWorker::builder("w").function("f");
    let cases: Vec<(&str, Result<BackgroundWorker, InvalidWorker>)> = vec![
        ("name", BackgroundWorker::builder(long.clone()).function("f").build()),
        ("name", BackgroundWorker::builder("a\0b").function("f").build()),
        ("name", BackgroundWorker::builder("").function("f").build()),
        ("worker_type", base().worker_type(long.clone()).build()),
        ("function", BackgroundWorker::builder("w").function(long).build()),
        ("library", BackgroundWorker::builder("w").library("x".repeat(1024), "f").build()),
        ("restart", base().restart(RestartPolicy::after_secs(86_401)).build()),
        ("flags", base().flags(WorkerFlags::from_bits_retain(0x8000)).build()),
        ("flags", base().flags(WorkerFlags::DATABASE_CONNECTION).build()),
        ("extra", base().extra(&[0; 129]).build()),
        ("entry", BackgroundWorker::builder("w").build()),
    ];
    for (row, (field, result)) in cases.into_iter().enumerate() {
        let error = result.expect_err(field);
        assert_eq!(error.field(), field, "row {row}: {error}");
    }
    let database = WorkerFlags::SHMEM_ACCESS | WorkerFlags::DATABASE_CONNECTION;
    let early = base().flags(database).start_time(StartTime::PostmasterStart).build();
    assert!(matches!(early, Err(InvalidWorker::DatabaseAtPostmasterStart)), "{early:?}");
    let parallel = base().flags(WorkerFlags::CLASS_PARALLEL).restart(RestartPolicy::after_secs(1));
    assert!(matches!(parallel.build(), Err(InvalidWorker::ParallelMustNeverRestart)));
}

/// Would fail if the refused worker kept a slot, and time out if the end of the other woke no
/// waiter.
fn an_unknown_function_is_refused_and_a_missing_library_exits_1() {
    let cluster = Cluster::new();
    let refused = cluster.backend.register(&simple("missing")).unwrap_err();
    assert!(matches!(&refused, RegisterError::UnknownFunction { name, .. } if name == "missing"));
    assert!(cluster.backend.workers().is_empty(), "nothing is registered");
    let mut postmaster = bgw_postmaster::Postmaster::builder().build().unwrap();
    let refused = postmaster.register(simple("missing")).unwrap_err();
    assert!(refused.to_string().contains("missing"), "{refused}");
    let library = BackgroundWorker::builder("l").library("/no/such/library.so", "main").build();
    let handle = cluster.backend.register(&library.unwrap()).unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(1));
    cluster.end();
}

/// Would hang if a full array made the caller wait, and fail if a refusal cost a slot.
fn a_full_array_refuses_and_recovers() {
    let cluster = Cluster::with(|builder| builder.max_workers(3));
    let handles: Vec<_> =
        (0..3).map(|_| cluster.backend.register(&simple("sleep")).unwrap()).collect();
    for _ in 0..100 {
        match cluster.backend.register(&simple("sleep")) {
            Err(RegisterError::NoFreeSlot { capacity: 3, in_use: 3 }) => {}
            other => panic!("{other:?}"),
        }
    }
    handles[1].terminate().unwrap();
    stopped(&handles[1]);
    started(&cluster.backend.register(&simple("sleep")).unwrap());
    cluster.end();
}

/// Would fail if a bit of the argument or of the extra bytes changed, or if another function ran.
fn what_was_registered_arrives_unchanged() {
    let cluster = Cluster::new();
    let extra: Vec<u8> = (0..128u32).map(|byte| (byte * 2 + 1) as u8).collect();
    let description = worker("describe")
        .worker_type("kind of describer")
        .main_arg(0xfedc_ba98_7654_3210)
        .extra(&extra)
        .build()
        .unwrap();
    let handle = cluster.backend.register(&description).unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    let expected =
        format!("describe|kind of describer|{}|{extra:?}|{handle}", 0xfedc_ba98_7654_3210u64);
    assert_eq!(read_note("describe"), expected);
    cluster.end();
}

/// Would fail if a worker did not get the doorbell or the region.
fn a_worker_registers_another_worker() {
    let cluster = Cluster::new();
    let handle = cluster.backend.register(&simple("nested")).unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    assert!(read_note("nested").contains("Exited(0)"), "{}", read_note("nested"));
    cluster.end();
}

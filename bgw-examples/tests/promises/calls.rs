//! The promise: a function of the postmaster's program is called with a value and gives back a
//! value, an error or a panic to its caller, once. A call of other types never reaches it.
//!
//! Would catch: a value that is changed, cut or another call's, a type that is checked in the
//! worker alone, a limit that is not told.

use crate::support::{
    Cluster, PATIENCE, connect, kill, ready, shared, simple, stopped, wait_for_spares, worker,
};
use bgw_backend::{
    Backend, BackgroundWorker, Call, CallError, ExitCause, InvalidWorker, NotStarted, Outcome,
    RegisterError, RestartPolicy, WaitError, Worker, WorkerError, call, entry,
};
use bgw_core::internals::WorkerSlots;
use bgw_core::{Attachment, ControlSocket};
use bgw_postmaster::{PostmasterBuilder, Reuse};
use process_test::{Signal, Test, fork_child, tests, wait_until};
use serde::{Deserialize, Serialize};
use shmem_slots::Memory;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_value_goes_in_and_a_value_comes_out => [J01, J13],
        an_error_a_panic_and_a_death_reach_the_caller => [J01, J06],
        an_input_takes_the_place_of_extra_bytes => [J13],
        a_function_that_is_called_with_other_types_is_refused_at_submission => [J14],
        a_call_that_was_overwritten_in_its_slot_fails_in_its_worker => [J14],
        eight_threads_call_at_once_in_a_full_array => [J01, J05, J13],
        a_call_has_a_deadline_and_can_be_cancelled => [J03],
        a_call_answers_after_its_restarts_and_not_after_a_reset => [J02],
        a_worker_calls_and_its_calls_end_with_it => [J04],
    ]
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Order {
    number: u64,
    lines: Vec<(String, f64)>,
    notes: BTreeMap<String, Option<i8>>,
    kind: Kind,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
enum Kind {
    #[default]
    Plain,
    Gift(String),
    Bulk {
        count: u32,
    },
}

fn mirror(_: &mut Worker, order: Order) -> Result<Order, WorkerError> {
    Ok(Order { number: order.number + 1, ..order })
}

/// Ends as its number says.
fn ends(worker: &mut Worker, number: u32) -> Result<String, WorkerError> {
    match number {
        0 => Ok("well".to_owned()),
        1 => Err(std::io::Error::from_raw_os_error(libc::ENOSPC).into()),
        2 => panic!("it panics"),
        3 => std::process::exit(0),
        4 => {
            nix::sys::signal::raise(Signal::SIGKILL).map_err(std::io::Error::from)?;
            Ok("never".to_owned())
        }
        _ => {
            worker.handle_terminate();
            worker.unblock_signals()?;
            worker.ready();
            while !worker.should_stop() {
                worker.sleep(None)?;
            }
            Err("told to end".into())
        }
    }
}

fn flaky(worker: &mut Worker, fails: u32) -> Result<u32, WorkerError> {
    if worker.restarts() < fails { Err("once more".into()) } else { Ok(worker.restarts()) }
}

/// Calls another function, and waits to be told.
fn calls(worker: &mut Worker) -> Result<(), WorkerError> {
    let call =
        worker.backend().call::<u32, String>("ends", &9).map_err(|error| error.to_string())?;
    crate::support::write_note("called", &call.handle().id().to_string())?;
    worker.handle_terminate();
    worker.unblock_signals()?;
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    Ok(())
}

fn functions(builder: PostmasterBuilder) -> PostmasterBuilder {
    builder
        .call("mirror", call(mirror))
        .call("ends", call(ends))
        .call("flaky", call(flaky))
        .reusable_call("again", Reuse::new(), call(mirror))
        .function("calls", entry(calls))
}

fn cluster(slots: u32) -> Cluster {
    Cluster::with(|builder| functions(builder.max_workers(slots)))
}

#[track_caller]
fn outcome<O: bgw_backend::CallValue>(call: &Call<O>) -> Outcome<O> {
    call.wait_timeout(PATIENCE).unwrap()
}

/// Would fail if a value were changed on its way, in forked workers, spares or reused ones.
fn a_value_goes_in_and_a_value_comes_out() {
    for spares in [0, 2] {
        let cluster =
            Cluster::with(|builder| functions(builder.max_workers(8)).warm_spares(spares));
        wait_for_spares(&cluster, spares);
        for (number, text) in [(0, ""), (u64::MAX - 1, "ä"), (7, &"x".repeat(700))] {
            for (function, kind) in [
                ("mirror", Kind::Plain),
                ("mirror", Kind::Gift(text.to_owned())),
                ("again", Kind::Bulk { count: 3 }),
                ("again", Kind::Plain),
            ] {
                let lines = vec![(text.to_owned(), 0.5), (String::new(), f64::MIN)];
                let lines = if text.len() > 100 { Vec::new() } else { lines };
                let notes = BTreeMap::from([("a".to_owned(), Some(-1)), ("b".to_owned(), None)]);
                let order = Order { number, lines, notes, kind };
                let call = cluster.backend.call::<Order, Order>(function, &order).unwrap();
                assert_eq!(
                    call.outcome().unwrap().and_then(|outcome| outcome.runs()).unwrap_or(1),
                    1
                );
                let expected = Order { number: number + 1, ..order };
                for _ in 0..2 {
                    assert_eq!(outcome(&call).into_output().unwrap(), expected, "{function}");
                }
                assert_eq!(call.outcome().unwrap(), Some(outcome(&call.clone())));
                assert_eq!(call.handle().exit_report().unwrap().result(), None);
            }
        }
        cluster.end();
    }
}

/// Would fail if one kind of end were taken for another, or an exit without a value for a value.
fn an_error_a_panic_and_a_death_reach_the_caller() {
    let cluster = cluster(8);
    let ended =
        |number: u32| outcome(&cluster.backend.call::<u32, String>("ends", &number).unwrap());
    assert_eq!(ended(0).into_output().unwrap(), "well");
    let failed = ended(1);
    assert!(
        matches!(&failed, Outcome::Failed { text, .. } if text.contains("os error 28")),
        "{failed}"
    );
    let panicked = ended(2);
    let Outcome::Panicked { message, place, .. } = &panicked else { panic!("{panicked}") };
    assert!(message == "it panics" && place.contains(file!()), "{panicked}");
    for (number, cause) in
        [(3, ExitCause::Exited(0)), (4, ExitCause::Signaled { signal: 9, core_dumped: false })]
    {
        let died = ended(number);
        assert!(matches!(&died, Outcome::Died(report) if report.cause == cause), "{died}");
    }
    cluster.end();
}

/// Would fail if the bytes of an input and extra bytes were mixed.
fn an_input_takes_the_place_of_extra_bytes() {
    let cluster = cluster(8);
    let extra = BackgroundWorker::builder("a call").extra(&[1]);
    let refused = cluster.backend.call_as::<u32, String>(extra, "ends", &0, None).map(drop);
    let Err(CallError::Invalid(error)) = refused else { panic!("{refused:?}") };
    assert!(matches!(error, InvalidWorker::Unfit { field: "input", .. }), "{error}");
    assert!(cluster.backend.workers().is_empty());
    cluster.end();
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u32),
}

/// Would fail if such a call were registered.
fn a_function_that_is_called_with_other_types_is_refused_at_submission() {
    let cluster = cluster(8);
    let mut program = fork_child(|| refused_at_submission(&connect(&cluster.folder)));
    assert_eq!(program.wait().code(), Some(0), "another program learns the types, too");
    refused_at_submission(&cluster.backend);
    cluster.end();
}

fn refused_at_submission(backend: &Backend) {
    let refused = [
        backend.call::<u64, String>("ends", &0).map(drop),
        backend.call::<u32, Vec<u8>>("ends", &0).map(drop),
        backend.call::<u32, u32>("ends", &0).map(drop),
        backend.call::<u32, String>("calls", &0).map(drop),
        backend.register(&simple("ends")).map(drop).map_err(Into::into),
        backend.register_timeout(&simple("ends"), PATIENCE).map(drop).map_err(Into::into),
        backend.register_all(&[simple("quick"), simple("ends")]).map(drop).map_err(Into::into),
    ];
    for (at, refused) in refused.into_iter().enumerate() {
        let error = refused.unwrap_err();
        let CallError::Register(RegisterError::CallType { function, takes, called }) = &error
        else {
            panic!("{at}: {error}")
        };
        let takes_call = "a call of type fn(u32) -> alloc::string::String";
        assert!(takes == if function == "calls" { "no call" } else { takes_call }, "{error}");
        assert_eq!(called == "a plain worker", at >= 4, "{error}");
    }
    let unknown = backend.call::<u32, u32>("nobody", &0).map(drop);
    assert!(matches!(unknown, Err(CallError::Register(RegisterError::UnknownFunction { .. }))));
    let untagged = backend.call::<Untagged, String>("ends", &Untagged::Number(0)).map(drop);
    assert!(matches!(untagged, Err(CallError::Unsupported { .. })), "{untagged:?}");
    assert!(backend.workers().is_empty());
}

/// Another process writes other bytes over a call before the postmaster sees it.
fn a_call_that_was_overwritten_in_its_slot_fails_in_its_worker() {
    let cluster = cluster(4);
    let postmaster = cluster.launched.pid();
    let path = cluster.folder.join(bgw_postmaster::CONTROL_SOCKET);
    let socket = ControlSocket::connect(&path, None).unwrap();
    let other = Attachment::attach(socket, false, None).unwrap();
    for (what, at) in [("its type", "type"), ("its input", "input")] {
        kill(postmaster, Signal::SIGSTOP);
        let call = cluster.backend.call::<u32, String>("ends", &0).unwrap();
        overwrite(other.slots(), at);
        kill(postmaster, Signal::SIGCONT);
        let failed = outcome(&call);
        let text = failed.to_string();
        assert!(matches!(failed, Outcome::Failed { .. }), "{what}: {text}");
        assert!(text.contains("input"), "{what}: {text}");
    }
    stopped(&cluster.backend.register(&simple("quick")).unwrap());
    cluster.end();
}

/// Replaces the tag of the call in the region, or the version of its input.
fn overwrite(slots: &WorkerSlots, what: &str) {
    let tag = slots.occupied().find_map(|(index, word)| {
        let key = shmem_slots::Key { index, generation: word.generation() };
        slots.read(key).ok()?.decode().ok()?.call().map(|call| call.tag)
    });
    let cells = slots.memory().writable_cells().unwrap();
    let at = cells.iter().position(|cell| Some(cell.load(Ordering::Relaxed)) == tag).unwrap();
    if what == "type" {
        cells[at].store(1, Ordering::Relaxed);
        return;
    }
    // It begins with the version and a number of one byte.
    let input = cells[at..at + 64].iter().find(|cell| cell.load(Ordering::Relaxed) == 1);
    input.expect("the input lies in the same slot").store(2, Ordering::Relaxed);
}

/// Would fail if a thread got the value of another's call, or none.
fn eight_threads_call_at_once_in_a_full_array() {
    let cluster = cluster(5);
    thread::scope(|scope| {
        for thread in 0..8_u64 {
            let backend = &cluster.backend;
            scope.spawn(move || {
                for round in 0..20 {
                    let order = Order { number: thread * 1000 + round, ..Order::default() };
                    let worker = BackgroundWorker::builder("a call");
                    let call =
                        backend.call_as::<Order, Order>(worker, "mirror", &order, Some(PATIENCE));
                    let value = outcome(&call.unwrap()).into_output().unwrap();
                    assert_eq!(value.number, order.number + 1);
                }
            });
        }
    });
    let unread: Vec<_> =
        (0..5).map(|_| cluster.backend.call::<u32, String>("ends", &0).unwrap()).collect();
    wait_until("all have ended", PATIENCE, || cluster.backend.workers().is_empty());
    let full = cluster.backend.call::<u32, String>("ends", &0).map(drop);
    assert!(matches!(full, Err(CallError::Register(RegisterError::NoFreeSlot { .. }))), "{full:?}");
    for call in &unread {
        assert_eq!(outcome(call).into_output().unwrap(), "well");
    }
    cluster.end();
}

/// Would fail if a deadline ended a call unasked, or did not end it when asked.
fn a_call_has_a_deadline_and_can_be_cancelled() {
    let cluster = cluster(4);
    let soon = Duration::from_millis(20);
    let call = cluster.backend.call::<u32, String>("ends", &9).unwrap();
    ready(call.handle());
    assert!(matches!(call.wait_timeout(soon), Err(WaitError::TimedOut)));
    assert_eq!(call.outcome().unwrap(), None);
    let cancelled = call.wait_or_cancel(soon).unwrap();
    let Outcome::Cancelled(report) = &cancelled else { panic!("{cancelled}") };
    assert_eq!(report.last_words().unwrap().to_string(), "told to end");
    let other = cluster.backend.call::<u32, String>("ends", &9).unwrap();
    ready(other.handle());
    other.cancel().unwrap();
    assert!(matches!(outcome(&other), Outcome::Cancelled(_)));
    let quick = cluster.backend.call::<u32, String>("ends", &0).unwrap();
    assert_eq!(quick.wait_or_cancel(PATIENCE).unwrap().into_output().unwrap(), "well");
    cluster.end();
}

/// Would fail if a value of a failed run counted, or if a call went on after a reset.
fn a_call_answers_after_its_restarts_and_not_after_a_reset() {
    let cluster = cluster(8);
    let at_once = RestartPolicy::Fixed(Duration::ZERO);
    let description = BackgroundWorker::builder("flaky").restart(at_once);
    let call = cluster.backend.call_as::<u32, u32>(description, "flaky", &3, None).unwrap();
    let third = outcome(&call);
    assert_eq!(third.runs(), Some(4));
    assert_eq!(third.into_output().unwrap(), 3);
    let description = BackgroundWorker::builder("ends").restart(at_once);
    let running = cluster.backend.call_as::<u32, String>(description, "ends", &9, None).unwrap();
    ready(running.handle());
    let crashing = cluster.backend.register(&shared("sleep", RestartPolicy::Never)).unwrap();
    kill(ready(&crashing), Signal::SIGABRT);
    let died = outcome(&running);
    assert!(matches!(&died, Outcome::Died(report) if report.reset), "{died}");
    wait_until("the slots are new", PATIENCE, || {
        cluster.backend.register(&simple("quick")).is_ok_and(|handle| {
            let reason = ExitCause::NotStarted(NotStarted::ClusterReset);
            stopped(&handle).cause != reason
        })
    });
    assert!(cluster.backend.workers().is_empty());
    cluster.end();
}

/// Would fail if a worker could not call, or if its call outlived it.
fn a_worker_calls_and_its_calls_end_with_it() {
    let cluster = cluster(8);
    let caller = cluster.backend.register(&worker("calls").build().unwrap()).unwrap();
    let called = cluster.backend.handle(crate::support::read_note("called").parse().unwrap());
    ready(&called);
    caller.terminate().unwrap();
    let report = stopped(&called);
    assert_eq!(report.asked_by, Some(bgw_backend::AskedBy::Submitter), "{report}");
    assert_eq!(stopped(&caller).cause, ExitCause::Exited(0));
    cluster.end();
}

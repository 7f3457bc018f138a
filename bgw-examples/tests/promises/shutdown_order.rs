//! The promise: a shutdown ends whoever depends on others before them, in the order that the
//! postmaster's builder names, and says who is left.
//!
//! Would catch: a worker whose target is told to end while it still needs it, an order by slots, a
//! shutdown that hangs at nobody knows whom.

use crate::support::{Cluster, PATIENCE, kill, ready};
use bgw_backend::{
    After, BackgroundWorker, BackgroundWorkerBuilder, EventKind, EventsFrom, ExitCause, Grace,
    Handle, ShutdownMode,
};
use bgw_postmaster::ShutdownOrder;
use process_test::{Signal, Test, tests, wait_until};
use std::time::{Duration, Instant};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        dependents_end_before_what_they_depend_on => [P25],
        in_the_order_of_registration_the_last_one_ends_first,
        a_shutdown_says_who_is_left_since_when_and_until_when => [P28],
    ]
}

#[track_caller]
fn ended(handle: &Handle) {
    handle.wait_for_end_timeout(PATIENCE).unwrap();
}

/// A worker of this unique name that starts after `targets`.
fn unique(name: &str, targets: &[&str]) -> BackgroundWorkerBuilder {
    let builder = BackgroundWorker::builder(name).function("sleep").unique();
    targets.iter().fold(builder, |builder, &target| builder.after(target, After::Started))
}

/// Shuts the cluster down. Returns who was told to end and who ended, in this order.
fn told_and_ended(cluster: Cluster) -> Vec<(String, EventKind)> {
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    cluster.end();
    let mut seen = Vec::new();
    while let Ok(Some(event)) = events.try_next() {
        if matches!(event.kind, EventKind::Told | EventKind::Exited) {
            seen.push((event.name, event.kind));
        }
    }
    seen
}

/// Each in turn is told, and has ended before the next one is told.
fn one_by_one(names: &[&str]) -> Vec<(String, EventKind)> {
    let both =
        |name: &&str| [EventKind::Told, EventKind::Exited].map(|kind| (name.to_string(), kind));
    names.iter().flat_map(both).collect()
}

/// Would fail if a target were told while one that depends on it runs.
fn dependents_end_before_what_they_depend_on() {
    let cluster = Cluster::new();
    for (name, targets) in [("db", &[][..]), ("cache", &["db"]), ("web", &["db", "cache"])] {
        cluster.start(&unique(name, targets).build().unwrap());
    }
    assert_eq!(told_and_ended(cluster), one_by_one(&["web", "cache", "db"]));
}

/// Would fail if the order of slots were taken: the first slot is used again.
fn in_the_order_of_registration_the_last_one_ends_first() {
    let cluster = Cluster::with(|builder| builder.shutdown_order(ShutdownOrder::Registration));
    let plain = |name| BackgroundWorker::builder(name).function("sleep").build().unwrap();
    let (first, _) = cluster.start(&plain("first"));
    cluster.start(&plain("second"));
    cluster.start(&plain("third"));
    first.terminate().unwrap();
    ended(&first);
    let (again, _) = cluster.start(&plain("fourth"));
    assert_eq!(again.id().slot(), first.id().slot());
    assert_eq!(told_and_ended(cluster), one_by_one(&["fourth", "third", "second"]));
}

/// Would fail if one that was not told looked like one that does not heed it.
fn a_shutdown_says_who_is_left_since_when_and_until_when() {
    let cluster = Cluster::new();
    let hour = Duration::from_secs(3600);
    let (target, target_pid) = cluster.start(&unique("target", &[]).build().unwrap());
    let deaf =
        BackgroundWorker::builder("deaf").function("stubborn").after("target", After::Started);
    let (deaf, pid) = cluster.start(&deaf.grace(Grace::After(hour)).build().unwrap());
    ready(&deaf);
    let Cluster { launched, backend, .. } = cluster;
    assert_eq!(backend.shutdown_progress().unwrap(), []);
    let before = Instant::now();
    launched.shutdown(ShutdownMode::Fast).unwrap();
    let left = || backend.shutdown_progress().unwrap();
    let of = |handle: &Handle| left().into_iter().find(|left| left.handle == handle.id());
    wait_until("it is told", PATIENCE, || of(&deaf).is_some_and(|left| left.told.is_some()));
    let (waits, told) = (of(&target).unwrap(), of(&deaf).unwrap());
    assert_eq!((waits.pid, waits.told, waits.killed_at), (Some(target_pid), None, None));
    let since = told.told.unwrap();
    let slack = Duration::from_millis(5);
    assert!(since + slack >= before && since <= Instant::now(), "{told:?}");
    let grace = told.killed_at.unwrap() - since;
    assert!(grace <= hour + slack && grace + slack >= hour, "{told:?}");
    assert_eq!((told.pid, left().len()), (Some(pid), 2));
    kill(pid, Signal::SIGKILL);
    ended(&deaf);
    ended(&target);
    assert_eq!(launched.wait().unwrap(), ExitCause::Exited(0));
    assert!(backend.shutdown_progress().is_err(), "nobody is left to say so");
}

//! The promise: a worker with shared state that a spare begins by itself is one in every other
//! respect, too.
//!
//! Would catch: a crash that nobody takes for one, since the postmaster has not seen the start.

use crate::direct_starts::{cluster, counted, go_on, register_past, settled};
use crate::support::{PATIENCE, kill, raw, ready, shared, the_end, wait_for_reset};
use bgw_backend::{EventsFrom, ExitCause, RestartPolicy};
use process_test::{Signal, Test, tests, wait_until};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_crash_before_the_postmaster_has_looked_resets_the_cluster => [J34, J37],
        a_good_end_before_the_postmaster_has_looked_leaves_nothing_in_doubt => [J34],
    ]
}

/// Would fail if it were taken for the death of a spare, or for a start that did not happen.
fn a_crash_before_the_postmaster_has_looked_resets_the_cluster() {
    let cluster = cluster(2);
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    let handle = register_past(&cluster, &shared("sleep", RestartPolicy::Never));
    let pid = ready(&handle);
    kill(pid, Signal::SIGKILL);
    wait_until("it has died", PATIENCE, || !process_test::alive(raw(pid)));
    go_on(&cluster);
    wait_for_reset(&mut events);
    let killed = ExitCause::Signaled { signal: 9, core_dumped: false };
    let report = the_end(&handle);
    assert_eq!((report.cause, report.pid, report.restarts), (killed, Some(pid), 0));
    // The spare that slept serves as before.
    settled(&cluster, 2);
    let handle = cluster.backend.register(&shared("count", RestartPolicy::Never)).unwrap();
    assert_eq!(the_end(&handle).cause, ExitCause::Exited(0));
    assert_eq!(counted(), 1);
    cluster.end();
}

/// Would fail if the worker went the ordinary way, or if its end were judged as a spare's.
fn a_good_end_before_the_postmaster_has_looked_leaves_nothing_in_doubt() {
    let cluster = cluster(1);
    let incarnation = cluster.backend.register(&shared("count", RestartPolicy::Never)).unwrap();
    let incarnation = (the_end(&incarnation).cause, incarnation.id().incarnation());
    settled(&cluster, 1);
    let handle = register_past(&cluster, &shared("count", RestartPolicy::Never));
    wait_until("it has run", PATIENCE, || counted() == 2);
    go_on(&cluster);
    let report = the_end(&handle);
    assert_eq!((report.cause, handle.id().incarnation()), incarnation);
    assert_eq!((report.cause, report.restarts), (ExitCause::Exited(0), 0));
    settled(&cluster, 1);
    let handle = cluster.backend.register(&shared("count", RestartPolicy::Never)).unwrap();
    assert_eq!(handle.id().incarnation(), incarnation.1, "nothing was reset");
    the_end(&handle);
    assert_eq!(counted(), 3);
    cluster.end();
}

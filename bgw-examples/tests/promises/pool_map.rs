//! The promise: a map over a pool has a bounded number of jobs in hand, yields each outcome once,
//! in the order of the inputs or as they come, and stops at a failure if it is asked to.
//!
//! Would catch: an input taken ahead of the bound, an outcome under another input's number, a map
//! that holds its caller up when others fill the pool, jobs that run for a map which is gone.

use super::pools::{cluster, output, pool, pool_with, submit};
use crate::support::{note_path, read_note, write_note};
use bgw_backend::{MapError, Outcome, SubmitError};
use process_test::{Test, tests};
use std::cell::Cell;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_map_yields_its_outcomes_in_order_or_as_they_come => [J22],
        a_map_takes_no_more_inputs_than_it_may_have_jobs => [J22],
        a_map_stops_at_the_first_failure_or_goes_on => [J22],
        a_map_over_a_small_pool_waits_for_room => [J22],
        a_dropped_map_withdraws_what_waits => [J22],
        a_map_over_a_drained_pool_ends_with_the_reason => [J22],
    ]
}

fn orders(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

fn a_map_yields_its_outcomes_in_order_or_as_they_come() {
    let cluster = cluster();
    let pool = pool(&cluster.backend, 2);
    let mut inputs = orders(&["wait gate"]);
    inputs.extend((1..20).map(|number| format!("ok {number}")));
    let mut map = pool.map(&inputs).at_once(4).as_they_come();
    let mut places = Vec::new();
    for _ in 1..20 {
        let (place, outcome) = map.next().unwrap().unwrap();
        assert_eq!(outcome.into_output().unwrap(), place.to_string());
        places.push(place);
    }
    places.sort_unstable();
    assert_eq!(places, (1..20).collect::<Vec<_>>(), "the first one waits, and holds up nobody");
    write_note("gate", "open").unwrap();
    let (place, outcome) = map.next().unwrap().unwrap();
    assert_eq!((place, outcome.into_output().unwrap().as_str()), (0, "open"));
    assert!(map.next().is_none() && map.next().is_none());
    let in_order: Vec<usize> = pool.map(&inputs).map(|done| done.unwrap().0).collect();
    assert_eq!(in_order, (0..20).collect::<Vec<_>>());
    assert!(pool.map(Vec::<String>::new()).next().is_none());
    cluster.end();
}

/// Would fail if inputs were taken ahead, which an endless iterator of large values forbids.
fn a_map_takes_no_more_inputs_than_it_may_have_jobs() {
    let cluster = cluster();
    let pool = pool(&cluster.backend, 2);
    let taken = Cell::new(0);
    let inputs = std::iter::repeat_with(|| {
        taken.set(taken.get() + 1);
        format!("ok {}", taken.get())
    });
    let map = pool.map(inputs).at_once(3);
    assert_eq!(taken.get(), 0, "nothing is submitted before the first outcome is asked for");
    for (yielded, done) in map.take(30).enumerate() {
        let (place, outcome) = done.unwrap();
        assert_eq!((place, outcome.into_output().unwrap()), (yielded, (yielded + 1).to_string()));
        assert!(taken.get() <= yielded + 3, "{} after {yielded}", taken.get());
    }
    cluster.end();
}

fn a_map_stops_at_the_first_failure_or_goes_on() {
    let cluster = cluster();
    let pool = pool(&cluster.backend, 2);
    let endless = || ["ok 1", "fail", "panic"].into_iter().cycle().map(str::to_owned);
    let stopped: Vec<_> = pool.map(endless()).stop_at_failure().map(Result::unwrap).collect();
    let [(0, Outcome::Output { .. }), (1, Outcome::Failed { .. })] = &stopped[..] else {
        panic!("{stopped:?}")
    };
    let mut goes_on = pool.map(endless()).skip(3).map(Result::unwrap);
    assert!(matches!(goes_on.next(), Some((3, Outcome::Output { .. }))));
    assert!(matches!(goes_on.next(), Some((4, Outcome::Failed { .. }))));
    assert!(matches!(goes_on.next(), Some((5, Outcome::Panicked { .. }))));
    cluster.end();
}

/// The pool has room for two jobs, and one of them is another's at first.
fn a_map_over_a_small_pool_waits_for_room() {
    let cluster = cluster();
    let pool = pool_with(&cluster.backend, 1, |options| options.queue(2));
    let other = submit(&pool, "wait gate");
    read_note("gate-began");
    let _queued = submit(&pool, "ok other");
    let opened = std::thread::spawn(|| {
        process_test::wait_until_asleep(process_test::Pid::this());
        write_note("gate", "open").unwrap();
    });
    // The other thread's jobs make room once they are looked at.
    let looks = std::thread::spawn(move || drop(output(&other)));
    let inputs = (0..10).map(|number| format!("ok {number}"));
    let done: Vec<_> = pool.map(inputs).at_once(8).map(Result::unwrap).collect();
    let places: Vec<usize> = done.iter().map(|(place, _)| *place).collect();
    assert_eq!(places, (0..10).collect::<Vec<_>>());
    opened.join().unwrap();
    looks.join().unwrap();
    cluster.end();
}

fn a_dropped_map_withdraws_what_waits() {
    let cluster = cluster();
    let pool = pool(&cluster.backend, 1);
    let inputs = orders(&["ok first", "wait gate", "note never", "note never"]);
    let mut map = pool.map(&inputs).at_once(4);
    assert_eq!(map.next().unwrap().unwrap().1.into_output().unwrap(), "first");
    read_note("gate-began");
    drop(map);
    write_note("gate", "open").unwrap();
    // First come, first served: it would run after the others.
    assert_eq!(output(&submit(&pool, "ok last")), "last");
    assert!(!note_path("never").exists());
    cluster.end();
}

fn a_map_over_a_drained_pool_ends_with_the_reason() {
    let cluster = cluster();
    let pool = pool(&cluster.backend, 1);
    let mut map = pool.map((0..).map(|number| format!("ok {number}"))).at_once(2);
    assert!(matches!(map.next(), Some(Ok((0, _)))));
    pool.drain(None).unwrap();
    let rest: Vec<_> = map.collect();
    let (last, before) = rest.split_last().unwrap();
    let outputs = before.iter().all(|done| matches!(done, Ok((_, Outcome::Output { .. }))));
    assert!(outputs, "{before:?}");
    let Err(MapError::Submit { place, source: SubmitError::Draining }) = last else {
        panic!("{last:?}")
    };
    assert_eq!(*place, before.len() + 1);
    cluster.end();
}

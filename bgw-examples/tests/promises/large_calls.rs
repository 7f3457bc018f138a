//! The promise: the values of a call may be as large as the cluster's budget of bytes. What does
//! not fit into the slot lies in a segment, and is gone when nobody wants it any more.
//!
//! Would catch: a value that is cut at a limit, a limit that is not told, bytes that stay on the
//! budget after a call.

use crate::support::{Cluster, PATIENCE, kill, ready, started, wait_for_spares};
use bgw_backend::{
    Backend, BackgroundWorker, Bytes, Call, CallError, Outcome, RestartPolicy, SegmentError,
    Worker, WorkerError, call,
};
use process_test::{Signal, Test, tests, wait_until};
use serde::Deserialize;
use serde::de::value::SeqDeserializer;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        values_of_any_size_go_in_and_come_out => [J13],
        a_value_beyond_the_budget_is_refused_by_name => [J13],
        names_in_a_description_leave_less_room_in_the_slot => [J13],
        a_large_value_stays_as_long_as_its_call_and_no_longer => [J05, J13],
        a_large_input_is_there_for_each_run => [J02, J13],
        bytes_in_a_segment_are_not_copied => [J15],
        bytes_that_lie_nowhere_are_an_error => [J15],
    ]
}

const BUDGET: u64 = 4 << 20;

type Octets = Vec<u8>;

fn turned(_: &mut Worker, mut bytes: Octets) -> Result<Octets, WorkerError> {
    bytes.reverse();
    Ok(bytes)
}

fn long(_: &mut Worker, len: usize) -> Result<Octets, WorkerError> {
    Ok(vec![7; len])
}

/// How many bytes came in, in its second run.
fn count(worker: &mut Worker, bytes: Octets) -> Result<usize, WorkerError> {
    if worker.restarts() == 0 { Err("once more".into()) } else { Ok(bytes.len()) }
}

/// Writes into the bytes where they lie, and names a part of them.
fn stamp(worker: &mut Worker, bytes: Bytes) -> Result<Bytes, WorkerError> {
    let mapped = bytes.map(&worker.backend())?;
    let mut first = [0; 4];
    mapped.read(0, &mut first)?;
    first.reverse();
    mapped.write(mapped.len() - 8, &first)?;
    // What is beyond them is not its own.
    assert!(mapped.write(mapped.len(), &[1]).is_err() && mapped.read(1, &mut first).is_err());
    Ok(Bytes::in_segment(mapped.segment(), 8..24)?)
}

/// Gives back much once it is told to stop.
fn waits(worker: &mut Worker, len: usize) -> Result<Octets, WorkerError> {
    worker.handle_terminate();
    worker.unblock_signals()?;
    worker.ready();
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    Ok(vec![7; len])
}

/// Would fail if they were copied: the budget is used up, and the caller's own bytes change.
fn bytes_in_a_segment_are_not_copied() {
    let cluster = cluster(0);
    let segment = cluster.backend.create_segment(BUDGET).unwrap();
    assert!(cluster.backend.create_segment(8).is_err(), "nothing is left for a copy");
    segment.write(0, &[9; 64]).unwrap();
    segment.write(16, &[1, 2, 3, 4]).unwrap();
    let bytes = Bytes::in_segment(&segment, 16..1 << 20).unwrap();
    assert_eq!((bytes.segment(), bytes.len()), (segment.handle(), (1 << 20) - 16));
    let call = cluster.backend.call::<Bytes, Bytes>("stamp", &bytes).unwrap();
    let part = call.wait_timeout(PATIENCE).unwrap().into_output().unwrap();
    assert_eq!(part, Bytes::in_segment(&segment, 8..24).unwrap());
    let mut written = [0; 8];
    segment.read((1 << 20) - 8, &mut written).unwrap();
    assert_eq!(written, [4, 3, 2, 1, 0, 0, 0, 0]);
    // Who holds them has them once more, with a place of their own.
    let mapped = part.map(&cluster.backend).unwrap();
    let mut found = [0; 12];
    mapped.read(0, &mut found).unwrap();
    assert_eq!(found, [9, 9, 9, 9, 9, 9, 9, 9, 1, 2, 3, 4]);
    cluster.end();
}

fn bytes_that_lie_nowhere_are_an_error() {
    let cluster = cluster(0);
    let segment = cluster.backend.create_segment(4096).unwrap();
    for range in [4090..4097, 4096..5000, 8..usize::MAX, usize::MAX - 7..usize::MAX, 4..8] {
        let refused = Bytes::in_segment(&segment, range.clone());
        assert!(refused.is_err(), "{range:?}: {refused:?}");
    }
    let all = Bytes::in_segment(&segment, 0..4096).unwrap();
    assert!(Bytes::in_segment(&segment, 4096..4096).unwrap().is_empty());
    // Anybody may say anything: they are three numbers to a call.
    let forged: [Bytes; 3] = [
        (segment.handle().to_bits(), 0, u64::MAX),
        (segment.handle().to_bits(), u64::MAX - 7, 16),
        (segment.handle().to_bits() ^ 1, 0, 8),
    ]
    .map(|numbers| {
        let numbers = <[u64; 3]>::from(numbers).into_iter();
        Bytes::deserialize(SeqDeserializer::<_, serde::de::value::Error>::new(numbers)).unwrap()
    });
    for bytes in forged {
        let refused = bytes.map(&cluster.backend);
        assert!(refused.is_err(), "{refused:?}");
    }
    drop(segment);
    // Asked for again, since the postmaster is told of the drop, and does not answer.
    wait_until("nobody holds it", PATIENCE, || all.map(&cluster.backend).is_err());
    cluster.end();
}

fn cluster(spares: usize) -> Cluster {
    let cluster = Cluster::with(|builder| {
        builder
            .max_workers(8)
            .warm_spares(spares)
            .segment_bytes(BUDGET)
            .call("turned", call(turned))
            .call("stamp", call(stamp))
            .call("long", call(long))
            .call("count", call(count))
            .call("waits", call(waits))
    });
    wait_for_spares(&cluster, spares);
    cluster
}

/// All bytes of the budget can be had.
#[track_caller]
fn nothing_is_left(backend: &Backend) {
    wait_until("the whole budget is free", PATIENCE, || backend.create_segment(BUDGET).is_ok());
}

#[track_caller]
fn output(call: &Call<Octets>) -> Octets {
    call.wait_timeout(PATIENCE).unwrap().into_output().unwrap()
}

/// Would fail if a value were cut or changed where it moves from the slot into a segment.
fn values_of_any_size_go_in_and_come_out() {
    for spares in [0, 2] {
        let cluster = cluster(spares);
        // A version, a length in one to four bytes, and the bytes: 1,024 are the most in a slot.
        let sizes = [0, 124, 125, 126, 127, 1020, 1021, 1022, 1023, 4096, 100_000, 1 << 20];
        for size in sizes {
            let bytes: Octets = (0..size).map(|at| at as u8).collect();
            let call = cluster.backend.call::<Octets, Octets>("turned", &bytes).unwrap();
            let turned: Octets = bytes.into_iter().rev().collect();
            for look in [output(&call), output(&call.clone()), output(&call)] {
                assert!(look == turned, "{size}");
            }
            let call = cluster.backend.call::<usize, Octets>("long", &size).unwrap();
            assert!(output(&call) == vec![7; size], "{size}");
        }
        nothing_is_left(&cluster.backend);
        cluster.end();
    }
}

/// Would fail if such a call hung, or if its error did not say what the limit is.
fn a_value_beyond_the_budget_is_refused_by_name() {
    let cluster = cluster(0);
    let too_much = vec![1; usize::try_from(BUDGET).unwrap() + 1];
    let refused = cluster.backend.call::<Octets, Octets>("turned", &too_much).map(drop);
    let Err(CallError::Segment(error @ SegmentError::Full { .. })) = refused else {
        panic!("{refused:?}")
    };
    let says_which = |text: &str| text.contains(&too_much.len().to_string()[..4]);
    assert!(says_which(&error.to_string()), "{error}");
    let call = cluster.backend.call::<usize, Octets>("long", &too_much.len()).unwrap();
    let failed = call.wait_timeout(PATIENCE).unwrap();
    let Outcome::Failed { text, causes, .. } = &failed else { panic!("{failed}") };
    assert_eq!(text, "the output cannot be given back in a segment");
    assert!(says_which(&causes[0]), "{failed}");
    assert!(cluster.backend.workers().is_empty());
    nothing_is_left(&cluster.backend);
    cluster.end();
}

/// Would fail if an input that does not fit beside them were refused.
fn names_in_a_description_leave_less_room_in_the_slot() {
    let cluster = cluster(0);
    let (target, _) = {
        let target = BackgroundWorker::builder("target").function("sleep").unique();
        cluster.start(&target.build().unwrap())
    };
    for size in [1000, 1021] {
        let description =
            BackgroundWorker::builder("a call").after("target", bgw_backend::After::Started);
        let bytes = vec![3; size];
        let call = cluster.backend.call_as::<Octets, Octets>(description, "turned", &bytes, None);
        assert_eq!(output(&call.unwrap()), bytes);
    }
    started(&target);
    cluster.end();
}

/// Would fail if a look took the value from the next one, or if a value outlived its last call.
fn a_large_value_stays_as_long_as_its_call_and_no_longer() {
    let cluster = cluster(0);
    let size = usize::try_from(BUDGET / 2).unwrap();
    let is_full = || cluster.backend.create_segment(BUDGET / 2 + (1 << 16)).is_err();
    // Looked at.
    let call = cluster.backend.call::<usize, Octets>("long", &size).unwrap();
    let clone = call.clone();
    assert_eq!(output(&call).len(), size);
    drop(call);
    assert!(is_full());
    assert_eq!(output(&clone).len(), size);
    drop(clone);
    nothing_is_left(&cluster.backend);
    // Not looked at.
    let call = cluster.backend.call::<usize, Octets>("long", &size).unwrap();
    let stranger = cluster.backend.handle(call.handle().id());
    stranger.wait_for_end_timeout(PATIENCE).unwrap();
    assert!(is_full());
    drop(call);
    nothing_is_left(&cluster.backend);
    // Dropped before it has an output.
    let call = cluster.backend.call::<usize, Octets>("waits", &size).unwrap();
    let handle = cluster.backend.handle(call.handle().id());
    ready(&handle);
    drop(call);
    handle.terminate().unwrap();
    handle.wait_for_end_timeout(PATIENCE).unwrap();
    nothing_is_left(&cluster.backend);
    // An output although it was cancelled; and a worker that is killed before it has any.
    let call = cluster.backend.call::<usize, Octets>("waits", &size).unwrap();
    ready(call.handle());
    call.cancel().unwrap();
    assert_eq!(output(&call).len(), size);
    let killed = cluster.backend.call::<usize, Octets>("waits", &size).unwrap();
    kill(ready(killed.handle()), Signal::SIGKILL);
    assert!(matches!(killed.wait_timeout(PATIENCE).unwrap(), Outcome::Died(_)));
    drop((call, killed));
    nothing_is_left(&cluster.backend);
    cluster.end();
}

/// Would fail if the first run took the input along.
fn a_large_input_is_there_for_each_run() {
    let cluster = cluster(0);
    let at_once = RestartPolicy::Fixed(Duration::ZERO);
    let description = BackgroundWorker::builder("twice").restart(at_once);
    let bytes = vec![5; 1 << 20];
    let call =
        cluster.backend.call_as::<Octets, usize>(description, "count", &bytes, None).unwrap();
    let counted = call.wait_timeout(PATIENCE).unwrap();
    assert_eq!(counted.runs(), Some(2));
    assert_eq!(counted.into_output().unwrap(), bytes.len());
    drop(call);
    nothing_is_left(&cluster.backend);
    cluster.end();
}

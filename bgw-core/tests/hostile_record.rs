//! The promise: any bytes in a slot and any words beside the slots give a value or an error, and a
//! description that comes out of them is as valid as one from the builder. What was written in
//! order comes back unchanged.
//!
//! Would catch: a length or code that is trusted, a text that is read beyond its field, a report or
//! wait event that a view could not show, a field that is lost on the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/parts.rs"]
mod parts;

use bgw_core::internals::{
    ClusterCells, CorruptRecord, LAYOUT_TAG, PostmasterCells, ReportRecord, RunState, WorkerRecord,
    WorkerSlots, run_state,
};
use bgw_core::{
    BackgroundWorker, BackgroundWorkerBuilder, EntryPoint, Grace, InvalidWorker, Pid, Ready,
    RestartOn, RestartPolicy, StartTime, StopSignal, WorkerFlags, WorkerHandle,
};
use parts::{failed_member, relate, relations, stop};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use shmem_slots::{Memory, Snapshot};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const NAME_LIMIT: usize = 95;
const TYPE_LIMIT: usize = 95;
const FUNCTION_LIMIT: usize = 95;
const LIBRARY_LIMIT: usize = 1023;
const EXTRA_LEN: usize = 128;
const TAG_LIMIT: usize = 31;

/// How many shared cells a region has.
const REGION_CELLS: u32 = 528;

const RECORD: usize = size_of::<WorkerRecord>();
const REPORT: usize = size_of::<ReportRecord>();

fn run<S: Strategy<Value: Debug>>(strategy: S, test: impl Fn(S::Value)) {
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let done = runner.run(&strategy, |value| {
        test(value);
        Ok(())
    });
    if let Err(error) = done {
        panic!("{error}");
    }
}

/// A text that is shown: no control characters, `limit` bytes at most, often exactly.
fn shown(least: usize, limit: usize) -> impl Strategy<Value = String> {
    prop_oneof!["[a-z ]{1,8}", "[ -~]{90,1100}", "[äß北✓x]{20,400}"].prop_map(move |mut text| {
        let end = (0..=text.len().min(limit)).rev().find(|&at| text.is_char_boundary(at)).unwrap();
        text.truncate(end);
        assert!(text.len() >= least);
        text
    })
}

fn entry() -> impl Strategy<Value = EntryPoint> {
    let function = || shown(1, FUNCTION_LIMIT);
    prop_oneof![
        function().prop_map(EntryPoint::Function),
        (shown(1, LIBRARY_LIMIT), function())
            .prop_map(|(path, function)| EntryPoint::Library { path, function }),
        // Empty arguments, and as many as fit.
        (shown(1, 500), vec("[^\u{0}]{0,20}", 0..7))
            .prop_map(|(program, args)| EntryPoint::Command { program, args }),
    ]
}

/// A policy, what may be said about it, and a few numbers.
type RestartNumbers = (Option<RestartPolicy>, [bool; 6], [u64; 4], Vec<u8>);

fn restart_numbers() -> impl Strategy<Value = RestartNumbers> {
    let day = 86_400_000u64;
    let millis = Duration::from_millis;
    let policy = prop_oneof![
        Just(None),
        (0..=day).prop_map(move |time| Some(RestartPolicy::Fixed(millis(time)))),
        (0..=2_000u64).prop_map(move |time| Some(RestartPolicy::Fixed(millis(time)))),
        (1..=day, 1..=day, 1_000..=10_000u32).prop_map(move |(one, other, factor)| {
            let (min, max) = (millis(one.min(other)), millis(one.max(other)));
            Some(RestartPolicy::Backoff { min, max, factor: f64::from(factor) / 1000.0 })
        }),
    ];
    let numbers = (0..=500u64, 1..=day, 1..=100u64, 1..=day).prop_map(<[u64; 4]>::from);
    (policy, any::<[bool; 6]>(), numbers, vec(1..=255u8, 0..4))
}

/// As much of the numbers as goes together with the rest.
fn restarts(
    mut builder: BackgroundWorkerBuilder,
    (policy, said, numbers, codes): &RestartNumbers,
    flags: WorkerFlags,
) -> BackgroundWorkerBuilder {
    let [jitter, reset_after, count, within] = *numbers;
    let Some(policy) = policy.filter(|_| !flags.contains(WorkerFlags::CLASS_PARALLEL)) else {
        return builder;
    };
    builder = builder.restart(policy);
    if said[0] {
        builder = builder.jitter(jitter as f64 / 1000.0);
    }
    if said[1] {
        builder = builder.reset_after(Duration::from_millis(reset_after));
    }
    if said[2] {
        let on = [RestartOn::OnFailure, RestartOn::OnAbnormal, RestartOn::Always];
        builder = builder.restart_on(on[count as usize % 3]);
    }
    if said[3] && !flags.contains(WorkerFlags::SHMEM_ACCESS) {
        builder = builder.final_codes(codes.iter().copied());
    }
    if said[4] && matches!(policy, RestartPolicy::Fixed(d) if d < Duration::from_secs(1)) {
        builder = builder.unbraked();
    }
    let limited = builder.clone().give_up(count as u32, Duration::from_millis(within));
    if said[5] && limited.clone().function("f").build().is_ok() {
        builder = limited;
    }
    builder
}

/// Any valid description.
fn worker() -> impl Strategy<Value = BackgroundWorker> {
    let texts =
        (shown(1, NAME_LIMIT), proptest::option::of(shown(0, TYPE_LIMIT)), shown(0, TAG_LIMIT));
    let times =
        [StartTime::PostmasterStart, StartTime::ConsistentState, StartTime::RecoveryFinished];
    let numbers = (
        0..64u32,
        proptest::sample::select(times.to_vec()),
        restart_numbers(),
        any::<u64>(),
        vec(any::<u8>(), 0..=EXTRA_LEN),
        proptest::option::of(1..=Pid::MAX),
    );
    (texts, numbers, entry(), stop(), relations()).prop_map(
        |(texts, numbers, entry, stop, others)| {
            let (name, kind, tag) = texts;
            let (bits, start_time, restart, main_arg, extra, notify) = numbers;
            let mut flags = WorkerFlags::from_bits_truncate(bits);
            if start_time == StartTime::PostmasterStart
                || !flags.contains(WorkerFlags::SHMEM_ACCESS)
            {
                flags -= WorkerFlags::DATABASE_CONNECTION;
            }
            let mut builder = BackgroundWorker::builder(name)
                .worker_type(kind.unwrap_or_default())
                .tag(tag)
                .flags(flags)
                .start_time(start_time)
                .grace(stop.1)
                .main_arg(main_arg)
                .extra(&extra);
            if let Some(notify) = notify.and_then(Pid::new) {
                builder = builder.notify(notify);
            }
            let mut builder = restarts(builder, &restart, flags);
            let is_command = matches!(entry, EntryPoint::Command { .. });
            if is_command || stop.0.is_for_functions() {
                builder = builder.stop(stop.0);
            }
            let builder = match entry {
                EntryPoint::Function(name) if main_arg % 2 == 0 => builder.function(name),
                EntryPoint::Function(name) => builder
                    .function(name)
                    .ready(Ready::Call)
                    .start_attempts(main_arg as u32 % 100 + 1),
                EntryPoint::Library { path, function } => builder.library(path, function),
                EntryPoint::Command { program, args } => builder.command(program, args),
            };
            relate(builder, others)
        },
    )
}

/// A word as somebody might write it who knows the layout, or does not.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        2 => Just(0),
        2 => Just(u64::MAX),
        3 => any::<u64>(),
        2 => (0..64u32).prop_map(|bit| 1 << bit),
        2 => 0..1100u64,
        2 => (0..1100u64, 0..8u64).prop_map(|(low, high)| high << 32 | low),
    ]
}

fn slots() -> Arc<WorkerSlots> {
    Arc::clone(PostmasterCells::create(6, 0).unwrap().slots())
}

/// The record goes into a slot and out of it, as between a backend and the postmaster.
fn through_a_slot(slots: &WorkerSlots, record: &WorkerRecord) -> WorkerRecord {
    let mut claim = slots.claim(1).unwrap();
    claim.write(record).unwrap();
    let key = claim.publish(0).unwrap();
    let copy = slots.read(key).unwrap();
    slots.free(key).unwrap();
    copy
}

/// Fails when a field is left out, cut, or written over another one.
#[test]
fn a_valid_worker_comes_back_from_a_slot_unchanged() {
    let slots = slots();
    run((worker(), 1..=Pid::MAX), |(worker, by)| {
        let by = Pid::new(by).unwrap();
        let record = through_a_slot(&slots, &WorkerRecord::encode(&worker, by));
        assert_eq!(record.decode(), Ok(worker));
        assert_eq!(record.registered_by(), Some(by));
    });
}

/// Whatever decodes has passed the validation: it can be written again, and shown.
fn value_or_error(record: &WorkerRecord) {
    let _ = record.registered_by();
    match record.decode() {
        Ok(worker) => {
            let again = WorkerRecord::encode(&worker, Pid::this()).decode();
            assert_eq!(again.as_ref(), Ok(&worker));
            let shown = [worker.name(), worker.worker_type(), worker.tag()];
            assert!(!shown.iter().any(|text| text.chars().any(char::is_control)), "{shown:?}");
            assert!(shown.iter().all(|text| text.len() <= NAME_LIMIT));
            assert!(WorkerFlags::all().contains(worker.flags()));
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty() && !text.chars().any(char::is_control), "{text:?}");
        }
    }
}

#[test]
fn any_words_as_a_record_give_a_worker_or_an_error() {
    run(vec(word(), RECORD / 8), |words| {
        value_or_error(&bytemuck::pod_read_unaligned(bytemuck::cast_slice(&words)));
    });
}

/// A good record in which a few bytes or words are not: it gets further than noise does.
#[test]
fn a_record_that_is_spoilt_in_places_gives_a_worker_or_an_error() {
    let bytes = vec((0..RECORD, any::<u8>()), 0..6);
    let words = vec((0..RECORD / 4, prop_oneof![0..1200u32, any::<u32>()]), 0..3);
    run((worker(), bytes, words), |(worker, bytes, words)| {
        let mut record = WorkerRecord::encode(&worker, Pid::this());
        for (at, word) in words {
            bytemuck::bytes_of_mut(&mut record)[4 * at..][..4].copy_from_slice(&word.to_ne_bytes());
        }
        for (at, byte) in bytes {
            bytemuck::bytes_of_mut(&mut record)[at] = byte;
        }
        value_or_error(&record);
    });
}

fn encoded(change: impl Fn(BackgroundWorkerBuilder) -> BackgroundWorkerBuilder) -> WorkerRecord {
    let builder = BackgroundWorker::builder("name").flags(WorkerFlags::SHMEM_ACCESS).function("f");
    WorkerRecord::encode(&change(builder).build().unwrap(), Pid::new(1).unwrap())
}

/// A record whose field has `value`: the field in which `one` and `two` differ first.
fn with<const N: usize>(one: &WorkerRecord, two: &WorkerRecord, value: [u8; N]) -> WorkerRecord {
    let bytes = bytemuck::bytes_of(one).iter().zip(bytemuck::bytes_of(two));
    let at = bytes.clone().position(|(one, two)| one != two).unwrap();
    // A number lies at a multiple of its size, a text begins with the byte that differs.
    let at = if N.is_power_of_two() { at / N * N } else { at };
    let mut record = *one;
    bytemuck::bytes_of_mut(&mut record)[at..at + N].copy_from_slice(&value);
    record
}

/// Fails when a number of the record is used unchecked. The postmaster writes the same text to its
/// log, so it names the field and the value.
#[test]
fn a_number_that_means_nothing_is_named_with_its_field() {
    let stops = (encoded(|b| b), encoded(|b| b.stop(StopSignal::Int)));
    let stop = |number: i32| with(&stops.0, &stops.1, number.to_ne_bytes()).decode();
    assert_eq!(stop(StopSignal::Usr2.number()).unwrap().stop(), StopSignal::Usr2);
    let refused = |worker: Result<_, CorruptRecord>, facts: [&str; 2]| {
        let error = worker.unwrap_err();
        assert!(matches!(error, CorruptRecord::Invalid(_)), "{error}");
        assert!(facts.iter().all(|fact| error.to_string().contains(fact)), "{error}");
    };
    for (number, name) in [(9, "SIGKILL"), (19, "SIGSTOP"), (0, "signal 0"), (-1, "signal -1")] {
        refused(stop(number), ["stop is", name]);
    }
    refused(stop(3), ["stop is SIGQUIT", "a command"]);
    let graces = (encoded(|b| b), encoded(|b| b.grace(Grace::Forever)));
    let grace = |millis: i32| with(&graces.0, &graces.1, millis.to_ne_bytes()).decode();
    let day = Duration::from_secs(86_400);
    assert_eq!(grace(86_400_000).unwrap().grace(), Grace::After(day));
    for found in [-4, i32::MIN] {
        let number = CorruptRecord::Number { field: "grace", found: found.into() };
        assert_eq!(grace(found), Err(number));
    }
    refused(grace(86_400_001), ["grace is 86400.001s", "a day"]);

    let (plain, later) = (encoded(|b| b), encoded(|b| b.start_time(StartTime::PostmasterStart)));
    let (library, longer) = (encoded(|b| b.library("x", "f")), encoded(|b| b.library("xy", "f")));
    let notify = encoded(|b| b.notify(Pid::new(1).unwrap()));
    let flags = encoded(|b| b.flags(WorkerFlags::empty()));
    for found in [3, 4, u32::MAX] {
        let number = |field| Err(CorruptRecord::Number { field, found: found.into() });
        let spoilt = with(&plain, &later, found.to_ne_bytes());
        assert_eq!(spoilt.decode(), number("start_time"));
        let found = found.max(1025);
        let number = |field| Err(CorruptRecord::Number { field, found: found.into() });
        // 3 is a command.
        let spoilt = with(&plain, &library, found.to_ne_bytes());
        assert_eq!(spoilt.decode(), number("entry"));
        let spoilt = with(&library, &longer, found.to_ne_bytes());
        assert_eq!(spoilt.decode(), number("text_len"));
        let found = found.max(Pid::MAX + 1);
        let number = |field| Err(CorruptRecord::Number { field, found: found.into() });
        let spoilt = with(&plain, &notify, found.to_ne_bytes());
        assert_eq!(spoilt.decode(), number("notify"));
    }
    let spoilt = with(&plain, &flags, 0x8000_0001_u32.to_ne_bytes());
    let wrong = InvalidWorker::UnknownFlags { bits: 0x8000_0000 };
    assert_eq!(spoilt.decode(), Err(CorruptRecord::Invalid(wrong)));
    // A text without its NUL ends with its field, one byte earlier.
    let (one, two) = (encoded(|b| b), encoded(|b| b.worker_type("x")));
    let full = with(&one, &two, [b'y'; TYPE_LIMIT + 1]);
    assert_eq!(full.decode().unwrap().worker_type(), "y".repeat(TYPE_LIMIT));
    let spoilt = with(&one, &two, [0xff]);
    assert_eq!(spoilt.decode(), Err(CorruptRecord::Text { field: "worker_type" }));
}

#[test]
fn any_words_as_a_report_give_a_report_or_an_error() {
    let input = (0..9u32, vec(word(), REPORT / 8), any::<bool>(), vec(any::<u8>(), 0..1500));
    run(input, |(kind, mut words, likely, annex)| {
        if likely {
            words[0] = words[0] << 32 | u64::from(kind);
        }
        let record: ReportRecord = bytemuck::pod_read_unaligned(bytemuck::cast_slice(&words));
        match record.decode(&annex) {
            Ok(report) => {
                // A failed member of its group is of the report's own incarnation.
                let failed = report.given_up.and_then(failed_member);
                let of = failed.map_or(1, WorkerHandle::incarnation);
                let (record, annex) = ReportRecord::encode(&report, of);
                assert_eq!(record.decode(&annex).as_ref(), Ok(&report));
                assert!(!report.to_string().chars().any(char::is_control));
            }
            Err(error) => assert!(matches!(error, CorruptRecord::Number { .. }), "{error}"),
        }
    });
}

/// Every question to the cells beside the slots, inside and outside of the array.
fn ask_everything(slots: &WorkerSlots, word: u32) {
    let cells = ClusterCells::new(slots);
    let _ = (cells.incarnation(), cells.phase());
    let (general, parallel) = (cells.slots_of(false), cells.slots_of(true));
    assert_eq!((general.start, parallel.end), (0, slots.capacity()));
    assert!(general.end <= parallel.end && parallel.start <= parallel.end, "{parallel:?}");
    let classes = cells.slot_classes();
    let ends = classes.classes().flat_map(|class| classes.ranges(class)).map(|range| range.end);
    assert!(ends.max().is_some_and(|end| end <= slots.capacity()), "{classes:?}");
    if let Some(watch) = cells.watch_postmaster(word) {
        assert_eq!(watch.seen & libc::FUTEX_OWNER_DIED, 0);
    }
    cells.wake_liveness_waiters();
    for index in [0, slots.capacity() - 1, slots.capacity(), word, u32::MAX] {
        let inside = index < slots.capacity();
        assert_eq!(cells.latch(index).is_some(), inside);
        if let Some(latch) = cells.latch(index) {
            let _ = latch.set();
            assert!(latch.is_set(latch.seen()));
            assert!(!latch.is_set(latch.reset()));
        }
        assert!(inside || !cells.cleanup_needed(index));
        assert!(inside || cells.started_at(index).is_none());
        if let Some(name) = cells.wait_event(index) {
            assert!(inside && !name.is_empty());
            assert!(!name.chars().any(char::is_control), "{name:?}");
        }
    }
}

#[test]
fn any_words_beside_the_slots_give_an_answer_that_can_be_shown() {
    let slots = slots();
    run((vec(word(), 1..100), any::<u32>()), |(words, word)| {
        let mut words = words.iter().cycle();
        let cells = slots.writable_cells().unwrap();
        for number in 0..REGION_CELLS {
            cells.shared_cell(number).unwrap().store(*words.next().unwrap(), Ordering::Relaxed);
        }
        for (index, place) in
            (0..slots.capacity()).flat_map(|at| (0..8).map(move |place| (at, place)))
        {
            cells.slot_cell(index, place).unwrap().store(*words.next().unwrap(), Ordering::Relaxed);
        }
        ask_everything(&slots, word);
    });
    assert!(slots.memory().cells().len() > REGION_CELLS as usize);
}

#[test]
fn any_word_of_a_slot_has_a_run_state() {
    run(word(), |bits| {
        let word = Snapshot::from_bits(bits);
        if let RunState::Started(pid) = run_state(word) {
            assert_eq!(pid.get(), word.pid());
        }
    });
}

/// Fails when another layout would be taken for this one.
#[test]
fn a_region_with_another_tag_is_refused() {
    use std::os::fd::AsFd;
    let slots = slots();
    let file = || slots.region().as_fd().try_clone_to_owned().unwrap();
    let access = shmem_slots::Access::ReadOnly;
    assert!(WorkerSlots::attach(file(), LAYOUT_TAG, access).is_ok());
    assert!(WorkerSlots::attach(file(), LAYOUT_TAG ^ 1, access).is_err());
}

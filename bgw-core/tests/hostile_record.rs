//! The promise: any bytes in a slot and any words beside the slots give a value or an error, and a
//! description that comes out of them is as valid as one from the builder. What was written in order
//! comes back unchanged.
//!
//! Would catch: a length or code that is trusted, a text that is read beyond its field, a report or
//! wait event that a view could not show, a field that is lost on the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bgw_core::internals::{
    ClusterCells, CorruptRecord, LAYOUT_TAG, PostmasterCells, ReportRecord, RunState, WorkerRecord,
    WorkerSlots, run_state,
};
use bgw_core::{
    BackgroundWorker, BackgroundWorkerBuilder, EntryPoint, ExitCause, ExitReport, InvalidWorker,
    NotStarted, Pid, RestartPolicy, StartTime, WorkerFlags,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use shmem_slots::{Memory, Snapshot};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const NAME_LIMIT: usize = 95;
const TYPE_LIMIT: usize = 95;
const FUNCTION_LIMIT: usize = 95;
const LIBRARY_LIMIT: usize = 1023;
const EXTRA_LEN: usize = 128;
const TAG_LIMIT: usize = 31;
const MAX_RESTART: Duration = Duration::from_secs(86_400);

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

/// Any valid description.
fn worker() -> impl Strategy<Value = BackgroundWorker> {
    let texts =
        (shown(1, NAME_LIMIT), proptest::option::of(shown(0, TYPE_LIMIT)), shown(0, TAG_LIMIT));
    let times =
        [StartTime::PostmasterStart, StartTime::ConsistentState, StartTime::RecoveryFinished];
    let numbers = (
        0..64u32,
        proptest::sample::select(times.to_vec()),
        proptest::option::of(0..=86_400_000u64),
        any::<u64>(),
        vec(any::<u8>(), 0..=EXTRA_LEN),
        proptest::option::of(1..=Pid::MAX),
    );
    (texts, numbers, entry()).prop_map(|((name, kind, tag), numbers, entry)| {
        let (bits, start_time, restart, main_arg, extra, notify) = numbers;
        let mut flags = WorkerFlags::from_bits_truncate(bits);
        if start_time == StartTime::PostmasterStart || !flags.contains(WorkerFlags::SHMEM_ACCESS) {
            flags -= WorkerFlags::DATABASE_CONNECTION;
        }
        let restart = match restart {
            Some(millis) if !flags.contains(WorkerFlags::CLASS_PARALLEL) => {
                RestartPolicy::After(Duration::from_millis(millis))
            }
            _ => RestartPolicy::Never,
        };
        let mut builder = BackgroundWorker::builder(name)
            .worker_type(kind.unwrap_or_default())
            .tag(tag)
            .flags(flags)
            .start_time(start_time)
            .restart(restart)
            .main_arg(main_arg)
            .extra(&extra);
        if let Some(notify) = notify.and_then(Pid::new) {
            builder = builder.notify(notify);
        }
        let builder = match entry {
            EntryPoint::Function(name) => builder.function(name),
            EntryPoint::Library { path, function } => builder.library(path, function),
            EntryPoint::Command { program, args } => builder.command(program, args),
        };
        builder.build().unwrap()
    })
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
    let at = bytes.clone().position(|(one, two)| one != two).unwrap() / N * N;
    let mut record = *one;
    bytemuck::bytes_of_mut(&mut record)[at..at + N].copy_from_slice(&value);
    record
}

/// Fails when a number of the record is used unchecked. The postmaster writes the same text to its
/// log, so it names the field and the value.
#[test]
fn a_number_that_means_nothing_is_named_with_its_field() {
    let millis = |count| RestartPolicy::After(Duration::from_millis(count));
    let restart = |value: i64| {
        let (one, two) = (encoded(|b| b.restart(millis(0))), encoded(|b| b.restart(millis(1))));
        with(&one, &two, value.to_ne_bytes()).decode()
    };
    assert_eq!(restart(86_400_000).unwrap().restart(), millis(86_400_000));
    assert_eq!(restart(-1).unwrap().restart(), RestartPolicy::Never);
    for found in [-2, -60_000, i64::MIN] {
        assert_eq!(restart(found), Err(CorruptRecord::Number { field: "restart", found }));
    }
    for millis in [86_400_001, i64::MAX] {
        let interval = Duration::from_millis(millis as u64);
        let wrong = InvalidWorker::RestartOutOfRange { interval, limit: MAX_RESTART };
        assert_eq!(restart(millis), Err(CorruptRecord::Invalid(wrong)));
    }

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
    run((0..9u32, vec(word(), REPORT / 8), any::<bool>()), |(kind, mut words, likely)| {
        if likely {
            words[0] = words[0] << 32 | u64::from(kind);
        }
        let record: ReportRecord = bytemuck::pod_read_unaligned(bytemuck::cast_slice(&words));
        match record.decode() {
            Ok(report) => {
                assert_eq!(ReportRecord::encode(&report).decode(), Ok(report));
                assert!(!report.to_string().chars().any(char::is_control));
            }
            Err(error) => assert!(matches!(error, CorruptRecord::Number { .. }), "{error}"),
        }
    });
}

/// Times that do not fit are the longest that do; a clock before 1970 is 1970.
#[test]
fn any_report_comes_back_with_its_times_in_range() {
    let report = ExitReport {
        cause: ExitCause::NotStarted(NotStarted::ForkFailed { errno: i32::MIN }),
        pid: Pid::new(Pid::MAX),
        restarts: u32::MAX,
        requested: true,
        unregistered: false,
        ended_at: UNIX_EPOCH - Duration::from_secs(1),
        ran_for: Duration::MAX,
        user_time: Duration::from_nanos(u64::MAX),
        system_time: Duration::ZERO,
        max_rss_kib: u64::MAX,
    };
    let longest = Duration::from_nanos(u64::MAX);
    let fits = ExitReport { ended_at: SystemTime::UNIX_EPOCH, ran_for: longest, ..report };
    assert_eq!(ReportRecord::encode(&report).decode(), Ok(fits));
}

/// Every question to the cells beside the slots, inside and outside of the array.
fn ask_everything(slots: &WorkerSlots, word: u32) {
    let cells = ClusterCells::new(slots);
    let _ = (cells.incarnation(), cells.phase());
    let (general, parallel) = (cells.slots_of(false), cells.slots_of(true));
    assert_eq!((general.start, general.end, parallel.end), (0, parallel.start, slots.capacity()));
    assert!(general.end <= slots.capacity(), "{general:?}");
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

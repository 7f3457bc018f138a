//! Every refusal of what a description says about restarts, from the builder and from a slot.

use crate::pid::Pid;
use crate::shared::WorkerRecord;
use crate::shared::corrupt::CorruptRecord;
use crate::shared::restart_record::{BACKOFF, READY_CALL, READY_NEWLINE, RestartRecord, UNBRAKED};
use crate::worker::BackgroundWorker;
use crate::worker::WorkerFlags;
use crate::worker::builder::BackgroundWorkerBuilder;
use crate::worker::invalid::InvalidWorker;
use crate::worker::policy::{Ready, RestartOn, RestartPolicy};
use std::time::Duration;

type Build = fn(BackgroundWorkerBuilder) -> BackgroundWorkerBuilder;
type Spoil = fn(&mut RestartRecord);

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

fn base() -> BackgroundWorkerBuilder {
    BackgroundWorker::builder("name").function("f")
}

fn backoff(min: u64, max: u64, factor: f64) -> RestartPolicy {
    let (min, max) = (Duration::from_millis(min), Duration::from_millis(max));
    RestartPolicy::Backoff { min, max, factor }
}

/// What a slot with the description of `base`, then spoilt, decodes to.
fn from_slot(build: Build, spoil: Spoil) -> Result<BackgroundWorker, CorruptRecord> {
    let mut record = WorkerRecord::encode(&build(base()).build().unwrap(), Pid::this());
    spoil(&mut record.restarts);
    record.decode()
}

/// Field, facts that the message tells; the builder's way there; a good description, and how a
/// slot with it is spoilt. The two give the same error.
const REFUSALS: &[(&str, &[&str], Build, Build, Spoil)] = &[
    (
        "restart",
        &["min 0", "1ms"],
        |b| b.restart(backoff(0, 10, 2.0)),
        |b| b.restart(backoff(1, 10, 2.0)),
        |r| r.min = 0,
    ),
    (
        "restart",
        &["min 11ms", "max 10ms", "min <= max"],
        |b| b.restart(backoff(11, 10, 2.0)),
        |b| b.restart(backoff(1, 10, 2.0)),
        |r| r.min = 11,
    ),
    (
        "restart",
        &["86400.001s", "86400s"],
        |b| b.restart(backoff(1, 86_400_001, 2.0)),
        |b| b.restart(backoff(1, 10, 2.0)),
        |r| r.max = 86_400_001,
    ),
    (
        "restart",
        &["86400.001s", "86400s"],
        |b| b.restart(RestartPolicy::Fixed(DAY + Duration::from_millis(1))),
        |b| b.restart(RestartPolicy::Fixed(DAY)),
        |r| r.min += 1,
    ),
    (
        "restart",
        &["factor 0.999", "1.0 to 10.0"],
        |b| b.restart(backoff(1, 10, 0.999)),
        |b| b.restart(backoff(1, 10, 1.0)),
        |r| r.factor -= 1,
    ),
    (
        "restart",
        &["factor 10.001", "1.0 to 10.0"],
        |b| b.restart(backoff(1, 10, 10.001)),
        |b| b.restart(backoff(1, 10, 10.0)),
        |r| r.factor += 1,
    ),
    (
        "restart",
        &["Never", "CLASS_PARALLEL"],
        |b| b.flags(WorkerFlags::CLASS_PARALLEL).restart(backoff(1, 10, 2.0)),
        |b| b.flags(WorkerFlags::CLASS_PARALLEL),
        |r| (r.kind, r.min, r.max, r.factor, r.reset_after) = (BACKOFF, 1, 10, 2_000, 1),
    ),
    ("restart_on", &["Always", "Never"], |b| b.restart_on(RestartOn::Always), |b| b, |r| r.on = 3),
    ("final_codes", &["7", "Never"], |b| b.final_codes([7]), |b| b, |r| r.final_codes[0] = 1 << 7),
    (
        "final_codes",
        &["0", "1 to 255"],
        |b| b.restart(RestartPolicy::after_secs(1)).final_codes([0, 1]),
        |b| b.restart(RestartPolicy::after_secs(1)).final_codes([1]),
        |r| r.final_codes[0] |= 1,
    ),
    (
        "final_codes",
        &["2", "SHMEM_ACCESS", "limit is 1"],
        |b| {
            let b = b.flags(WorkerFlags::SHMEM_ACCESS).restart(RestartPolicy::after_secs(1));
            b.final_codes([1, 2])
        },
        |b| {
            let b = b.flags(WorkerFlags::SHMEM_ACCESS).restart(RestartPolicy::after_secs(1));
            b.final_codes([1])
        },
        |r| r.final_codes[0] |= 1 << 2,
    ),
    ("jitter", &["0.25", "Never"], |b| b.jitter(0.25), |b| b, |r| r.jitter = 250),
    (
        "jitter",
        &["0.501", "0 to 0.5"],
        |b| b.restart(RestartPolicy::after_secs(1)).jitter(0.501),
        |b| b.restart(RestartPolicy::after_secs(1)).jitter(0.5),
        |r| r.jitter += 1,
    ),
    ("reset_after", &["1s", "Never"], |b| b.reset_after(SECOND), |b| b, |r| r.reset_after = 1_000),
    (
        "reset_after",
        &["0ns", "1ms to a day"],
        |b| b.restart(RestartPolicy::after_secs(1)).reset_after(Duration::ZERO),
        |b| b.restart(RestartPolicy::after_secs(1)),
        |r| r.reset_after = 0,
    ),
    (
        "reset_after",
        &["86400.001s", "1ms to a day"],
        |b| {
            let b = b.restart(RestartPolicy::after_secs(1));
            b.reset_after(DAY + Duration::from_millis(1))
        },
        |b| b.restart(RestartPolicy::after_secs(1)).reset_after(DAY),
        |r| r.reset_after += 1,
    ),
    (
        "give_up",
        &["3 restarts in 1s", "Never"],
        |b| b.give_up(3, SECOND),
        |b| b,
        |r| (r.give_up, r.give_up_within) = (3, 1_000),
    ),
    (
        "give_up",
        &["0 restarts", "1 to 100"],
        |b| b.restart(RestartPolicy::after_secs(0)).give_up(0, SECOND),
        |b| b.restart(RestartPolicy::after_secs(0)).give_up(1, SECOND),
        |r| r.give_up = 0,
    ),
    (
        "give_up",
        &["101 restarts", "1 to 100"],
        |b| b.restart(RestartPolicy::after_secs(0)).give_up(101, SECOND),
        |b| b.restart(RestartPolicy::after_secs(0)).give_up(100, SECOND),
        |r| r.give_up = 101,
    ),
    (
        "give_up",
        &["0ns", "1ms to a day"],
        |b| b.restart(RestartPolicy::after_secs(0)).give_up(2, Duration::ZERO),
        |b| b.restart(RestartPolicy::after_secs(0)).give_up(2, SECOND),
        |r| r.give_up_within = 0,
    ),
    (
        "give_up",
        &["10 restarts in 60s", "81.1s"],
        |b| b.restart(backoff(100, 30_000, 2.0)).give_up(10, SECOND * 60),
        |b| b.restart(backoff(100, 30_000, 2.0)).give_up(10, SECOND * 90),
        |r| r.give_up_within = 60_000,
    ),
    (
        // The sum must be less, not the same.
        "give_up",
        &["2 restarts in 2s", "take 2s"],
        |b| b.restart(RestartPolicy::after_secs(1)).give_up(2, SECOND * 2),
        |b| b.restart(RestartPolicy::after_secs(1)).give_up(2, SECOND * 3),
        |r| r.give_up_within = 2_000,
    ),
    (
        "start_attempts",
        &["101", "1 to 100"],
        |b| b.ready(Ready::Call).start_attempts(101),
        |b| b.ready(Ready::Call).start_attempts(100),
        |r| r.start_attempts += 1,
    ),
    (
        "start_attempts",
        &["3", "declares"],
        |b| b.restart(RestartPolicy::after_secs(1)).start_attempts(3),
        |b| b.restart(RestartPolicy::after_secs(1)).ready(Ready::Call).start_attempts(3),
        |r| r.bits = 0,
    ),
    (
        "unbraked",
        &["Fixed", "1s"],
        |b| b.restart(RestartPolicy::after_secs(1)).unbraked(),
        |b| b.restart(RestartPolicy::after_secs(1)),
        |r| r.bits = UNBRAKED,
    ),
    (
        "unbraked",
        &["Fixed", "1s"],
        |b| b.restart(backoff(1, 10, 2.0)).unbraked(),
        |b| b.restart(backoff(1, 10, 2.0)),
        |r| r.bits = UNBRAKED,
    ),
    ("unbraked", &["Fixed", "1s"], |b| b.unbraked(), |b| b, |r| r.bits = UNBRAKED),
    (
        "ready",
        &["Call", "command"],
        |b| b.command("true", [""; 0]).ready(Ready::Call),
        |b| b.command("true", [""; 0]),
        |r| r.bits = READY_CALL,
    ),
    (
        "ready",
        &["Newline(2)", "3 to 63"],
        |b| b.command("true", [""; 0]).ready(Ready::Newline(2)),
        |b| b.command("true", [""; 0]).ready(Ready::Newline(3)),
        |r| r.ready_on -= 1,
    ),
    (
        "ready",
        &["Newline(64)", "3 to 63"],
        |b| b.command("true", [""; 0]).ready(Ready::Newline(64)),
        |b| b.command("true", [""; 0]).ready(Ready::Newline(63)),
        |r| r.ready_on += 1,
    ),
    (
        "ready",
        &["Newline(3)", "a command"],
        |b| b.ready(Ready::Newline(3)),
        |b| b,
        |r| (r.bits, r.ready_on) = (READY_NEWLINE, 3),
    ),
    (
        "start_timeout",
        &["30s", "declares"],
        |b| b.start_timeout(30 * SECOND),
        |b| b.ready(Ready::Call).start_timeout(30 * SECOND),
        |r| r.bits = 0,
    ),
];

#[test]
fn each_refusal_names_field_value_and_limit_from_the_builder_and_from_a_slot() {
    for (field, facts, build, good, spoil) in REFUSALS {
        let error = build(base()).build().expect_err(field);
        assert_eq!(error.field(), *field, "{error}");
        let text = error.to_string();
        for fact in [field].into_iter().chain(*facts) {
            assert!(text.contains(fact), "\"{text}\" does not tell {fact}");
        }
        assert_eq!(from_slot(*good, *spoil), Err(CorruptRecord::Invalid(error)), "{field}");
    }
    // What no number of a slot can hold.
    let at = base().restart(RestartPolicy::after_secs(1));
    for jitter in [f64::NAN, f64::INFINITY, -0.001] {
        assert_eq!(at.clone().jitter(jitter).build().unwrap_err().field(), "jitter");
    }
    for factor in [f64::NAN, f64::INFINITY, -2.0] {
        let error = base().restart(backoff(1, 10, factor)).build().unwrap_err();
        assert!(matches!(error, InvalidWorker::OutOfRange { field: "restart", .. }), "{error}");
    }
    let error = base().command("true", [""; 0]).heartbeat(SECOND).build().unwrap_err();
    assert_eq!(error.field(), "heartbeat");
    for every in [Duration::from_millis(99), DAY + Duration::from_millis(1)] {
        let error = base().heartbeat(every).build().unwrap_err();
        assert!(error.to_string().starts_with("heartbeat is "), "{error}");
    }
    assert_eq!(base().abort_grace(SECOND).build().unwrap_err().field(), "abort_grace");
    let long = base().heartbeat(SECOND).abort_grace(61 * SECOND).build().unwrap_err();
    assert_eq!(long.to_string(), "abort_grace is 61s, the limit is 0 to 60s");
    for time in [Duration::ZERO, Duration::from_micros(999), DAY + Duration::from_millis(1)] {
        let error = base().ready(Ready::Call).start_timeout(time).build().unwrap_err();
        assert_eq!(error.field(), "start_timeout");
        assert!(error.to_string().ends_with("1ms to a day"), "{error}");
    }
    let none = base().ready(Ready::Call).start_attempts(0).build().unwrap_err();
    assert_eq!(none.field(), "start_attempts");
}

#[test]
fn a_number_of_a_slot_that_means_nothing_is_named_with_its_field() {
    let corrupt = |spoil: Spoil| match from_slot(|b| b, spoil) {
        Err(CorruptRecord::Number { field, found }) => (field, found),
        other => panic!("{other:?}"),
    };
    assert_eq!(corrupt(|r| r.kind = 3), ("restart", 3));
    assert_eq!(corrupt(|r| r.on = 4), ("restart_on", 4));
    assert_eq!(corrupt(|r| r.bits = 6), ("restart bits", 6));
}

#[test]
fn what_is_just_inside_the_limits_is_taken_and_comes_back_from_a_slot() {
    let good: &[Build] = &[
        |b| b,
        |b| b.ready(Ready::Call).start_attempts(1),
        |b| b.ready(Ready::Call).start_timeout(DAY),
        |b| b.command("true", [""; 0]).ready(Ready::Newline(63)).start_timeout(DAY),
        |b| b.heartbeat(DAY).abort_grace(Duration::ZERO),
        |b| b.heartbeat(Duration::from_millis(100)),
        |b| b.restart(RestartPolicy::Fixed(DAY)).restart_on(RestartOn::OnAbnormal),
        |b| b.restart(RestartPolicy::Fixed(Duration::from_millis(999))).unbraked(),
        |b| b.restart(backoff(1, 1, 1.0)).jitter(0.0).reset_after(Duration::from_millis(1)),
        |b| {
            let b = b.restart(backoff(86_400_000, 86_400_000, 10.0)).jitter(0.5);
            b.restart_on(RestartOn::Always).final_codes(1..=255).reset_after(DAY)
        },
        |b| b.restart(RestartPolicy::after_secs(0)).give_up(100, Duration::from_millis(1)),
        |b| b.restart(RestartPolicy::after_secs(0)).unbraked().give_up(1, DAY),
        |b| b.ready(Ready::Call).restart(backoff(1, 10, 1.999)).start_attempts(100),
    ];
    for (row, build) in good.iter().enumerate() {
        let worker = build(base()).build().unwrap();
        let back = from_slot(*build, |_| {}).unwrap();
        assert_eq!(back, worker, "row {row}");
        // And again, from what came back.
        let again = WorkerRecord::encode(&back, Pid::this()).decode();
        assert_eq!(again.as_ref(), Ok(&worker), "row {row}");
    }
}

#[test]
fn what_is_not_said_has_the_defaults_of_its_policy() {
    let defaults = |policy| {
        let worker = base().restart(policy).build().unwrap();
        assert_eq!(worker.restart_on(), RestartOn::OnFailure);
        assert_eq!((worker.give_up(), worker.start_attempts()), (None, None));
        (worker.jitter(), worker.reset_after())
    };
    assert_eq!(defaults(RestartPolicy::Never), (0.0, None));
    assert_eq!(defaults(RestartPolicy::after_secs(0)), (0.0, Some(SECOND)));
    assert_eq!(defaults(RestartPolicy::after_secs(60)), (0.0, Some(SECOND)));
    assert_eq!(defaults(backoff(1, 10, 2.0)), (0.1, Some(SECOND)));
    assert_eq!(defaults(backoff(1, 30_000, 2.0)), (0.1, Some(SECOND * 30)));
    let doubled = RestartPolicy::backoff(SECOND, SECOND * 2);
    assert_eq!(doubled, backoff(1_000, 2_000, 2.0));
}

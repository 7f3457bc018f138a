//! The records in a slot: a worker's description and the report of its end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a check panics")]

use super::check::assert_harmless;
use bgw_core::internals::{EventRecord, ReportRecord, WorkerRecord};
use bgw_core::{
    After, AskedBy, BackgroundWorker, Event, EventKind, ExitCause, ExitReport, GivenUp, Grace,
    LastWords, NotStarted, NotifyFrom, OutputFile, Pid, Ready, Recycle, Recycled, RestartOn,
    RestartPolicy, Returned, ShutdownMode, StartTime, StopSignal, WorkerFlags, WorkerHandle,
};
use bytemuck::Pod;
use std::time::{Duration, UNIX_EPOCH};

/// The bytes as a record; zeros where there are too few.
fn record<T: Pod>(bytes: &[u8]) -> T {
    let mut whole = vec![0; size_of::<T>()];
    let length = bytes.len().min(whole.len());
    whole[..length].copy_from_slice(&bytes[..length]);
    bytemuck::pod_read_unaligned(&whole)
}

pub(super) fn workers() -> Vec<Vec<u8>> {
    let worker = |name: &str| BackgroundWorker::builder(name).worker_type("a type").tag("a tag");
    let all = [
        worker("function").function("main").extra(&[7; 128]).main_arg(u64::MAX),
        worker("library").library("/usr/lib/library.so", "main").notify(Pid::this()),
        worker("command").command("/bin/sh", ["-c", "exit 1", ""].map(str::to_owned)),
        worker("server")
            .flags(WorkerFlags::SHMEM_ACCESS | WorkerFlags::DATABASE_CONNECTION)
            .start_time(StartTime::ConsistentState)
            .restart(RestartPolicy::Fixed(Duration::from_secs(5)))
            .function("main"),
        worker("restarts")
            .restart(RestartPolicy::backoff(Duration::from_millis(100), Duration::from_secs(60)))
            .restart_on(RestartOn::Always)
            .final_codes([3, 64])
            .jitter(0.5)
            .give_up(5, Duration::from_secs(60))
            .ready(Ready::Call)
            .start_attempts(3)
            .function("main"),
        worker("is watched")
            .restart(RestartPolicy::after_secs(1))
            .ready(Ready::Notify)
            .start_timeout(Duration::from_secs(90))
            .heartbeat(Duration::from_secs(10))
            .notify_from(NotifyFrom::ProcessGroup)
            .stop(StopSignal::Int)
            .grace(Grace::After(Duration::from_secs(3)))
            .recycle(Recycle::new().lifetime(Duration::from_secs(3600)).rss(1 << 30))
            .command("/bin/server", [""; 0]),
        worker("is related")
            .unique()
            .after("first", After::Ready)
            .after("second", After::Done)
            .group("web")
            .output(OutputFile::new("web.log").rotate(1 << 20, 5))
            .last_lines(20)
            .function("main"),
    ];
    let bytes = |worker: BackgroundWorker| {
        bytemuck::bytes_of(&WorkerRecord::encode(&worker, Pid::this())).to_vec()
    };
    all.map(|builder| bytes(builder.build().unwrap())).to_vec()
}

/// A description that is read is valid: it is written and read again unchanged, and can be shown.
pub(super) fn check_worker(bytes: &[u8]) {
    let record: WorkerRecord = record(bytes);
    let _ = record.registered_by();
    match record.decode() {
        Ok(worker) => {
            assert_eq!(WorkerRecord::encode(&worker, Pid::this()).decode().as_ref(), Ok(&worker));
            let texts = [worker.name(), worker.worker_type(), worker.tag()];
            assert!(!texts.iter().any(|text| text.chars().any(char::is_control)), "{texts:?}");
            assert!(WorkerFlags::all().contains(worker.flags()));
        }
        Err(error) => assert_harmless(&error.to_string()),
    }
}

pub(super) fn reports() -> Vec<Vec<u8>> {
    let causes = [
        ExitCause::Exited(1),
        ExitCause::Signaled { signal: 11, core_dumped: true },
        ExitCause::NotStarted(NotStarted::ForkFailed { errno: 11 }),
        ExitCause::NotStarted(NotStarted::Terminated),
    ];
    let bytes = |cause| {
        let report = ExitReport {
            cause,
            pid: Some(Pid::this()),
            restarts: 3,
            asked_by: Some(AskedBy::Terminate),
            killed: true,
            unregistered: false,
            reset: false,
            streak: 4,
            pause: Some(Duration::from_millis(200)),
            given_up: Some(GivenUp::Restarts { count: 3, within: Duration::from_secs(60) }),
            recycled: Some(Recycled::Memory),
            ended_at: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            ran_for: Duration::from_millis(1500),
            user_time: Duration::from_micros(10),
            system_time: Duration::ZERO,
            max_rss_kib: 2048,
            copied_kib: Some(16),
            returned: Returned::new(Some(vec![7; 9]), Some(LastWords::of_panic("no", "a:1:2"))),
        };
        let (record, annex) = ReportRecord::encode(&report, 1);
        [bytemuck::bytes_of(&record), &annex].concat()
    };
    causes.map(bytes).to_vec()
}

/// A report that is read is written and read again unchanged, and can be shown.
pub(super) fn check_report(bytes: &[u8]) {
    let annex = bytes.get(size_of::<ReportRecord>()..).unwrap_or_default();
    match record::<ReportRecord>(bytes).decode(annex) {
        Ok(report) => {
            // A failed member of its group is of the report's own incarnation.
            let of = match report.given_up {
                Some(GivenUp::WithGroup { failed }) => failed.incarnation(),
                _ => 1,
            };
            let (record, annex) = ReportRecord::encode(&report, of);
            assert_eq!(record.decode(&annex).as_ref(), Ok(&report));
            assert_harmless(&report.to_string());
        }
        Err(error) => assert_harmless(&error.to_string()),
    }
}

pub(super) fn events() -> Vec<Vec<u8>> {
    let time = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let event = |kind| {
        let mut event = Event::new(kind, time, Duration::from_secs(70));
        event.handle = Some(WorkerHandle::new(3, 70, 2));
        event.pid = Some(Pid::this());
        event.name = "a worker".to_owned();
        event.cause = Some(ExitCause::Signaled { signal: 9, core_dumped: false });
        event.delay = Some(Duration::from_millis(200));
        event.count = 4;
        bytemuck::bytes_of(&EventRecord::encode(&event)).to_vec()
    };
    let phase = EventKind::Phase(StartTime::RecoveryFinished);
    [EventKind::Restarting, phase, EventKind::Shutdown(ShutdownMode::Fast)].map(event).to_vec()
}

/// An event that is read is written and read again unchanged, and can be shown.
pub(super) fn check_event(bytes: &[u8]) {
    match record::<EventRecord>(bytes).decode(7) {
        Ok(event) => {
            assert_eq!(EventRecord::encode(&event).decode(7).as_ref(), Ok(&event));
            assert_harmless(&event.to_string());
        }
        Err(error) => assert_harmless(&error.to_string()),
    }
}

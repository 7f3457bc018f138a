//! The records in a slot: a worker's description and the report of its end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a check panics")]

use super::check::assert_harmless;
use bgw_core::internals::{ReportRecord, WorkerRecord};
use bgw_core::{
    BackgroundWorker, ExitCause, ExitReport, NotStarted, Pid, RestartPolicy, StartTime, WorkerFlags,
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
            .restart(RestartPolicy::After(Duration::from_secs(5)))
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
            requested: true,
            unregistered: false,
            ended_at: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            ran_for: Duration::from_millis(1500),
            user_time: Duration::from_micros(10),
            system_time: Duration::ZERO,
            max_rss_kib: 2048,
        };
        bytemuck::bytes_of(&ReportRecord::encode(&report)).to_vec()
    };
    causes.map(bytes).to_vec()
}

/// A report that is read is written and read again unchanged, and can be shown.
pub(super) fn check_report(bytes: &[u8]) {
    match record::<ReportRecord>(bytes).decode() {
        Ok(report) => {
            assert_eq!(ReportRecord::encode(&report).decode(), Ok(report));
            assert_harmless(&report.to_string());
        }
        Err(error) => assert_harmless(&error.to_string()),
    }
}

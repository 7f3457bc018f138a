//! An exit report as it lies in a slot.

use super::corrupt::CorruptRecord;
use crate::exit::{ExitCause, ExitReport, NotStarted};
use crate::pid::Pid;
use bytemuck::{Pod, Zeroable};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const EXITED: u32 = 1;
const SIGNALED: u32 = 2;
const CORE_DUMPED: u32 = 3;
const TERMINATED: u32 = 4;
const FORK_FAILED: u32 = 5;
const SHUTTING_DOWN: u32 = 6;
const CLUSTER_RESET: u32 = 7;
const EXEC_FAILED: u32 = 8;
const REFUSED: u32 = 9;

const REQUESTED: u32 = 1;
const UNREGISTERED: u32 = 2;

/// The bytes of one report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ReportRecord {
    kind: u32,
    value: i32,
    pid: u32,
    restarts: u32,
    bits: u32,
    reserved: u32,
    ended_at_nanos: u64,
    ran_for_nanos: u64,
    user_nanos: u64,
    system_nanos: u64,
    max_rss_kib: u64,
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl ReportRecord {
    /// The bytes of `report`.
    #[must_use]
    pub fn encode(report: &ExitReport) -> Self {
        let (kind, value) = match report.cause {
            ExitCause::Exited(code) => (EXITED, i32::from(code)),
            ExitCause::Signaled { signal, core_dumped: false } => (SIGNALED, i32::from(signal)),
            ExitCause::Signaled { signal, core_dumped: true } => (CORE_DUMPED, i32::from(signal)),
            ExitCause::NotStarted(NotStarted::Terminated) => (TERMINATED, 0),
            ExitCause::NotStarted(NotStarted::ForkFailed { errno }) => (FORK_FAILED, errno),
            ExitCause::NotStarted(NotStarted::ExecFailed { errno }) => (EXEC_FAILED, errno),
            ExitCause::NotStarted(NotStarted::Refused) => (REFUSED, 0),
            ExitCause::NotStarted(NotStarted::ShuttingDown) => (SHUTTING_DOWN, 0),
            ExitCause::NotStarted(NotStarted::ClusterReset) => (CLUSTER_RESET, 0),
        };
        let requested = if report.requested { REQUESTED } else { 0 };
        let unregistered = if report.unregistered { UNREGISTERED } else { 0 };
        Self {
            kind,
            value,
            pid: report.pid.map_or(0, Pid::get),
            restarts: report.restarts,
            bits: requested | unregistered,
            reserved: 0,
            ended_at_nanos: nanos(report.ended_at.duration_since(UNIX_EPOCH).unwrap_or_default()),
            ran_for_nanos: nanos(report.ran_for),
            user_nanos: nanos(report.user_time),
            system_nanos: nanos(report.system_time),
            max_rss_kib: report.max_rss_kib,
        }
    }

    /// The report, checked.
    ///
    /// # Errors
    /// [`CorruptRecord`], for bytes that no encoder would have written.
    pub fn decode(&self) -> Result<ExitReport, CorruptRecord> {
        let wrong = CorruptRecord::Number { field: "exit value", found: self.value.into() };
        let byte = u8::try_from(self.value).map_err(|_| wrong);
        let cause = match self.kind {
            EXITED => ExitCause::Exited(byte?),
            SIGNALED => ExitCause::Signaled { signal: byte?, core_dumped: false },
            CORE_DUMPED => ExitCause::Signaled { signal: byte?, core_dumped: true },
            TERMINATED => ExitCause::NotStarted(NotStarted::Terminated),
            FORK_FAILED => ExitCause::NotStarted(NotStarted::ForkFailed { errno: self.value }),
            EXEC_FAILED => ExitCause::NotStarted(NotStarted::ExecFailed { errno: self.value }),
            REFUSED => ExitCause::NotStarted(NotStarted::Refused),
            SHUTTING_DOWN => ExitCause::NotStarted(NotStarted::ShuttingDown),
            CLUSTER_RESET => ExitCause::NotStarted(NotStarted::ClusterReset),
            other => {
                return Err(CorruptRecord::Number { field: "exit kind", found: other.into() });
            }
        };
        let ended_at = UNIX_EPOCH.checked_add(Duration::from_nanos(self.ended_at_nanos));
        Ok(ExitReport {
            cause,
            pid: Pid::new(self.pid),
            restarts: self.restarts,
            requested: self.bits & REQUESTED != 0,
            unregistered: self.bits & UNREGISTERED != 0,
            ended_at: ended_at.unwrap_or(SystemTime::UNIX_EPOCH),
            ran_for: Duration::from_nanos(self.ran_for_nanos),
            user_time: Duration::from_nanos(self.user_nanos),
            system_time: Duration::from_nanos(self.system_nanos),
            max_rss_kib: self.max_rss_kib,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_end_comes_back() {
        let causes = [
            ExitCause::Exited(0),
            ExitCause::Exited(255),
            ExitCause::Signaled { signal: 9, core_dumped: false },
            ExitCause::Signaled { signal: 11, core_dumped: true },
            ExitCause::NotStarted(NotStarted::Terminated),
            ExitCause::NotStarted(NotStarted::ForkFailed { errno: 11 }),
            ExitCause::NotStarted(NotStarted::ExecFailed { errno: 2 }),
            ExitCause::NotStarted(NotStarted::Refused),
            ExitCause::NotStarted(NotStarted::ShuttingDown),
            ExitCause::NotStarted(NotStarted::ClusterReset),
        ];
        for (at, cause) in causes.into_iter().enumerate() {
            let report = ExitReport {
                cause,
                pid: Pid::new(at as u32),
                restarts: 7,
                requested: at % 2 == 0,
                unregistered: at % 3 == 0,
                ended_at: UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789),
                ran_for: Duration::from_micros(12),
                user_time: Duration::from_micros(3),
                system_time: Duration::from_micros(4),
                max_rss_kib: 1234,
            };
            assert_eq!(ReportRecord::encode(&report).decode(), Ok(report));
        }
    }
}

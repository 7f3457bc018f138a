//! What lies in a job's room once it is over, and the report that goes with it.
//!
//! | code | room |
//! |---|---|
//! | 1 | the encoded output, or a reference to it |
//! | 2 | the text and the causes of the error, encoded |
//! | 3 | how the worker died, encoded |
//!
//! Any other code, and bytes that are none of these, are an error.

use crate::calls::format;
use bgw_core::{ExitCause, ExitReport, LastWords, Pid, Returned};
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};

pub(super) const OUTPUT: u32 = 1;
pub(super) const FAILED: u32 = 2;
pub(super) const DIED: u32 = 3;

/// The smallest room that holds every text of an error.
pub(super) const LEAST_ROOM: u32 = 1_216;

/// Notes of a job.
pub(super) const QUEUED_AT: usize = 0;
pub(super) const TAKEN_AT: usize = 1;
pub(super) const ENDED_AT: usize = 2;
pub(super) const RUN_PID: usize = 3;
/// The segment of a large output, before its submitter holds it.
pub(super) const SEGMENT: usize = 4;

/// An error, as it lies in the room.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    pub(super) text: String,
    pub(super) causes: Vec<String>,
}

impl Failure {
    pub(super) fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        match LastWords::of_error(error) {
            LastWords::Error { text, causes } => Self { text, causes },
            _ => Self { text: String::new(), causes: Vec::new() },
        }
    }

    /// So many causes that the encoding fits into any room.
    pub(super) fn encoded(mut self) -> Vec<u8> {
        loop {
            match format::encode(&self) {
                Ok(bytes) if bytes.len() <= LEAST_ROOM as usize => return bytes,
                _ if self.causes.pop().is_some() => {}
                _ => return Vec::new(),
            }
        }
    }
}

/// How a worker died, as its successor writes it into the room: the causes that end a process.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Death {
    /// An exit code, or a signal.
    cause: Result<u8, (u8, bool)>,
    pid: u32,
    restarts: u32,
    killed: bool,
    streak: u32,
    /// Nanoseconds since 1970.
    ended_at: u64,
    times: [u64; 3],
    max_rss_kib: u64,
    panic: Option<(String, String)>,
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Death {
    /// `None` if nobody knows more than that it is dead.
    pub(super) fn encoded(report: Option<&ExitReport>) -> Vec<u8> {
        let death = report.and_then(Self::of);
        let bytes = format::encode(&death).unwrap_or_default();
        if bytes.len() <= LEAST_ROOM as usize {
            return bytes;
        }
        // A panic with a long message and a long place.
        let death = death.map(|death| Self { panic: None, ..death });
        format::encode(&death).unwrap_or_default()
    }

    fn of(report: &ExitReport) -> Option<Self> {
        let cause = match report.cause {
            ExitCause::Exited(code) => Ok(code),
            ExitCause::Signaled { signal, core_dumped } => Err((signal, core_dumped)),
            _ => return None,
        };
        let panic = match report.last_words() {
            Some(LastWords::Panic { message, place }) => Some((message.clone(), place.clone())),
            _ => None,
        };
        let since = report.ended_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Some(Self {
            cause,
            pid: report.pid.map_or(0, Pid::get),
            restarts: report.restarts,
            killed: report.killed,
            streak: report.streak,
            ended_at: nanos(since),
            times: [report.ran_for, report.user_time, report.system_time].map(nanos),
            max_rss_kib: report.max_rss_kib,
            panic,
        })
    }

    pub(super) fn report(self) -> ExitReport {
        let [ran_for, user_time, system_time] = self.times.map(Duration::from_nanos);
        let cause = match self.cause {
            Ok(code) => ExitCause::Exited(code),
            Err((signal, core_dumped)) => ExitCause::Signaled { signal, core_dumped },
        };
        let words = self.panic.map(|(message, place)| LastWords::of_panic(&message, &place));
        ExitReport {
            cause,
            pid: Pid::new(self.pid),
            restarts: self.restarts,
            killed: self.killed,
            streak: self.streak,
            ended_at: SystemTime::UNIX_EPOCH + Duration::from_nanos(self.ended_at),
            ran_for,
            user_time,
            system_time,
            max_rss_kib: self.max_rss_kib,
            returned: Returned::new(None, words),
            ..job_report(ExitCause::Exited(0), None, Duration::ZERO, SystemTime::UNIX_EPOCH)
        }
    }
}

/// The report of a pooled job that did not take its worker with it: of the job alone.
pub(super) fn job_report(
    cause: ExitCause,
    pid: Option<Pid>,
    ran_for: Duration,
    ended_at: SystemTime,
) -> ExitReport {
    ExitReport {
        cause,
        pid,
        restarts: 0,
        asked_by: None,
        killed: false,
        unregistered: true,
        reset: false,
        streak: 0,
        pause: None,
        given_up: None,
        recycled: None,
        ended_at,
        ran_for,
        user_time: Duration::ZERO,
        system_time: Duration::ZERO,
        max_rss_kib: 0,
        copied_kib: None,
        returned: Returned::NOTHING,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_fits_into_the_least_room_and_comes_back() {
        for (text, causes) in [("x".repeat(1024), 0), (String::new(), 64), ("ä".repeat(400), 60)] {
            let failure = Failure { text: text.clone(), causes: vec!["why".to_owned(); causes] };
            let bytes = failure.encoded();
            assert!(!bytes.is_empty() && bytes.len() <= LEAST_ROOM as usize);
            assert_eq!(format::decode::<Failure>(&bytes).unwrap().text, text);
        }
    }

    #[test]
    fn a_death_comes_back_as_its_report_and_always_fits() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_234_567_890_123);
        let killed = ExitCause::Signaled { signal: 9, core_dumped: false };
        let mut report = job_report(killed, Pid::new(77), Duration::from_nanos(55), at);
        let back = |report: &ExitReport| {
            let bytes = Death::encoded(Some(report));
            assert!(bytes.len() <= LEAST_ROOM as usize);
            format::decode::<Option<Death>>(&bytes).unwrap().unwrap().report()
        };
        assert_eq!(back(&report), report);
        let panic = LastWords::of_panic("over", "src/main.rs:7:1");
        report.cause = ExitCause::Exited(1);
        report.returned = Returned::new(None, Some(panic));
        assert_eq!(back(&report), report);
        let long = LastWords::of_panic(&"x".repeat(2_000), &"y".repeat(2_000));
        report.returned = Returned::new(None, Some(long));
        assert_eq!(back(&report).pid, report.pid);
        let unknown = Death::encoded(None);
        assert_eq!(format::decode::<Option<Death>>(&unknown).unwrap(), None);
    }
}

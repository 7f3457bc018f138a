//! An exit report as it lies in a slot.

use super::corrupt::CorruptRecord;
use super::returned_record::{self, Code};
use crate::asked_by::AskedBy;
use crate::crash_reset::CrashReset;
use crate::exit::{ExitCause, ExitReport, GivenUp, NotStarted, Recycled};
use crate::handle::WorkerHandle;
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
const NAME_TAKEN: u32 = 10;
const DEPENDENCY: u32 = 11;
const GROUP_GIVEN_UP: u32 = 12;
const TEMPLATE_FAILED: u32 = 13;
const START_TIMED_OUT: u32 = 20;
const HUNG: u32 = 21;

const KILLED: u32 = 1;
const UNREGISTERED: u32 = 2;
const HAS_PAUSE: u32 = 16;
const GIVEN_UP_BY_RESTARTS: u32 = 32;
const GIVEN_UP_BY_STARTS: u32 = 64;
const GIVEN_UP_BY_GROUP: u32 = 512;
const GIVEN_UP_WITH_GROUP: u32 = 1024;
const RESET: u32 = 128;
const HAS_COPIED: u32 = 2048;
const HAS_SUCCESSOR: u32 = 256;

/// The bytes of one report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ReportRecord {
    kind: u32,
    value: i32,
    pid: u32,
    restarts: u32,
    bits: u32,
    streak: u32,
    /// The pause before the restart, if there is one.
    pause_millis: u32,
    /// The limit that it was given up at, if it was.
    limit: u32,
    limit_millis: u32,
    /// The incarnation of the slots that the worker's handle is of.
    incarnation: u32,
    ended_at_nanos: u64,
    ran_for_nanos: u64,
    user_nanos: u64,
    system_nanos: u64,
    max_rss_kib: u64,
    copied_kib: u64,
    /// Whose crash led to the reset that ended the registration, if one did; or which member's
    /// failure ended its group, by slot (`limit`) and generation.
    culprit_generation: u64,
    culprit_slot: u32,
    culprit_pid: u32,
    culprit_kind: u32,
    culprit_value: i32,
    /// The incarnation that the reset began.
    next_incarnation: u32,
    /// Who asked for the end.
    asked_by: u16,
    /// Why it was recycled; 0: it was not.
    recycled: u16,
    /// What the annex has: what the run gave back.
    returned: u32,
    /// The slot that the worker has after the reset, if it goes on.
    successor_slot: u32,
    /// Its generation there.
    successor_generation: u64,
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

impl ReportRecord {
    /// The bytes of `report`, of a worker whose handle is of `incarnation`, and those of its annex.
    #[must_use]
    pub fn encode(report: &ExitReport, incarnation: u32) -> (Self, Vec<u8>) {
        let (returned, annex) = returned_record::encode(&report.returned);
        (Self::without_annex(report, incarnation, returned), annex)
    }

    fn without_annex(report: &ExitReport, incarnation: u32, returned: u32) -> Self {
        let (kind, value) = encode_cause(report.cause);
        let (given_up, limit, limit_millis) = match report.given_up {
            None => (0, 0, 0),
            Some(GivenUp::Restarts { count, within }) => {
                (GIVEN_UP_BY_RESTARTS, count, millis(within))
            }
            Some(GivenUp::StartAttempts { count }) => (GIVEN_UP_BY_STARTS, count, 0),
            Some(GivenUp::Group { count, within }) => (GIVEN_UP_BY_GROUP, count, millis(within)),
            Some(GivenUp::WithGroup { failed }) => (GIVEN_UP_WITH_GROUP, failed.slot(), 0),
        };
        let failed = match report.given_up {
            Some(GivenUp::WithGroup { failed }) => failed.generation(),
            _ => 0,
        };
        let paused = if report.pause.is_some() { HAS_PAUSE } else { 0 };
        let killed = if report.killed { KILLED } else { 0 };
        let unregistered = if report.unregistered { UNREGISTERED } else { 0 };
        let reset = if report.reset { RESET } else { 0 };
        let copied = if report.copied_kib.is_some() { HAS_COPIED } else { 0 };
        Self {
            kind,
            value,
            pid: report.pid.map_or(0, Pid::get),
            restarts: report.restarts,
            bits: killed | unregistered | reset | paused | given_up | copied,
            streak: report.streak,
            pause_millis: report.pause.map_or(0, millis),
            limit,
            limit_millis,
            incarnation,
            ended_at_nanos: nanos(report.ended_at.duration_since(UNIX_EPOCH).unwrap_or_default()),
            ran_for_nanos: nanos(report.ran_for),
            user_nanos: nanos(report.user_time),
            system_nanos: nanos(report.system_time),
            max_rss_kib: report.max_rss_kib,
            copied_kib: report.copied_kib.unwrap_or(0),
            asked_by: report.asked_by.map_or(0, AskedBy::code),
            recycled: report.recycled.map_or(0, Recycled::code),
            returned,
            culprit_generation: failed,
            ..Self::zeroed()
        }
    }

    /// The same with the crash reset that ended the registration, and that began
    /// `next_incarnation`.
    #[must_use]
    pub fn with_reset(self, reset: &CrashReset, next_incarnation: u32) -> Self {
        let (culprit_kind, culprit_value) = encode_cause(reset.cause);
        let has_successor = if reset.successor.is_some() { HAS_SUCCESSOR } else { 0 };
        Self {
            // The place of who failed is used for the culprit.
            bits: self.bits & !GIVEN_UP_WITH_GROUP | RESET | has_successor,
            culprit_generation: reset.culprit.generation(),
            culprit_slot: reset.culprit.slot(),
            culprit_pid: reset.pid.get(),
            culprit_kind,
            culprit_value,
            next_incarnation,
            successor_slot: reset.successor.map_or(0, WorkerHandle::slot),
            successor_generation: reset.successor.map_or(0, WorkerHandle::generation),
            ..self
        }
    }

    /// Who failed when the group was given up. No reset came in between, so the incarnation is the
    /// same.
    const fn failed_member(&self) -> WorkerHandle {
        WorkerHandle::new(self.limit, self.culprit_generation, self.incarnation)
    }

    /// The incarnation of the slots that the worker's handle is of.
    #[must_use]
    pub const fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// True if `handle` names this worker. Its handle has the incarnation that it was registered
    /// in, or, if a reset overtook the registration, the one that the reset began.
    #[must_use]
    pub const fn is_of(&self, handle: WorkerHandle) -> bool {
        handle.incarnation() == self.incarnation
            || self.bits & RESET != 0 && handle.incarnation() == self.next_incarnation
    }

    /// The crash reset that ended the registration; `None` if none did, or for bytes that no
    /// encoder would have written.
    #[must_use]
    pub fn crash_reset(&self) -> Option<CrashReset> {
        if self.bits & RESET == 0 {
            return None;
        }
        let has_successor = self.bits & HAS_SUCCESSOR != 0;
        let successor = || {
            let Self { successor_slot, successor_generation, next_incarnation, .. } = *self;
            WorkerHandle::new(successor_slot, successor_generation, next_incarnation)
        };
        Some(CrashReset {
            culprit: WorkerHandle::new(
                self.culprit_slot,
                self.culprit_generation,
                self.incarnation,
            ),
            pid: Pid::new(self.culprit_pid)?,
            cause: decode_cause(self.culprit_kind, self.culprit_value).ok()?,
            successor: has_successor.then(successor),
        })
    }

    /// How many bytes of the annex are the report's. 0 for what no encoder would have written.
    #[must_use]
    pub fn annex_len(&self) -> usize {
        Code::from_bits(self.returned).map_or(0, Code::len)
    }

    /// The report, checked, with what its annex says.
    ///
    /// # Errors
    /// [`CorruptRecord`], for bytes that no encoder would have written.
    pub fn decode(&self, annex: &[u8]) -> Result<ExitReport, CorruptRecord> {
        let cause = decode_cause(self.kind, self.value)?;
        let (within, count) = (Duration::from_millis(self.limit_millis.into()), self.limit);
        let limits = [
            (GIVEN_UP_BY_RESTARTS, GivenUp::Restarts { count, within }),
            (GIVEN_UP_BY_STARTS, GivenUp::StartAttempts { count }),
            (GIVEN_UP_BY_GROUP, GivenUp::Group { count, within }),
            (GIVEN_UP_WITH_GROUP, GivenUp::WithGroup { failed: self.failed_member() }),
        ];
        let given_up = limits.into_iter().find(|(bit, _)| self.bits & bit != 0);
        let pause = Duration::from_millis(self.pause_millis.into());
        let ended_at = UNIX_EPOCH.checked_add(Duration::from_nanos(self.ended_at_nanos));
        Ok(ExitReport {
            cause,
            pid: Pid::new(self.pid),
            restarts: self.restarts,
            asked_by: AskedBy::from_code(self.asked_by).map_err(|()| CorruptRecord::Number {
                field: "asked by",
                found: self.asked_by.into(),
            })?,
            killed: self.bits & KILLED != 0,
            unregistered: self.bits & UNREGISTERED != 0,
            reset: self.bits & RESET != 0,
            streak: self.streak,
            pause: (self.bits & HAS_PAUSE != 0).then_some(pause),
            given_up: given_up.map(|(_, limit)| limit),
            recycled: Recycled::from_code(self.recycled),
            ended_at: ended_at.unwrap_or(SystemTime::UNIX_EPOCH),
            ran_for: Duration::from_nanos(self.ran_for_nanos),
            user_time: Duration::from_nanos(self.user_nanos),
            system_time: Duration::from_nanos(self.system_nanos),
            max_rss_kib: self.max_rss_kib,
            copied_kib: (self.bits & HAS_COPIED != 0).then_some(self.copied_kib),
            returned: returned_record::decode(Code::from_bits(self.returned)?, annex)?,
        })
    }
}

pub(super) fn encode_cause(cause: ExitCause) -> (u32, i32) {
    match cause {
        ExitCause::Exited(code) => (EXITED, i32::from(code)),
        ExitCause::Signaled { signal, core_dumped: false } => (SIGNALED, i32::from(signal)),
        ExitCause::Signaled { signal, core_dumped: true } => (CORE_DUMPED, i32::from(signal)),
        // A heartbeat is a day at most, so this fits.
        ExitCause::Hung { silent_for } => {
            (HUNG, i32::try_from(silent_for.as_millis()).unwrap_or(i32::MAX))
        }
        ExitCause::StartTimedOut => (START_TIMED_OUT, 0),
        ExitCause::NotStarted(NotStarted::Terminated) => (TERMINATED, 0),
        ExitCause::NotStarted(NotStarted::ForkFailed { errno }) => (FORK_FAILED, errno),
        ExitCause::NotStarted(NotStarted::ExecFailed { errno }) => (EXEC_FAILED, errno),
        ExitCause::NotStarted(NotStarted::Refused) => (REFUSED, 0),
        ExitCause::NotStarted(NotStarted::ShuttingDown) => (SHUTTING_DOWN, 0),
        ExitCause::NotStarted(NotStarted::ClusterReset) => (CLUSTER_RESET, 0),
        ExitCause::NotStarted(NotStarted::NameTaken) => (NAME_TAKEN, 0),
        ExitCause::NotStarted(NotStarted::Dependency) => (DEPENDENCY, 0),
        ExitCause::NotStarted(NotStarted::GroupGivenUp) => (GROUP_GIVEN_UP, 0),
        ExitCause::NotStarted(NotStarted::TemplateFailed) => (TEMPLATE_FAILED, 0),
    }
}

pub(super) fn decode_cause(kind: u32, value: i32) -> Result<ExitCause, CorruptRecord> {
    let wrong = |value: i32| CorruptRecord::Number { field: "exit value", found: value.into() };
    let byte = u8::try_from(value).map_err(|_| wrong(value));
    Ok(match kind {
        EXITED => ExitCause::Exited(byte?),
        SIGNALED => ExitCause::Signaled { signal: byte?, core_dumped: false },
        CORE_DUMPED => ExitCause::Signaled { signal: byte?, core_dumped: true },
        HUNG => {
            let millis = u64::try_from(value).map_err(|_| wrong(value))?;
            ExitCause::Hung { silent_for: Duration::from_millis(millis) }
        }
        START_TIMED_OUT => ExitCause::StartTimedOut,
        TERMINATED => ExitCause::NotStarted(NotStarted::Terminated),
        FORK_FAILED => ExitCause::NotStarted(NotStarted::ForkFailed { errno: value }),
        EXEC_FAILED => ExitCause::NotStarted(NotStarted::ExecFailed { errno: value }),
        REFUSED => ExitCause::NotStarted(NotStarted::Refused),
        SHUTTING_DOWN => ExitCause::NotStarted(NotStarted::ShuttingDown),
        CLUSTER_RESET => ExitCause::NotStarted(NotStarted::ClusterReset),
        NAME_TAKEN => ExitCause::NotStarted(NotStarted::NameTaken),
        DEPENDENCY => ExitCause::NotStarted(NotStarted::Dependency),
        GROUP_GIVEN_UP => ExitCause::NotStarted(NotStarted::GroupGivenUp),
        TEMPLATE_FAILED => ExitCause::NotStarted(NotStarted::TemplateFailed),
        other => return Err(CorruptRecord::Number { field: "exit kind", found: other.into() }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::returned::{LastWords, Returned};
    use std::fmt;

    #[test]
    fn every_kind_of_end_comes_back() {
        let causes = [
            ExitCause::Exited(0),
            ExitCause::Exited(255),
            ExitCause::Signaled { signal: 9, core_dumped: false },
            ExitCause::Signaled { signal: 11, core_dumped: true },
            ExitCause::StartTimedOut,
            ExitCause::Hung { silent_for: Duration::from_millis(86_400_001) },
            ExitCause::NotStarted(NotStarted::Terminated),
            ExitCause::NotStarted(NotStarted::ForkFailed { errno: 11 }),
            ExitCause::NotStarted(NotStarted::ExecFailed { errno: 2 }),
            ExitCause::NotStarted(NotStarted::Refused),
            ExitCause::NotStarted(NotStarted::ShuttingDown),
            ExitCause::NotStarted(NotStarted::ClusterReset),
            ExitCause::NotStarted(NotStarted::NameTaken),
            ExitCause::NotStarted(NotStarted::Dependency),
            ExitCause::NotStarted(NotStarted::GroupGivenUp),
            ExitCause::NotStarted(NotStarted::TemplateFailed),
        ];
        for (at, cause) in causes.into_iter().enumerate() {
            let report = ExitReport {
                cause,
                pid: Pid::new(at as u32),
                restarts: 7,
                asked_by: [None, Some(AskedBy::Terminate), Some(AskedBy::Kill)][at % 3],
                killed: at % 2 == 0,
                unregistered: at % 3 == 0,
                reset: at % 2 == 1,
                streak: at as u32,
                pause: (at % 2 == 0).then(|| Duration::from_millis(at as u64)),
                given_up: [
                    None,
                    Some(GivenUp::StartAttempts { count: 7 }),
                    Some(GivenUp::Restarts { count: 7, within: Duration::from_secs(60) }),
                    Some(GivenUp::Group { count: 1, within: Duration::from_secs(5) }),
                    Some(GivenUp::WithGroup { failed: WorkerHandle::new(3, u64::MAX, 5) }),
                ][at % 5],
                recycled: Recycled::from_code(at as u16 % 5),
                ended_at: UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789),
                ran_for: Duration::from_micros(12),
                user_time: Duration::from_micros(3),
                system_time: Duration::from_micros(4),
                max_rss_kib: 1234,
                copied_kib: (at % 2 == 0).then_some(u64::MAX - at as u64),
                returned: [
                    Returned::NOTHING,
                    Returned::new(Some(vec![at as u8; at]), None),
                    Returned::new(None, Some(LastWords::of_error(&fmt::Error))),
                ][at % 3]
                    .clone(),
            };
            let (record, annex) = ReportRecord::encode(&report, 5);
            assert_eq!(record.annex_len(), annex.len());
            assert_eq!(record.decode(&annex), Ok(report));
        }
    }

    /// Times that do not fit are the longest that do; a clock before 1970 is 1970.
    #[test]
    fn any_report_comes_back_with_its_times_in_range() {
        let report = ExitReport {
            cause: ExitCause::NotStarted(NotStarted::ForkFailed { errno: i32::MIN }),
            pid: Pid::new(Pid::MAX),
            restarts: u32::MAX,
            asked_by: Some(AskedBy::Shutdown),
            killed: true,
            unregistered: false,
            reset: false,
            streak: 0,
            pause: None,
            given_up: None,
            recycled: None,
            ended_at: UNIX_EPOCH - Duration::from_secs(1),
            ran_for: Duration::MAX,
            user_time: Duration::from_nanos(u64::MAX),
            system_time: Duration::ZERO,
            max_rss_kib: u64::MAX,
            copied_kib: Some(0),
            returned: Returned::NOTHING,
        };
        let longest = Duration::from_nanos(u64::MAX);
        let fits =
            ExitReport { ended_at: SystemTime::UNIX_EPOCH, ran_for: longest, ..report.clone() };
        let (record, annex) = ReportRecord::encode(&report, 1);
        assert_eq!(record.decode(&annex), Ok(fits));
    }
}

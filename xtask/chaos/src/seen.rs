//! A status, as the journal holds it. The only file that knows how the crates put a status.

use bgw_backend::{ExitCause, ExitReport, Handle, NotStarted, WorkerStatus};

/// A status that somebody saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    NotYetStarted,
    Started { pid: u32 },
    Stopped(Option<Report>),
    PostmasterDied,
}

/// The part of a report that the oracle judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) cause: Cause,
    /// 0 when there was no process.
    pub(crate) pid: u32,
    pub(crate) restarts: u32,
    pub(crate) requested: bool,
    pub(crate) unregistered: bool,
}

/// How a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Exited(u8),
    Signaled(u8),
    NotStarted(Why),
}

/// Why a worker was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Terminated,
    ShuttingDown,
    Reset,
    ForkFailed,
    /// Its template could not be loaded.
    Template,
    /// What this program does not know.
    Other,
}

const WHYS: [Why; 6] =
    [Why::Terminated, Why::ShuttingDown, Why::Reset, Why::ForkFailed, Why::Template, Why::Other];

/// Who looked, and how: cell `c` of a `Saw`.
pub(crate) mod by {
    /// The registrant.
    pub(crate) const REGISTRANT: u64 = 1;
    /// In a wait that may take long.
    pub(crate) const WAIT: u64 = 2;
    /// The registrant, for the first time since the worker has ended for good: nobody may have
    /// taken the report away.
    pub(crate) const FIRST: u64 = 4;
    /// In a wait for the end for good.
    pub(crate) const END: u64 = 8;
}

impl Seen {
    pub(crate) fn of(status: &WorkerStatus) -> Self {
        match status {
            WorkerStatus::NotYetStarted => Self::NotYetStarted,
            WorkerStatus::Started(pid) => Self::Started { pid: pid.get() },
            WorkerStatus::Stopped(report) => Self::Stopped(report.as_ref().map(Report::of)),
            WorkerStatus::PostmasterDied => Self::PostmasterDied,
        }
    }

    pub(crate) fn encode(self) -> [u64; 2] {
        match self {
            Self::NotYetStarted => [0, 0],
            Self::Started { pid } => [1 | u64::from(pid) << 8, 0],
            Self::Stopped(None) => [2, 0],
            Self::PostmasterDied => [4, 0],
            Self::Stopped(Some(report)) => {
                let (kind, code) = match report.cause {
                    Cause::Exited(code) => (0, code),
                    Cause::Signaled(signal) => (1, signal),
                    Cause::NotStarted(why) => (2, why as u8),
                };
                let flags =
                    u64::from(report.requested) << 16 | u64::from(report.unregistered) << 17;
                let b = kind | u64::from(code) << 8 | flags | u64::from(report.restarts) << 32;
                [3 | u64::from(report.pid) << 8, b]
            }
        }
    }

    pub(crate) fn decode(a: u64, b: u64) -> Self {
        let pid = (a >> 8) as u32;
        match a & 0xff {
            0 => Self::NotYetStarted,
            1 => Self::Started { pid },
            2 => Self::Stopped(None),
            4 => Self::PostmasterDied,
            _ => {
                let code = (b >> 8) as u8;
                let cause = match b & 0xff {
                    0 => Cause::Exited(code),
                    1 => Cause::Signaled(code),
                    _ => Cause::NotStarted(WHYS[usize::from(code).min(WHYS.len() - 1)]),
                };
                Self::Stopped(Some(Report {
                    cause,
                    pid,
                    restarts: (b >> 32) as u32,
                    requested: b >> 16 & 1 == 1,
                    unregistered: b >> 17 & 1 == 1,
                }))
            }
        }
    }

    /// No process will run for it any more, as far as one can see.
    pub(crate) fn is_final(self) -> bool {
        match self {
            Self::Stopped(Some(report)) => report.unregistered,
            Self::Stopped(None) => true,
            Self::NotYetStarted | Self::Started { .. } | Self::PostmasterDied => false,
        }
    }
}

impl Report {
    fn of(report: &ExitReport) -> Self {
        Self {
            cause: match report.cause {
                ExitCause::Exited(code) => Cause::Exited(code),
                ExitCause::Signaled { signal, .. } => Cause::Signaled(signal),
                ExitCause::NotStarted(NotStarted::Terminated) => Cause::NotStarted(Why::Terminated),
                ExitCause::NotStarted(NotStarted::ShuttingDown) => {
                    Cause::NotStarted(Why::ShuttingDown)
                }
                ExitCause::NotStarted(NotStarted::ClusterReset) => Cause::NotStarted(Why::Reset),
                ExitCause::NotStarted(NotStarted::ForkFailed { .. }) => {
                    Cause::NotStarted(Why::ForkFailed)
                }
                ExitCause::NotStarted(NotStarted::TemplateFailed) => {
                    Cause::NotStarted(Why::Template)
                }
                #[allow(unreachable_patterns, reason = "the list grows")]
                _ => Cause::NotStarted(Why::Other),
            },
            pid: report.pid.map_or(0, bgw_backend::Pid::get),
            restarts: report.restarts,
            requested: report.requested(),
            unregistered: report.unregistered,
        }
    }
}

/// The result in a report, if it is not the name of its worker, which every worker sets.
pub(crate) fn foreign_result(handle: &Handle, status: &WorkerStatus) -> Option<String> {
    let WorkerStatus::Stopped(Some(report)) = status else { return None };
    let result = String::from_utf8_lossy(report.result()?).into_owned();
    (result != handle.to_string()).then_some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_comes_back_from_the_journal() {
        let report = Report {
            cause: Cause::Exited(7),
            pid: 4_000_000,
            restarts: 9,
            requested: true,
            unregistered: false,
        };
        let causes = [Cause::Exited(0), Cause::Signaled(9), Cause::NotStarted(Why::Other)];
        let mut all: Vec<Seen> =
            causes.map(|cause| Seen::Stopped(Some(Report { cause, ..report }))).to_vec();
        all.push(Seen::Stopped(Some(Report { requested: false, unregistered: true, ..report })));
        all.extend([Seen::NotYetStarted, Seen::Started { pid: 1 }, Seen::Stopped(None)]);
        all.push(Seen::PostmasterDied);
        for seen in all {
            let [a, b] = seen.encode();
            assert_eq!(Seen::decode(a, b), seen);
        }
    }
}

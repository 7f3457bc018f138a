//! The table: which end has which outcome.

use super::*;
use bgw_core::{Pid, Returned};
use std::time::SystemTime;

fn report(cause: ExitCause, asked_by: Option<AskedBy>, returned: Returned) -> ExitReport {
    let ran = !matches!(cause, ExitCause::NotStarted(_));
    ExitReport {
        cause,
        pid: Pid::new(77).filter(|_| ran),
        restarts: 0,
        asked_by,
        killed: false,
        unregistered: true,
        reset: false,
        streak: 0,
        pause: None,
        given_up: None,
        recycled: None,
        ended_at: SystemTime::UNIX_EPOCH,
        ran_for: Duration::ZERO,
        user_time: Duration::ZERO,
        system_time: Duration::ZERO,
        max_rss_kib: 1,
        copied_kib: None,
        returned,
    }
}

const EXIT_0: ExitCause = ExitCause::Exited(0);
const EXIT_1: ExitCause = ExitCause::Exited(1);
const EXIT_7: ExitCause = ExitCause::Exited(7);
const SIGABRT: ExitCause = ExitCause::Signaled { signal: 6, core_dumped: true };
const SIGKILL: ExitCause = ExitCause::Signaled { signal: 9, core_dumped: false };
const HUNG: ExitCause = ExitCause::Hung { silent_for: Duration::from_secs(1) };
const LATE: ExitCause = ExitCause::StartTimedOut;
const NO_FORK: ExitCause = ExitCause::NotStarted(NotStarted::ForkFailed { errno: 11 });
const STOPPING: ExitCause = ExitCause::NotStarted(NotStarted::ShuttingDown);
const TOO_EARLY: ExitCause = ExitCause::NotStarted(NotStarted::Terminated);

const NOBODY: Option<AskedBy> = None;
const TERMINATE: Option<AskedBy> = Some(AskedBy::Terminate);
const KILL: Option<AskedBy> = Some(AskedBy::Kill);
const SHUTDOWN: Option<AskedBy> = Some(AskedBy::Shutdown);
const SUBMITTER: Option<AskedBy> = Some(AskedBy::Submitter);

fn nothing() -> Returned {
    Returned::NOTHING
}

fn result() -> Returned {
    Returned::new(Some(Vec::new()), None)
}

fn error() -> Returned {
    Returned::new(None, Some(LastWords::of_error(&std::fmt::Error)))
}

fn panicked() -> Returned {
    Returned::new(None, Some(LastWords::of_panic("no", "a.rs:1:2")))
}

fn kind<T>(outcome: &Outcome<T>) -> &'static str {
    match outcome {
        Outcome::Output { .. } => "output",
        Outcome::Failed { .. } => "failed",
        Outcome::Panicked { .. } => "panicked",
        Outcome::Died(_) => "died",
        Outcome::NotStarted { .. } => "not started",
        Outcome::Cancelled(_) => "cancelled",
        Outcome::Lost => "lost",
        Outcome::PostmasterDied => "postmaster died",
    }
}

/// One row: how it ended, who had asked for that, what it gave back; the outcome for a submitter
/// that has not cancelled it, and for one that has.
type Row = (ExitCause, Option<AskedBy>, fn() -> Returned, &'static str, &'static str);

#[test]
fn each_end_has_the_outcome_of_the_table() {
    let rows: [Row; 30] = [
        (EXIT_0, NOBODY, nothing, "output", "output"),
        (EXIT_0, NOBODY, result, "output", "output"),
        (EXIT_0, TERMINATE, nothing, "died", "cancelled"),
        (EXIT_0, KILL, nothing, "died", "cancelled"),
        (EXIT_0, TERMINATE, result, "output", "output"),
        (EXIT_0, SHUTDOWN, nothing, "died", "died"),
        (EXIT_0, SHUTDOWN, result, "output", "output"),
        (EXIT_0, SUBMITTER, nothing, "died", "died"),
        (EXIT_1, NOBODY, nothing, "died", "died"),
        (EXIT_1, NOBODY, error, "failed", "failed"),
        (EXIT_1, NOBODY, panicked, "panicked", "panicked"),
        (EXIT_1, TERMINATE, nothing, "died", "cancelled"),
        (EXIT_1, TERMINATE, error, "failed", "cancelled"),
        (EXIT_1, TERMINATE, panicked, "panicked", "cancelled"),
        (EXIT_1, SHUTDOWN, error, "failed", "failed"),
        (EXIT_7, NOBODY, nothing, "died", "died"),
        (EXIT_7, NOBODY, error, "died", "died"),
        (EXIT_7, TERMINATE, nothing, "died", "cancelled"),
        (SIGABRT, NOBODY, nothing, "died", "died"),
        (SIGABRT, NOBODY, panicked, "panicked", "panicked"),
        (SIGABRT, NOBODY, error, "died", "died"),
        (SIGKILL, NOBODY, nothing, "died", "died"),
        (SIGKILL, NOBODY, panicked, "died", "died"),
        (SIGKILL, KILL, nothing, "died", "cancelled"),
        (HUNG, NOBODY, nothing, "died", "died"),
        (LATE, NOBODY, error, "died", "died"),
        (NO_FORK, NOBODY, nothing, "not started", "not started"),
        (STOPPING, SHUTDOWN, nothing, "not started", "not started"),
        (TOO_EARLY, TERMINATE, nothing, "not started", "cancelled"),
        (TOO_EARLY, SUBMITTER, nothing, "not started", "not started"),
    ];
    for (cause, asked_by, returned, plain, cancelled) in rows {
        let report = report(cause, asked_by, returned());
        let what = format!("{report}, {:?}", report.returned);
        for (is_cancelled, expected) in [(false, plain), (true, cancelled)] {
            let outcome = of(report.clone(), is_cancelled);
            assert_eq!(kind(&outcome), expected, "{what}, {is_cancelled}");
            assert_eq!(outcome.report(), Some(&report), "{what}");
        }
    }
}

/// The clean-up mark makes it one.
#[test]
fn the_culprit_of_a_reset_has_died_though_it_exited_with_0() {
    let culprit = ExitReport { reset: true, ..report(EXIT_0, NOBODY, nothing()) };
    assert_eq!(kind(&of(culprit, false)), "died");
    let bystander = ExitReport { reset: true, ..report(EXIT_0, Some(AskedBy::Reset), result()) };
    assert_eq!(kind(&of(bystander, false)), "output");
}

#[test]
fn it_says_how_many_processes_ran() {
    let runs = |cause, restarts| {
        of(ExitReport { restarts, ..report(cause, NOBODY, nothing()) }, false).runs()
    };
    assert_eq!([runs(EXIT_0, 0), runs(EXIT_7, 2), runs(NO_FORK, 0)], [Some(1), Some(3), Some(0)]);
    assert_eq!(runs(NO_FORK, 2), Some(3));
    assert_eq!([Outcome::<()>::Lost.runs(), Outcome::<()>::PostmasterDied.runs()], [None, None]);
}

#[test]
fn an_outcome_without_an_output_is_an_error_that_says_why() {
    let all = [
        (report(EXIT_1, NOBODY, error()), "the job failed: an error occurred when formatting"),
        (report(EXIT_1, NOBODY, panicked()), "the job panicked at a.rs:1:2: no"),
        (report(SIGKILL, NOBODY, nothing()), "the job was terminated by signal 9: SIGKILL"),
        (report(NO_FORK, NOBODY, nothing()), "the job could not be started: fork failed"),
        (report(TOO_EARLY, TERMINATE, nothing()), "the job was never started"),
    ];
    for (report, begin) in all {
        let outcome = of(report, false);
        let text = outcome.clone().into_output().unwrap_err().to_string();
        assert!(text.starts_with(begin), "{text}");
        assert_eq!(text, outcome.to_string());
        assert_eq!(outcome.clone().map(|()| 7).into_output().unwrap_err().to_string(), text);
    }
    let cancelled = of(report(SIGKILL, KILL, nothing()), true).to_string();
    let expected =
        "the job was cancelled, and was terminated by signal 9: SIGKILL, as requested by kill";
    assert_eq!(cancelled, expected);
    assert_eq!(of(report(EXIT_0, NOBODY, result()), false).map(|()| 7).into_output(), Ok(7));
}

/// Fails if the text says of a job what is true of its worker only: a pool restarts that one.
#[test]
fn no_text_says_that_the_job_is_run_again() {
    let mut report = report(SIGKILL, NOBODY, nothing());
    report.unregistered = false;
    report.pause = Some(Duration::from_secs(1));
    let cancelled: Outcome = Outcome::Cancelled(report.clone());
    let died: Outcome = Outcome::Died(report);
    assert_eq!(died.to_string(), "the job was terminated by signal 9: SIGKILL");
    let text = "the job was cancelled, and was terminated by signal 9: SIGKILL";
    assert_eq!(cancelled.to_string(), text);
}

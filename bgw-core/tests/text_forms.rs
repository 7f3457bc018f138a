//! The promise: what is printed to be read back comes back the same; any other text gives an error
//! that says what is wrong, in one harmless line; and whatever a report or status holds can be
//! shown.
//!
//! Would catch: a form that two values share, a part that is cut or padded, a panic on odd text, a
//! bad text that forges log lines through its own error.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bgw_core::{
    AskedBy, ExitCause, ExitReport, GivenUp, NotStarted, Pid, PidError, Recycled, Refusal,
    Returned, ShutdownMode, StopSignal, WorkerFlags, WorkerHandle, WorkerStatus,
};
use proptest::prelude::*;
use proptest::test_runner::Config;
use std::collections::HashSet;
use std::error::Error;
use std::fmt::{Debug, Display};
use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

/// One line that a terminal and a log take as it is.
fn assert_harmless(text: &str) {
    assert!(!text.is_empty());
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

/// An error that is read by people: short, one line, and so are its causes.
fn assert_says_why(error: &dyn Error) {
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        assert_harmless(&text);
        assert!(text.len() < 1000, "{} bytes of error", text.len());
        next = error.source();
    }
}

/// A text is refused with a reason, or is a form of a value that prints as a text of its own.
fn refused_or_read<T>(text: &str)
where
    T: FromStr<Err: Error + 'static> + Display + Debug + PartialEq,
{
    match text.parse::<T>() {
        Err(error) => assert_says_why(&error),
        Ok(value) => {
            let printed = value.to_string();
            assert_harmless(&printed);
            assert_eq!(printed.parse::<T>().unwrap(), value, "{text:?}");
        }
    }
}

/// Texts near to those that are meant, texts that look like them, and any.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[0-9]{0,22}",
        "[-+ ]?[0-9]{1,22}[ ]?",
        "[0-9]{1,11}\\.[0-9]{1,12}@[0-9a-fA-F]{7,9}",
        "[0-9x.@+-]{0,12}\\.[0-9x.@+-]{0,12}@[0-9a-g+-]{0,9}",
        "(smart|fast|immediate|Smart|FAST)[ \n\u{1b}]?",
        "\\PC*\n\u{1b}\\[2J\\PC*",
        // Longer than any message should be.
        "[a-zä\u{0}]{500,3000}",
    ]
}

fn asked_by() -> impl Strategy<Value = AskedBy> {
    use AskedBy::{Kill, Reset, Shutdown, Terminate};
    prop_oneof![Just(Reset), Just(Shutdown), Just(Terminate), Just(Kill)]
}

fn cause() -> impl Strategy<Value = ExitCause> {
    prop_oneof![
        any::<u8>().prop_map(ExitCause::Exited),
        any::<(u8, bool)>()
            .prop_map(|(signal, core_dumped)| ExitCause::Signaled { signal, core_dumped }),
        any::<i32>().prop_map(|errno| ExitCause::NotStarted(NotStarted::ForkFailed { errno })),
        any::<i32>().prop_map(|errno| ExitCause::NotStarted(NotStarted::ExecFailed { errno })),
        Just(ExitCause::NotStarted(NotStarted::Refused)),
        Just(ExitCause::NotStarted(NotStarted::Terminated)),
        Just(ExitCause::NotStarted(NotStarted::ShuttingDown)),
        Just(ExitCause::NotStarted(NotStarted::ClusterReset)),
        Just(ExitCause::NotStarted(NotStarted::NameTaken)),
        Just(ExitCause::NotStarted(NotStarted::Dependency)),
        Just(ExitCause::NotStarted(NotStarted::GroupGivenUp)),
        Just(ExitCause::NotStarted(NotStarted::TemplateFailed)),
    ]
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    /// Fails when a part is printed with fewer digits than it has, or read as another type.
    #[test]
    fn a_handle_comes_back(
        slot: u32,
        generation in 0..=shmem_slots::MAX_GENERATION,
        incarnation: u32,
    ) {
        let handle = WorkerHandle::new(slot, generation, incarnation);
        assert_harmless(&handle.to_string());
        prop_assert_eq!(handle.to_string().parse(), Ok(handle));
    }

    #[test]
    fn a_pid_comes_back(number in 1..=Pid::MAX) {
        let pid = Pid::new(number).unwrap();
        prop_assert_eq!(pid.to_string().parse(), Ok(pid));
        prop_assert_eq!(Pid::try_from(pid.as_raw()), Ok(pid));
    }

    /// Fails when an error repeats a text as it came: with its line feeds, escapes, or whole
    /// length.
    #[test]
    fn any_text_is_read_or_refused_in_one_harmless_line(text in text()) {
        refused_or_read::<WorkerHandle>(&text);
        refused_or_read::<Pid>(&text);
        refused_or_read::<ShutdownMode>(&text);
        refused_or_read::<StopSignal>(&text);
    }

    /// One part of a good handle is spoilt: the error names that part and repeats the text.
    #[test]
    fn a_spoilt_handle_is_refused_for_the_part_that_is_spoilt(
        parts in (0..1000u32, 0..1000u64, any::<u32>()),
        spoilt in 0..3usize,
        junk in "[x +-]{1,3}",
    ) {
        let mut parts =
            [parts.0.to_string(), parts.1.to_string(), format!("{:08x}", parts.2)];
        parts[spoilt].push_str(&junk);
        let text = format!("{}.{}@{}", parts[0], parts[1], parts[2]);
        let error = text.parse::<WorkerHandle>().unwrap_err();
        prop_assert_eq!(error.part, ["the slot", "the generation", "the incarnation"][spoilt]);
        prop_assert!(error.to_string().contains(&text), "{}", error);
        prop_assert!(error.to_string().contains(error.part), "{}", error);
    }

    /// Fails when an exit code, signal or error number has no text, or the report hides a fact that
    /// its reader acts upon.
    #[test]
    fn any_report_and_status_can_be_shown(
        cause in cause(),
        pid in 0..=Pid::MAX,
        restarts: u32,
        asked_by in proptest::option::of(asked_by()),
        killed: bool,
        unregistered: bool,
        nanos: u64,
    ) {
        let report = ExitReport {
            cause,
            pid: Pid::new(pid),
            restarts,
            asked_by,
            killed,
            unregistered,
            reset: killed,
            streak: restarts,
            pause: (!unregistered).then(|| Duration::from_millis(nanos >> 40)),
            given_up: (restarts % 2 == 0).then_some(GivenUp::StartAttempts { count: restarts }),
            recycled: (restarts % 3 == 0).then_some(Recycled::Lifetime),
            ended_at: UNIX_EPOCH + Duration::from_nanos(nanos),
            ran_for: Duration::from_nanos(nanos),
            user_time: Duration::MAX,
            system_time: Duration::ZERO,
            max_rss_kib: nanos,
            copied_kib: None,
            returned: Returned::NOTHING,
        };
        let text = report.to_string();
        assert_harmless(&text);
        prop_assert!(text.starts_with(&cause.to_string()));
        let by = asked_by.map_or(String::new(), |by| format!("as requested by {by}"));
        prop_assert_eq!(text.contains("as requested"), report.requested());
        prop_assert!(text.contains(&by), "{}", text);
        let says_late = text.contains("at the end of its grace") || text.contains("in time");
        prop_assert_eq!(says_late, killed && asked_by != Some(AskedBy::Kill));
        let by_reset = report.reset || asked_by == Some(AskedBy::Reset);
        prop_assert_eq!(text.matches("by a crash reset").count(), usize::from(by_reset));
        prop_assert_eq!(text.contains(": its lifetime was over"), report.recycled.is_some());
        let followed = !unregistered && report.recycled.is_some();
        prop_assert_eq!(text.contains("its next run takes its place"), followed);
        prop_assert_eq!(text.contains("will be restarted"), !unregistered && !followed);
        prop_assert_eq!(text.contains("given up: it reached start_attempts("), report.given_up.is_some());
        let status = WorkerStatus::Stopped(Some(report)).to_string();
        prop_assert!(status.starts_with("stopped") && status.ends_with(&text), "{}", status);
        if let Some(pid) = Pid::new(pid) {
            let status = WorkerStatus::Started(pid).to_string();
            prop_assert!(status.contains(&pid.to_string()), "{}", status);
        }
        let ends = [cause.is_clean(), cause.is_failure(), cause.is_crash()];
        let ran = !matches!(cause, ExitCause::NotStarted(_));
        prop_assert_eq!(ends.iter().filter(|&&is| is).count(), usize::from(ran), "{:?}", cause);
    }
}

#[test]
fn a_cause_names_its_number_and_the_signal() {
    let table = [
        (ExitCause::Exited(7), "exited with exit code 7"),
        (
            ExitCause::Signaled { signal: 9, core_dumped: false },
            "was terminated by signal 9: SIGKILL",
        ),
        (
            ExitCause::Signaled { signal: 11, core_dumped: true },
            "was terminated by signal 11: SIGSEGV (core dumped)",
        ),
        // A real-time signal, which has no name there.
        (
            ExitCause::Signaled { signal: 40, core_dumped: false },
            "was terminated by signal 40: unknown",
        ),
        (
            ExitCause::NotStarted(NotStarted::ForkFailed { errno: 11 }),
            "could not be started: fork failed: Resource temporarily unavailable (os error 11)",
        ),
        (
            ExitCause::NotStarted(NotStarted::ExecFailed { errno: 2 }),
            "could not be started: executing its program failed: No such file or directory (os error 2)",
        ),
    ];
    for (cause, text) in table {
        assert_eq!(cause.to_string(), text);
    }
}

#[test]
fn every_mode_comes_back_and_the_error_lists_them() {
    for mode in [ShutdownMode::Smart, ShutdownMode::Fast, ShutdownMode::Immediate] {
        assert_eq!(mode.to_string().parse(), Ok(mode));
    }
    let error = "slow".parse::<ShutdownMode>().unwrap_err();
    assert_eq!(error.to_string(), "\"slow\" is no shutdown mode; it is smart, fast or immediate");
}

#[test]
fn a_number_that_is_no_pid_is_repeated_beside_the_limit() {
    for number in [0, -1, i64::from(Pid::MAX) + 1, 99_999_999_999, i64::MIN] {
        let error = number.to_string().parse::<Pid>().unwrap_err();
        assert_eq!(error, PidError::OutOfRange { found: number });
        let text = error.to_string();
        assert!(text.contains(&number.to_string()), "{text}");
        assert!(text.contains(&Pid::MAX.to_string()), "{text}");
    }
    for number in [0, -1, i32::MAX, i32::MIN] {
        let error = Pid::try_from(number).unwrap_err();
        assert_eq!(error, PidError::OutOfRange { found: number.into() });
    }
    for text in ["", " 1", "1 ", "0x10", "1.5", "ten"] {
        let error = text.parse::<Pid>().unwrap_err();
        assert!(matches!(error, PidError::NotANumber(_)), "{text:?}: {error}");
    }
}

/// Flags have no text form of their own; their names are what views and settings use.
#[test]
fn every_flag_has_a_name_that_leads_back_to_it() {
    let mut named = WorkerFlags::empty();
    for (name, flag) in WorkerFlags::all().iter_names() {
        assert_eq!(WorkerFlags::from_name(name), Some(flag));
        assert_eq!(flag.bits().count_ones(), 1, "{name}");
        assert!(format!("{flag:?}").contains(name));
        named |= flag;
    }
    assert_eq!(named, WorkerFlags::all());
    assert_eq!(WorkerFlags::from_name("shmem_access"), None);
    // The values stand in slots: they are PostgreSQL's, and never change.
    assert_eq!(WorkerFlags::SHMEM_ACCESS.bits(), 0x1);
    assert_eq!(WorkerFlags::DATABASE_CONNECTION.bits(), 0x2);
    assert_eq!(WorkerFlags::CLASS_PARALLEL.bits(), 0x10);
    assert_eq!(WorkerFlags::INTERRUPTIBLE.bits(), 0x20);
}

/// Fails when two answers read the same.
#[test]
fn no_two_answers_read_the_same() {
    let statuses = [
        WorkerStatus::NotYetStarted,
        WorkerStatus::Started(Pid::this()),
        WorkerStatus::Stopped(None),
        WorkerStatus::PostmasterDied,
    ];
    let refusals = [
        Refusal::Protocol,
        Refusal::Layout,
        Refusal::NotAllowed,
        Refusal::ShuttingDown,
        Refusal::TooManyPeers,
        Refusal::Malformed,
        Refusal::NotAttached,
    ];
    let texts: Vec<String> = statuses
        .iter()
        .map(ToString::to_string)
        .chain(refusals.iter().map(ToString::to_string))
        .collect();
    texts.iter().for_each(|text| assert_harmless(text));
    assert_eq!(texts.iter().collect::<HashSet<_>>().len(), texts.len(), "{texts:?}");
}

/// The three kinds of end lead to three fates, so the borders between them are checked one by one.
#[test]
fn exit_0_is_clean_exit_1_a_failure_and_all_else_a_crash() {
    for code in 0..=u8::MAX {
        let cause = ExitCause::Exited(code);
        let kinds = (cause.is_clean(), cause.is_failure(), cause.is_crash());
        assert_eq!(kinds, (code == 0, code == 1, code > 1), "{code}");
    }
}

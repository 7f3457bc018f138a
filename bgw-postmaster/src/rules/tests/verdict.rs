//! The table of what an end leads to, cell by cell.

use super::super::lapse::Lapse;
use super::super::registry::Entry;
use super::super::stop_level::StopLevel;
use super::super::verdict::{HowEnded, Service, Verdict, judge};
use super::{CRASH, ISOLATED, SHARED, key, seconds};
use bgw_core::{
    BackgroundWorker, BackgroundWorkerBuilder, ExitCause, NotStarted, Recycled, RestartOn,
    RestartPolicy, WorkerFlags,
};
use std::time::Duration;

const U: Verdict = Verdict::Unregister;
const R: Verdict = Verdict::Failure;
const N: Verdict = Verdict::AtOnce;
const X: Verdict = Verdict::Reset;

const EXIT_0: ExitCause = ExitCause::Exited(0);
const EXIT_1: ExitCause = ExitCause::Exited(1);
const EXIT_3: ExitCause = ExitCause::Exited(3);
const NO_EXEC: ExitCause = ExitCause::NotStarted(NotStarted::ExecFailed { errno: 2 });

const fn signal(signal: u8) -> ExitCause {
    ExitCause::Signaled { signal, core_dumped: false }
}

/// A worker for each column of the table, from `change`.
fn columns(
    flags: WorkerFlags,
    change: impl Fn(BackgroundWorkerBuilder) -> BackgroundWorkerBuilder,
) -> [Entry; 4] {
    let worker = || BackgroundWorker::builder("w").function("f").flags(flags);
    let on = |on| change(worker().restart(RestartPolicy::after_secs(5)).restart_on(on));
    [worker(), on(RestartOn::OnFailure), on(RestartOn::OnAbnormal), on(RestartOn::Always)]
        .map(|builder| Entry::new(key(0), builder.build().unwrap(), None))
}

fn verdicts(entries: [Entry; 4], service: Service, how: HowEnded) -> [Verdict; 4] {
    entries.map(|entry| judge(&entry, service, how))
}

const fn how(cause: ExitCause) -> HowEnded {
    HowEnded { cause, ran_for: Duration::from_millis(10), dirty: false, sent: None, lapse: None }
}

fn plain(builder: BackgroundWorkerBuilder) -> BackgroundWorkerBuilder {
    builder
}

#[test]
fn each_cell_holds_for_an_end_that_nobody_asked_for() {
    // End; isolated, then with SHMEM_ACCESS: Never, OnFailure, OnAbnormal, Always.
    let table = [
        (EXIT_0, [U, U, U, R], [U, U, U, R]),
        (EXIT_1, [U, R, U, R], [U, R, U, R]),
        (NO_EXEC, [U, R, U, R], [U, R, U, R]),
        (EXIT_3, [U, R, R, R], [X, X, X, X]),
        (ExitCause::Exited(255), [U, R, R, R], [X, X, X, X]),
        (CRASH, [U, R, R, R], [X, X, X, X]),
        (signal(9), [U, R, R, R], [X, X, X, X]),
    ];
    for (cause, isolated, shared) in table {
        let normal = |flags| verdicts(columns(flags, plain), Service::Normal, how(cause));
        assert_eq!(normal(ISOLATED), isolated, "isolated, {cause}");
        assert_eq!(normal(SHARED), shared, "shared, {cause}");
        for flags in [ISOLATED, SHARED] {
            let stopping = verdicts(columns(flags, plain), Service::Stopping, how(cause));
            assert_eq!(stopping, [U; 4], "{cause}");
        }
    }
}

#[test]
fn each_cell_holds_for_an_end_during_a_reset() {
    for flags in [ISOLATED, SHARED] {
        for (cause, expected) in [
            (EXIT_0, [U, U, U, N]),
            (EXIT_1, [U, N, N, N]),
            (EXIT_3, [U, N, N, N]),
            (CRASH, [U, N, N, N]),
            (NO_EXEC, [U, N, N, N]),
            (signal(3), [U, N, N, N]),
        ] {
            for dirty in [false, true] {
                let how = HowEnded { dirty, sent: Some(StopLevel::Quit), ..how(cause) };
                let found = verdicts(columns(flags, plain), Service::Resetting, how);
                assert_eq!(found, expected, "{cause}, dirty: {dirty}");
                let asked = columns(flags, plain).map(|entry| Entry { terminate: true, ..entry });
                assert_eq!(verdicts(asked, Service::Resetting, how), [U; 4], "{cause}, asked");
            }
        }
    }
}

#[test]
fn each_cell_holds_for_an_end_that_was_asked_for() {
    let stop = Some(StopLevel::Terminate);
    let kill = Some(StopLevel::Kill);
    // What it was sent, clean-up mark, end; isolated, shared.
    let table = [
        (stop, false, EXIT_0, U, U),
        (stop, false, EXIT_1, U, U),
        (stop, false, EXIT_3, U, X),
        (stop, false, CRASH, U, X),
        (stop, false, signal(15), U, U),
        (stop, true, signal(15), U, U),
        (stop, true, EXIT_0, U, X),
        (stop, false, signal(9), U, X),
        (kill, true, signal(9), U, U),
        (kill, false, signal(9), U, U),
        // It was about to end by its stop signal when it was killed.
        (kill, false, signal(15), U, U),
        // Asked for before it ran, and not sent anything yet.
        (None, false, EXIT_1, U, U),
        (None, false, signal(15), U, X),
    ];
    for (sent, dirty, cause, isolated, shared) in table {
        for (flags, expected) in [(ISOLATED, isolated), (SHARED, shared)] {
            let asked = columns(flags, plain).map(|entry| Entry { terminate: true, ..entry });
            let found = verdicts(asked, Service::Normal, HowEnded { sent, dirty, ..how(cause) });
            assert_eq!(found, [expected; 4], "{flags:?}, {sent:?}, {cause}, dirty: {dirty}");
        }
    }
}

#[test]
fn each_cell_holds_for_a_start_that_timed_out() {
    let stop = Some(StopLevel::Terminate);
    let kill = Some(StopLevel::Kill);
    // What it was sent, clean-up mark, end; isolated, then with SHMEM_ACCESS.
    let table = [
        (stop, false, EXIT_0, [U, R, R, R], [U, R, R, R]),
        (stop, false, EXIT_1, [U, R, R, R], [U, R, R, R]),
        (stop, false, EXIT_3, [U, R, R, R], [X; 4]),
        (stop, true, signal(15), [U, R, R, R], [U, R, R, R]),
        (kill, true, signal(9), [U, R, R, R], [X; 4]),
        (kill, false, signal(9), [U, R, R, R], [X; 4]),
        (kill, false, NO_EXEC, [U, R, U, R], [U, R, U, R]),
    ];
    for (sent, dirty, cause, isolated, shared) in table {
        let late = HowEnded { sent, dirty, lapse: Some(Lapse::Late), ..how(cause) };
        for (flags, expected) in [(ISOLATED, isolated), (SHARED, shared)] {
            let found = verdicts(columns(flags, plain), Service::Normal, late);
            assert_eq!(found, expected, "{flags:?}, {sent:?}, {cause}, dirty: {dirty}");
            let found = verdicts(columns(flags, plain), Service::Stopping, late);
            assert_eq!(found, [U; 4]);
        }
        let resetting = verdicts(columns(ISOLATED, plain), Service::Resetting, late);
        assert_eq!(resetting, [U, N, N, N], "{cause}");
        let asked = columns(ISOLATED, plain).map(|entry| Entry { terminate: true, ..entry });
        assert_eq!(verdicts(asked, Service::Normal, late), [U; 4], "{cause}");
    }
}

#[test]
fn a_clean_up_mark_is_a_crash_of_a_worker_with_shared_state_and_of_no_other() {
    for (cause, isolated) in [(EXIT_0, [U, U, U, R]), (EXIT_1, [U, R, U, R])] {
        let marked = HowEnded { dirty: true, ..how(cause) };
        assert_eq!(verdicts(columns(SHARED, plain), Service::Normal, marked), [X; 4], "{cause}");
        let found = verdicts(columns(ISOLATED, plain), Service::Normal, marked);
        assert_eq!(found, isolated, "{cause}");
    }
}

#[test]
fn a_final_code_is_final_and_no_other_end_is() {
    let final_codes = |builder: BackgroundWorkerBuilder| builder.final_codes([1, 7]);
    for (cause, expected) in [
        (EXIT_1, [U, U, U, U]),
        (ExitCause::Exited(7), [U, U, U, U]),
        (ExitCause::Exited(8), [U, R, R, R]),
        (EXIT_0, [U, U, U, R]),
        (signal(7), [U, R, R, R]),
    ] {
        let found = verdicts(columns(ISOLATED, final_codes), Service::Normal, how(cause));
        assert_eq!(found, expected, "{cause}");
    }
    let shared = |builder: BackgroundWorkerBuilder| builder.final_codes([1]);
    assert_eq!(verdicts(columns(SHARED, shared), Service::Normal, how(EXIT_1)), [U; 4]);
    // A reset comes first.
    let found = verdicts(columns(ISOLATED, final_codes), Service::Resetting, how(EXIT_1));
    assert_eq!(found, [U, N, N, N]);
}

#[test]
fn exit_0_after_a_second_is_no_failure_of_a_worker_that_always_runs() {
    let millis = Duration::from_millis;
    for (ran_for, expected) in
        [(millis(999), R), (seconds(1), Verdict::Repeat), (seconds(9), Verdict::Repeat)]
    {
        let how = HowEnded { ran_for, ..how(EXIT_0) };
        let found = verdicts(columns(ISOLATED, plain), Service::Normal, how);
        assert_eq!(found, [U, U, U, expected], "{ran_for:?}");
    }
}

#[test]
fn each_cell_holds_for_an_end_by_recycling() {
    let why = Recycled::Lifetime;
    let n = Verdict::Replace(why);
    let recycled = |flags| {
        let entries = columns(flags, |builder| builder.final_codes([1]));
        entries.map(|entry| Entry { recycled: Some(why), ..entry })
    };
    let (stop, kill) = (Some(StopLevel::Terminate), Some(StopLevel::Kill));
    // What it was sent, clean-up mark, end; isolated, shared.
    let table = [
        (stop, false, EXIT_0, [U, n, n, n], [U, n, n, n]),
        (stop, false, EXIT_1, [U, n, n, n], [U, n, n, n]),
        (stop, false, EXIT_3, [U, n, n, n], [X; 4]),
        (stop, false, CRASH, [U, n, n, n], [X; 4]),
        (stop, true, EXIT_0, [U, n, n, n], [X; 4]),
        (stop, true, signal(15), [U, n, n, n], [U, n, n, n]),
        (kill, true, signal(9), [U, n, n, n], [U, n, n, n]),
    ];
    for (sent, dirty, cause, isolated, shared) in table {
        for (flags, expected) in [(ISOLATED, isolated), (SHARED, shared)] {
            let how = HowEnded { sent, dirty, ..how(cause) };
            let found = |service| verdicts(recycled(flags), service, how);
            assert_eq!(found(Service::Normal), expected, "{flags:?}, {sent:?}, {cause}, {dirty}");
            assert_eq!(found(Service::Resetting), [U, n, n, n], "{flags:?}, {cause}");
            assert_eq!(found(Service::Stopping), [U; 4], "{flags:?}, {cause}");
            let asked = recycled(flags).map(|entry| Entry { terminate: true, ..entry });
            let expected = if expected == [X; 4] { [X; 4] } else { [U; 4] };
            assert_eq!(verdicts(asked, Service::Normal, how), expected, "{flags:?}, {cause}");
        }
    }
}

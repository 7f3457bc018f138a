//! The promise: each limit of a description is where it is said to be. What is just inside is taken
//! unchanged, what is just outside is refused, never cut, by an error that names the field, what
//! was found and the limit. The limits are PostgreSQL's, or wider.
//!
//! Would catch: a limit that is off by one or counts characters for bytes, a field that is checked
//! under another one's name, a text that is cut in silence.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bgw_core::{
    BackgroundWorker, BackgroundWorkerBuilder, EntryPoint, Grace, InvalidWorker, Pid,
    RestartPolicy, StartTime, StopSignal, WorkerFlags,
};
use std::time::Duration;

// The limits that the documentation states: those of PostgreSQL, whose BGW_MAXLEN (96) and
// MAXPGPATH (1024) count the NUL.
const NAME_LIMIT: usize = 95;
const TYPE_LIMIT: usize = 95;
const FUNCTION_LIMIT: usize = 95;
const LIBRARY_LIMIT: usize = 1023;
const COMMAND_LIMIT: usize = 1023;
const EXTRA_LEN: usize = 128;
const TAG_LIMIT: usize = 31;
const MAX_RESTART: Duration = Duration::from_secs(86_400);

type Text =
    (&'static str, usize, fn(String) -> BackgroundWorkerBuilder, fn(&BackgroundWorker) -> &str);

fn minimal() -> BackgroundWorkerBuilder {
    BackgroundWorker::builder("name").function("function")
}

/// The text of the entry point that `field` names.
fn entry_text<'a>(worker: &'a BackgroundWorker, field: &str) -> &'a str {
    match (worker.entry(), field) {
        (EntryPoint::Function(name), "function") => name,
        (EntryPoint::Library { path, .. }, "library") => path,
        (EntryPoint::Library { function, .. }, "function") => function,
        (EntryPoint::Command { program, .. }, "command") => program,
        (entry, field) => panic!("no {field} in {entry:?}"),
    }
}

/// Each text: its name in errors, its limit, how to set it, how to read it.
const TEXTS: [Text; 7] = [
    (
        "name",
        NAME_LIMIT,
        |text| BackgroundWorker::builder(text).function("function"),
        BackgroundWorker::name,
    ),
    ("worker_type", TYPE_LIMIT, |text| minimal().worker_type(text), BackgroundWorker::worker_type),
    ("tag", TAG_LIMIT, |text| minimal().tag(text), BackgroundWorker::tag),
    (
        "function",
        FUNCTION_LIMIT,
        |text| minimal().function(text),
        |worker| entry_text(worker, "function"),
    ),
    (
        "function",
        FUNCTION_LIMIT,
        |text| minimal().library("library.so", text),
        |worker| entry_text(worker, "function"),
    ),
    (
        "library",
        LIBRARY_LIMIT,
        |text| minimal().library(text, "function"),
        |worker| entry_text(worker, "library"),
    ),
    (
        "command",
        COMMAND_LIMIT,
        |text| minimal().command(text, [""; 0]),
        |worker| entry_text(worker, "command"),
    ),
];

/// The error of `builder`, which names `field` and each of `facts`.
fn refused(builder: BackgroundWorkerBuilder, field: &str, facts: &[&str]) -> InvalidWorker {
    let error = builder.build().expect_err(field);
    assert_eq!(error.field(), field, "{error}");
    let text = error.to_string();
    for fact in [field].iter().chain(facts) {
        assert!(text.contains(fact), "\"{text}\" does not tell {fact}");
    }
    error
}

#[test]
fn a_text_is_taken_whole_up_to_its_limit_and_refused_beyond() {
    for (field, limit, set, read) in TEXTS {
        for len in [1, limit - 1, limit] {
            let text = "x".repeat(len);
            let worker = set(text.clone()).build().unwrap();
            assert_eq!(read(&worker), text, "{field} of {len} bytes");
        }
        for len in [limit + 1, 2 * limit, 1 << 20] {
            let facts = [len.to_string(), limit.to_string()];
            let error = refused(set("x".repeat(len)), field, &[&facts[0], &facts[1]]);
            assert_eq!(error, InvalidWorker::TooLong { field, len, limit });
        }
        // Bytes count, not characters: all limits are odd, so these have one to spare.
        let half = "ä".repeat(limit / 2);
        assert_eq!(read(&set(half.clone()).build().unwrap()), half);
        let len = limit + 1;
        let error = set("ä".repeat(len / 2)).build().unwrap_err();
        assert_eq!(error, InvalidWorker::TooLong { field, len, limit });
    }
}

#[test]
fn a_text_that_must_be_there_is_refused_when_it_is_empty() {
    for (field, _, set, read) in TEXTS {
        match field {
            "worker_type" => assert_eq!(read(&set(String::new()).build().unwrap()), "name"),
            "tag" => assert_eq!(read(&set(String::new()).build().unwrap()), ""),
            _ => {
                let error = refused(set(String::new()), field, &["empty"]);
                assert_eq!(error, InvalidWorker::Empty { field });
            }
        }
    }
    let error = refused(BackgroundWorker::builder("name"), "entry", &["missing"]);
    assert_eq!(error, InvalidWorker::NoEntryPoint);
}

#[test]
fn a_nul_is_refused_wherever_it_stands() {
    for (field, limit, set, _) in TEXTS {
        for at in [0, 1, limit - 1] {
            let mut text = "x".repeat(limit);
            text.replace_range(at..=at, "\0");
            let error = refused(set(text), field, &["NUL", &at.to_string()]);
            assert_eq!(error, InvalidWorker::NulByte { field, at });
        }
    }
    let command = minimal().command("program", ["one", "t\0o"]);
    assert_eq!(
        refused(command, "command", &["NUL", "1"]),
        InvalidWorker::NulByte { field: "command", at: 1 }
    );
}

/// What is shown in logs and titles cannot begin a line or steer a terminal; what only the system
/// sees may hold what a path may hold.
#[test]
fn a_control_character_is_refused_in_what_is_shown() {
    for (field, _, set, read) in TEXTS {
        for character in ['\n', '\r', '\t', '\u{1b}', '\u{7f}', '\u{85}', '\u{9b}'] {
            let text = format!("ab{character}cd");
            match field {
                "library" | "command" => {
                    assert_eq!(read(&set(text.clone()).build().unwrap()), text)
                }
                _ => {
                    let code = format!("{:#04x}", u32::from(character));
                    let error = refused(set(text), field, &["control", &code, "2"]);
                    assert!(!error.to_string().contains(character));
                }
            }
        }
        let text = "größe – 北 ✓";
        assert_eq!(read(&set(text.to_owned()).build().unwrap()), text);
    }
}

#[test]
fn the_parts_of_a_command_count_together_with_one_byte_between_two() {
    let arguments = |worker: &BackgroundWorker| match worker.entry() {
        EntryPoint::Command { args, .. } => args.clone(),
        other => panic!("{other:?}"),
    };
    // "p", a byte, and the rest.
    let fits = "x".repeat(COMMAND_LIMIT - 2);
    let worker = minimal().command("p", [fits.clone()]).build().unwrap();
    assert_eq!(arguments(&worker), std::slice::from_ref(&fits));
    // As many empty ones as there are bytes; each is an argument.
    let worker = minimal().command("p", vec![""; COMMAND_LIMIT - 1]).build().unwrap();
    assert_eq!(arguments(&worker), vec![""; COMMAND_LIMIT - 1]);
    let too_much = [
        minimal().command("p", [fits.clone() + "x"]),
        minimal().command("pp", [fits.clone()]),
        minimal().command("p", [fits.as_str(), ""]),
        minimal().command("p", vec![""; COMMAND_LIMIT]),
    ];
    for command in too_much {
        let error = refused(command, "command", &["1024", "1023"]);
        let (len, limit) = (COMMAND_LIMIT + 1, COMMAND_LIMIT);
        assert_eq!(error, InvalidWorker::TooLong { field: "command", len, limit });
    }
    // A length is told, whatever came; nothing is allocated for it.
    let error = minimal().command("p", vec!["x".repeat(1000); 1000]).build().unwrap_err();
    assert!(matches!(error, InvalidWorker::TooLong { len: 1_001_001, .. }), "{error}");
}

#[test]
fn a_restart_interval_is_nothing_to_a_day_in_milliseconds() {
    let restart = |policy| minimal().restart(policy).build().map(|worker| worker.restart());
    let after = |interval| RestartPolicy::Fixed(interval);
    let second = Duration::from_secs(1);
    for seconds in [0, 1, 60, 86_399, 86_400] {
        let policy = RestartPolicy::after_secs(seconds);
        assert_eq!(policy, after(second * seconds));
        assert_eq!(restart(policy), Ok(policy));
    }
    // BGW_NEVER_RESTART, which is -1 there, is a case of its own here.
    assert_eq!(restart(RestartPolicy::Never), Ok(RestartPolicy::Never));
    assert_eq!(minimal().build().unwrap().restart(), RestartPolicy::Never);
    // What is below a millisecond is dropped on both sides, so both sides see the same.
    let odd = Duration::from_nanos(1_999_999);
    assert_eq!(restart(after(odd)), Ok(after(Duration::from_millis(1))));
    assert_eq!(restart(after(Duration::from_nanos(1))), Ok(after(Duration::ZERO)));
    let beyond =
        [MAX_RESTART + Duration::from_nanos(1), second * 86_401, second * u32::MAX, Duration::MAX];
    for interval in beyond {
        let told = format!("{interval:?}");
        let builder = minimal().restart(after(interval));
        let error = refused(builder, "restart", &[&told, "86400s"]);
        let limit = MAX_RESTART;
        assert_eq!(error, InvalidWorker::RestartOutOfRange { interval, limit });
    }
}

#[test]
fn a_stop_signal_is_one_of_four_and_for_a_command_one_of_seven() {
    use StopSignal::{Hup, Int, Quit, Term, Usr1, Usr2, Winch};
    let library = || BackgroundWorker::builder("name").library("library.so", "function");
    let command = || BackgroundWorker::builder("name").command("program", [""; 0]);
    assert_eq!(minimal().build().unwrap().stop(), Term);
    for signal in [Term, Int, Hup, Usr2] {
        for builder in [minimal(), library(), command()] {
            assert_eq!(builder.stop(signal).build().unwrap().stop(), signal);
        }
    }
    for signal in [Quit, Usr1, Winch] {
        assert_eq!(command().stop(signal).build().unwrap().stop(), signal);
        for builder in [minimal(), library()] {
            let facts = [&signal.to_string(), "SIGTERM", "SIGINT", "SIGHUP", "SIGUSR2"];
            let error = refused(builder.stop(signal), "stop", &facts);
            assert!(matches!(error, InvalidWorker::Unfit { .. }), "{error}");
        }
    }
}

#[test]
fn a_grace_is_nothing_to_a_day_in_milliseconds_or_for_ever() {
    let grace = |grace| minimal().grace(grace).build().map(|worker| worker.grace());
    assert_eq!(minimal().build().unwrap().grace(), Grace::OfCluster);
    let day = Duration::from_secs(86_400);
    let all = [Duration::ZERO, Duration::from_millis(1), Duration::from_secs(90), day];
    let others = [Grace::OfCluster, Grace::Bounded, Grace::Forever];
    for value in all.map(Grace::After).into_iter().chain(others) {
        assert_eq!(grace(value), Ok(value));
    }
    let odd = Duration::from_nanos(1_999_999);
    assert_eq!(grace(Grace::After(odd)), Ok(Grace::After(Duration::from_millis(1))));
    for time in [day + Duration::from_nanos(1), Duration::MAX] {
        let told = format!("{time:?}");
        let error = refused(minimal().grace(Grace::After(time)), "grace", &[&told, "a day"]);
        assert!(matches!(error, InvalidWorker::OutOfRange { .. }), "{error}");
    }
}

/// Every combination of the four flags with each start time and with and without a restart.
#[test]
fn flags_go_together_as_the_rules_say_and_not_otherwise() {
    let times =
        [StartTime::PostmasterStart, StartTime::ConsistentState, StartTime::RecoveryFinished];
    let policies = [RestartPolicy::Never, RestartPolicy::after_secs(0)];
    for bits in 0..64 {
        let Some(flags) = WorkerFlags::from_bits(bits) else { continue };
        let database = flags.contains(WorkerFlags::DATABASE_CONNECTION);
        let parallel = flags.contains(WorkerFlags::CLASS_PARALLEL);
        for (start_time, policy) in
            times.into_iter().flat_map(|time| policies.map(|policy| (time, policy)))
        {
            let builder = minimal().flags(flags).start_time(start_time).restart(policy);
            if database && !flags.contains(WorkerFlags::SHMEM_ACCESS) {
                let facts = ["DATABASE_CONNECTION", "SHMEM_ACCESS"];
                let error = refused(builder, "flags", &facts);
                assert_eq!(error, InvalidWorker::DatabaseWithoutSharedMemory);
            } else if database && start_time == StartTime::PostmasterStart {
                let facts = ["PostmasterStart", "DATABASE_CONNECTION", "ConsistentState"];
                let error = refused(builder, "start_time", &facts);
                assert_eq!(error, InvalidWorker::DatabaseAtPostmasterStart);
            } else if parallel && policy != RestartPolicy::Never {
                let error = refused(builder, "restart", &["Never", "CLASS_PARALLEL"]);
                assert_eq!(error, InvalidWorker::ParallelMustNeverRestart);
            } else {
                let worker = builder.build().unwrap();
                let same = (worker.flags(), worker.start_time(), worker.restart());
                assert_eq!(same, (flags, start_time, policy));
                assert_eq!(worker.is_parallel(), parallel);
            }
        }
    }
}

#[test]
fn each_bit_that_is_no_flag_is_refused_and_shown() {
    for bit in (0..32).map(|bit| 1u32 << bit).filter(|bit| WorkerFlags::all().bits() & bit == 0) {
        let flags = WorkerFlags::from_bits_retain(bit) | WorkerFlags::SHMEM_ACCESS;
        let error = refused(minimal().flags(flags), "flags", &[&format!("{bit:#x}")]);
        assert_eq!(error, InvalidWorker::UnknownFlags { bits: bit }, "the known one is no part");
    }
}

#[test]
fn up_to_128_extra_bytes_are_taken_and_the_rest_is_zero() {
    for len in [0, 1, 127, 128] {
        let bytes: Vec<u8> = (0..len).map(|at| 255 - at as u8).collect();
        // The longer one before leaves nothing behind.
        let worker = minimal().extra(&[7; EXTRA_LEN]).extra(&bytes).build().unwrap();
        assert_eq!(worker.extra()[..len], bytes);
        assert!(worker.extra()[len..].iter().all(|&byte| byte == 0));
    }
    for len in [129, 4096] {
        let facts = [len.to_string()];
        let error = refused(minimal().extra(&vec![1; len]), "extra", &[&facts[0], "128"]);
        assert_eq!(error, InvalidWorker::TooLong { field: "extra", len, limit: 128 });
    }
    // The last call counts, a good one after a bad one too.
    assert!(minimal().extra(&[1; 129]).extra(&[1; 128]).build().is_ok());
}

#[test]
fn the_argument_is_any_value_of_64_bits_and_the_notified_any_pid() {
    assert_eq!(minimal().build().unwrap().main_arg(), 0);
    for value in [0, 1, u64::from(u32::MAX), 1 << 32, i64::MAX as u64, 1 << 63, u64::MAX] {
        assert_eq!(minimal().main_arg(value).build().unwrap().main_arg(), value);
    }
    assert_eq!(minimal().build().unwrap().notify(), None);
    for number in [1, 2, Pid::MAX] {
        let pid = Pid::new(number).unwrap();
        assert_eq!(minimal().notify(pid).build().unwrap().notify(), Some(pid));
    }
    assert_eq!([Pid::new(0), Pid::new(Pid::MAX + 1), Pid::new(u32::MAX)], [None; 3]);
}

//! What a command finds when it starts: refusals by name, and the way over the socket.

use crate::pid::Pid;
use crate::shared::WorkerRecord;
use crate::shared::corrupt::CorruptRecord;
use crate::worker::BackgroundWorker;
use crate::worker::builder::BackgroundWorkerBuilder;
use crate::worker::policy::{Ready, RestartPolicy};
use crate::worker::recycle::Recycle;
use crate::worker::surroundings::{Input, SURROUNDINGS_LIMIT, Surroundings};
use std::time::Duration;

type Build = fn(BackgroundWorkerBuilder) -> BackgroundWorkerBuilder;

fn base() -> BackgroundWorkerBuilder {
    BackgroundWorker::builder("name").command("true", [""; 0])
}

fn built(build: Build) -> Surroundings {
    let worker = build(base()).build().unwrap();
    worker.surroundings().cloned().unwrap_or_default()
}

const GOOD: &[Build] = &[
    |b| b,
    |b| b.env_clear(),
    |b| b.env("A", "").env("B", "x=y\n\u{1}").env("A", "2").env_remove("C"),
    |b| b.env_remove("A").current_dir("/").stdin(Input::Null),
    |b| b.current_dir(format!("/{}", "d".repeat(1022))).stdin(Input::File("/dev/zero".into())),
    |b| b.env("A", "x".repeat(16_384 - 8 - 4)),
];

#[test]
fn what_was_built_comes_back() {
    for (row, &build) in GOOD.iter().enumerate() {
        let surroundings = built(build);
        assert_eq!(Surroundings::decode(&surroundings.encode()), Ok(surroundings), "row {row}");
        assert!(built(build).encode().len() <= SURROUNDINGS_LIMIT);
    }
    assert!(built(|b| b).are_default());
    let worker = base().env("A", "1").env("A", "2").env_remove("B").build().unwrap();
    assert_eq!(worker.env().collect::<Vec<_>>(), [("A", Some("2")), ("B", None)]);
}

/// The name of the field, the value, and the limit: from the builder, and from the socket.
#[test]
fn each_refusal_names_field_value_and_limit() {
    let long = |b: BackgroundWorkerBuilder| b.env("A", "x".repeat(16_384 - 8 - 3));
    let deep = |b: BackgroundWorkerBuilder| b.current_dir(format!("/{}", "d".repeat(1023)));
    let table: &[(&str, &[&str], Build)] = &[
        ("env", &["empty"], |b| b.env("", "a")),
        ("env", &["A=B", "without ="], |b| b.env("A=B", "a")),
        ("env_remove", &["A=B", "without ="], |b| b.env_remove("A=B")),
        ("env", &["NOTIFY_SOCKET", "postmaster"], |b| b.env("NOTIFY_SOCKET", "/x")),
        ("env_remove", &["WATCHDOG_PID", "postmaster"], |b| b.env_remove("WATCHDOG_PID")),
        ("env", &["NUL byte at 1"], |b| b.env("A", "a\0")),
        ("env, with current_dir and stdin,", &["16385", "16384"], long),
        ("current_dir", &["\"srv\"", "absolute"], |b| b.current_dir("srv")),
        ("current_dir", &["\"\"", "absolute"], |b| b.current_dir("")),
        ("current_dir", &["1024", "1023"], deep),
        ("stdin", &["\"x\"", "absolute"], |b| b.stdin(Input::File("x".into()))),
        ("env", &["A", "a command"], |b| b.function("f").env("A", "a")),
        ("env_clear", &["a command"], |b| b.function("f").env_clear()),
        ("stdin", &["Null", "a command"], |b| b.library("/l", "f").stdin(Input::Null)),
        ("attach", &["set", "a command"], |b| b.function("f").attach()),
        ("attach", &["set", "a command"], |b| b.library("/l", "f").attach()),
        ("env", &["BGW_HANDLE", "postmaster"], |b| b.env("BGW_HANDLE", "1.1@1")),
    ];
    for (field, facts, build) in table {
        let error = build(base()).build().expect_err(field);
        assert_eq!(error.field(), *field, "{error}");
        let text = error.to_string();
        assert!(facts.iter().all(|fact| text.contains(fact)), "{text}");
    }
    let from_socket = |text: &str| Surroundings::decode(text.as_bytes()).unwrap_err();
    for (bytes, part) in [
        ("dsrv\0", "current_dir"),
        ("s=a\0", "env is empty"),
        ("sNOTIFY_SOCKET=a\0", "NOTIFY_SOCKET"),
        ("x\0", "kind of env is 120"),
        ("c\0\0", "kind of env is 0"),
        ("\0", "kind of env is 0"),
    ] {
        let text = from_socket(bytes).to_string();
        assert!(text.contains(part), "{text}");
    }
    let error = Surroundings::decode(b"d/\xff\0").unwrap_err();
    assert!(matches!(error, CorruptRecord::Text { .. }), "{error}");
    let long = Surroundings::decode(&[b"sA=".as_slice(), &[b'x'; 16_384]].concat());
    assert!(long.is_err());
}

#[test]
fn any_bytes_are_surroundings_or_an_error() {
    let good = built(|b| b.env("A", "b").env_remove("C").current_dir("/d").stdin(Input::Null));
    let good = good.encode();
    for at in 0..good.len() {
        let _ = Surroundings::decode(&good[..at]);
        for byte in [0, 1, b'=', b'c', b'd', b's', 0x80, 0xff] {
            let mut spoilt = good.clone();
            spoilt[at] = byte;
            if let Ok(some) = Surroundings::decode(&spoilt) {
                assert_eq!(Surroundings::decode(&some.encode()), Ok(some));
            }
        }
    }
}

/// What only those that can call the methods of a worker may declare.
#[test]
fn an_attached_command_may_declare_what_a_function_may() {
    let calls: &[Build] = &[
        |b| b.ready(Ready::Call),
        |b| b.heartbeat(Duration::from_secs(1)),
        |b| b.restart(RestartPolicy::after_secs(1)).recycle(Recycle::new().jobs(5)),
        |b| b.ready(Ready::Notify).heartbeat(Duration::from_secs(1)),
    ];
    for (row, call) in calls.iter().enumerate() {
        let attached = call(base().attach()).build().unwrap();
        let back = WorkerRecord::encode(&attached, Pid::this()).decode();
        assert_eq!(back.as_ref(), Ok(&attached), "row {row}");
        assert!(back.unwrap().is_attached());
        assert_eq!(call(base()).build().is_ok(), row == 3, "row {row}: a command that cannot");
    }
}

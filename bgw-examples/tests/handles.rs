//! The promise: a handle tells the truth about its worker, and about no other one, for ever.
//!
//! Would catch: a status that mixes two tenants of a slot, a lost report, a wait that misses its
//! event, a stale handle that ends the slot's next tenant.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bgw_backend::{
    AskError, ExitCause, NotStarted, NotWritable, Pid, RegisterError, StartTime, TerminateError,
    WaitError, WorkerHandle, WorkerStatus,
};
use process_test::{Signal, fork_child, tests, wait_until};
use std::process::ExitCode;
use std::time::Duration;
use support::{
    Cluster, PATIENCE, alive, connect, kill, raw, read_note, ready, restarting, simple, started,
    stopped, worker,
};

fn main() -> ExitCode {
    process_test::main(tests![
        a_handle_goes_from_not_yet_started_to_started_to_stopped => [B05, B10, B11, B12, B16],
        a_worker_is_in_its_own_session_and_its_title_shows_its_name => [B58],
        a_stale_handle_neither_answers_for_nor_ends_the_next_worker => [B15, B28, R17],
        a_full_array_is_refused_with_both_numbers_and_takes_workers_again => [B08],
        a_failed_worker_stops_and_starts_again_with_another_pid => [B13, X03],
        the_exit_report_says_how_and_whether_it_was_the_last_end => [X01],
        a_wait_with_a_timeout_ends_by_it,
        a_handle_travels_as_text_to_another_process,
        many_waiters_in_many_processes_are_all_told => [X05],
        what_was_registered_arrives_unchanged => [B48, B49, B50],
        a_worker_registers_another_one_and_waits_for_it => [B06],
        terminate_is_harmless_twice_and_after_the_end => [B28],
        a_worker_that_is_terminated_before_it_starts_never_does => [B14, B17, B27],
        a_default_worker_ends_with_exit_code_1_at_sigterm,
        the_view_lists_every_worker_and_finds_types_by_pid,
        wait_any_names_the_one_that_ended => [X06],
        a_forked_child_must_connect_itself,
    ])
}

/// Would fail if a status ran ahead of or behind its worker, or named another process.
fn a_handle_goes_from_not_yet_started_to_started_to_stopped() {
    let cluster = Cluster::with(|builder| builder.initial_phase(StartTime::PostmasterStart));
    let handle = cluster.backend.register(&simple("sleep")).unwrap();
    cluster.backend.ping().unwrap();
    assert_eq!(handle.status(), WorkerStatus::NotYetStarted);
    cluster.backend.advance(StartTime::RecoveryFinished).unwrap();
    let pid = started(&handle);
    assert_eq!(handle.status(), WorkerStatus::Started(pid));
    assert!(alive(pid));
    handle.terminate().unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    assert!(matches!(handle.status(), WorkerStatus::Stopped(Some(_))));
    cluster.end();
}

/// Would fail without `setsid`, or if the title stayed that of the program.
fn a_worker_is_in_its_own_session_and_its_title_shows_its_name() {
    let cluster = Cluster::new();
    let (handle, _) = cluster.start(&simple("sleep"));
    let pid = ready(&handle);
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    assert_eq!(fields[1], cluster.launched.pid().to_string(), "parent");
    assert_eq!(fields[3], pid.to_string(), "session");
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(String::from_utf8_lossy(&line).starts_with("bgworker: sleep"), "{line:?}");
    cluster.end();
}

/// Would fail if the generation were not compared in `look` or in `set_flags`.
fn a_stale_handle_neither_answers_for_nor_ends_the_next_worker() {
    let cluster = Cluster::with(|builder| builder.max_workers(1));
    let (old, _) = cluster.start(&simple("sleep"));
    old.terminate().unwrap();
    stopped(&old);
    let (new, pid) = cluster.start(&simple("sleep"));
    assert_eq!(old.id().slot(), new.id().slot(), "one slot: it was used again");
    assert_eq!(old.status(), WorkerStatus::Stopped(None), "its report went with the slot");
    assert_eq!(old.wait_for_shutdown().unwrap(), WorkerStatus::Stopped(None));
    old.terminate().unwrap();
    cluster.backend.ping().unwrap();
    assert_eq!(new.status(), WorkerStatus::Started(pid), "nothing happened to the next one");
    assert!(!cluster.backend.workers()[0].terminating, "nor will it");
    assert!(alive(pid));
    cluster.end();
}

/// Would fail if a full array made the caller wait, or a refusal cost a slot.
fn a_full_array_is_refused_with_both_numbers_and_takes_workers_again() {
    let cluster = Cluster::with(|builder| builder.max_workers(3));
    let handles: Vec<_> =
        (0..3).map(|_| cluster.backend.register(&simple("sleep")).unwrap()).collect();
    for _ in 0..100 {
        match cluster.backend.register(&simple("sleep")) {
            Err(RegisterError::NoFreeSlot { capacity: 3, in_use: 3 }) => {}
            other => panic!("{other:?}"),
        }
    }
    handles[1].terminate().unwrap();
    stopped(&handles[1]);
    started(&cluster.backend.register(&simple("sleep")).unwrap());
    cluster.end();
}

/// Would fail if the word kept the old pid, or restarts were not counted.
fn a_failed_worker_stops_and_starts_again_with_another_pid() {
    let cluster = Cluster::new();
    let (handle, first) = cluster.start(&restarting("sleep", Duration::from_millis(100)));
    kill(first, Signal::SIGKILL);
    let report = stopped(&handle);
    assert_eq!(report.cause, ExitCause::Signaled { signal: 9, core_dumped: false });
    assert!(!report.unregistered && !report.requested);
    wait_until(
        "it runs again",
        PATIENCE,
        || matches!(handle.status(), WorkerStatus::Started(pid) if pid != first),
    );
    handle.terminate().unwrap();
    let report = stopped(&handle);
    assert_eq!(report.restarts, 1);
    assert!(report.unregistered && report.requested);
    cluster.end();
}

/// Would fail if the report were written after the word, or with another code.
fn the_exit_report_says_how_and_whether_it_was_the_last_end() {
    let cluster = Cluster::new();
    let cases = [
        ("quick", 0, ExitCause::Exited(0)),
        ("fail", 0, ExitCause::Exited(1)),
        ("panic", 0, ExitCause::Exited(1)),
        ("exit", 7, ExitCause::Exited(7)),
    ];
    for (function, argument, cause) in cases {
        let description = worker(function).main_arg(argument).build().unwrap();
        let handle = cluster.backend.register(&description).unwrap();
        let report = stopped(&handle);
        assert_eq!(report.cause, cause, "{function}");
        assert!(report.pid.is_some() && report.unregistered, "{function}: {report:?}");
        assert!(report.max_rss_kib > 0, "{function}: {report:?}");
    }
    cluster.end();
}

fn a_wait_with_a_timeout_ends_by_it() {
    let cluster = Cluster::new();
    let (handle, _) = cluster.start(&simple("sleep"));
    let timeout = Duration::from_millis(20);
    assert!(matches!(handle.wait_for_shutdown_timeout(timeout), Err(WaitError::TimedOut)));
    cluster.end();
}

fn a_handle_travels_as_text_to_another_process() {
    let cluster = Cluster::new();
    let (handle, pid) = cluster.start(&simple("sleep"));
    let text = handle.to_string();
    let folder = cluster.folder.clone();
    let mut child = fork_child(move || {
        let id: WorkerHandle = text.parse().unwrap();
        let handle = connect(&folder).handle(id);
        assert_eq!(handle.status(), WorkerStatus::Started(pid));
        handle.terminate().unwrap();
        stopped(&handle);
    });
    assert_eq!(child.wait().code(), Some(0));
    assert!(stopped(&handle).requested);
    cluster.end();
}

/// Would fail if a wake-up reached one waiter only, or one process only.
fn many_waiters_in_many_processes_are_all_told() {
    let cluster = Cluster::new();
    let (handle, _) = cluster.start(&simple("sleep"));
    let id = handle.id();
    let mut children: Vec<_> = (0..5)
        .map(|number| {
            let folder = cluster.folder.clone();
            fork_child(move || {
                let backend = connect(&folder);
                let threads: Vec<_> = (0..3)
                    .map(|_| {
                        let handle = backend.handle(id);
                        std::thread::spawn(move || stopped(&handle).requested)
                    })
                    .collect();
                support::write_note(&number.to_string(), "waiting").unwrap();
                for thread in threads {
                    assert!(thread.join().unwrap());
                }
            })
        })
        .collect();
    for number in 0..children.len() {
        read_note(&number.to_string());
    }
    handle.terminate().unwrap();
    for child in &mut children {
        assert_eq!(child.wait().code(), Some(0));
    }
    cluster.end();
}

/// Would fail if a bit of the argument or of the extra bytes were lost, or another function called.
fn what_was_registered_arrives_unchanged() {
    let cluster = Cluster::new();
    let extra: Vec<u8> = (0..128u32).map(|byte| (byte * 2 + 1) as u8).collect();
    let description = worker("describe")
        .worker_type("kind of describer")
        .main_arg(0xfedc_ba98_7654_3210)
        .extra(&extra)
        .build()
        .unwrap();
    let handle = cluster.backend.register(&description).unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    let expected =
        format!("describe|kind of describer|{}|{extra:?}|{handle}", 0xfedc_ba98_7654_3210u64);
    assert_eq!(read_note("describe"), expected);
    cluster.end();
}

/// Would fail if the doorbell or the region did not reach workers.
fn a_worker_registers_another_one_and_waits_for_it() {
    let cluster = Cluster::new();
    let handle = cluster.backend.register(&simple("nested")).unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    assert!(read_note("nested").contains("Exited(0)"), "{}", read_note("nested"));
    cluster.end();
}

/// Would fail if a request after the end were an error or hit the postmaster.
fn terminate_is_harmless_twice_and_after_the_end() {
    let cluster = Cluster::new();
    let (handle, _) = cluster.start(&simple("sleep"));
    for _ in 0..3 {
        handle.terminate().unwrap();
    }
    stopped(&handle);
    for _ in 0..3 {
        handle.terminate().unwrap();
    }
    cluster.backend.ping().unwrap();
    cluster.end();
}

/// Would fail if it started in its phase all the same, or the waiter were not told.
fn a_worker_that_is_terminated_before_it_starts_never_does() {
    let cluster = Cluster::with(|builder| builder.initial_phase(StartTime::PostmasterStart));
    let handle = cluster.backend.register(&simple("sleep")).unwrap();
    // It is on the list by then, and waits for its phase.
    cluster.backend.ping().unwrap();
    handle.terminate().unwrap();
    let report = stopped(&handle);
    assert_eq!(report.cause, ExitCause::NotStarted(NotStarted::Terminated));
    assert_eq!(report.pid, None);
    assert!(matches!(handle.wait_for_startup().unwrap(), WorkerStatus::Stopped(_)));
    cluster.end();
}

fn a_default_worker_ends_with_exit_code_1_at_sigterm() {
    let cluster = Cluster::new();
    let description = restarting("default", Duration::ZERO);
    let handle = cluster.backend.register(&description).unwrap();
    ready(&handle);
    handle.terminate().unwrap();
    let report = stopped(&handle);
    assert_eq!(report.cause, ExitCause::Exited(1));
    assert!(report.unregistered, "terminated: not restarted, whatever its policy");
    cluster.end();
}

fn the_view_lists_every_worker_and_finds_types_by_pid() {
    let cluster = Cluster::new();
    let description = worker("sleep").worker_type("sleeper").build().unwrap();
    let (handle, pid) = cluster.start(&description);
    let workers = cluster.backend.workers();
    assert_eq!(workers.len(), 1);
    assert_eq!(workers[0].handle, handle.id());
    assert_eq!(workers[0].worker, description);
    assert_eq!(workers[0].status, WorkerStatus::Started(pid));
    assert_eq!(cluster.backend.worker_type_by_pid(pid).as_deref(), Some("sleeper"));
    assert_eq!(cluster.backend.worker_type_by_pid(Pid::this()), None);
    cluster.end();
}

/// Would fail if only the first handle were watched, or another one named.
fn wait_any_names_the_one_that_ended() {
    let cluster = Cluster::new();
    let handles: Vec<_> = (0..10).map(|_| cluster.start(&simple("sleep")).0).collect();
    handles[6].terminate().unwrap();
    let (which, status) = bgw_backend::wait_any(&handles, Some(PATIENCE)).unwrap();
    assert_eq!(which, 6);
    assert!(matches!(status, WorkerStatus::Stopped(Some(_))));
    cluster.end();
}

/// Would fail if a forked child could change the cluster in the name of its parent, or take an answer
/// on the parent's connection.
fn a_forked_child_must_connect_itself() {
    let cluster = Cluster::new();
    let backend = cluster.backend.clone();
    let (handle, _) = cluster.start(&simple("sleep"));
    let theirs = handle.clone();
    let mut child = fork_child(move || {
        let refused = backend.register(&simple("quick")).unwrap_err();
        let RegisterError::NotWritable(NotWritable::ForkedChild { .. }) = refused else {
            panic!("{refused}");
        };
        let refused = theirs.terminate().unwrap_err();
        let TerminateError::NotWritable(NotWritable::ForkedChild { .. }) = refused else {
            panic!("{refused}");
        };
        let refused = backend.ping().unwrap_err();
        assert!(matches!(refused, AskError::ForkedChild { .. }), "{refused}");
    });
    assert_eq!(child.wait().code(), Some(0));
    cluster.backend.ping().unwrap();
    assert!(matches!(handle.status(), WorkerStatus::Started(_)), "{}", handle.status());
    assert!(process_test::alive(raw(cluster.launched.pid())));
    cluster.end();
}

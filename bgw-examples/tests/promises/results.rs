//! The promise: what a worker gives back with its end is in its exit report: the last result of a
//! good end, the error with its causes, the panic with its place. It follows its report wherever
//! that goes, and a worker that gives nothing back costs nothing more.
//!
//! Would catch: a result of a bad end or of another run, a text that is torn, lost or another
//! tenant's, last words of a panic that was caught.

use crate::support::{
    Cluster, Log, PATIENCE, kill, ready, shared, simple, stopped, wait_for_spares, worker,
};
use bgw_backend::{
    BackgroundWorker, ExitCause, ExitReport, Handle, LAST_WORDS_LIMIT, LastWords, NotStarted,
    RESULT_LIMIT, RestartPolicy, ResultError, Worker, WorkerError, WorkerFlags, entry,
};
use bgw_postmaster::PostmasterBuilder;
use process_test::{Signal, Test, fork_child, tests, wait_until};
use std::os::unix::fs::MetadataExt;
use std::panic::catch_unwind;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        the_last_result_counts_with_a_good_end_only => [J16],
        a_result_has_128_bytes_at_most_and_is_the_workers_own => [J16],
        an_error_is_in_the_report_with_its_causes_and_cut_at_its_limit => [J06],
        a_panic_is_in_the_report_with_its_place => [J06],
        what_was_caught_is_no_last_word => [J06],
        each_run_has_its_own_last_words_and_a_request_takes_none_away => [J06],
        a_reset_takes_nothing_away => [D08, J06, J16],
        tenants_of_one_slot_never_mix_what_they_give_back => [D01, D17, J06],
        a_worker_that_gives_nothing_back_uses_no_more_memory => [J16],
    ]
}

/// Forked workers, and warm spares.
fn each_way(configure: impl Fn(PostmasterBuilder) -> PostmasterBuilder, test: impl Fn(&Cluster)) {
    for spares in [0, 2] {
        let cluster =
            Cluster::with(|builder| configure(builder.max_workers(8).warm_spares(spares)));
        wait_for_spares(&cluster, spares);
        test(&cluster);
        cluster.end();
    }
}

/// Sets two results, and ends as its argument says.
fn gives(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.set_result(&[1; RESULT_LIMIT])?;
    worker.set_result(b"the last one")?;
    match worker.main_arg() {
        0 => Ok(()),
        1 => Err("it fails".into()),
        2 => panic!("it panics"),
        code @ 3..100 => std::process::exit(code as i32),
        100 => std::process::exit(0),
        _ => {
            nix::sys::signal::raise(Signal::SIGKILL).map_err(std::io::Error::from)?;
            Ok(())
        }
    }
}

/// Would fail if an earlier result counted, or one of a run that did not end well.
fn the_last_result_counts_with_a_good_end_only() {
    each_way(
        |builder| builder.function("gives", entry(gives)),
        |cluster| {
            for (argument, counts) in
                [(0, true), (1, false), (2, false), (7, false), (100, true), (101, false)]
            {
                let description = worker("gives").main_arg(argument).build().unwrap();
                let handle = cluster.backend.register(&description).unwrap();
                let report = stopped(&handle);
                let expected = counts.then_some(&b"the last one"[..]);
                assert_eq!(report.result(), expected, "{argument}: {report}");
                assert_eq!(handle.exit_report().unwrap().result(), expected, "each look the same");
                assert_eq!(
                    stopped(&cluster.backend.register(&simple("quick")).unwrap()).result(),
                    None
                );
            }
            // With its clean-up mark set it has crashed, also by exit 0.
            let dirty = worker("gives").main_arg(100).flags(WorkerFlags::SHMEM_ACCESS);
            let handle = cluster.backend.register(&dirty.build().unwrap()).unwrap();
            let report = handle.wait_for_end_timeout(PATIENCE).map(|_| handle.exit_report());
            let report = report.unwrap().unwrap();
            assert!(report.reset && report.result().is_none(), "{report}");
        },
    );
}

/// Sets what is refused, and then what its argument says.
fn measures(worker: &mut Worker) -> Result<(), WorkerError> {
    assert_eq!(worker.set_result(&[7; 129]), Err(ResultError::TooLong { len: 129 }));
    worker.set_result(b"of the worker")?;
    let mut child = fork_child(|| {
        let worker_pid = worker.backend().pid();
        let refused = Err(ResultError::NotTheWorker { worker: worker_pid });
        assert_eq!(worker.set_result(b"of its child"), refused);
        let _ = catch_unwind(|| panic!("in its child"));
    });
    assert_eq!(child.wait().code(), Some(0));
    match worker.main_arg() {
        0 => {}
        len => worker.set_result(&vec![len as u8; len as usize - 1])?,
    }
    Ok(())
}

/// Would fail if a refused result replaced one, or if what a fork of the worker does counted.
fn a_result_has_128_bytes_at_most_and_is_the_workers_own() {
    each_way(
        |builder| builder.function("measures", entry(measures)),
        |cluster| {
            for argument in [0, 1, 2, 8, 9, 128, 129] {
                let description = worker("measures").main_arg(argument).build().unwrap();
                let report = stopped(&cluster.backend.register(&description).unwrap());
                let expected = match argument {
                    0 => b"of the worker".to_vec(),
                    len => vec![len as u8; len as usize - 1],
                };
                assert_eq!(report.result(), Some(&expected[..]), "{argument}: {report}");
            }
        },
    );
}

#[derive(Debug)]
struct Layered {
    name: String,
    source: std::io::Error,
}

impl std::fmt::Display for Layered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "resizing {} failed", self.name)
    }
}

impl std::error::Error for Layered {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

fn fails(worker: &mut Worker) -> Result<(), Layered> {
    let name = "ä".repeat(worker.main_arg() as usize);
    Err(Layered { name, source: std::io::Error::from_raw_os_error(libc::ENOSPC) })
}

/// Would fail if the causes were lost, or if a character were cut in two.
fn an_error_is_in_the_report_with_its_causes_and_cut_at_its_limit() {
    let log = Log::start();
    each_way(
        |builder| builder.function("fails", entry(fails)),
        |cluster| {
            for (argument, text, cause) in [
                (1, "resizing ä failed".to_owned(), "No space left on device (os error 28)"),
                (2000, format!("resizing {}", "ä".repeat(507)), ""),
            ] {
                let description = worker("fails").main_arg(argument).build().unwrap();
                let report = stopped(&cluster.backend.register(&description).unwrap());
                assert_eq!(report.cause, ExitCause::Exited(1));
                let causes = if cause.is_empty() { vec![] } else { vec![cause.to_owned()] };
                assert!(text.len() < LAST_WORDS_LIMIT);
                let words = LastWords::Error { text, causes };
                assert_eq!(report.last_words(), Some(&words), "{argument}");
            }
            let report = stopped(&cluster.backend.register(&simple("fail")).unwrap());
            let said = report.last_words().unwrap().to_string();
            assert_eq!(said, "this worker fails on purpose");
            log.wait_for(&said);
        },
    );
}

struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("once more");
    }
}

/// Panics as its argument says.
fn panics(worker: &mut Worker) -> Result<(), WorkerError> {
    match worker.main_arg() {
        0 => panic!("a text of its own: {}", worker.main_arg()),
        1 => std::panic::panic_any(7),
        2 => {
            let _second = PanicsInDrop;
            panic!("the first");
        }
        3 => {
            let thread = std::thread::spawn(|| panic!("in a thread"));
            thread.join().map_err(|_| "its thread has panicked".into())
        }
        _ => {
            std::panic::set_hook(Box::new(|_| {}));
            panic!("unseen by the hook");
        }
    }
}

/// Would fail if message or place were lost, also where a panic aborts the process.
fn a_panic_is_in_the_report_with_its_place() {
    each_way(
        |builder| builder.function("panics", entry(panics)),
        |cluster| {
            let report = |argument| {
                let description = worker("panics").main_arg(argument).build().unwrap();
                stopped(&cluster.backend.register(&description).unwrap())
            };
            let here = |report: &ExitReport, text: &str| {
                let Some(LastWords::Panic { message, place }) = report.last_words() else {
                    panic!("{report:?}")
                };
                assert_eq!(message, text);
                assert!(place.starts_with(&format!("{}:", file!())), "{place}");
            };
            let first = report(0);
            assert_eq!(first.cause, ExitCause::Exited(1));
            here(&first, "a text of its own: 0");
            here(&report(1), "(no message)");
            let aborted = report(2);
            assert!(matches!(aborted.cause, ExitCause::Signaled { signal: 6, .. }), "{aborted}");
            here(&aborted, "once more");
            let said = |argument| report(argument).last_words().map(ToString::to_string);
            assert_eq!(said(3).as_deref(), Some("its thread has panicked"));
            assert_eq!(said(4).as_deref(), Some("panicked: unseen by the hook"));
        },
    );
}

/// Catches a panic, and ends as its argument says.
fn catches(worker: &mut Worker) -> Result<(), WorkerError> {
    let _ = catch_unwind(|| panic!("caught"));
    match worker.main_arg() {
        0 => Ok(()),
        1 => Err("it fails".into()),
        2 => std::process::exit(1),
        3 => panic!("caught"),
        _ => {
            nix::sys::signal::raise(Signal::SIGKILL).map_err(std::io::Error::from)?;
            Ok(())
        }
    }
}

/// Would fail if a panic that did not end the worker were said to be why it ended.
fn what_was_caught_is_no_last_word() {
    each_way(
        |builder| builder.function("catches", entry(catches)),
        |cluster| {
            for (argument, expected) in
                [(0, ""), (1, "it fails"), (2, ""), (3, "panicked at"), (4, "")]
            {
                let description = worker("catches").main_arg(argument).build().unwrap();
                let report = stopped(&cluster.backend.register(&description).unwrap());
                let said = report.last_words().map(ToString::to_string).unwrap_or_default();
                assert!(said.starts_with(expected), "{argument}: {said}");
                assert_eq!(said.is_empty(), expected.is_empty(), "{argument}: {said}");
            }
        },
    );
}

/// Fails in its first runs, each time with another error, then waits.
fn fails_twice(worker: &mut Worker) -> Result<(), WorkerError> {
    if worker.restarts() < 2 {
        return Err(format!("failure {}", worker.restarts()).into());
    }
    worker.handle_terminate();
    worker.unblock_signals()?;
    worker.ready();
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    worker.set_result(b"at last")?;
    Ok(())
}

fn said(handle: &Handle) -> Option<String> {
    handle.exit_report()?.last_words().map(ToString::to_string)
}

/// Would fail if the words of an earlier run outlived it, or if the report of a run were lost when
/// the worker is unregistered in the pause after it.
fn each_run_has_its_own_last_words_and_a_request_takes_none_away() {
    each_way(
        |builder| builder.function("twice", entry(fails_twice)),
        |cluster| {
            let hour = RestartPolicy::Fixed(Duration::from_secs(3600));
            let handle = cluster.backend.register(&worker("twice").restart(hour).build().unwrap());
            let handle = handle.unwrap();
            for (run, words) in [(0, "failure 0"), (1, "failure 1")] {
                wait_until("that run has ended", PATIENCE, || {
                    handle.exit_report().is_some_and(|report| report.restarts == run)
                });
                assert_eq!(said(&handle).as_deref(), Some(words));
                handle.restart_now().unwrap();
            }
            handle.wait_for_next_start_timeout(PATIENCE).unwrap();
            ready(&handle);
            handle.terminate().unwrap();
            handle.wait_for_end_timeout(PATIENCE).unwrap();
            let report = handle.exit_report().unwrap();
            assert_eq!((report.result(), report.last_words()), (Some(&b"at last"[..]), None));

            let handle = cluster.backend.register(&worker("twice").restart(hour).build().unwrap());
            let handle = handle.unwrap();
            stopped(&handle);
            handle.terminate().unwrap();
            handle.wait_for_end_timeout(PATIENCE).unwrap();
            let report = handle.exit_report().unwrap();
            assert!(report.unregistered && report.requested(), "{report}");
            assert_eq!(said(&handle).as_deref(), Some("failure 0"));
        },
    );
}

/// Would fail if the words stayed behind when a reset sets the reports aside.
fn a_reset_takes_nothing_away() {
    let cluster = Cluster::with(|builder| {
        builder.max_workers(8).function("gives", entry(gives)).function("twice", entry(fails_twice))
    });
    let pausing = worker("twice").restart(RestartPolicy::Fixed(Duration::from_secs(3600)));
    let registered = |worker: &BackgroundWorker| cluster.backend.register(worker).unwrap();
    let (unread, failed) = (registered(&simple("gives")), registered(&simple("fail")));
    let resting = registered(&pausing.build().unwrap());
    let stranger = cluster.backend.handle(failed.id());
    wait_until("all have ended", PATIENCE, || {
        cluster.backend.workers().iter().all(|info| info.handle == resting.id())
            && said(&resting).is_some()
    });
    let mut current = resting.clone();
    for round in 0..2 {
        let culprit = registered(&shared("sleep", RestartPolicy::Never));
        let pid = ready(&culprit);
        kill(pid, Signal::SIGABRT);
        let successor = || current.crash_reset().and_then(|reset| reset.successor);
        wait_until("the slots are new", PATIENCE, || successor().is_some());
        current = cluster.backend.handle(successor().unwrap());
        if round == 0 {
            assert_eq!(said(&stranger).as_deref(), Some("this worker fails on purpose"));
            assert_eq!(said(&resting).as_deref(), Some("failure 0"));
        }
    }
    assert_eq!(unread.exit_report().unwrap().result(), Some(&b"the last one"[..]));
    assert_eq!(said(&failed).as_deref(), Some("this worker fails on purpose"));
    assert!(resting.exit_report().unwrap().reset);
    cluster.end();
}

/// Gives back its argument, long or short, as a result or as an error.
fn echoes(worker: &mut Worker) -> Result<(), WorkerError> {
    let number = worker.main_arg();
    let text = format!("{number} ").repeat(1 + number as usize % 20);
    match number % 3 {
        0 => Ok(()),
        1 => Ok(worker.set_result(text.as_bytes())?),
        _ => Err(text.into()),
    }
}

/// Strangers read the reports of one slot while its tenants come and go. Would fail if a report
/// came with the words of another tenant.
fn tenants_of_one_slot_never_mix_what_they_give_back() {
    let cluster = Cluster::with(|builder| builder.max_workers(1).function("echoes", entry(echoes)));
    let check = |number: u64, report: &ExitReport| {
        let text = format!("{number} ").repeat(1 + number as usize % 20);
        let words = report.last_words().map(ToString::to_string);
        let (result, expected) = match number % 3 {
            0 => (None, None),
            1 => (Some(text.as_bytes()), None),
            _ => (None, Some(text.clone())),
        };
        assert_eq!((report.result(), words), (result, expected), "{number}: {report}");
    };
    let mut before: Option<(u64, Handle)> = None;
    for number in 0..150 {
        let description = worker("echoes").main_arg(number).build().unwrap();
        let handle = cluster.backend.register(&description).unwrap();
        if let Some((number, stranger)) = &before {
            // The slot's next tenant may end while this looks.
            for report in (0..20).filter_map(|_| stranger.exit_report()) {
                check(*number, &report);
            }
        }
        check(number, &stopped(&handle));
        before = Some((number, cluster.backend.handle(handle.id())));
    }
    cluster.end();
}

/// How many blocks of memory the region takes.
fn blocks() -> u64 {
    let all = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let name = format!("/memfd:{}", shmem_slots::MEMFD_NAME);
    let mut regions = all.filter(|path| {
        let link = std::fs::read_link(path).unwrap_or_default();
        link.to_string_lossy().starts_with(&name)
    });
    std::fs::metadata(regions.next().unwrap()).unwrap().blocks()
}

/// Would fail if a start or an end touched the annexes of a slot without need, or a command had
/// something in them.
fn a_worker_that_gives_nothing_back_uses_no_more_memory() {
    let cluster = Cluster::with(|builder| builder.max_workers(8).function("gives", entry(gives)));
    let once = |function: &str| stopped(&cluster.backend.register(&simple(function)).unwrap());
    let (running, _) = cluster.start(&simple("sleep"));
    once("quick");
    let before = blocks();
    once("quick");
    assert_eq!(blocks(), before);
    once("gives");
    let more = blocks();
    assert!(more > before, "{more}");
    once("quick");
    assert_eq!(blocks(), more);
    running.terminate().unwrap();
    assert!(stopped(&running).returned.is_nothing());
    let missing = BackgroundWorker::builder("c").command("/no/such/program", [""; 0]);
    let report = stopped(&cluster.backend.register(&missing.build().unwrap()).unwrap());
    let cause = ExitCause::NotStarted(NotStarted::ExecFailed { errno: libc::ENOENT });
    assert_eq!(report.cause, cause);
    assert!(report.returned.is_nothing(), "a command gives nothing back");
    let command = BackgroundWorker::builder("c").command("false", [""; 0]).build().unwrap();
    let handle = cluster.backend.register(&command).unwrap();
    assert!(stopped(&handle).returned.is_nothing());
    cluster.end();
}

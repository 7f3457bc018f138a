//! The promise: a process that serves one worker after another is to each of them what a fresh
//! spare is, except for what the documentation says.
//!
//! Would catch: a process that serves again though it must not, something of one worker that the
//! next one sees.

use crate::support::reuse::{Done, cluster_of, cluster_with, lives, run, run_and_rest};
use crate::support::{
    PATIENCE, alive, children, kill, note_path, read_note, ready, shared, simple, spares, stopped,
    title, wait_for_spares, worker, write_note,
};
use bgw_backend::{ExitCause, RestartPolicy, Worker, WorkerStatus, entry};
use bgw_postmaster::Reuse;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, sigaction};
use process_test::{Signal, Test, tests, wait_until};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        only_functions_that_are_declared_reusable_share_a_process => [J27],
        nothing_of_one_life_is_seen_by_the_next => [J28],
        a_process_that_a_worker_has_left_something_in_ends_with_it => [J28],
        a_dirty_mark_is_a_crash_and_a_crash_reset_ends_former_workers => [J28],
        heap_statics_thread_locals_and_own_handlers_stay => [J29],
        a_process_ends_at_each_of_its_limits => [J30],
    ]
}

/// Would fail if a function that is not declared got a process that had another worker, or if its
/// own process served again.
fn only_functions_that_are_declared_reusable_share_a_process() {
    let cluster = cluster_of(2, Reuse::new());
    let first = run_and_rest(&cluster, "again", 0);
    for life in 2..6 {
        let function = if life % 2 == 0 { "again" } else { "other" };
        assert_eq!(run_and_rest(&cluster, function, 0), first);
        assert_eq!(lives(), life);
    }
    wait_for_spares(&cluster, 3);
    let mut pids = vec![first];
    for _ in 0..3 {
        let pid = run(&cluster, "once", 0).pid.unwrap();
        assert!(!pids.contains(&pid), "{pid} had a worker before: {pids:?}");
        assert_eq!(lives(), 1, "its process is fresh");
        wait_until("it has ended", PATIENCE, || !alive(pid));
        pids.push(pid);
        wait_for_spares(&cluster, 3);
    }
    assert_eq!(run_and_rest(&cluster, "again", 0), first);
    // Without spares each has a process of its own.
    cluster.end();
    let cluster = cluster_of(0, Reuse::new());
    for _ in 0..2 {
        let pid = run(&cluster, "again", 0).pid.unwrap();
        assert_eq!(lives(), 1);
        wait_until("it has ended", PATIENCE, || !alive(pid));
    }
    cluster.end();
}

/// Would fail if a single one of the things in the documentation's list were not put back.
fn nothing_of_one_life_is_seen_by_the_next() {
    let cluster = cluster_of(1, Reuse::new());
    let pid = run_and_rest(&cluster, "look", 0);
    let before = read_note("look");
    std::fs::remove_file(note_path("look")).unwrap();
    assert_eq!(run_and_rest(&cluster, "spoil", 0), pid);
    assert_eq!(title(pid), "bgworker: spare");
    let handle = cluster.backend.register(&simple("look")).unwrap();
    let info = cluster.backend.workers().into_iter().find(|info| info.handle == handle.id());
    assert!(info.is_none_or(|info| info.status_text.is_none() && info.wait_event.is_none()));
    assert_eq!(stopped(&handle).pid, Some(pid));
    assert_eq!(read_note("look"), before);
    cluster.end();
}

/// Would fail if a process served again that is not what it was, or if its worker's end were
/// reported before its threads and children are gone.
fn a_process_that_a_worker_has_left_something_in_ends_with_it() {
    let null = std::fs::File::open("/dev/null").unwrap();
    let cluster = cluster_with(1, Reuse::new(), |builder| builder.descriptor("null", null));
    let last = if nix::unistd::geteuid().is_root() { 10 } else { 9 };
    for what in 0..=last {
        // All end in a process that has served before.
        let pid = run_and_rest(&cluster, "again", 0);
        let description = worker("leave").main_arg(what).build().unwrap();
        let handle = cluster.backend.register(&description).unwrap();
        let report = match handle.wait_for_end_timeout(PATIENCE).unwrap() {
            WorkerStatus::Stopped(Some(report)) => report,
            other => panic!("{what}: {other:?}"),
        };
        let cause = if matches!(what, 7 | 8) { 1 } else { 0 };
        assert_eq!((report.cause, report.pid), (ExitCause::Exited(cause), Some(pid)), "{what}");
        assert!(!alive(pid), "{what}: the end is that of the process");
        wait_for_spares(&cluster, 1);
        // What has left the group is on its own, as with any worker.
        for orphan in children(cluster.launched.pid()) {
            if title(orphan).starts_with("sleep") {
                kill(orphan, Signal::SIGKILL);
                wait_until("the orphan has ended", PATIENCE, || !alive(orphan));
            }
        }
    }
    let pid = run_and_rest(&cluster, "again", 0);
    assert_eq!(run_and_rest(&cluster, "leave", 99), pid, "nothing is left: it serves again");
    cluster.end();
}

/// Would fail if a former worker outlived a crash reset: it may remember what lay in shared state.
fn a_dirty_mark_is_a_crash_and_a_crash_reset_ends_former_workers() {
    let cluster = cluster_with(1, Reuse::new(), |builder| {
        let dirty = |me: &'static bgw_core::WorkerProcess| {
            me.mark_cleanup_needed(true);
            std::process::exit(0)
        };
        builder.reusable_function("dirty", Reuse::new(), dirty)
    });
    let former = run_and_rest(&cluster, "again", 0);
    let other = cluster.backend.register(&shared("sleep", RestartPolicy::after_secs(0))).unwrap();
    ready(&other);
    let handle = cluster.backend.register(&shared("dirty", RestartPolicy::Never)).unwrap();
    wait_until("the other worker's handle is stale", PATIENCE, || {
        matches!(other.status(), WorkerStatus::Stopped(_))
    });
    assert_eq!(handle.exit_report().map(|report| report.pid), Some(Some(former)));
    wait_until("the process has ended", PATIENCE, || !alive(former));
    // One that sleeps when the reset comes. The other worker has its new process by then.
    wait_until("the other worker is back", PATIENCE, || {
        let workers = cluster.backend.workers();
        workers.len() == 1 && workers[0].ready
    });
    wait_for_spares(&cluster, 1);
    let former = run_and_rest(&cluster, "again", 0);
    let handle = cluster.backend.register(&shared("sleep", RestartPolicy::Never)).unwrap();
    kill(ready(&handle), Signal::SIGABRT);
    wait_until("the former worker has ended", PATIENCE, || !alive(former));
    cluster.end();
}

thread_local! {
    static LOCAL: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

extern "C" fn own_handler(_: libc::c_int) {}

/// Would fail if the documentation's list of what stays were wrong.
fn heap_statics_thread_locals_and_own_handlers_stay() {
    let stay = |worker: &mut Worker| -> Done {
        static HEAP: std::sync::Mutex<Vec<u64>> = std::sync::Mutex::new(Vec::new());
        let mut heap = HEAP.lock().map_err(|error| error.to_string())?;
        heap.push(worker.main_arg());
        LOCAL.set(LOCAL.get() + 1);
        let handler = SigHandler::Handler(own_handler);
        let own = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler does nothing.
        let before = unsafe { sigaction(Signal::SIGPROF, &own) }?.handler();
        let installed = matches!(before, SigHandler::Handler(_));
        write_note("stay", &format!("{heap:?} {} {installed}", LOCAL.get()))?;
        Ok(())
    };
    let cluster = cluster_with(1, Reuse::new(), |builder| {
        builder.reusable_function("stay", Reuse::new(), entry(stay))
    });
    let pid = run_and_rest(&cluster, "stay", 10);
    assert_eq!(read_note("stay"), "[10] 1 false");
    assert_eq!(run_and_rest(&cluster, "stay", 11), pid);
    assert_eq!(read_note("stay"), "[10, 11] 2 true");
    cluster.end();
}

/// Would fail if a process served more workers, longer, or with more memory than its limit, or if
/// the report of the worker at the limit were another than any.
fn a_process_ends_at_each_of_its_limits() {
    let cluster = cluster_of(1, Reuse::new().lives(3));
    let mut before = None;
    for life in [1, 2, 3, 1, 2] {
        let pid = run(&cluster, "again", 0).pid;
        assert_eq!(lives(), life);
        assert_eq!(pid == before, life != 1);
        before = pid;
        wait_until("the spares are complete", PATIENCE, || {
            let asleep = spares(&cluster);
            asleep.len() == if life == 3 { 1 } else { 2 }
                && (life == 3) != asleep.iter().any(|&pid| Some(pid) == before)
        });
    }
    cluster.end();
    let cluster = cluster_of(1, Reuse::new().lifetime(Duration::from_millis(300)));
    let pid = run(&cluster, "wait", 400).pid.unwrap();
    assert!(!alive(pid) || !spares(&cluster).contains(&pid));
    wait_until("it has ended", PATIENCE, || !alive(pid));
    cluster.end();
    let cluster = cluster_with(1, Reuse::new().memory(64 << 20), |builder| {
        let leak = |worker: &mut Worker| -> Done {
            let bytes = usize::try_from(worker.main_arg()).unwrap_or(0) << 20;
            std::mem::forget(std::hint::black_box(vec![1u8; bytes]));
            Ok(())
        };
        builder.reusable_function("leak", Reuse::new().memory(64 << 20), entry(leak))
    });
    let pid = run_and_rest(&cluster, "leak", 0);
    assert_eq!(run(&cluster, "leak", 80).pid, Some(pid));
    wait_until("it has ended", PATIENCE, || !alive(pid));
    cluster.end();
}

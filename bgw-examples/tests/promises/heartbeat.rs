//! The promise: a worker that has promised to beat, and falls silent, is aborted; nobody else is.
//!
//! Would catch: a hung worker that nobody misses, a healthy one that is killed because machine or
//! postmaster slept, a postmaster that wakes up for workers that promise nothing.

use crate::support::{
    Cluster, PATIENCE, kill, raw, read_note, ready, simple, the_end, wait_until_asleep, worker,
    write_note,
};
use bgw_backend::{
    BackgroundWorkerBuilder, Event, EventKind, EventsFrom, ExitCause, ExitReport, Handle, Pid,
    Ready, RestartPolicy, Worker, WorkerError, WorkerFlags, WorkerStatus, entry,
};
use nix::sys::ptrace;
use process_test::{Signal, Test, fork_child, tests, wait_until};
use std::sync::atomic::Ordering;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_worker_that_beats_lives_and_one_that_stops_is_hung => [P30],
        a_hung_worker_is_restarted_and_its_end_is_an_event => [P30],
        a_cluster_whose_workers_promise_no_beats_sleeps => [P31],
        a_postmaster_that_was_stopped_aborts_nobody_who_beats => [P32],
        a_stopped_worker_is_hung => [P33],
        a_traced_worker_is_spared_until_its_tracer_lets_go => [P33],
        a_worker_that_blocks_sigabrt_is_killed_after_its_abort_grace => [P34],
        beats_that_others_scribble_over_kill_nobody => [P35],
        a_hung_worker_with_shared_state_resets_the_cluster => [P30],
    ]
}

const EVERY: Duration = Duration::from_millis(400);

type Done = Result<(), WorkerError>;

/// Beats until it is told to end; as often as its main argument says, then it hangs.
fn beat(worker: &mut Worker) -> Done {
    worker.handle_terminate();
    worker.unblock_signals()?;
    worker.beat();
    worker.ready();
    let mut left = worker.main_arg();
    while !worker.should_stop() {
        worker.sleep(Some(EVERY / 8))?;
        if left == 1 {
            write_note("hangs", "")?;
            loop {
                std::thread::park();
            }
        }
        left = left.saturating_sub(1);
        worker.beat();
    }
    Ok(())
}

/// Says nothing more, with every signal blocked that may be.
fn mute(worker: &mut Worker) -> Done {
    let all = nix::sys::signal::SigSet::all();
    all.thread_block().map_err(|errno| errno.to_string())?;
    worker.ready();
    loop {
        std::thread::park();
    }
}

fn cluster() -> Cluster {
    Cluster::with(|builder| builder.function("beat", entry(beat)).function("mute", entry(mute)))
}

fn beating(function: &str) -> BackgroundWorkerBuilder {
    worker(function).ready(Ready::Call).heartbeat(EVERY)
}

#[track_caller]
fn is_hung(report: &ExitReport) {
    let ExitCause::Hung { silent_for } = report.cause else { panic!("{report:?}") };
    assert!(silent_for >= EVERY && report.asked_by.is_none(), "{report:?}");
}

/// Registers a worker that beats for ever, and waits until the postmaster knows that it is ready:
/// from then on it is watched.
fn healthy(cluster: &Cluster) -> (Handle, Pid) {
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    let handle = cluster.backend.register(&beating("beat").build().unwrap()).unwrap();
    let pid = ready(&handle);
    let is_ready =
        |event: &Event| event.kind == EventKind::Ready && event.handle == Some(handle.id());
    std::iter::from_fn(|| events.next_timeout(PATIENCE).unwrap()).find(is_ready).unwrap();
    (handle, pid)
}

/// Would time out if nobody looked, and fail if looks took a healthy one for silent.
fn a_worker_that_beats_lives_and_one_that_stops_is_hung() {
    let cluster = cluster();
    let (healthy, pid) = healthy(&cluster);
    let silent = beating("beat").main_arg(20).build().unwrap();
    let silent = cluster.backend.register(&silent).unwrap();
    let report = the_end(&silent);
    is_hung(&report);
    assert!(report.ran_for > 2 * EVERY, "it had beaten before: {report:?}");
    assert!(!report.killed, "SIGABRT was enough: {report:?}");
    assert_eq!(healthy.status(), WorkerStatus::Started(pid));
    healthy.terminate().unwrap();
    assert_eq!(the_end(&healthy).cause, ExitCause::Exited(0));
    cluster.end();
}

/// Would fail if silence were told to nobody, or ended the registration.
fn a_hung_worker_is_restarted_and_its_end_is_an_event() {
    let cluster = cluster();
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    let soon = RestartPolicy::Fixed(Duration::from_millis(1));
    let description = beating("beat").main_arg(2).restart(soon).build().unwrap();
    let handle = cluster.backend.register(&description).unwrap();
    let mut kinds = Vec::new();
    while kinds.last() != Some(&EventKind::Restarting) {
        let event = events.next_timeout(PATIENCE).unwrap().unwrap();
        if event.kind == EventKind::Exited {
            assert!(matches!(event.cause, Some(ExitCause::Hung { .. })), "{event:?}");
        }
        kinds.push(event.kind);
    }
    let end = [EventKind::Silent, EventKind::Exited, EventKind::Restarting];
    assert!(kinds.ends_with(&end), "{kinds:?}");
    handle.terminate().unwrap();
    the_end(&handle);
    cluster.end();
}

/// How often the process has gone to sleep so far.
fn sleeps(pid: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

/// Would fail if the looks went on when nobody is left to look at.
fn a_cluster_whose_workers_promise_no_beats_sleeps() {
    let cluster = cluster();
    let (handle, _) = healthy(&cluster);
    handle.terminate().unwrap();
    the_end(&handle);
    let plain = cluster.backend.register(&simple("sleep")).unwrap();
    ready(&plain);
    let postmaster = cluster.launched.pid();
    wait_until("it has settled", PATIENCE, || {
        wait_until_asleep(postmaster);
        let before = sleeps(postmaster);
        std::thread::sleep(2 * EVERY);
        sleeps(postmaster) == before
    });
    cluster.end();
}

/// Would fail if the time in which nobody could look counted.
fn a_postmaster_that_was_stopped_aborts_nobody_who_beats() {
    let cluster = cluster();
    let (handle, pid) = healthy(&cluster);
    let postmaster = cluster.launched.pid();
    for _ in 0..3 {
        // The worker sleeps as well: as if the machine did.
        kill(postmaster, Signal::SIGSTOP);
        kill(pid, Signal::SIGSTOP);
        std::thread::sleep(3 * EVERY);
        kill(postmaster, Signal::SIGCONT);
        cluster.backend.ping().unwrap();
        kill(pid, Signal::SIGCONT);
        std::thread::sleep(EVERY);
    }
    assert_eq!(handle.status(), WorkerStatus::Started(pid));
    handle.terminate().unwrap();
    assert_eq!(the_end(&handle).cause, ExitCause::Exited(0));
    cluster.end();
}

/// Would time out if SIGABRT waited for SIGCONT.
fn a_stopped_worker_is_hung() {
    let cluster = cluster();
    let (handle, pid) = healthy(&cluster);
    kill(pid, Signal::SIGSTOP);
    is_hung(&the_end(&handle));
    cluster.end();
}

/// Would fail if a debugger's worker were killed under it, and time out if it were never missed.
fn a_traced_worker_is_spared_until_its_tracer_lets_go() {
    let cluster = cluster();
    let (handle, pid) = healthy(&cluster);
    let mut tracer = fork_child(move || {
        let seized = ptrace::seize(raw(pid), ptrace::Options::empty());
        write_note("seized", if seized.is_ok() { "yes" } else { "no" }).unwrap();
        if seized.is_ok() {
            ptrace::interrupt(raw(pid)).unwrap();
            nix::sys::wait::waitpid(raw(pid), None).unwrap();
            // It beats no more, for four times as long as it may.
            std::thread::sleep(6 * EVERY);
            write_note("still-there", "").unwrap();
            read_note("let-go");
            // A stopped one stays silent.
            kill(pid, Signal::SIGSTOP);
            ptrace::detach(raw(pid), None).unwrap();
        }
    });
    if read_note("seized") == "no" {
        process_test::skip("this user may not trace its own processes");
    }
    read_note("still-there");
    assert_eq!(handle.status(), WorkerStatus::Started(pid));
    write_note("let-go", "").unwrap();
    assert_eq!(tracer.wait().code(), Some(0));
    is_hung(&the_end(&handle));
    cluster.end();
}

/// Would time out if nothing came after SIGABRT.
fn a_worker_that_blocks_sigabrt_is_killed_after_its_abort_grace() {
    let cluster = cluster();
    let description = beating("mute").abort_grace(Duration::from_millis(50)).build().unwrap();
    let report = the_end(&cluster.backend.register(&description).unwrap());
    is_hung(&report);
    assert!(report.killed, "{report:?}");
    cluster.end();
}

/// Stores one number after the other into all cells in which the worker of a slot says something.
fn scribble(worker: &mut Worker) -> Done {
    let index = u32::try_from(worker.main_arg()).unwrap_or(0);
    let me = bgw_core::internals::process::current().ok_or("no worker")?;
    let cells = me.attachment.slots().writable_cells().map_err(|error| error.to_string())?;
    worker.handle_terminate();
    worker.unblock_signals()?;
    worker.ready();
    let mut value = 1u64;
    while !worker.should_stop() {
        value = value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        for place in 8..32 {
            let cell = cells.slot_cell(index, place).ok_or("no cell")?;
            cell.store(value, Ordering::Relaxed);
        }
        worker.sleep(Some(Duration::from_millis(1)))?;
    }
    Ok(())
}

/// Would fail if what others have stored there, whatever it is, counted as a missing beat.
fn beats_that_others_scribble_over_kill_nobody() {
    let cluster = Cluster::with(|builder| {
        builder.function("beat", entry(beat)).function("scribble", entry(scribble))
    });
    let (handle, pid) = healthy(&cluster);
    let scribbler = worker("scribble").main_arg(handle.id().slot().into()).build().unwrap();
    let scribbler = cluster.backend.register(&scribbler).unwrap();
    ready(&scribbler);
    std::thread::sleep(6 * EVERY);
    assert_eq!(handle.status(), WorkerStatus::Started(pid));
    for handle in [scribbler, handle] {
        handle.terminate().unwrap();
        assert_eq!(the_end(&handle).cause, ExitCause::Exited(0));
    }
    cluster.end();
}

/// Would fail if the SIGABRT that silence has earned counted as one that was asked for.
fn a_hung_worker_with_shared_state_resets_the_cluster() {
    let cluster = cluster();
    let other = cluster.backend.register(&simple("sleep")).unwrap();
    ready(&other);
    let hung = beating("beat").main_arg(2).flags(WorkerFlags::SHMEM_ACCESS).build().unwrap();
    let hung = cluster.backend.register(&hung).unwrap();
    is_hung(&the_end(&hung));
    the_end(&other);
    let reset = other.crash_reset().unwrap();
    assert_eq!(reset.culprit, hung.id());
    assert!(matches!(reset.cause, ExitCause::Hung { .. }), "{reset:?}");
    cluster.end();
}

//! The promise: the next run of a worker that is recycled or rolled is ready before the present one
//! is told to end. Nobody ever sees the worker and its handle stays.
//!
//! Would catch: a gap between two runs, a place that goes to a process that is not ready or is
//! dead, a former run that is killed for the latter, a handle that means nobody.

use crate::support::{
    Cluster, PATIENCE, alive, kill, note_path, read_note, ready, shared, started, the_end,
    wait_for_reset, wait_for_spares, worker, write_note,
};
use bgw_backend::{
    AskedBy, BackgroundWorker, BackgroundWorkerBuilder, EventKind, EventsFrom, ExitCause, Handle,
    Pid, Ready, Recycle, Recycled, RestartPolicy, Roll, Worker, WorkerError, WorkerStatus, entry,
};
use bgw_postmaster::PostmasterBuilder;
use process_test::{Signal, Test, tests, wait_until};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_recycled_worker_is_never_seen_stopped_and_two_signals_tell_of_it => [P44],
        after_ten_hand_overs_the_first_handle_still_means_the_worker => [P45],
        the_latch_of_the_next_run_is_its_own_wherever_it_sleeps => [P45],
        a_command_hands_over_to_its_next_run => [P44],
        a_next_run_that_dies_as_it_becomes_ready_gets_no_place => [P46],
        a_next_run_that_fails_is_tried_again_while_the_old_one_serves => [P46],
        an_old_run_that_dies_is_followed_by_its_next_one => [P46],
        a_terminated_worker_ends_with_both_of_its_processes => [P46],
        a_shutdown_ends_both_processes => [P46],
        a_reset_ends_both_and_one_starts => [P46],
        no_more_than_the_overlap_have_two_processes => [P46],
    ]
}

type Done = Result<(), WorkerError>;

pub(crate) const HOUR: RestartPolicy = RestartPolicy::Fixed(Duration::from_secs(3600));
const TICK: Option<Duration> = Some(Duration::from_millis(5));

fn is_noted(name: &str) -> bool {
    note_path(name).exists()
}

pub(crate) fn remove(name: &str) -> bool {
    std::fs::remove_file(note_path(name)).is_ok()
}

/// Serves until it is told to stop. A run that finds an order does that first. `work-N` is one job
/// for whoever is woken; a run that is told stays while there is `stay-N`.
fn serve(worker: &mut Worker) -> Done {
    worker.handle_terminate();
    worker.unblock_signals()?;
    let number = worker.main_arg();
    let order = std::fs::read_to_string(note_path(&format!("order-{number}")));
    let order = order.unwrap_or_default();
    if order == "fail" {
        write_note(&format!("failed-{}", std::process::id()), "")?;
        return Err("this run is broken".into());
    }
    if !order.is_empty() {
        write_note(&format!("waits-{number}"), &std::process::id().to_string())?;
        while !worker.should_stop() && !is_noted(&format!("go-{number}")) {
            worker.sleep(TICK)?;
        }
    }
    worker.ready();
    if order == "die" {
        kill(Pid::this(), Signal::SIGKILL);
    }
    let work = format!("work-{number}");
    while !worker.should_stop() {
        if remove(&work) {
            worker.job_done();
        }
        worker.sleep(None)?;
    }
    write_note(&format!("told-{}", std::process::id()), "")?;
    while is_noted(&format!("stay-{number}")) {
        std::thread::sleep(TICK.unwrap_or_default());
    }
    Ok(())
}

pub(crate) fn served(number: u64) -> BackgroundWorkerBuilder {
    let recycle = Recycle::new().jobs(1).overlap();
    worker("serve").main_arg(number).ready(Ready::Call).restart(HOUR).recycle(recycle)
}

pub(crate) fn cluster_with(
    configure: impl FnOnce(PostmasterBuilder) -> PostmasterBuilder,
) -> Cluster {
    Cluster::with(|builder| configure(builder.function("serve", entry(serve))))
}

/// A worker that is ready.
pub(crate) fn serving(cluster: &Cluster, number: u64) -> (Handle, Pid) {
    let handle = cluster.backend.register(&served(number).build().unwrap()).unwrap();
    let pid = ready(&handle);
    (handle, pid)
}

/// Has the worker do its one job.
fn recycle(handle: &Handle, number: u64) {
    write_note(&format!("work-{number}"), "").unwrap();
    assert!(handle.set_latch().unwrap(), "the latch of the run that serves");
}

/// The process that has taken the place of `before`.
#[track_caller]
fn next_after(handle: &Handle, before: Pid) -> Pid {
    let mut next = None;
    wait_until("the next run serves", PATIENCE, || {
        next = handle.pid().filter(|&pid| pid != before);
        next.is_some()
    });
    assert!(handle.is_ready(), "the place is handed over once it is ready");
    next.unwrap()
}

pub(crate) fn gone(pid: Pid) {
    wait_until("the process is gone", PATIENCE, || !alive(pid));
}

pub(crate) fn noted_pid(name: &str) -> Pid {
    read_note(name).parse().unwrap()
}

pub(crate) fn end(cluster: Cluster, handles: &[&Handle]) {
    handles.iter().for_each(|handle| handle.terminate().unwrap());
    handles.iter().for_each(|handle| drop(the_end(handle)));
    cluster.end();
}

/// Runs `work` while somebody looks at the worker without a break, and never sees it stopped.
fn watched(handle: &Handle, work: impl FnOnce()) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = || {
            let mut looks = 0u64;
            while !over.load(Ordering::Relaxed) {
                let status = handle.status();
                assert!(matches!(status, WorkerStatus::Started(_)), "it is {status} after {looks}");
                looks += 1;
            }
        };
        let watching = scope.spawn(watch);
        work();
        over.store(true, Ordering::Relaxed);
        watching.join().unwrap();
    });
}

/// Would fail if there were a moment without a run, or if one of the two signals did not come, or
/// came before the fact.
fn a_recycled_worker_is_never_seen_stopped_and_two_signals_tell_of_it() {
    let cluster = cluster_with(|builder| builder);
    let mut events = cluster.backend.events(EventsFrom::Oldest).unwrap();
    cluster.backend.enable_notifications().unwrap();
    let description = served(0).notify(cluster.backend.pid()).build().unwrap();
    let handle = cluster.backend.register(&description).unwrap();
    let told = || cluster.backend.wait_for_notification(Some(PATIENCE)).unwrap();
    assert!(told());
    let first = ready(&handle);
    write_note("stay-0", "").unwrap();
    watched(&handle, || {
        recycle(&handle, 0);
        assert!(told());
        assert!(matches!(handle.status(), WorkerStatus::Started(pid) if pid != first), "first");
        read_note(&format!("told-{first}"));
        assert!(alive(first), "it ends in its own time");
        assert_eq!(handle.exit_report(), None);
        remove("stay-0");
        assert!(told());
        let report = handle.exit_report().unwrap();
        assert_eq!((report.pid, report.recycled), (Some(first), Some(Recycled::Jobs)), "{report}");
        assert_eq!((report.cause, report.restarts), (ExitCause::Exited(0), 0), "{report}");
        assert_eq!((report.asked_by, report.streak), (Some(AskedBy::Recycle), 0), "{report}");
        assert!(!report.killed && !report.unregistered, "{report}");
    });
    let next = handle.pid().unwrap();
    let events: Vec<_> = std::iter::from_fn(|| events.try_next().unwrap()).collect();
    let at = events.iter().position(|event| event.kind == EventKind::Recycling).unwrap();
    let told = events[at..].iter().map(|event| (event.kind, event.pid.unwrap()));
    let expected = [
        (EventKind::Recycling, first),
        (EventKind::Started, next),
        (EventKind::HandedOver, next),
        (EventKind::Ready, next),
        (EventKind::Told, first),
        (EventKind::Exited, first),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    end(cluster, &[&handle]);
}

/// Would fail if slot or generation changed, or a wait or a request went to a run of before.
fn after_ten_hand_overs_the_first_handle_still_means_the_worker() {
    for spares in [0, 2] {
        let cluster = cluster_with(|builder| builder.warm_spares(spares));
        wait_for_spares(&cluster, spares);
        let (handle, mut pid) = serving(&cluster, 0);
        let id = handle.id();
        for _ in 0..10 {
            // The latch of each run, by the first handle.
            recycle(&handle, 0);
            let next = next_after(&handle, pid);
            gone(pid);
            pid = next;
        }
        let listed = cluster.backend.workers();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].handle, id);
        assert_eq!(listed[0].status, WorkerStatus::Started(pid));
        handle.terminate().unwrap();
        let report = the_end(&handle);
        assert_eq!((report.pid, report.restarts), (Some(pid), 0), "{report}");
        assert_eq!(
            (report.asked_by, report.recycled),
            (Some(AskedBy::Terminate), None),
            "{report}"
        );
        // The slot is anybody's again.
        let (other, other_pid) = serving(&cluster, 1);
        recycle(&other, 1);
        next_after(&other, other_pid);
        end(cluster, &[&other]);
        std::fs::remove_dir_all(std::env::temp_dir().join("cluster")).unwrap();
    }
}

/// Would time out if a set of the latch woke the former run, which has not ended.
fn the_latch_of_the_next_run_is_its_own_wherever_it_sleeps() {
    let cluster = cluster_with(|builder| builder);
    let (handle, first) = serving(&cluster, 0);
    write_note("stay-0", "").unwrap();
    recycle(&handle, 0);
    let second = next_after(&handle, first);
    read_note(&format!("told-{first}"));
    write_note("work-0", "").unwrap();
    assert!(handle.set_latch().unwrap());
    wait_until("the next run has done its job", PATIENCE, || !is_noted("work-0"));
    // The berth is the first run's until that has ended.
    assert_eq!((handle.pid(), alive(first)), (Some(second), true));
    remove("stay-0");
    next_after(&handle, second);
    end(cluster, &[&handle]);
}

/// Would fail if the readiness of a program beside another one were that one's.
fn a_command_hands_over_to_its_next_run() {
    let cluster = Cluster::with(|builder| builder.allow_commands(true));
    let script = "trap 'exit 0' TERM; echo >&7; while :; do sleep 0.05; done";
    let description = BackgroundWorker::builder("shell").command("/bin/sh", ["-c", script]);
    let description = description.ready(Ready::Newline(7)).restart(HOUR).build().unwrap();
    let handle = cluster.backend.register(&description).unwrap();
    let mut pid = ready(&handle);
    watched(&handle, || {
        for _ in 0..3 {
            let roll = Roll::new(1, PATIENCE);
            let report = cluster.backend.roll(std::slice::from_ref(&handle), roll).unwrap();
            assert!(report.is_complete(), "{report:?}");
            let next = handle.pid().unwrap();
            assert!(next != pid && !alive(pid), "the former run has ended by then");
            pid = next;
        }
    });
    end(cluster, &[&handle]);
}

/// Would fail if the place went to a process by its word alone.
fn a_next_run_that_dies_as_it_becomes_ready_gets_no_place() {
    let cluster = cluster_with(|builder| builder);
    let postmaster = cluster.launched.pid();
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    let soon = RestartPolicy::Fixed(Duration::ZERO);
    let handle = cluster.backend.register(&served(0).restart(soon).build().unwrap()).unwrap();
    let first = ready(&handle);
    write_note("order-0", "die").unwrap();
    recycle(&handle, 0);
    let next = noted_pid("waits-0");
    watched(&handle, || {
        kill(postmaster, Signal::SIGSTOP);
        write_note("go-0", "").unwrap();
        wait_until("the next run is dead", PATIENCE, || state(next) == Some('Z'));
        remove("order-0");
        kill(postmaster, Signal::SIGCONT);
        // And it tries again.
        assert_ne!(next_after(&handle, first), next);
    });
    let all = std::iter::from_fn(|| events.try_next().unwrap());
    let of_next: Vec<_> = all.filter(|event| event.pid == Some(next)).map(|e| e.kind).collect();
    assert_eq!(of_next, [EventKind::Started, EventKind::Exited]);
    end(cluster, &[&handle]);
}

/// What the kernel says of a process.
fn state(pid: Pid) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

/// Would fail if a failure of the next run cost the old one, or if it were the last try.
fn a_next_run_that_fails_is_tried_again_while_the_old_one_serves() {
    let cluster = cluster_with(|builder| builder);
    let description = served(0).restart(RestartPolicy::Fixed(Duration::ZERO));
    let description = description.give_up(1, Duration::from_secs(60)).start_attempts(1);
    let handle = cluster.backend.register(&description.build().unwrap()).unwrap();
    let first = ready(&handle);
    write_note("order-0", "fail").unwrap();
    recycle(&handle, 0);
    let failed = || {
        let notes = std::fs::read_dir(std::env::temp_dir()).unwrap();
        let is_one = |name: &str| name.starts_with("note-failed-");
        notes.filter(|note| is_one(&note.as_ref().unwrap().file_name().to_string_lossy())).count()
    };
    watched(&handle, || {
        wait_until("three next runs have failed", PATIENCE, || failed() >= 3);
        assert_eq!(handle.pid(), Some(first));
        remove("order-0");
        next_after(&handle, first);
    });
    let reported = || handle.exit_report().filter(|report| report.pid == Some(first));
    wait_until("its end is reported", PATIENCE, || reported().is_some());
    assert_eq!(reported().unwrap().restarts, 0, "nothing of it is a restart");
    end(cluster, &[&handle]);
}

/// Would time out if the worker paused for an hour although its next run is there.
fn an_old_run_that_dies_is_followed_by_its_next_one() {
    let cluster = cluster_with(|builder| builder);
    let (handle, first) = serving(&cluster, 0);
    write_note("order-0", "wait").unwrap();
    recycle(&handle, 0);
    let next = noted_pid("waits-0");
    kill(first, Signal::SIGKILL);
    wait_until("the next run serves", PATIENCE, || handle.pid() == Some(next));
    assert!(!handle.is_ready());
    assert_eq!(handle.exit_report().unwrap().pid, Some(first));
    remove("order-0");
    write_note("go-0", "").unwrap();
    assert_eq!(ready(&handle), next);
    // It is the worker's run in all respects.
    recycle(&handle, 0);
    next_after(&handle, next);
    let reported = || handle.exit_report().filter(|report| report.pid == Some(next));
    wait_until("its end is reported", PATIENCE, || reported().is_some());
    let report = reported().unwrap();
    assert_eq!((report.recycled, report.restarts), (Some(Recycled::Jobs), 1), "{report}");
    end(cluster, &[&handle]);
}

/// A worker whose next run waits before it is ready, or whose former run stays.
fn with_two(cluster: &Cluster, number: u64, leaves: bool) -> (Handle, [Pid; 2]) {
    let (handle, first) = serving(cluster, number);
    if leaves {
        write_note(&format!("stay-{number}"), "").unwrap();
        recycle(&handle, number);
        let second = next_after(&handle, first);
        read_note(&format!("told-{first}"));
        return (handle, [first, second]);
    }
    write_note(&format!("order-{number}"), "wait").unwrap();
    recycle(&handle, number);
    let second = noted_pid(&format!("waits-{number}"));
    (handle, [first, second])
}

/// Would fail if the end were told while a process is left, or if one outlived it.
fn a_terminated_worker_ends_with_both_of_its_processes() {
    let cluster = cluster_with(|builder| builder.overlap(2));
    for (number, leaves) in [(0, false), (1, true)] {
        let (handle, pids) = with_two(&cluster, number, leaves);
        handle.terminate().unwrap();
        if leaves {
            read_note(&format!("told-{}", pids[1]));
            remove(&format!("stay-{number}"));
        }
        let report = the_end(&handle);
        assert_eq!(report.asked_by, Some(AskedBy::Terminate), "{report}");
        assert!(!pids.into_iter().any(alive), "{leaves}");
        remove(&format!("order-{number}"));
        // Both berths are free again.
        let (other, pid) = serving(&cluster, number);
        recycle(&other, number);
        next_after(&other, pid);
        other.terminate().unwrap();
        the_end(&other);
    }
    cluster.end();
}

fn a_shutdown_ends_both_processes() {
    for leaves in [false, true] {
        let cluster = cluster_with(|builder| builder);
        let (_, pids) = with_two(&cluster, 0, leaves);
        remove("stay-0");
        cluster.end();
        assert!(!pids.into_iter().any(alive), "{leaves}");
        std::fs::remove_dir_all(std::env::temp_dir().join("cluster")).unwrap();
        for note in ["order-0", "waits-0"] {
            remove(note);
        }
    }
}

/// Would fail if a process of before the reset went on, or two started after it.
fn a_reset_ends_both_and_one_starts() {
    let cluster = cluster_with(|builder| builder.overlap(2));
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    let (starting, [a, b]) = with_two(&cluster, 0, false);
    let (leaving, [c, d]) = with_two(&cluster, 1, true);
    let crashing = cluster.backend.register(&shared("sleep", RestartPolicy::Never)).unwrap();
    remove("order-0");
    remove("stay-1");
    kill(started(&crashing), Signal::SIGABRT);
    wait_for_reset(&mut events);
    assert!(![a, b, c, d].into_iter().any(alive));
    for (number, old) in [(0, starting), (1, leaving)] {
        let all = cluster.backend.workers();
        let is_it = |info: &&bgw_backend::WorkerInfo| info.worker.main_arg() == number;
        let found: Vec<_> = all.iter().filter(is_it).collect();
        assert_eq!(found.len(), 1, "{number}");
        let new = cluster.backend.handle(found[0].handle);
        assert_ne!(new.id(), old.id());
        let pid = ready(&new);
        recycle(&new, number);
        next_after(&new, pid);
        new.terminate().unwrap();
        the_end(&new);
    }
    cluster.end();
}

/// Would fail if a third process of two workers started, or a turn were lost.
fn no_more_than_the_overlap_have_two_processes() {
    let cluster = cluster_with(|builder| builder);
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    let (first, _) = with_two(&cluster, 0, true);
    let (second, pid) = serving(&cluster, 1);
    recycle(&second, 1);
    wait_until("its job is done", PATIENCE, || !is_noted("work-1"));
    cluster.backend.ping().unwrap();
    let all = std::iter::from_fn(|| events.try_next().unwrap());
    let starts = all.filter(|event| event.kind == EventKind::Started).count();
    assert_eq!((starts, second.pid()), (3, Some(pid)), "the berth is not free");
    remove("stay-0");
    next_after(&second, pid);
    end(cluster, &[&first, &second]);
}

//! The promise: a worker that fails again and again is slowed as its policy says, is given up where
//! it says so, and everybody is told. A pause can be ended.
//!
//! Would catch: a failing worker that keeps the machine busy, a pause that is cut short, a limit
//! that nobody hears of, a request for a restart that is lost.

use crate::support::waiter::{waiting_program, waiting_thread};
use crate::support::{
    Cluster, Log, PATIENCE, connect, kill, read_note, shared, simple, started, stopped, the_end,
    worker, write_note,
};
use bgw_backend::{
    AskError, Backend, BackgroundWorker, ConnectOptions, ExitCause, ExitReport, GivenUp, Handle,
    NotStarted, Ready, RestartPolicy, ShutdownMode, Worker, WorkerError, WorkerFlags, WorkerStatus,
    entry,
};
use process_test::{Signal, Test, tests, wait_until};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_function_that_fails_at_once_is_slowed_after_five_restarts => [P06],
        an_unbraked_worker_is_restarted_at_once_however_often_it_fails => [P06],
        a_missing_program_is_slowed_too_and_its_report_says_what_it_is => [P07],
        whoever_waits_for_a_worker_that_is_given_up_is_told_once_and_why => [P12],
        as_many_restarts_as_granted_and_no_more => [P11, P12],
        one_run_that_was_ready_voids_the_limit_on_starts => [P13],
        a_requested_restart_ends_the_pause_and_forgets_the_failures => [P15],
        a_requested_restart_of_a_worker_in_no_pause_changes_nothing => [P15],
        a_worker_that_resets_the_cluster_again_and_again_waits_alone => [P67],
    ]
}

const AT_ONCE: RestartPolicy = RestartPolicy::Fixed(Duration::ZERO);
const HOUR: Duration = Duration::from_secs(3600);

type Done = Result<(), WorkerError>;

fn now() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    u64::try_from(now.tv_sec()).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap()
}

/// Notes when its run began and ended, and fails.
fn note_and_fail(worker: &mut Worker) -> Done {
    let began = now();
    write_note(&format!("run-{}", worker.restarts()), &format!("{began} {}", now()))?;
    Err("again, please".into())
}

fn run(number: usize) -> (u64, u64) {
    let note = read_note(&format!("run-{number}"));
    let (began, ended) = note.split_once(' ').unwrap();
    (began.parse().unwrap(), ended.parse().unwrap())
}

fn noting() -> Cluster {
    Cluster::with(|builder| builder.function("note", entry(note_and_fail)))
}

fn end(cluster: Cluster, handle: &Handle) {
    handle.terminate().unwrap();
    handle.wait_for_end_timeout(PATIENCE).unwrap();
    cluster.end();
}

/// Would fail if the brake did not hold, or held before its time.
fn a_function_that_fails_at_once_is_slowed_after_five_restarts() {
    let cluster = noting();
    let description = worker("note").restart(AT_ONCE).build().unwrap();
    let handle = cluster.backend.register(&description).unwrap();
    for (number, delay) in description.schedule().take(8).enumerate() {
        let between = run(number + 1).0 - run(number).1;
        assert!(u128::from(between) >= delay.as_nanos(), "after run {number}: {between} ns");
    }
    let report = handle.exit_report().unwrap();
    assert!(report.streak >= 8 && report.given_up.is_none(), "{report:?}");
    assert_eq!(report.pause, description.delay(report.streak));
    end(cluster, &handle);
}

/// Would time out if the brake held all the same: so many runs would take more than ten minutes.
fn an_unbraked_worker_is_restarted_at_once_however_often_it_fails() {
    let cluster = noting();
    let description = worker("note").restart(AT_ONCE).unbraked().build().unwrap();
    let handle = cluster.backend.register(&description).unwrap();
    run(35);
    end(cluster, &handle);
}

/// The report of a worker in a pause, once it has failed so often in a row.
fn after_failures(handle: &Handle, count: u32) -> ExitReport {
    wait_until("it has failed often enough", PATIENCE, || {
        handle.exit_report().is_some_and(|report| report.streak >= count)
    });
    handle.exit_report().unwrap()
}

/// Would fail if a failed `execve` took another way than a failed run.
fn a_missing_program_is_slowed_too_and_its_report_says_what_it_is() {
    let cluster = Cluster::new();
    let description = BackgroundWorker::builder("missing").command("/no/such/program", [""; 0]);
    let description = description.restart(AT_ONCE).build().unwrap();
    let handle = cluster.backend.register(&description).unwrap();
    let report = after_failures(&handle, 7);
    let failed = NotStarted::ExecFailed { errno: libc::ENOENT };
    assert_eq!(report.cause, ExitCause::NotStarted(failed));
    assert_eq!(report.pause, description.delay(report.streak));
    assert!(report.pause >= Some(Duration::from_millis(200)), "{report:?}");
    assert_eq!(report.next_start(), Some(report.ended_at + report.pause.unwrap()));
    assert!(report.to_string().contains(", will be restarted in "), "{report}");
    end(cluster, &handle);
}

static SIGNALS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

fn count_signals() {
    // SAFETY: the handler only adds to an atomic.
    let before = unsafe { libc::signal(libc::SIGUSR1, count as *const () as libc::sighandler_t) };
    assert_ne!(before, libc::SIG_ERR);
}

/// Fails when it is told to.
fn fail_on_request(_: &mut Worker) -> Done {
    read_note("fail");
    Err("as you like".into())
}

/// Would time out if a waiter were not told, and fail if the limit were hidden, the signal came
/// twice, or the slot stayed taken.
fn whoever_waits_for_a_worker_that_is_given_up_is_told_once_and_why() {
    let log = Log::start();
    let cluster = Cluster::with(|builder| {
        builder.max_workers(1).function("fail-on-request", entry(fail_on_request))
    });
    cluster.backend.enable_notifications().unwrap();
    count_signals();
    let description = worker("fail-on-request").restart(AT_ONCE).ready(Ready::Call);
    let description = description.start_attempts(1).notify(cluster.backend.pid()).build().unwrap();
    let handle = cluster.backend.register(&description).unwrap();
    started(&handle);
    let signals = |count| {
        wait_until("the signals come", PATIENCE, || SIGNALS.load(Ordering::Relaxed) == count);
    };
    signals(1);
    let limit = GivenUp::StartAttempts { count: 1 };
    let mut program = waiting_program(&cluster.folder, handle.id(), move |handle| {
        assert_eq!(the_end(handle).given_up, Some(limit));
    });
    let waiting = handle.clone();
    let thread = waiting_thread(move || the_end(&waiting));
    write_note("fail", "").unwrap();
    let report = thread.join().unwrap();
    assert_eq!(report.given_up, Some(limit));
    assert_eq!((report.cause, report.pause, report.streak), (ExitCause::Exited(1), None, 1));
    assert!(report.unregistered && !report.requested(), "{report:?}");
    assert!(report.to_string().contains("given up: it reached start_attempts(1)"), "{report}");
    assert_eq!(program.wait().code(), Some(0));
    assert_eq!(handle.wait_for_next_start().unwrap(), WorkerStatus::Stopped(Some(report)));
    // The only slot is free, and by now a second signal would be here.
    let next = cluster.backend.register(&simple("sleep")).unwrap();
    started(&next);
    cluster.backend.ping().unwrap();
    signals(2);
    let line = format!("giving up background worker \"fail-on-request\" (handle {handle}");
    log.wait_for(&line);
    log.wait_for(", which exited with exit code 1: it reached start_attempts(1)");
    assert_eq!(log.count("giving up"), 1, "{}", log.text());
    cluster.end();
}

/// Would fail if the limit were off by one.
fn as_many_restarts_as_granted_and_no_more() {
    let cluster = noting();
    let minute = Duration::from_secs(60);
    for (at, count) in [1, 3, 10].into_iter().enumerate() {
        let description = worker("note").restart(AT_ONCE).give_up(count, minute);
        let report = the_end(&cluster.backend.register(&description.build().unwrap()).unwrap());
        let limit = GivenUp::Restarts { count, within: minute };
        assert_eq!(report.given_up, Some(limit), "row {at}");
        assert_eq!((report.restarts, report.streak), (count, count + 1));
    }
    assert!(cluster.backend.workers().is_empty());
    cluster.end();
}

/// Is ready in its first run, if its argument says so; fails.
fn ready_at_first(worker: &mut Worker) -> Done {
    if worker.restarts() == 0 && worker.main_arg() == 1 {
        worker.ready();
    }
    Err("again, please".into())
}

/// Would fail if the postmaster did not hear of a worker that says ready and dies.
fn one_run_that_was_ready_voids_the_limit_on_starts() {
    let cluster = Cluster::with(|builder| builder.function("ready", entry(ready_at_first)));
    let description = |ready| {
        let soon = RestartPolicy::Fixed(Duration::from_millis(1));
        let worker = worker("ready").main_arg(ready).restart(soon).unbraked();
        worker.ready(Ready::Call).start_attempts(3).build().unwrap()
    };
    let never = cluster.backend.register(&description(0)).unwrap();
    let report = the_end(&never);
    assert_eq!(report.given_up, Some(GivenUp::StartAttempts { count: 3 }));
    assert_eq!(report.restarts, 2);
    let once = cluster.backend.register(&description(1)).unwrap();
    assert_eq!(after_failures(&once, 10).given_up, None);
    end(cluster, &once);
}

/// Fails in its first run, and sleeps in the others.
fn fail_at_first(worker: &mut Worker) -> Done {
    if worker.restarts() == 0 {
        return Err("not the first time".into());
    }
    worker.unblock_signals()?;
    loop {
        worker.sleep(None)?;
    }
}

/// Would time out if the pause of an hour went on, and fail if the next one were the second.
fn a_requested_restart_ends_the_pause_and_forgets_the_failures() {
    let cluster = Cluster::with(|builder| builder.function("first", entry(fail_at_first)));
    let policy = RestartPolicy::backoff(HOUR, HOUR * 4);
    let description = worker("first").restart(policy).jitter(0.0).build().unwrap();
    let handle = cluster.backend.register(&description).unwrap();
    let report = stopped(&handle);
    assert_eq!((report.streak, report.pause), (1, Some(HOUR)));
    let mut program = waiting_program(&cluster.folder, handle.id(), |handle| {
        let status = handle.wait_for_next_start_timeout(PATIENCE).unwrap();
        assert!(matches!(status, WorkerStatus::Started(_)), "{status}");
    });
    handle.restart_now().unwrap();
    assert_eq!(program.wait().code(), Some(0));
    let pid = started(&handle);
    assert_eq!(handle.wait_for_next_start().unwrap(), WorkerStatus::Started(pid));
    kill(pid, Signal::SIGKILL);
    let report = stopped(&handle);
    assert_eq!((report.streak, report.pause), (1, Some(HOUR)), "the first one again");
    assert_eq!(report.restarts, 1);
    // Another program may ask, one that may only look may not.
    let options = ConnectOptions { read_only: true, ..ConnectOptions::default() };
    let observer = Backend::connect_with(&cluster.folder, options).unwrap();
    let refused = observer.handle(handle.id()).restart_now().unwrap_err();
    assert!(matches!(refused, AskError::Refused { .. }), "{refused}");
    connect(&cluster.folder).handle(handle.id()).restart_now().unwrap();
    started_again(&handle);
    end(cluster, &handle);
}

fn started_again(handle: &Handle) {
    let status = handle.wait_for_next_start_timeout(PATIENCE).unwrap();
    assert!(matches!(status, WorkerStatus::Started(_)), "{status}");
}

/// Would fail if a second process were started, or a stranger in the slot were hit.
fn a_requested_restart_of_a_worker_in_no_pause_changes_nothing() {
    let cluster =
        Cluster::with(|builder| builder.max_workers(1).function("first", entry(fail_at_first)));
    let (handle, pid) = cluster.start(&simple("sleep"));
    handle.restart_now().unwrap();
    assert_eq!(handle.status(), WorkerStatus::Started(pid));
    handle.terminate().unwrap();
    the_end(&handle);
    let waiting = worker("first").restart(RestartPolicy::Fixed(HOUR)).build().unwrap();
    let next = cluster.backend.register(&waiting).unwrap();
    let report = stopped(&next);
    assert_eq!(next.id().slot(), handle.id().slot());
    // The slot's tenant before; one of another life of the slots; none at all.
    let id = next.id();
    let (slot, generation, incarnation) = (id.slot(), id.generation(), id.incarnation());
    let strangers = [
        handle.id(),
        bgw_backend::WorkerHandle::new(slot, generation, incarnation ^ 2),
        bgw_backend::WorkerHandle::new(u32::MAX, generation, incarnation),
    ];
    for stranger in strangers {
        cluster.backend.handle(stranger).restart_now().unwrap();
        assert_eq!(next.status(), WorkerStatus::Stopped(Some(report.clone())));
    }
    end(cluster, &next);
}

/// Would time out if the culprit of one reset after the other never had to wait, or if the others
/// had to wait with it.
fn a_worker_that_resets_the_cluster_again_and_again_waits_alone() {
    let cluster = Cluster::new();
    let culprit = worker("exit").main_arg(7).flags(WorkerFlags::SHMEM_ACCESS);
    let culprit = culprit.restart(RestartPolicy::Fixed(HOUR)).build().unwrap();
    cluster.backend.register(&shared("sleep", RestartPolicy::Fixed(HOUR))).unwrap();
    cluster.backend.register(&culprit).unwrap();
    let brake = Duration::from_millis(100);
    wait_until("the culprit waits, and the other runs", PATIENCE, || {
        let status = |name| cluster.backend.find(name).first().map(Handle::status);
        let waits = matches!(
            status("exit"),
            Some(WorkerStatus::Stopped(Some(report)))
                if report.streak >= 6 && report.pause >= Some(brake)
        );
        waits && matches!(status("sleep"), Some(WorkerStatus::Started(_)))
    });
    // The pause may be over by now: a shutdown during a reset ends with 1.
    cluster.launched.shutdown(ShutdownMode::Fast).unwrap();
    let end = cluster.launched.wait().unwrap();
    assert!(matches!(end, ExitCause::Exited(0 | 1)), "{end}");
}

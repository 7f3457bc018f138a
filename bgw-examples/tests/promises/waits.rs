//! The promise: a wait ends on its event, on its deadline, on the postmaster's death, and when its
//! own process is interrupted. It ends on nothing else, and never too late.
//!
//! Every waiter is known to sleep before its event comes. Would catch: an event that a wait does
//! not watch, a wake-up that reaches one of several waiters, a worker beyond the first hundred that
//! nobody watches.

use crate::support::waiter::{waiting_program, waiting_thread, waiting_threads};
use crate::support::{
    Cluster, PATIENCE, alive, kill, note_path, read_note, ready, simple, started, stopped,
    wait_until_asleep, worker, write_note,
};
use bgw_backend::{
    BackgroundWorker, ExitCause, Handle, StartTime, WaitError, Worker, WorkerError, WorkerFlags,
    WorkerStatus, entry, interrupt_waits, take_interrupt, wait_all, wait_any,
};
use process_test::{Signal, Test, tests, wait_until};
use std::slice::from_ref;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_start_alone_ends_a_wait_for_it => [B16],
        a_wait_for_the_start_ends_with_the_start => [B16],
        a_wait_for_the_start_ends_when_no_start_can_come => [B17],
        each_wait_ends_when_the_postmaster_dies => [B18, B19],
        sigterm_or_sigint_interrupts_a_workers_wait => [B20],
        a_program_ends_its_own_waits_from_a_signal_handler => [B20],
        an_end_wakes_every_waiter_in_every_process => [X05],
        wait_any_names_the_worker_that_ended => [X06],
        wait_any_over_many_workers_names_each_as_it_ends => [X06, X08],
        wait_all_waits_for_every_worker => [X07],
        every_wait_honours_its_deadline => [X08],
    ]
}

/// Would hang if a start did not wake its waiters: the worker does nothing that would.
fn a_start_alone_ends_a_wait_for_it() {
    let cluster = Cluster::with(|builder| builder.initial_phase(StartTime::PostmasterStart));
    let silent = BackgroundWorker::builder("silent").command("sleep", ["1000"]).build().unwrap();
    let handle = cluster.backend.register(&silent).unwrap();
    let waiting = handle.clone();
    let waiter = waiting_thread(move || waiting.wait_for_startup().unwrap());
    cluster.backend.advance(StartTime::RecoveryFinished).unwrap();
    assert!(matches!(waiter.join().unwrap(), WorkerStatus::Started(_)));
    cluster.end();
}

/// Would hang if a start, or a worker that is ready, did not wake its waiters.
fn a_wait_for_the_start_ends_with_the_start() {
    let cluster = Cluster::with(|builder| builder.initial_phase(StartTime::PostmasterStart));
    let handle = cluster.backend.register(&simple("sleep")).unwrap();
    let waits: [fn(Handle) -> WorkerStatus; 3] = [
        |handle| handle.wait_for_startup().unwrap(),
        |handle| handle.wait_for_startup_timeout(PATIENCE).unwrap(),
        |handle| handle.wait_for_ready().unwrap(),
    ];
    let waiters = waits.map(|wait| {
        let handle = handle.clone();
        waiting_thread(move || wait(handle))
    });
    cluster.backend.advance(StartTime::RecoveryFinished).unwrap();
    let pid = started(&handle);
    for waiter in waiters {
        assert_eq!(waiter.join().unwrap(), WorkerStatus::Started(pid));
    }
    cluster.end();
}

/// Would hang if a wait for the start looked for `Started` only.
fn a_wait_for_the_start_ends_when_no_start_can_come() {
    let cluster = Cluster::with(|builder| builder.initial_phase(StartTime::PostmasterStart));
    let handle = cluster.backend.register(&simple("sleep")).unwrap();
    let waiting = handle.clone();
    let waiter = waiting_thread(move || waiting.wait_for_startup().unwrap());
    handle.terminate().unwrap();
    assert!(matches!(waiter.join().unwrap(), WorkerStatus::Stopped(_)));
    cluster.backend.advance(StartTime::RecoveryFinished).unwrap();
    let quick = cluster.backend.register(&simple("quick")).unwrap();
    stopped(&quick);
    assert!(matches!(quick.wait_for_startup().unwrap(), WorkerStatus::Stopped(_)), "it ended");
    cluster.end();
}

/// Would hang if one of the waits did not watch the postmaster.
fn each_wait_ends_when_the_postmaster_dies() {
    let cluster = Cluster::with(|builder| builder.initial_phase(StartTime::ConsistentState));
    let unstarted = cluster.backend.register(&simple("sleep")).unwrap();
    let early = worker("sleep").start_time(StartTime::PostmasterStart).build().unwrap();
    let (running, pid) = cluster.start(&early);
    type Wait = fn(&Handle) -> Result<WorkerStatus, WaitError>;
    let waits: [(&str, &Handle, Wait); 6] = [
        ("startup", &unstarted, Handle::wait_for_startup),
        ("ready", &unstarted, Handle::wait_for_ready),
        ("shutdown", &running, Handle::wait_for_shutdown),
        ("end", &running, Handle::wait_for_end),
        ("any", &running, |handle| wait_any(from_ref(handle), None).map(|(_, status)| status)),
        ("all", &running, |handle| wait_all(from_ref(handle), None).map(|all| all[0].clone())),
    ];
    let mut programs = waits.map(|(name, handle, wait)| {
        waiting_program(&cluster.folder, handle.id(), |handle| {
            assert_eq!(wait(handle).unwrap(), WorkerStatus::PostmasterDied, "{name}");
        })
    });
    kill(cluster.launched.pid(), Signal::SIGKILL);
    for program in &mut programs {
        assert_eq!(program.wait().code(), Some(0));
    }
    cluster.launched.wait().unwrap();
    wait_until("the worker has ended", PATIENCE, || !alive(pid));
}

/// Waits for a worker that never ends, and notes whether the wait was interrupted.
fn waits_for_another(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.unblock_signals()?;
    let other = worker.backend().register(&simple("sleep"))?;
    other.wait_for_ready()?;
    worker.ready();
    let waited = other.wait_for_shutdown();
    other.terminate()?;
    write_note("waited", &format!("{}", matches!(waited, Err(WaitError::Interrupted))))?;
    Ok(worker.check_interrupts()?)
}

/// Would hang if a wait did not watch the signals of its own process.
fn sigterm_or_sigint_interrupts_a_workers_wait() {
    let cluster = Cluster::with(|builder| {
        builder.max_workers(8).function("waiter", entry(waits_for_another))
    });
    let flags = WorkerFlags::SHMEM_ACCESS | WorkerFlags::DATABASE_CONNECTION;
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let description = worker("waiter").flags(flags).build().unwrap();
        let handle = cluster.backend.register(&description).unwrap();
        let pid = ready(&handle);
        wait_until_asleep(pid);
        kill(pid, signal);
        assert_eq!(read_note("waited"), "true", "{signal}");
        std::fs::remove_file(note_path("waited")).unwrap();
        assert_eq!(stopped(&handle).cause, ExitCause::Exited(1), "{signal}");
    }
    wait_until("the others have ended, too", PATIENCE, || cluster.backend.workers().is_empty());
    cluster.end();
}

extern "C" fn on_alarm(_: libc::c_int) {
    interrupt_waits();
}

/// Would hang if a wait went on after the handler, or if one wait used up the interrupt of another.
fn a_program_ends_its_own_waits_from_a_signal_handler() {
    let cluster = Cluster::new();
    let (handle, _) = cluster.start(&simple("sleep"));
    let mut program = waiting_threads(&cluster.folder, handle.id(), 4, |handle| {
        // SAFETY: the handler does what is safe in one.
        let before =
            unsafe { libc::signal(libc::SIGALRM, on_alarm as *const () as libc::sighandler_t) };
        assert_ne!(before, libc::SIG_ERR);
        assert!(matches!(handle.wait_for_shutdown(), Err(WaitError::Interrupted)));
        assert!(matches!(handle.wait_for_shutdown(), Err(WaitError::Interrupted)), "not used up");
    });
    program.kill(Signal::SIGALRM);
    assert_eq!(program.wait().code(), Some(0));
    interrupt_waits();
    assert!(matches!(handle.wait_for_shutdown(), Err(WaitError::Interrupted)));
    assert!(take_interrupt() && !take_interrupt(), "until it is taken back");
    let soon = Duration::from_millis(5);
    assert!(matches!(handle.wait_for_shutdown_timeout(soon), Err(WaitError::TimedOut)));
    cluster.end();
}

/// Would fail if a wake-up reached one waiter or one process only.
fn an_end_wakes_every_waiter_in_every_process() {
    let cluster = Cluster::new();
    let (handle, _) = cluster.start(&simple("sleep"));
    let mut programs = [(); 5].map(|()| {
        waiting_threads(&cluster.folder, handle.id(), 3, |handle| {
            assert!(stopped(handle).requested());
        })
    });
    handle.terminate().unwrap();
    for program in &mut programs {
        assert_eq!(program.wait().code(), Some(0));
    }
    cluster.end();
}

/// Would fail if only the first handle were watched, or another one named.
fn wait_any_names_the_worker_that_ended() {
    let cluster = Cluster::new();
    let handles: Vec<_> = (0..10).map(|_| cluster.start(&simple("sleep")).0).collect();
    let watched = handles.clone();
    let waiter = waiting_thread(move || wait_any(&watched, Some(PATIENCE)).unwrap());
    handles[6].terminate().unwrap();
    let (which, status) = waiter.join().unwrap();
    assert_eq!(which, 6);
    assert!(matches!(status, WorkerStatus::Stopped(Some(_))));
    assert_eq!(wait_any(&handles, Some(PATIENCE)).unwrap().0, 6, "it has ended before the wait");
    cluster.end();
}

/// More workers than one system call can watch. Would hang if the rest were not watched, and fail
/// if another worker were named, or the deadline missed.
fn wait_any_over_many_workers_names_each_as_it_ends() {
    const COUNT: usize = 150;
    let cluster = Cluster::with(|builder| builder.max_workers(COUNT as u32));
    let handles: Vec<Handle> =
        (0..COUNT).map(|_| cluster.backend.register(&simple("sleep")).unwrap()).collect();
    for handle in &handles {
        ready(handle);
    }
    let soon = Some(Duration::from_millis(10));
    assert!(matches!(wait_any(&handles, soon), Err(WaitError::TimedOut)));
    let mut left = handles;
    for place in [COUNT - 1, 70, 0] {
        let watched = left.clone();
        let waiter = waiting_thread(move || wait_any(&watched, Some(PATIENCE)).unwrap());
        left[place].terminate().unwrap();
        let (which, status) = waiter.join().unwrap();
        assert_eq!(which, place);
        assert!(matches!(status, WorkerStatus::Stopped(Some(_))), "{status:?}");
        left.remove(place);
    }
    cluster.end();
}

/// Would fail if a worker were left out, or the order lost.
fn wait_all_waits_for_every_worker() {
    // Held until all are registered, so that none gets the slot, and the report, of another.
    let cluster =
        Cluster::with(|builder| builder.max_workers(64).initial_phase(StartTime::PostmasterStart));
    let handles: Vec<Handle> = (0..40)
        .map(|number| {
            let code = worker("exit").main_arg(number % 2).build().unwrap();
            cluster.backend.register(&code).unwrap()
        })
        .collect();
    let watched = handles.clone();
    let waiter = waiting_thread(move || wait_all(&watched, Some(PATIENCE)).unwrap());
    cluster.backend.advance(StartTime::RecoveryFinished).unwrap();
    let all = waiter.join().unwrap();
    assert_eq!(all.len(), handles.len());
    for (number, status) in all.iter().enumerate() {
        let WorkerStatus::Stopped(Some(report)) = status else { panic!("{status:?}") };
        assert_eq!(report.cause, ExitCause::Exited(number as u8 % 2));
    }
    assert!(wait_all(&[], None).unwrap().is_empty());
    cluster.end();
}

/// Would hang if a deadline did not reach the kernel.
fn every_wait_honours_its_deadline() {
    let cluster = Cluster::with(|builder| builder.initial_phase(StartTime::ConsistentState));
    let soon = Duration::from_millis(10);
    let unstarted = cluster.backend.register(&simple("sleep")).unwrap();
    let early = worker("sleep").start_time(StartTime::PostmasterStart).build().unwrap();
    let (running, _) = cluster.start(&early);
    let both = [unstarted.clone(), running.clone()];
    cluster.backend.enable_notifications().unwrap();
    let timed_out = [
        unstarted.wait_for_startup_timeout(soon).map(drop),
        unstarted.wait_for_ready_timeout(soon).map(drop),
        running.wait_for_shutdown_timeout(soon).map(drop),
        running.wait_for_end_timeout(soon).map(drop),
        wait_any(&both, Some(soon)).map(drop),
        wait_all(&both, Some(soon)).map(drop),
        cluster.backend.wait_for_notification(Some(soon)).map(drop),
    ];
    for (place, result) in timed_out.into_iter().enumerate() {
        assert!(matches!(result, Err(WaitError::TimedOut)), "wait {place}: {result:?}");
    }
    cluster.end();
}

//! The promise: a wait ends on its event, on its deadline, on the postmaster's death, and when its own
//! process is interrupted. It ends on nothing else, and never too late.
//!
//! Would catch: an event that a wait does not watch, a wake-up that reaches one of several waiters, a
//! worker beyond the first hundred that nobody watches.

use crate::support::{
    Cluster, PATIENCE, alive, connect, kill, note_path, read_note, ready, simple, stopped, worker,
    write_note,
};
use bgw_backend::{
    ExitCause, Handle, StartTime, WaitError, Worker, WorkerError, WorkerStatus, entry,
    interrupt_waits, take_interrupt, wait_all, wait_any,
};
use process_test::{Signal, Test, fork_child, tests, wait_until};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_wait_for_the_start_ends_when_no_start_can_come => [B17],
        each_wait_ends_when_the_postmaster_dies => [B18, B19],
        sigterm_or_sigint_interrupts_a_workers_wait => [B20],
        a_program_ends_its_own_wait_from_a_signal_handler => [B20],
        an_end_wakes_every_waiter_in_every_process => [X05],
        wait_any_names_the_worker_that_ended => [X06],
        wait_any_over_many_workers_names_each_as_it_ends => [X06, X08],
        wait_all_waits_for_every_worker => [X07],
        every_wait_honours_its_deadline => [X08],
    ]
}

/// Would hang if a wait for the start looked for `Started` alone.
fn a_wait_for_the_start_ends_when_no_start_can_come() {
    let cluster = Cluster::with(|builder| builder.initial_phase(StartTime::PostmasterStart));
    let handle = cluster.backend.register(&simple("sleep")).unwrap();
    let waiting = handle.clone();
    let waiter = std::thread::spawn(move || waiting.wait_for_startup().unwrap());
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
    let waits: [(&str, &Handle, Wait); 5] = [
        ("startup", &unstarted, Handle::wait_for_startup),
        ("ready", &unstarted, Handle::wait_for_ready),
        ("shutdown", &running, Handle::wait_for_shutdown),
        ("any", &running, |handle| {
            wait_any(std::slice::from_ref(handle), None).map(|(_, status)| status)
        }),
        ("all", &running, |handle| wait_all(std::slice::from_ref(handle), None).map(|all| all[0])),
    ];
    let mut children: Vec<_> = waits
        .iter()
        .map(|&(name, handle, wait)| {
            let (folder, id) = (cluster.folder.clone(), handle.id());
            let child = fork_child(move || {
                let handle = connect(&folder).handle(id);
                write_note(name, "").unwrap();
                assert_eq!(wait(&handle).unwrap(), WorkerStatus::PostmasterDied, "{name}");
            });
            read_note(name);
            child
        })
        .collect();
    kill(cluster.launched.pid(), Signal::SIGKILL);
    for child in &mut children {
        assert_eq!(child.wait().code(), Some(0));
    }
    cluster.launched.wait().unwrap();
    wait_until("the worker has ended", PATIENCE, || !alive(pid));
}

/// Waits for a worker that never ends, and says how that went.
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

/// Would hang if the waiter's own signals were not in the wait.
fn sigterm_or_sigint_interrupts_a_workers_wait() {
    let cluster = Cluster::with(|builder| {
        builder.max_workers(8).function("waiter", entry(waits_for_another))
    });
    let flags =
        bgw_backend::WorkerFlags::SHMEM_ACCESS | bgw_backend::WorkerFlags::DATABASE_CONNECTION;
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let description = worker("waiter").flags(flags).build().unwrap();
        let handle = cluster.backend.register(&description).unwrap();
        let pid = ready(&handle);
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

/// Would hang if the wait were resumed after the handler.
fn a_program_ends_its_own_wait_from_a_signal_handler() {
    let cluster = Cluster::new();
    let (handle, _) = cluster.start(&simple("sleep"));
    // SAFETY: the handler does what is safe in one.
    let before =
        unsafe { libc::signal(libc::SIGALRM, on_alarm as *const () as libc::sighandler_t) };
    assert_ne!(before, libc::SIG_ERR);
    let me = nix::unistd::Pid::this();
    let mut alarm = fork_child(move || {
        process_test::wait_until("the test sleeps", PATIENCE, || {
            let stat = std::fs::read_to_string(format!("/proc/{me}/stat")).unwrap();
            stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S'))
        });
        nix::sys::signal::kill(me, Signal::SIGALRM).unwrap();
    });
    assert!(matches!(handle.wait_for_shutdown(), Err(WaitError::Interrupted)));
    assert!(take_interrupt());
    assert_eq!(alarm.wait().code(), Some(0));
    cluster.end();
}

/// Would fail if a wake-up reached one waiter only, or one process only.
fn an_end_wakes_every_waiter_in_every_process() {
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
                write_note(&number.to_string(), "waiting").unwrap();
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

/// Would fail if only the first handle were watched, or another one named.
fn wait_any_names_the_worker_that_ended() {
    let cluster = Cluster::new();
    let handles: Vec<_> = (0..10).map(|_| cluster.start(&simple("sleep")).0).collect();
    handles[6].terminate().unwrap();
    let (which, status) = bgw_backend::wait_any(&handles, Some(PATIENCE)).unwrap();
    assert_eq!(which, 6);
    assert!(matches!(status, WorkerStatus::Stopped(Some(_))));
    cluster.end();
}

/// More workers than one system call can watch: would hang if the rest were not watched, and fail if
/// another one were named, or the deadline missed.
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
        let waiting = left.clone();
        let waiter = std::thread::spawn(move || wait_any(&waiting, Some(PATIENCE)).unwrap());
        left[place].terminate().unwrap();
        let (which, status) = waiter.join().unwrap();
        assert_eq!(which, place);
        assert!(matches!(status, WorkerStatus::Stopped(Some(_))), "{status:?}");
        left.remove(place);
    }
    cluster.end();
}

/// Would fail if one were left out, or the order lost.
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
    cluster.backend.advance(StartTime::RecoveryFinished).unwrap();
    let all = wait_all(&handles, Some(PATIENCE)).unwrap();
    assert_eq!(all.len(), handles.len());
    for (number, status) in all.iter().enumerate() {
        let WorkerStatus::Stopped(Some(report)) = status else { panic!("{status:?}") };
        assert_eq!(report.cause, ExitCause::Exited(number as u8 % 2));
    }
    assert!(wait_all(&[], None).unwrap().is_empty());
    cluster.end();
}

/// Would hang if a deadline were not passed on to the kernel.
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
        wait_any(&both, Some(soon)).map(drop),
        wait_all(&both, Some(soon)).map(drop),
        cluster.backend.wait_for_notification(Some(soon)).map(drop),
    ];
    for (place, result) in timed_out.into_iter().enumerate() {
        assert!(matches!(result, Err(WaitError::TimedOut)), "wait {place}: {result:?}");
    }
    cluster.end();
}

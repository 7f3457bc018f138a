//! The promise: a wait ends on whatever it was for, on its deadline, on the postmaster's death, and when
//! the waiter itself is told to; never on nothing, and never too late.
//!
//! Would catch: an event that is not in the wait, a signal that is lost because another thread took it,
//! a handler that does more than set a flag.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bgw_backend::{
    ExitCause, Handle, SocketInterest, StartTime, WaitError, WaitEvents, Worker, WorkerError,
    WorkerStatus, entry, interrupt_waits, take_interrupt, wait_all, wait_any,
};
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use process_test::{Signal, fork_child, tests, wait_until};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;
use support::{
    Cluster, PATIENCE, alive, connect, kill, raw, read_note, ready, simple, started, stopped,
    worker, write_note,
};

fn main() -> ExitCode {
    process_test::main(tests![
        waits_for_the_start_end_when_it_cannot_come => [B17],
        each_wait_ends_when_the_postmaster_dies => [B18, B19],
        a_waiting_worker_that_is_told_to_end_or_cancelled_waits_no_longer => [B20],
        a_program_ends_its_own_wait_from_a_signal_handler => [B20],
        a_latch_is_set_from_another_process_and_from_a_handler => [B63],
        one_wait_for_latch_timeout_socket_and_postmaster_death => [B64],
        a_wait_that_is_to_end_the_process_does_not_return => [B65],
        a_worker_that_allocates_without_pause_is_terminated_in_order => [R12],
        a_signal_on_a_helper_thread_ends_the_wait_of_the_main_one => [R20],
        wait_any_over_many_workers_names_each_as_it_ends => [X06, X08],
        wait_all_waits_for_each_of_many => [X07],
        every_wait_takes_a_deadline => [X08],
    ])
}

/// Would hang if a wait for the start looked for `Started` alone.
fn waits_for_the_start_end_when_it_cannot_come() {
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
fn a_waiting_worker_that_is_told_to_end_or_cancelled_waits_no_longer() {
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
        std::fs::remove_file(support::note_path("waited")).unwrap();
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

extern "C" fn on_usr2(_: libc::c_int) {
    bgw_backend::set_latch();
}

/// Says what ended each of its waits, and how many sets it has seen.
fn counts_latch(worker: &mut Worker) -> Result<(), WorkerError> {
    // SAFETY: the handler does what is safe in one.
    unsafe { libc::signal(libc::SIGUSR2, on_usr2 as *const () as libc::sighandler_t) };
    worker.unblock_signals()?;
    let (ours, _theirs) = UnixStream::pair()?;
    worker.ready();
    for number in 0.. {
        let death = WaitEvents::EXIT_ON_POSTMASTER_DEATH;
        // By turns in a futex wait and in `ppoll`.
        let mut sockets = [SocketInterest::readable(ours.as_fd())];
        let sockets = if number % 2 == 0 { &mut sockets[..0] } else { &mut sockets[..] };
        let mut woken;
        loop {
            woken = worker.wait(WaitEvents::LATCH_SET | death, sockets, None)?;
            if woken.contains(WaitEvents::LATCH_SET) {
                break;
            }
        }
        write_note(&format!("set-{number}"), "")?;
    }
    Ok(())
}

/// Would hang if a set did not reach a sleeper in a futex or in `ppoll`, from outside or from a handler.
fn a_latch_is_set_from_another_process_and_from_a_handler() {
    let cluster = Cluster::with(|builder| builder.function("counts", entry(counts_latch)));
    let handle = cluster.backend.register(&simple("counts")).unwrap();
    let pid = ready(&handle);
    for number in 0..8 {
        match number / 2 % 2 {
            0 => assert!(handle.set_latch().unwrap()),
            _ => kill(pid, Signal::SIGUSR2),
        }
        read_note(&format!("set-{number}"));
    }
    cluster.end();
}

/// One wait after the other, each for everything; says what it was.
fn waits_for_everything(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.unblock_signals()?;
    let socket = worker.descriptor("socket").ok_or("no socket")?;
    let mut socket_bytes = UnixStream::from(socket.try_clone_to_owned()?);
    worker.ready();
    for number in 0..4 {
        let all = WaitEvents::LATCH_SET
            | WaitEvents::TIMEOUT
            | WaitEvents::SOCKET_READABLE
            | WaitEvents::POSTMASTER_DEATH;
        let timeout = if number == 0 { Duration::from_millis(5) } else { PATIENCE };
        let interest = SocketInterest::readable(socket);
        let woken = worker.wait(all, &mut [interest], Some(timeout))?;
        if woken.contains(WaitEvents::SOCKET_READABLE) {
            std::io::Read::read_exact(&mut socket_bytes, &mut [0])?;
        }
        let woken = woken.difference(WaitEvents::INTERRUPTED);
        write_note(&format!("woken-{number}"), &format!("{woken:?}"))?;
    }
    Ok(())
}

/// Would fail if one of the four were not in the wait, or another one were told.
fn one_wait_for_latch_timeout_socket_and_postmaster_death() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let cluster = Cluster::with(|builder| {
        builder
            .function("everything", entry(waits_for_everything))
            .descriptor("socket", OwnedFd::from(theirs))
    });
    let handle = cluster.backend.register(&simple("everything")).unwrap();
    let pid = ready(&handle);
    assert_eq!(read_note("woken-0"), "WaitEvents(TIMEOUT)");
    assert!(handle.set_latch().unwrap());
    assert_eq!(read_note("woken-1"), "WaitEvents(LATCH_SET)");
    ours.write_all(b"x").unwrap();
    assert_eq!(read_note("woken-2"), "WaitEvents(SOCKET_READABLE)");
    kill(cluster.launched.pid(), Signal::SIGKILL);
    // The signal that tells a worker of it sets its latch besides.
    let last = read_note("woken-3");
    assert!(last.contains("POSTMASTER_DEATH") && !last.contains("TIMEOUT"), "{last}");
    cluster.launched.wait().unwrap();
    wait_until("the worker has ended", PATIENCE, || !alive(pid));
}

/// Says so if its wait comes back from the postmaster's death.
fn exits_in_its_wait(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.unblock_signals()?;
    let (ours, _theirs) = UnixStream::pair()?;
    worker.ready();
    let by_futex = worker.main_arg() == 0;
    loop {
        let events = WaitEvents::LATCH_SET | WaitEvents::EXIT_ON_POSTMASTER_DEATH;
        let mut sockets = [SocketInterest::readable(ours.as_fd())];
        let sockets = if by_futex { &mut sockets[..0] } else { &mut sockets[..] };
        let _ = worker.wait(events, sockets, None);
        if worker.should_stop() {
            write_note("returned", "")?;
        }
    }
}

/// Would fail if the wait came back, as the one with `POSTMASTER_DEATH` does.
fn a_wait_that_is_to_end_the_process_does_not_return() {
    let cluster = Cluster::with(|builder| builder.function("exits", entry(exits_in_its_wait)));
    let mut pids = Vec::new();
    for way in 0..2 {
        let description = worker("exits").main_arg(way).build().unwrap();
        pids.push(ready(&cluster.backend.register(&description).unwrap()));
    }
    kill(cluster.launched.pid(), Signal::SIGKILL);
    cluster.launched.wait().unwrap();
    for pid in pids {
        wait_until("the worker has ended", PATIENCE, || !alive(pid));
    }
    assert!(!support::note_path("returned").exists());
}

fn allocates(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.unblock_signals()?;
    worker.ready();
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for size in (1..5000usize).cycle() {
        worker.check_interrupts()?;
        kept.push(vec![1; size * 37 % 4096]);
        if kept.len() > 500 {
            kept.clear();
        }
    }
    Ok(())
}

/// Would hang or crash, now and then, if the handler of SIGTERM allocated, logged or took a lock.
fn a_worker_that_allocates_without_pause_is_terminated_in_order() {
    let cluster = Cluster::with(|builder| builder.function("allocates", entry(allocates)));
    for round in 0..50 {
        let handle = cluster.backend.register(&simple("allocates")).unwrap();
        ready(&handle);
        handle.terminate().unwrap();
        assert_eq!(stopped(&handle).cause, ExitCause::Exited(1), "round {round}");
    }
    cluster.end();
}

/// Its main thread blocks every signal; its helpers get them.
fn threaded(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.handle_terminate();
    worker.unblock_signals()?;
    for _ in 0..3 {
        std::thread::spawn(|| {
            loop {
                std::thread::park();
            }
        });
    }
    worker.block_signals()?;
    worker.ready();
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    Ok(())
}

/// Would hang if a handler woke only the thread in which it ran.
fn a_signal_on_a_helper_thread_ends_the_wait_of_the_main_one() {
    let cluster = Cluster::with(|builder| builder.function("threaded", entry(threaded)));
    let (handle, pid) = cluster.start(&simple("threaded"));
    ready(&handle);
    assert!(handle.set_latch().unwrap());
    handle.terminate().unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    assert!(!alive(pid));
    // The same for a program's notification.
    cluster.backend.enable_notifications().unwrap();
    let helper = std::thread::spawn(|| {
        loop {
            std::thread::park();
        }
    });
    let mut usr1 = SigSet::empty();
    usr1.add(Signal::SIGUSR1);
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&usr1), None).unwrap();
    let description = worker("sleep").notify(cluster.backend.pid()).build().unwrap();
    let handle = cluster.backend.register(&description).unwrap();
    assert!(cluster.backend.wait_for_notification(Some(PATIENCE)).unwrap());
    started(&handle);
    assert!(!helper.is_finished());
    assert!(process_test::alive(raw(cluster.launched.pid())));
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
fn wait_all_waits_for_each_of_many() {
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
fn every_wait_takes_a_deadline() {
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

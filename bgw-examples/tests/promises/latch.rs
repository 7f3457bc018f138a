//! The promise: whoever sets a worker's latch wakes the worker, however it sleeps; a wait for
//! several things names the one that came.
//!
//! Would catch: a set that reaches a futex but not `ppoll`, a signal that a helper thread swallows.

use crate::support::waiter::waiting_thread;
use crate::support::{
    Cluster, PATIENCE, alive, kill, raw, read_note, ready, simple, started, stopped,
    wait_until_asleep, worker, write_note,
};
use bgw_backend::{ExitCause, SocketInterest, WaitEvents, Worker, WorkerError, entry};
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use process_test::{Signal, Test, tests, wait_until, wait_until_all_asleep};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_latch_is_set_from_another_process_and_from_a_handler => [B63],
        a_latch_is_set_while_its_owner_blocks_all_signals => [B63],
        one_wait_covers_latch_timeout_socket_and_postmaster_death => [B64],
        a_signal_on_a_helper_thread_wakes_the_main_thread => [R20],
        a_notification_on_a_helper_thread_wakes_the_waiting_one => [R20],
    ]
}

extern "C" fn on_usr2(_: libc::c_int) {
    bgw_backend::set_latch();
}

/// The main argument of a worker that unblocks its signals.
const UNBLOCKED: u64 = 0;
const BLOCKED: u64 = 1;

/// Notes each set that has ended one of its waits.
fn counts_latch(worker: &mut Worker) -> Result<(), WorkerError> {
    // SAFETY: the handler does what is safe in one.
    unsafe { libc::signal(libc::SIGUSR2, on_usr2 as *const () as libc::sighandler_t) };
    if worker.main_arg() == UNBLOCKED {
        worker.unblock_signals()?;
    }
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

/// Would hang if a set did not reach a sleeper in a futex or in `ppoll`, be it by another process
/// or by a handler.
fn a_latch_is_set_from_another_process_and_from_a_handler() {
    let cluster = Cluster::with(|builder| builder.function("counts", entry(counts_latch)));
    let handle = cluster.backend.register(&simple("counts")).unwrap();
    let pid = ready(&handle);
    for number in 0..8 {
        wait_until_asleep(pid);
        match number / 2 % 2 {
            0 => assert!(handle.set_latch().unwrap()),
            _ => kill(pid, Signal::SIGUSR2),
        }
        read_note(&format!("set-{number}"));
    }
    cluster.end();
}

/// Would hang if the wake-up of a poll relied on a signal, which the worker still blocks.
fn a_latch_is_set_while_its_owner_blocks_all_signals() {
    let cluster = Cluster::with(|builder| builder.function("counts", entry(counts_latch)));
    let blocked = worker("counts").main_arg(BLOCKED).build().unwrap();
    let handle = cluster.backend.register(&blocked).unwrap();
    let pid = ready(&handle);
    for number in 0..4 {
        wait_until_asleep(pid);
        assert!(handle.set_latch().unwrap());
        read_note(&format!("set-{number}"));
    }
    kill(pid, Signal::SIGKILL);
    cluster.end();
}

/// Waits four times, each time for everything, and notes what came.
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

/// Would fail if the wait did not watch one of the four, or named another.
fn one_wait_covers_latch_timeout_socket_and_postmaster_death() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let cluster = Cluster::with(|builder| {
        builder
            .function("everything", entry(waits_for_everything))
            .descriptor("socket", OwnedFd::from(theirs))
    });
    let handle = cluster.backend.register(&simple("everything")).unwrap();
    let pid = ready(&handle);
    assert_eq!(read_note("woken-0"), "WaitEvents(TIMEOUT)");
    wait_until_asleep(pid);
    assert!(handle.set_latch().unwrap());
    assert_eq!(read_note("woken-1"), "WaitEvents(LATCH_SET)");
    wait_until_asleep(pid);
    ours.write_all(b"x").unwrap();
    assert_eq!(read_note("woken-2"), "WaitEvents(SOCKET_READABLE)");
    wait_until_asleep(pid);
    kill(cluster.launched.pid(), Signal::SIGKILL);
    // The signal that a worker gets then sets its latch as well.
    let last = read_note("woken-3");
    assert!(last.contains("POSTMASTER_DEATH") && !last.contains("TIMEOUT"), "{last}");
    cluster.launched.wait().unwrap();
    wait_until("the worker has ended", PATIENCE, || !alive(pid));
}

/// Its main thread blocks every signal, so its three helpers get them.
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
fn a_signal_on_a_helper_thread_wakes_the_main_thread() {
    let cluster = Cluster::with(|builder| builder.function("threaded", entry(threaded)));
    let (handle, pid) = cluster.start(&simple("threaded"));
    ready(&handle);
    wait_until_all_asleep(raw(pid), 4);
    handle.terminate().unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    assert!(!alive(pid));
    cluster.end();
}

/// Would hang if a notification woke only the thread in which its handler ran.
fn a_notification_on_a_helper_thread_wakes_the_waiting_one() {
    let cluster = Cluster::new();
    cluster.backend.enable_notifications().unwrap();
    let _helper = std::thread::spawn(|| {
        loop {
            std::thread::park();
        }
    });
    // From here on only the helper takes the signal; the waiting thread inherits this mask.
    let mut usr1 = SigSet::empty();
    usr1.add(Signal::SIGUSR1);
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&usr1), None).unwrap();
    kill(cluster.launched.pid(), Signal::SIGSTOP);
    let description = worker("sleep").notify(cluster.backend.pid()).build().unwrap();
    let handle = cluster.backend.register(&description).unwrap();
    let backend = cluster.backend.clone();
    let waiter = waiting_thread(move || backend.wait_for_notification(Some(PATIENCE)).unwrap());
    kill(cluster.launched.pid(), Signal::SIGCONT);
    assert!(waiter.join().unwrap());
    started(&handle);
    cluster.end();
}

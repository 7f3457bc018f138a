//! The promise: a wait of a worker or a backend ends for whatever it waits for: its latch, its
//! sockets, its signals; in each of its threads, and in each way to sleep. A set that finds its
//! worker in `ppoll` signals that worker, and no other process.
//!
//! Would catch: a wake-up that one thread takes from another, a signal that comes while it is
//! blocked, an answer for a socket that is not ready, a signal to a pid that something wrote into a
//! slot.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bgw_core::internals::{
    Gifts, Pending, WorkerRecord, WorkerSlots, flag, process, signals, wait_for_events,
    wait_in_worker,
};
use bgw_core::{
    BackgroundWorker, Berth, SocketInterest, WaitEvents, WorkerHandle, WorkerProcess,
    interrupt_waits, take_interrupt,
};
use bytemuck::Zeroable;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use process_test::{Child, Pid, fork_child, tests, wait_until};
use shmem_slots::futex::Woken;
use shmem_slots::{Key, Latch};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use support::{
    LIMIT, POLLERS, SLEEPERS, cell, cells_of, deadline, member, shared_slots, wait_for_count,
    wait_for_no_count, wait_until_asleep,
};

fn main() -> std::process::ExitCode {
    process_test::main(tests![
        a_set_wakes_a_worker_that_sleeps_in_ppoll,
        a_set_wakes_a_worker_that_polls_before_it_unblocks_its_signals => [D11],
        a_set_wakes_each_thread_of_a_worker,
        interrupt_waits_ends_the_waits_of_all_threads,
        a_set_signals_no_process_that_is_not_a_child_of_the_postmaster,
        a_set_across_pid_namespaces_fails_with_the_reason,
        a_socket_and_a_latch_are_told_apart,
        a_signal_handler_ends_the_sleep_of_its_own_process,
        no_wake_up_is_lost_in_rounds_through_ppoll,
    ])
}

/// A slot for a worker that these tests start themselves, as the postmaster would.
fn registered(slots: &WorkerSlots) -> Key {
    let mut claim = slots.claim(std::process::id()).unwrap();
    claim.write(&WorkerRecord::zeroed()).unwrap();
    claim.publish(0).unwrap()
}

fn handle(key: Key) -> WorkerHandle {
    WorkerHandle::new(key.index, key.generation, 0)
}

/// Makes this child the worker of `key`: with its handlers and the latch of its slot. Its signals
/// are blocked, as they are when a worker's main begins.
fn become_worker(slots: &Arc<WorkerSlots>, key: Key, postmaster: Pid) -> &'static WorkerProcess {
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None).unwrap();
    let worker = BackgroundWorker::builder("owner").function("none").build().unwrap();
    process::enter(WorkerProcess {
        worker: Arc::new(worker),
        handle: handle(key),
        berth: Berth::own(handle(key)),
        restarts: 0,
        attachment: Arc::new(member(slots, postmaster)),
        gifts: Gifts::default(),
    })
    .unwrap()
}

/// A child that is the worker of a slot, and the slot says so.
fn blocked_worker(
    slots: &Arc<WorkerSlots>,
    run: impl FnOnce(&'static WorkerProcess),
) -> (Key, Child) {
    let key = registered(slots);
    let postmaster = nix::unistd::getpid();
    let child = fork_child(|| run(become_worker(slots, key, postmaster)));
    slots.update(key, child.pid().as_raw().unsigned_abs(), flag::STARTED).unwrap();
    (key, child)
}

/// The same, once it has unblocked its signals.
fn worker(slots: &Arc<WorkerSlots>, run: impl FnOnce(&'static WorkerProcess)) -> (Key, Child) {
    blocked_worker(slots, |worker| {
        signals::unblock_all().unwrap();
        run(worker);
    })
}

/// One wait of a worker, through `ppoll` when there are sockets. It resets the latch.
fn wait(worker: &WorkerProcess, sockets: &mut [SocketInterest<'_>]) -> WaitEvents {
    let events = WaitEvents::LATCH_SET | WaitEvents::POSTMASTER_DEATH;
    wait_in_worker(worker, events, sockets, deadline(), process::interrupts().count()).unwrap()
}

/// The worker sleeps in `ppoll` 20 times; each time it is set once more.
fn wakes_in_ppoll(blocked: bool) {
    let slots = shared_slots();
    let cluster = member(&slots, nix::unistd::getpid());
    let (quiet, _other) = UnixDatagram::pair().unwrap();
    let run = |worker: &'static WorkerProcess| {
        if !blocked {
            signals::unblock_all().unwrap();
        }
        for _ in 0..20 {
            let ready = wait(worker, &mut [SocketInterest::readable(quiet.as_fd())]);
            assert_eq!(ready, WaitEvents::LATCH_SET);
        }
    };
    let (key, mut owner) = blocked_worker(&slots, run);
    let word = cells_of(&slots).slot_cell(key.index, 0).unwrap();
    for _ in 0..20 {
        wait_for_count(word, POLLERS);
        wait_until_asleep(owner.pid());
        assert!(cluster.set_latch(handle(key)).unwrap());
        wait_for_no_count(word, POLLERS);
    }
    assert_eq!(owner.wait().code(), Some(0));
    // The postmaster reports the end before it reaps the worker: no signal goes to a number.
    slots.update(key, 0, flag::STOPPED).unwrap();
    assert!(!cluster.set_latch(handle(key)).unwrap());
    let next = Key { generation: key.generation + 1, ..key };
    assert!(!cluster.set_latch(handle(next)).unwrap());
}

fn a_set_wakes_a_worker_that_sleeps_in_ppoll() {
    wakes_in_ppoll(false);
}

/// Fails when a worker starts with SIGURG blocked: the set is lost until something else happens.
fn a_set_wakes_a_worker_that_polls_before_it_unblocks_its_signals() {
    wakes_in_ppoll(true);
}

/// Two threads of a worker sleep, both in the same way or each in its own; one of them leaves its
/// sleep at its deadline again and again. Fails when a thread that leaves takes the announcement of
/// the other with it, or a thread that wakes first keeps the set to itself.
fn a_set_wakes_each_thread_of_a_worker() {
    const ROUNDS: u64 = 200;
    let slots = shared_slots();
    // One after the other: a set between two waits of a thread, which another thread has reset.
    let (_, mut alone) = worker(&slots, |worker| {
        let look = || {
            let (now, seen) = (Some(std::time::Instant::now()), process::interrupts().count());
            let events = WaitEvents::LATCH_SET | WaitEvents::POSTMASTER_DEATH;
            wait_in_worker(worker, events, &mut [], now, seen).unwrap()
        };
        assert!(!look().contains(WaitEvents::LATCH_SET));
        bgw_core::set_latch();
        let other = std::thread::scope(|scope| scope.spawn(look).join().unwrap());
        assert!(other.contains(WaitEvents::LATCH_SET));
        assert!(look().contains(WaitEvents::LATCH_SET), "the other thread has taken it");
        assert!(!look().contains(WaitEvents::LATCH_SET), "once");
    });
    assert_eq!(alone.wait().code(), Some(0));
    let cluster = member(&slots, nix::unistd::getpid());
    let (quiet, _other) = UnixDatagram::pair().unwrap();
    for kinds in [[false, false], [true, true], [false, true]] {
        let done: [u32; 2] = [0, 1];
        (0..3).for_each(|at| cell(&slots, at).store(0, Ordering::Release));
        let (key, mut owner) = worker(&slots, |worker| {
            let leaves = std::thread::spawn(move || {
                loop {
                    let soon = std::time::Instant::now() + std::time::Duration::from_micros(50);
                    let events = WaitEvents::LATCH_SET | WaitEvents::POSTMASTER_DEATH;
                    let seen = process::interrupts().count();
                    let _ = wait_in_worker(worker, events, &mut [], Some(soon), seen);
                }
            });
            std::thread::scope(|scope| {
                for (polls, at) in kinds.into_iter().zip(done) {
                    let quiet = quiet.as_fd();
                    scope.spawn(move || {
                        let counter = cell(worker.attachment.slots(), at);
                        let events = WaitEvents::LATCH_SET | WaitEvents::POSTMASTER_DEATH;
                        let (now, seen) = (Some(std::time::Instant::now()), 0);
                        let _ = wait_in_worker(worker, events, &mut [], now, seen);
                        cell(worker.attachment.slots(), 2).fetch_add(1, Ordering::AcqRel);
                        while counter.load(Ordering::Acquire) < ROUNDS {
                            let mut sockets = [SocketInterest::readable(quiet)];
                            let sockets = if polls { &mut sockets[..] } else { &mut [] };
                            let ready = wait(worker, sockets);
                            assert!(!ready.contains(WaitEvents::TIMEOUT), "a lost wake-up");
                            if ready.contains(WaitEvents::LATCH_SET) {
                                counter.fetch_add(1, Ordering::AcqRel);
                            }
                        }
                    });
                }
            });
            drop(leaves);
            std::process::exit(0);
        });
        wait_until("both have begun", LIMIT, || cell(&slots, 2).load(Ordering::Acquire) == 2);
        for round in 1..=ROUNDS {
            cluster.set_latch(handle(key)).unwrap();
            wait_until("both threads have woken", LIMIT, || {
                done.iter().all(|&at| cell(&slots, at).load(Ordering::Acquire) >= round)
            });
        }
        assert_eq!(owner.wait().code(), Some(0), "{kinds:?}");
    }
}

/// 600 waits in ten threads of one process, all in `ppoll`. Fails when a thread that wakes takes
/// the wake-up of another, which then sleeps on.
fn interrupt_waits_ends_the_waits_of_all_threads() {
    const THREADS: usize = 10;
    const ROUNDS: usize = 60;
    let slots = shared_slots();
    let cluster = member(&slots, nix::unistd::getpid());
    let (quiet, _other) = UnixDatagram::pair().unwrap();
    let (begin, waiting) = (Barrier::new(THREADS + 1), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    begin.wait();
                    let seen = process::interrupts().count();
                    waiting.fetch_add(1, Ordering::AcqRel);
                    let mut sockets = [SocketInterest::readable(quiet.as_fd())];
                    let events = WaitEvents::POSTMASTER_DEATH;
                    let ready = wait_for_events(&cluster, events, &mut sockets, deadline(), seen);
                    assert_eq!(ready.unwrap(), WaitEvents::INTERRUPTED);
                    waiting.fetch_sub(1, Ordering::AcqRel);
                }
            });
        }
        for round in 0..ROUNDS {
            begin.wait();
            wait_until("all threads wait", LIMIT, || waiting.load(Ordering::Acquire) == THREADS);
            if round % 2 == 0 {
                wait_until("all threads sleep", LIMIT, || threads_in("poll") == THREADS);
            }
            interrupt_waits();
            wait_until("all waits have ended", LIMIT, || waiting.load(Ordering::Acquire) == 0);
            assert!(take_interrupt());
        }
    });
}

/// How many threads of this process sleep in a kernel function whose name contains `function`.
fn threads_in(function: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let sleeps = |path: std::path::PathBuf| {
        std::fs::read_to_string(path.join("wchan")).is_ok_and(|name| name.contains(function))
    };
    tasks.filter(|task| sleeps(task.as_ref().unwrap().path())).count()
}

/// Something wrote the pid of a stranger into the slot. Fails when the pid of a slot is believed.
fn a_set_signals_no_process_that_is_not_a_child_of_the_postmaster() {
    let slots = shared_slots();
    let cluster = member(&slots, nix::unistd::getpid());
    let key = registered(&slots);
    let word = cell(&slots, 0);
    // A grandchild: a process of its own, and no child of the postmaster.
    let mut parent = fork_child(|| {
        let mut stranger = fork_child(|| {
            pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None).unwrap();
            word.store(u64::from(std::process::id()), Ordering::Release);
            wait_until("the latch was set", LIMIT, || cell(&slots, 1).load(Ordering::Acquire) == 1);
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let pending = status.lines().find(|line| line.starts_with("ShdPnd:")).unwrap();
            let pending = u64::from_str_radix(pending["ShdPnd:".len()..].trim(), 16).unwrap();
            assert_eq!(pending & 1 << (libc::SIGURG - 1), 0, "a stranger was signalled");
        });
        assert_eq!(stranger.wait().code(), Some(0));
    });
    wait_until("the stranger runs", LIMIT, || word.load(Ordering::Acquire) != 0);
    slots.update(key, word.load(Ordering::Acquire) as u32, flag::STARTED).unwrap();
    let latch = cluster.cells().latch(key.index).unwrap();
    assert!(latch.begin_poll(latch.seen()));
    assert!(!cluster.set_latch(handle(key)).unwrap(), "no worker there");
    cell(&slots, 1).store(1, Ordering::Release);
    assert_eq!(parent.wait().code(), Some(0));
}

/// The pids of the slots mean nothing in another pid namespace. Fails when the set says that it
/// woke the worker, or wakes whoever has that pid there.
fn a_set_across_pid_namespaces_fails_with_the_reason() {
    use nix::sched::{CloneFlags, unshare};
    let slots = shared_slots();
    let cluster = Arc::new(member(&slots, nix::unistd::getpid()));
    let (quiet, _other) = UnixDatagram::pair().unwrap();
    let (key, mut owner) = worker(&slots, |worker| {
        wait(worker, &mut [SocketInterest::readable(quiet.as_fd())]);
    });
    wait_for_count(cells_of(&slots).slot_cell(key.index, 0).unwrap(), POLLERS);
    wait_until_asleep(owner.pid());
    let inside = Arc::clone(&cluster);
    let mut child = fork_child(move || {
        if unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID).is_err() {
            std::process::exit(77);
        }
        // The first process of the new namespace.
        let mut other = fork_child(|| {
            let error = inside.set_latch(handle(key)).unwrap_err().to_string();
            assert!(error.contains("pid namespace"), "{error}");
        });
        assert_eq!(other.wait().code(), Some(0));
    });
    let ended = child.wait();
    if ended.code() == Some(77) {
        owner.kill(Signal::SIGKILL);
        process_test::skip("pid namespaces cannot be made here");
    }
    assert_eq!(ended.code(), Some(0));
    assert!(owner.try_wait().is_none(), "nobody woke it");
    // The latch is set: its next wake-up, by whatever, finds that.
    owner.kill(Signal::SIGURG);
    assert_eq!(owner.wait().code(), Some(0));
}

/// Fails when the wait on sockets forgets the latch, or answers for a socket that is not ready.
fn a_socket_and_a_latch_are_told_apart() {
    let slots = shared_slots();
    let cluster = member(&slots, nix::unistd::getpid());
    let (one, to_one) = UnixDatagram::pair().unwrap();
    let (two, to_two) = UnixDatagram::pair().unwrap();
    let (key, mut owner) = worker(&slots, |worker| {
        let mut sockets = [one.as_fd(), two.as_fd()].map(SocketInterest::readable);
        assert_eq!(wait(worker, &mut sockets), WaitEvents::SOCKET_READABLE);
        assert_eq!(sockets[0].ready(), WaitEvents::empty());
        assert_eq!(sockets[1].ready(), WaitEvents::SOCKET_READABLE);
        two.recv(&mut [0]).unwrap();
        cell(worker.attachment.slots(), 0).store(1, Ordering::Release);
        assert_eq!(wait(worker, &mut sockets), WaitEvents::LATCH_SET);
        assert!(sockets.iter().all(|socket| socket.ready().is_empty()));
        // Both at once; then a wait that asks for no latch, though one is set.
        to_one.send(b"x").unwrap();
        bgw_core::set_latch();
        let ready = wait(worker, &mut sockets);
        assert!(ready.contains(WaitEvents::LATCH_SET | WaitEvents::SOCKET_READABLE), "{ready:?}");
        bgw_core::set_latch();
        let mut writable = [SocketInterest::writable(one.as_fd())];
        let seen = process::interrupts().count();
        let alone = WaitEvents::POSTMASTER_DEATH;
        let ready = wait_in_worker(worker, alone, &mut writable, deadline(), seen);
        assert_eq!(ready.unwrap(), WaitEvents::SOCKET_WRITABLE);
    });
    let word = cells_of(&slots).slot_cell(key.index, 0).unwrap();
    wait_for_count(word, POLLERS);
    to_two.send(b"x").unwrap();
    wait_until("it was read", LIMIT, || cell(&slots, 0).load(Ordering::Acquire) == 1);
    wait_for_count(word, POLLERS);
    cluster.set_latch(handle(key)).unwrap();
    assert_eq!(owner.wait().code(), Some(0));
}

/// SIGTERM, in both ways to sleep. Fails when a handler that runs before the sleep is forgotten.
fn a_signal_handler_ends_the_sleep_of_its_own_process() {
    let slots = shared_slots();
    let (quiet, _other) = UnixDatagram::pair().unwrap();
    for (polls, bits) in [(false, SLEEPERS), (true, POLLERS)] {
        let (key, mut owner) = worker(&slots, |worker| {
            let mut sockets = [SocketInterest::readable(quiet.as_fd())];
            let sockets = if polls { &mut sockets[..] } else { &mut [] };
            let ready = wait(worker, sockets);
            assert!(ready.intersects(WaitEvents::LATCH_SET | WaitEvents::INTERRUPTED), "{ready:?}");
            assert!(process::interrupts().end_requested());
            assert!(process::interrupts().take(Pending::TERMINATE));
            // What may be left of the handler: the latch.
            let events = WaitEvents::LATCH_SET | WaitEvents::POSTMASTER_DEATH;
            let seen = process::interrupts().count();
            let now = Some(std::time::Instant::now());
            let _ = wait_in_worker(worker, events, &mut [], now, seen);
            // Raised by this process itself, between the look and the sleep.
            let seen = process::interrupts().count();
            nix::sys::signal::raise(Signal::SIGTERM).unwrap();
            let ready = wait_in_worker(worker, events, sockets, deadline(), seen).unwrap();
            assert_eq!(ready, WaitEvents::INTERRUPTED | WaitEvents::LATCH_SET);
        });
        wait_for_count(cells_of(&slots).slot_cell(key.index, 0).unwrap(), bits);
        wait_until_asleep(owner.pid());
        owner.kill(Signal::SIGTERM);
        assert_eq!(owner.wait().code(), Some(0), "polls: {polls}");
    }
}

/// The worker sleeps in `ppoll` and is woken by a signal; the other side sleeps on the futex.
fn no_wake_up_is_lost_in_rounds_through_ppoll() {
    const ROUNDS: u64 = 5000;
    let slots = shared_slots();
    let cluster = member(&slots, nix::unistd::getpid());
    let (quiet, _other) = UnixDatagram::pair().unwrap();
    let (key, mut owner) = worker(&slots, |worker| {
        let slots = worker.attachment.slots();
        let (asked, answered) = (cell(slots, 0), cell(slots, 1));
        while answered.load(Ordering::Relaxed) < ROUNDS {
            let (seen, done) = (asked.load(Ordering::Relaxed), answered.load(Ordering::Relaxed));
            if seen > done {
                answered.store(seen, Ordering::Relaxed);
                let _ = Latch::new(cell(slots, 2)).set();
                continue;
            }
            let ready = wait(worker, &mut [SocketInterest::readable(quiet.as_fd())]);
            assert!(!ready.contains(WaitEvents::TIMEOUT), "after {done}");
        }
    });
    let answer = Latch::new(cell(&slots, 2));
    for round in 1..=ROUNDS {
        cell(&slots, 0).store(round, Ordering::Relaxed);
        cluster.set_latch(handle(key)).unwrap();
        loop {
            let seen = answer.reset();
            if cell(&slots, 1).load(Ordering::Relaxed) == round {
                break;
            }
            let woken = answer.wait(seen, &[], deadline()).unwrap();
            assert_ne!(woken, Woken::TimedOut, "round {round}");
        }
    }
    assert_eq!(owner.wait().code(), Some(0));
}

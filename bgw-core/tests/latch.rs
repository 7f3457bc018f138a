//! The promise: a latch that any process sets ends the wait of its owner, whether it was set before the
//! wait, during it, from a signal handler, or between any two steps of it; and whoever dies, the others
//! go on.
//!
//! Would catch: a private futex, an announcement that comes too late or stays for ever, a wake-up that
//! goes to a number instead of a process, a set that is lost between the reset and the look. What
//! thousands of rounds do not meet, the loom models do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bgw_core::internals::{
    Pending, WorkerRecord, WorkerSlots, flag, process, signals, wait_for_events,
};
use bgw_core::{
    Attachment, BackgroundWorker, Latch, SocketInterest, WaitEvents, Wake, WorkerHandle,
    WorkerProcess,
};
use bytemuck::Zeroable;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use process_test::{Child, Pid, fork_child, tests, wait_until};
use shmem_slots::futex::Woken;
use shmem_slots::{Key, WritableCells};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use support::{LIMIT, deadline, member, shared_slots, wait_until_asleep};

/// The bits of a latch's low half, as its head comment tells them.
const SLEEPING: u64 = 2;
const POLLING: u64 = 4;

fn main() -> std::process::ExitCode {
    process_test::main(tests![
        a_latch_set_by_a_process_that_is_gone_ends_the_wait_at_once,
        a_set_wakes_an_owner_that_sleeps_on_the_futex,
        a_set_and_a_poll_wake_up_wake_an_owner_that_sleeps_in_ppoll,
        a_socket_and_a_latch_are_told_apart,
        a_signal_handler_ends_the_sleep_of_its_own_process,
        a_signal_handler_sets_the_latch_of_another_process,
        a_killed_owner_leaves_nothing_that_its_successor_or_a_setter_minds,
        no_wake_up_is_lost_in_20000_rounds_on_the_futex,
        no_wake_up_is_lost_in_rounds_through_ppoll,
        no_set_is_lost_between_the_reset_and_the_look,
    ])
}

/// A cell of the cluster that no code under test uses: a counter, or a latch, of these tests.
fn cell(slots: &WorkerSlots, number: u32) -> &AtomicU64 {
    slots.writable_cells().unwrap().shared_cell(4 + number).unwrap()
}

/// The cells of the slots, to store into.
fn cells_of(slots: &WorkerSlots) -> WritableCells<'_> {
    slots.writable_cells().unwrap()
}

fn me() -> u32 {
    std::process::id()
}

/// Sleeps until the latch is set; a test that waits for longer than it may has lost a wake-up.
fn sleep_on(latch: &Latch<'_>) {
    while !latch.is_set() {
        assert_ne!(latch.wait(&[], deadline()).unwrap(), Woken::TimedOut, "a lost wake-up");
    }
}

fn wait_for_bit(cell: &AtomicU64, bit: u64) {
    wait_until("the owner has said that it sleeps", LIMIT, || {
        cell.load(Ordering::Acquire) & bit != 0
    });
}

/// Fails when a set is news for sleepers only.
fn a_latch_set_by_a_process_that_is_gone_ends_the_wait_at_once() {
    let slots = shared_slots();
    let latch = Latch::new(cell(&slots, 0));
    latch.adopt(me());
    let mut setter = fork_child(|| {
        assert_eq!(Latch::new(cell(&slots, 0)).set(), Wake::Done);
        assert_eq!(Latch::new(cell(&slots, 0)).set(), Wake::Done, "twice is once");
    });
    assert_eq!(setter.wait().code(), Some(0));
    assert_eq!(latch.wait(&[], None).unwrap(), Woken::Changed);
    assert!(latch.is_set(), "until it is reset");
    latch.reset();
    assert_eq!(cell(&slots, 0).load(Ordering::Acquire), u64::from(me()) << 32);
}

/// Fails with a private futex, and when the setter does not see that the owner sleeps.
fn a_set_wakes_an_owner_that_sleeps_on_the_futex() {
    let slots = shared_slots();
    let cell = cell(&slots, 0);
    let mut owner = fork_child(|| {
        let latch = Latch::new(cell);
        latch.adopt(me());
        for _ in 0..20 {
            sleep_on(&latch);
            latch.reset();
        }
    });
    for _ in 0..20 {
        wait_for_bit(cell, SLEEPING);
        wait_until_asleep(owner.pid());
        assert_eq!(Latch::new(cell).set(), Wake::Done);
        // Taken: it is about to sleep again, or has ended.
        wait_until("the owner has reset it", LIMIT, || !Latch::new(cell).is_set());
    }
    assert_eq!(owner.wait().code(), Some(0));
}

/// A slot for a worker that these tests start themselves, as the postmaster would.
fn registered(slots: &WorkerSlots) -> Key {
    let mut claim = slots.claim(me()).unwrap();
    claim.write(&WorkerRecord::zeroed()).unwrap();
    claim.publish(0).unwrap()
}

fn handle(key: Key) -> WorkerHandle {
    WorkerHandle::new(key.index, key.generation, 0)
}

/// Makes this child the worker of `key`: with its handlers and the latch of its slot.
fn become_worker(slots: &Arc<WorkerSlots>, key: Key, postmaster: Pid) -> &'static WorkerProcess {
    let worker = BackgroundWorker::builder("owner").function("none").build().unwrap();
    let worker = process::enter(WorkerProcess {
        worker: Arc::new(worker),
        handle: handle(key),
        restarts: 0,
        attachment: Arc::new(member(slots, postmaster)),
    });
    signals::unblock_all().unwrap();
    worker.unwrap()
}

/// A child that is the worker of a slot, and the slot says so.
fn worker(slots: &Arc<WorkerSlots>, run: impl FnOnce(&'static WorkerProcess)) -> (Key, Child) {
    let key = registered(slots);
    let postmaster = nix::unistd::getpid();
    let child = fork_child(|| run(become_worker(slots, key, postmaster)));
    slots.update(key, child.pid().as_raw().unsigned_abs(), flag::STARTED).unwrap();
    (key, child)
}

/// One wait of a worker, through `ppoll` when there are sockets.
fn wait(worker: &WorkerProcess, sockets: &mut [SocketInterest<'_>]) -> WaitEvents {
    let events = WaitEvents::LATCH_SET | WaitEvents::POSTMASTER_DEATH;
    let interrupts = process::interrupts().count();
    let latch = worker.latch();
    wait_for_events(&worker.attachment, latch.as_ref(), events, sockets, deadline(), interrupts)
        .unwrap()
}

/// Sets the latch of a worker as a backend does: with a signal where a futex does not reach it.
fn set_and_wake(cluster: &Attachment, key: Key) {
    cluster.set_latch(handle(key)).unwrap();
}

fn a_set_and_a_poll_wake_up_wake_an_owner_that_sleeps_in_ppoll() {
    let slots = shared_slots();
    let cluster = member(&slots, nix::unistd::getpid());
    let (quiet, _other) = UnixDatagram::pair().unwrap();
    let (key, mut owner) = worker(&slots, |worker| {
        for _ in 0..20 {
            let ready = wait(worker, &mut [SocketInterest::readable(quiet.as_fd())]);
            assert_eq!(ready & !WaitEvents::INTERRUPTED, WaitEvents::LATCH_SET);
            worker.latch().unwrap().reset();
        }
    });
    let latch = cluster.cells().latch(key.index).unwrap();
    let word = cells_of(&slots).slot_cell(key.index, 0).unwrap();
    for _ in 0..20 {
        wait_for_bit(word, POLLING);
        wait_until_asleep(owner.pid());
        assert!(cluster.set_latch(handle(key)).unwrap());
        wait_until("the owner has reset it", LIMIT, || !latch.is_set());
    }
    assert_eq!(owner.wait().code(), Some(0));
    // The postmaster says that it has ended before it reaps it: no signal goes to a number.
    slots.update(key, 0, flag::STOPPED).unwrap();
    assert!(!cluster.set_latch(handle(key)).unwrap());
    let next = Key { generation: key.generation + 1, ..key };
    assert!(!cluster.set_latch(handle(next)).unwrap());
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
        let ready = wait(worker, &mut sockets);
        assert_eq!(ready & !WaitEvents::INTERRUPTED, WaitEvents::LATCH_SET);
        assert!(sockets.iter().all(|socket| socket.ready().is_empty()));
        // Both at once; then a wait that asks for no latch, though one is set.
        to_one.send(b"x").unwrap();
        let ready = wait(worker, &mut sockets);
        assert!(ready.contains(WaitEvents::LATCH_SET | WaitEvents::SOCKET_READABLE), "{ready:?}");
        let mut writable = [SocketInterest::writable(one.as_fd())];
        let alone = WaitEvents::POSTMASTER_DEATH;
        let seen = process::interrupts().count();
        let ready =
            wait_for_events(&worker.attachment, None, alone, &mut writable, deadline(), seen);
        assert_eq!(ready.unwrap(), WaitEvents::SOCKET_WRITABLE);
    });
    wait_for_bit(cells_of(&slots).slot_cell(key.index, 0).unwrap(), POLLING);
    to_two.send(b"x").unwrap();
    wait_until("it was read", LIMIT, || cell(&slots, 0).load(Ordering::Acquire) == 1);
    wait_for_bit(cells_of(&slots).slot_cell(key.index, 0).unwrap(), POLLING);
    set_and_wake(&cluster, key);
    assert_eq!(owner.wait().code(), Some(0));
}

/// SIGTERM, on both ways to sleep. Fails when a handler that runs before the sleep is forgotten.
fn a_signal_handler_ends_the_sleep_of_its_own_process() {
    let slots = shared_slots();
    let (quiet, _other) = UnixDatagram::pair().unwrap();
    for (polls, bit) in [(false, SLEEPING), (true, POLLING)] {
        let (key, mut owner) = worker(&slots, |worker| {
            let mut sockets = [SocketInterest::readable(quiet.as_fd())];
            let sockets = if polls { &mut sockets[..] } else { &mut [] };
            let ready = wait(worker, sockets);
            assert!(ready.intersects(WaitEvents::LATCH_SET | WaitEvents::INTERRUPTED), "{ready:?}");
            assert!(process::interrupts().end_requested());
            // What the handler left: the latch, and what it was told.
            assert!(worker.latch().unwrap().is_set());
            assert!(process::interrupts().take(Pending::TERMINATE));
            worker.latch().unwrap().reset();
            // Raised by this process itself, between the look and the sleep.
            let seen = process::interrupts().count();
            nix::sys::signal::raise(Signal::SIGTERM).unwrap();
            worker.latch().unwrap().reset();
            let events = WaitEvents::LATCH_SET | WaitEvents::POSTMASTER_DEATH;
            let latch = worker.latch();
            let cluster = &worker.attachment;
            let ready = wait_for_events(cluster, latch.as_ref(), events, sockets, deadline(), seen);
            assert_eq!(ready.unwrap(), WaitEvents::INTERRUPTED);
        });
        wait_for_bit(cells_of(&slots).slot_cell(key.index, 0).unwrap(), bit);
        wait_until_asleep(owner.pid());
        owner.kill(Signal::SIGTERM);
        assert_eq!(owner.wait().code(), Some(0), "polls: {polls}");
    }
}

static HANDLER_SETS: OnceLock<Arc<WorkerSlots>> = OnceLock::new();

extern "C" fn set_from_handler(_: libc::c_int) {
    if let Some(slots) = HANDLER_SETS.get() {
        let _ = Latch::new(cell(slots, 0)).set();
    }
}

/// A process that is interrupted anywhere sets the latch of another one from its handler.
fn a_signal_handler_sets_the_latch_of_another_process() {
    let slots = shared_slots();
    HANDLER_SETS.set(Arc::clone(&slots)).unwrap();
    let action =
        SigAction::new(SigHandler::Handler(set_from_handler), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does what a latch may do there: one atomic operation, one system call.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
    let busy = fork_child(|| {
        loop {
            std::hint::black_box(vec![0u8; 4096]);
        }
    });
    let latch = Latch::new(cell(&slots, 0));
    latch.adopt(me());
    for _ in 0..200 {
        latch.reset();
        busy.kill(Signal::SIGUSR1);
        sleep_on(&latch);
    }
    assert!(process_test::alive(busy.pid()));
}

/// Killed while it sleeps, in both ways: its announcement stays until the next owner comes.
fn a_killed_owner_leaves_nothing_that_its_successor_or_a_setter_minds() {
    let slots = shared_slots();
    let cluster = member(&slots, nix::unistd::getpid());
    let (quiet, _other) = UnixDatagram::pair().unwrap();
    for (polls, bit) in [(false, SLEEPING), (true, POLLING)] {
        let (key, mut owner) = worker(&slots, |worker| {
            let mut sockets = [SocketInterest::readable(quiet.as_fd())];
            wait(worker, if polls { &mut sockets[..] } else { &mut [] });
        });
        let word = cells_of(&slots).slot_cell(key.index, 0).unwrap();
        wait_for_bit(word, bit);
        wait_until_asleep(owner.pid());
        let dead = owner.pid().as_raw().unsigned_abs();
        owner.kill(Signal::SIGKILL);
        owner.wait();
        // As the postmaster does before it reaps.
        slots.update(key, 0, flag::STOPPED).unwrap();
        let latch = Latch::new(word);
        let expected = if polls { Wake::Signal { owner: dead } } else { Wake::Done };
        assert_eq!(latch.set(), expected);
        assert!(!cluster.set_latch(handle(key)).unwrap());
        let mut next = fork_child(|| {
            latch.adopt(me());
            assert!(!latch.is_set(), "the set was for the one before");
            assert_eq!(word.load(Ordering::Acquire), u64::from(me()) << 32);
            sleep_on(&latch);
        });
        wait_until("the next one owns it", LIMIT, || {
            word.load(Ordering::Acquire) >> 32 == next.pid().as_raw() as u64
        });
        assert_eq!(latch.set(), Wake::Done);
        assert_eq!(next.wait().code(), Some(0));
    }
}

/// Two processes wake each other in turn. Fails when one wake-up of 40,000 is lost.
fn no_wake_up_is_lost_in_20000_rounds_on_the_futex() {
    const ROUNDS: u64 = 20_000;
    let slots = shared_slots();
    // The turns taken so far stand in cell 2; the even ones are the first player's.
    let play = |number: u64| {
        let latches = [0, 1].map(|at| Latch::new(cell(&slots, at)));
        let (mine, theirs) = (latches[number as usize], latches[1 - number as usize]);
        let turns = cell(&slots, 2);
        for round in 0..ROUNDS {
            loop {
                mine.reset();
                if turns.load(Ordering::Relaxed) == 2 * round + number {
                    break;
                }
                assert_ne!(mine.wait(&[], deadline()).unwrap(), Woken::TimedOut, "round {round}");
            }
            turns.store(2 * round + number + 1, Ordering::Relaxed);
            let _ = theirs.set();
        }
    };
    let mut other = fork_child(|| play(1));
    play(0);
    assert_eq!(other.wait().code(), Some(0));
    assert_eq!(cell(&slots, 2).load(Ordering::Acquire), 2 * ROUNDS);
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
            worker.latch().unwrap().reset();
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
        set_and_wake(&cluster, key);
        loop {
            answer.reset();
            if cell(&slots, 1).load(Ordering::Relaxed) == round {
                break;
            }
            assert_ne!(answer.wait(&[], deadline()).unwrap(), Woken::TimedOut, "round {round}");
        }
    }
    assert_eq!(owner.wait().code(), Some(0));
}

/// Three setters, one owner: reset, look, wait. The counters are plain stores, so the latch alone
/// makes them visible; an owner that resets after its look, or a set that is a plain load when the
/// latch is set already, sleeps over the last one.
fn no_set_is_lost_between_the_reset_and_the_look() {
    const EACH: u64 = 20_000;
    let slots = shared_slots();
    let latch = Latch::new(cell(&slots, 3));
    latch.adopt(me());
    let set = |number: u32| {
        for count in 1..=EACH {
            cells_of(&slots).slot_cell(number, 7).unwrap().store(count, Ordering::Relaxed);
            let _ = latch.set();
        }
    };
    let mut setters: Vec<Child> = (0..3).map(|number| fork_child(move || set(number))).collect();
    let seen = || {
        (0..3)
            .map(|at| cells_of(&slots).slot_cell(at, 7).unwrap().load(Ordering::Relaxed))
            .sum::<u64>()
    };
    loop {
        latch.reset();
        let total = seen();
        if total == 3 * EACH {
            break;
        }
        assert_ne!(latch.wait(&[], deadline()).unwrap(), Woken::TimedOut, "lost at {total}");
    }
    assert!(setters.iter_mut().all(|child| child.wait().code() == Some(0)));
}

//! The promise: the kernel marks every liveness word when the postmaster ends, however it ends, and
//! wakes whoever waits on one; nothing else marks them: no child of the postmaster, no thread, no
//! waiter that dies. A waiter needs no right to write, and one that comes later sees the mark.
//!
//! Would catch: a list that leads to other addresses or ends early, an entry for one word only, a
//! waiter that is woken in another's stead and tells nobody, a list that a fork hands on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bgw_core::internals::{
    ClusterCells, LAYOUT_TAG, PostmasterCells, WorkerSlots, process, wait_for_events,
};
use bgw_core::{SocketInterest, WaitError, WaitEvents};
use process_test::{Child, Signal, fork_child, tests, wait_until};
use shmem_slots::Access;
use shmem_slots::futex::{self, Woken};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::Ordering;
use support::{LIMIT, deadline, member, shared_cells, wait_until_asleep};

const LIVENESS_WORDS: u32 = 512;
const OWNER_DIED: u32 = libc::FUTEX_OWNER_DIED;
const WAITERS: u32 = libc::FUTEX_WAITERS;

/// Where the tests keep a word of their own: a cell of the cluster that no code under test uses.
const STEP: u32 = 4;

fn main() -> std::process::ExitCode {
    process_test::main(tests![
        the_words_name_their_owner_while_it_lives,
        a_killed_owner_is_told_to_the_waiters_of_all_sessions,
        every_way_to_end_marks_the_words,
        waiters_that_share_a_word_pass_the_news_on,
        a_killed_waiter_takes_the_news_from_nobody,
        a_waiter_on_the_words_of_others_keeps_the_news_from_nobody,
        a_child_or_thread_of_the_owner_marks_nothing_at_its_end,
        a_second_owner_begins_anew,
        a_waiter_needs_no_right_to_write,
        words_that_somebody_spoilt_keep_no_other_from_being_marked,
        workers_in_every_kind_of_wait_are_told,
        a_wait_that_begins_after_the_death_ends_at_once,
    ])
}

fn words(cells: &PostmasterCells) -> Vec<u32> {
    cells.liveness_words().iter().map(|word| word.load(Ordering::Acquire) as u32).collect()
}

fn marked(cells: &PostmasterCells) -> usize {
    words(cells).iter().filter(|&word| word & OWNER_DIED != 0).count()
}

fn all() -> usize {
    LIVENESS_WORDS as usize
}

/// A process that holds the words, as the postmaster does, and then does `run`.
fn owner(cells: &PostmasterCells, run: impl FnOnce()) -> Child {
    step(cells, 0);
    let child = fork_child(move || {
        // Until this process ends.
        std::mem::forget(cells.hold_liveness().unwrap());
        step(cells, 1);
        run();
    });
    wait_for_step(cells, 1);
    child
}

fn step(cells: &PostmasterCells, step: u64) {
    let words = cells.slots().writable_cells().unwrap();
    words.shared_cell(STEP).unwrap().store(step, Ordering::Release);
}

fn wait_for_step(cells: &PostmasterCells, step: u64) {
    let word = cells.slots().shared_cell(STEP).unwrap();
    wait_until(&format!("step {step}"), LIMIT, || word.load() >= step);
}

fn park() {
    loop {
        std::thread::park();
    }
}

/// Sleeps on liveness word `word` until the owner has died; panics when nobody tells.
fn wait_for_death(slots: &WorkerSlots, word: u32) {
    while let Some(watch) = ClusterCells::new(slots).watch_postmaster(word) {
        let woken = futex::wait_any(&[watch], deadline()).unwrap();
        assert_ne!(woken, Woken::TimedOut, "nobody told the waiter on word {word}");
    }
}

fn waiters(cells: &PostmasterCells, words: &[u32]) -> Vec<Child> {
    let waiters: Vec<Child> =
        words.iter().map(|&word| fork_child(move || wait_for_death(cells.slots(), word))).collect();
    waiters.iter().for_each(|waiter| wait_until_asleep(waiter.pid()));
    waiters
}

fn assert_told(mut waiters: Vec<Child>) {
    assert!(waiters.iter_mut().all(|waiter| waiter.wait().code() == Some(0)));
}

fn the_words_name_their_owner_while_it_lives() {
    let cells = shared_cells();
    let owner = owner(&cells, park);
    let expected = owner.pid().as_raw() as u32 | WAITERS;
    assert_eq!(words(&cells), vec![expected; all()]);
    assert!((0..LIVENESS_WORDS).all(|word| cells.cluster().watch_postmaster(word).is_some()));
    drop(owner);
    assert_eq!(words(&cells), vec![OWNER_DIED | WAITERS; all()]);
}

/// Sessions have words of their own, up to 511 of them; the first, the second and the last are
/// told.
fn a_killed_owner_is_told_to_the_waiters_of_all_sessions() {
    let cells = shared_cells();
    let own: Vec<u32> = (0..511).map(ClusterCells::liveness_of_session).collect();
    assert_eq!(own, (1..512).collect::<Vec<u32>>(), "no two share, and none has the workers'");
    assert_eq!(ClusterCells::liveness_of_session(511), own[0], "then they do");
    let owner = owner(&cells, park);
    let waiters = waiters(&cells, &[0, own[0], own[1], own[255], own[510]]);
    owner.kill(Signal::SIGKILL);
    assert_told(waiters);
    assert_eq!(marked(&cells), all());
}

fn every_way_to_end_marks_the_words() {
    let cells = shared_cells();
    let ends: [(&str, fn()); 5] = [
        ("return", || {}),
        ("exit", || std::process::exit(3)),
        ("abort", || std::process::abort()),
        ("panic", || panic!("on purpose")),
        ("signal", || nix::sys::signal::raise(Signal::SIGTERM).unwrap()),
    ];
    for (how, end) in ends {
        let go = &cells;
        let mut owner = owner(&cells, || {
            wait_for_step(go, 2);
            end();
        });
        assert_eq!(marked(&cells), 0, "{how}");
        let waiters = waiters(&cells, &[7]);
        step(&cells, 2);
        assert_told(waiters);
        owner.wait();
        assert_eq!(marked(&cells), all(), "{how}");
    }
}

/// The kernel wakes one of them. Fails when that one keeps it to itself.
fn waiters_that_share_a_word_pass_the_news_on() {
    let cells = shared_cells();
    let owner = owner(&cells, park);
    let shared = ClusterCells::liveness_of_session(5);
    let mut waiters: Vec<Child> = (0..4)
        .map(|_| {
            fork_child(|| {
                wait_for_death(cells.slots(), shared);
                cells.cluster().wake_liveness_waiters();
            })
        })
        .collect();
    waiters.iter().for_each(|waiter| wait_until_asleep(waiter.pid()));
    owner.kill(Signal::SIGKILL);
    assert!(waiters.iter_mut().all(|waiter| waiter.wait().code() == Some(0)));
}

/// Neither before the owner's end, nor with words of their own.
fn a_killed_waiter_takes_the_news_from_nobody() {
    let cells = shared_cells();
    let owner = owner(&cells, park);
    let mut waiters = waiters(&cells, &[1, 2, 3, 4, 5, 6]);
    for waiter in waiters.drain(..3) {
        waiter.kill(Signal::SIGKILL);
    }
    assert_eq!(marked(&cells), 0, "a waiter holds nothing");
    owner.kill(Signal::SIGKILL);
    assert_told(waiters);
}

/// An observer waits on the words of others before they do, and keeps to itself that it was woken.
/// Fails when a process that learns of the death wakes those of its own word only.
fn a_waiter_on_the_words_of_others_keeps_the_news_from_nobody() {
    let cells = shared_cells();
    let owner = owner(&cells, park);
    let words = [0, 5, 300];
    let greedy: Vec<Child> = words
        .iter()
        .map(|&word| {
            fork_child(|| {
                wait_for_death(cells.slots(), word);
                park();
            })
        })
        .collect();
    greedy.iter().for_each(|child| wait_until_asleep(child.pid()));
    let waiters = waiters(&cells, &words);
    // Learns of the death by the pidfd, in `ppoll`.
    let (quiet, _other) = UnixDatagram::pair().unwrap();
    let mut worker = fork_child(|| {
        let cluster = member(cells.slots(), owner.pid());
        let mut sockets = [SocketInterest::readable(quiet.as_fd())];
        let seen = process::interrupts().count();
        let death = WaitEvents::POSTMASTER_DEATH;
        assert_eq!(
            wait_for_events(&cluster, death, &mut sockets, deadline(), seen).unwrap(),
            death
        );
    });
    wait_until_asleep(worker.pid());
    owner.kill(Signal::SIGKILL);
    assert_told(waiters);
    assert_eq!(worker.wait().code(), Some(0));
    greedy.iter().for_each(|child| child.kill(Signal::SIGKILL));
}

/// Workers end all the time. Fails when one of them takes the list over the fork, or when a
/// thread's end counts as that of the process.
fn a_child_or_thread_of_the_owner_marks_nothing_at_its_end() {
    let cells = shared_cells();
    let inside = &cells;
    let owner = owner(&cells, || {
        let mut child = fork_child(|| {});
        assert_eq!(child.wait().code(), Some(0));
        let mut child = fork_child(park);
        child.kill(Signal::SIGKILL);
        assert_eq!(child.wait().signal(), Some(Signal::SIGKILL));
        std::thread::spawn(|| {}).join().unwrap();
        step(inside, 2);
        park();
    });
    let waiters = waiters(&cells, &[0, 1]);
    wait_for_step(&cells, 2);
    assert_eq!(marked(&cells), 0);
    assert!(waiters.iter().all(|waiter| process_test::alive(waiter.pid())));
    owner.kill(Signal::SIGKILL);
    assert_told(waiters);
}

/// Another owner of the same words takes the mark away, and its own death is told as well.
fn a_second_owner_begins_anew() {
    let cells = shared_cells();
    for _ in 0..3 {
        let owner = owner(&cells, park);
        assert_eq!(marked(&cells), 0);
        let waiters = waiters(&cells, &[1, 511]);
        owner.kill(Signal::SIGKILL);
        assert_told(waiters);
        assert_eq!(marked(&cells), all());
    }
}

/// A view maps the region read-only, at another address.
fn a_waiter_needs_no_right_to_write() {
    let cells = shared_cells();
    let file = cells.slots().region().as_fd().try_clone_to_owned().unwrap();
    let owner = owner(&cells, park);
    let waiter = fork_child(move || {
        let own = WorkerSlots::attach(file, LAYOUT_TAG, Access::ReadOnly).unwrap();
        wait_for_death(&own, 9);
        ClusterCells::new(&own).wake_liveness_waiters();
    });
    wait_until_asleep(waiter.pid());
    owner.kill(Signal::SIGKILL);
    assert_told(vec![waiter]);
}

/// The kernel passes over a word that does not name the owner. Fails when it ends its walk there.
fn words_that_somebody_spoilt_keep_no_other_from_being_marked() {
    let cells = shared_cells();
    let owner = owner(&cells, park);
    let spoilt = [0, 1, 100, 511];
    for (number, word) in [(0, 0), (1, u64::MAX), (100, 1), (511, 1 << 40)] {
        cells.liveness_words()[number].store(word, Ordering::Release);
    }
    let waiters = waiters(&cells, &[2, 99, 101, 510]);
    owner.kill(Signal::SIGKILL);
    assert_told(waiters);
    drop(owner);
    for (number, word) in words(&cells).into_iter().enumerate() {
        let mark = word & OWNER_DIED != 0;
        // All bits were set in word 1, the mark too.
        assert!(spoilt.contains(&number) || mark, "word {number}: {word:#x}");
        assert!(!spoilt.contains(&number) || mark == (number == 1), "word {number}: {word:#x}");
    }
}

/// All workers share word 0. On the futex and in `ppoll`; told, or ended with exit code 1.
fn workers_in_every_kind_of_wait_are_told() {
    let cells = shared_cells();
    let owner = owner(&cells, park);
    let (quiet, _other) = UnixDatagram::pair().unwrap();
    let wait = |events: WaitEvents, polls: bool| {
        let cluster = member(cells.slots(), owner.pid());
        let mut sockets = [SocketInterest::readable(quiet.as_fd())];
        let sockets = if polls { &mut sockets[..] } else { &mut [] };
        let seen = process::interrupts().count();
        let ready = wait_for_events(&cluster, events, sockets, deadline(), seen).unwrap();
        assert_eq!(ready, WaitEvents::POSTMASTER_DEATH);
    };
    let mut workers = Vec::new();
    for (events, code) in
        [(WaitEvents::POSTMASTER_DEATH, 0), (WaitEvents::EXIT_ON_POSTMASTER_DEATH, 1)]
    {
        for polls in [false, true, false] {
            workers.push((fork_child(|| wait(events, polls)), code, polls));
        }
    }
    workers.iter().for_each(|(worker, ..)| wait_until_asleep(worker.pid()));
    owner.kill(Signal::SIGKILL);
    for (mut worker, code, polls) in workers {
        assert_eq!(worker.wait().code(), Some(code), "polls: {polls}");
    }
}

fn a_wait_that_begins_after_the_death_ends_at_once() {
    let cells = shared_cells();
    let mut owner = owner(&cells, park);
    let cluster = member(cells.slots(), owner.pid());
    assert!(cluster.postmaster_is_alive() && cluster.watch_postmaster().is_some());
    owner.kill(Signal::SIGKILL);
    owner.wait();
    assert!(!cluster.postmaster_is_alive());
    assert!((0..2 * LIVENESS_WORDS).all(|word| cells.cluster().watch_postmaster(word).is_none()));
    let (quiet, _other) = UnixDatagram::pair().unwrap();
    let death = WaitEvents::POSTMASTER_DEATH;
    for polls in [false, true] {
        let mut sockets = [SocketInterest::readable(quiet.as_fd())];
        let sockets = if polls { &mut sockets[..] } else { &mut [] };
        let seen = process::interrupts().count();
        let ready = wait_for_events(&cluster, death, sockets, None, seen);
        assert_eq!(ready.unwrap(), death);
    }
    // A wait that could not see it is refused: an orphan would sleep for ever.
    let blind = wait_for_events(&cluster, WaitEvents::TIMEOUT, &mut [], deadline(), 0);
    assert!(matches!(blind, Err(WaitError::WithoutPostmasterDeath)));
}

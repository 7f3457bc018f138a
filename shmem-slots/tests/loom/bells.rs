//! Bells: no change of a slot is lost by a process that asked for it. A lost one leaves a sleeper
//! that nobody wakes: a deadlock, which loom reports.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use shmem_slots::bells::{BELLS, Interest};
use shmem_slots::futex::{self, Half, Watch};

struct Shared {
    words: [AtomicU64; 2],
    interest: AtomicU64,
    bell: AtomicU64,
}

fn shared() -> Arc<Shared> {
    let cell = || AtomicU64::new(0);
    Arc::new(Shared { words: [cell(), cell()], interest: cell(), bell: cell() })
}

fn change(shared: &Shared, slot: usize) {
    shared.words[slot].store(1, Ordering::Release);
    let requests = Interest::new(&shared.interest).take();
    requests.ring(std::slice::from_ref(&shared.bell));
}

/// Waits until both words have changed, in the steps of the head of `bells`.
fn wait_for_both(shared: &Shared) {
    let interest = Interest::new(&shared.interest);
    let changed = || shared.words.iter().all(|word| word.load(Ordering::Acquire) == 1);
    let mut asked = None;
    loop {
        let bell = shared.bell.load(Ordering::Acquire);
        if asked != Some(interest.taken()) {
            asked = Some(interest.ask(BELLS));
            if changed() {
                return;
            }
        }
        let seen = Watch { cell: (&shared.bell).into(), half: Half::Low, seen: bell as u32 };
        futex::wait_any(&[seen], None).unwrap();
    }
}

/// Two slots of one interest change one after the other. Fails when a change does not wake or does
/// not raise the bell, when the bell is raised by no release (B4), when the wait looks before it
/// asks, or when it reads the bell after the count.
#[test]
fn who_asks_is_rung_for_every_change() {
    loom::model(|| {
        let shared = shared();
        let waiter = Arc::clone(&shared);
        let thread = thread::spawn(move || wait_for_both(&waiter));
        change(&shared, 0);
        change(&shared, 1);
        thread.join().unwrap();
    });
}

/// The same, while somebody else asks, so that the first change takes bits. Fails when the take is
/// counted before they are taken (B3): the wait has asked then, by its number, and has not.
#[test]
fn who_asks_while_another_is_rung_is_rung_for_the_next_change() {
    loom::model(|| {
        let shared = shared();
        let _ = Interest::new(&shared.interest).ask(1);
        let waiter = Arc::clone(&shared);
        let thread = thread::spawn(move || wait_for_both(&waiter));
        change(&shared, 0);
        change(&shared, 1);
        thread.join().unwrap();
    });
}

/// Two processes share a bell and an interest. Fails without either fence (B1, B2), and when the
/// bits alone say what has changed: the first who asks again hides it from the second.
#[test]
fn who_shares_a_bell_hides_nothing_from_the_other() {
    loom::model(|| {
        let shared = shared();
        shared.words[0].store(1, Ordering::Relaxed);
        let waiter = Arc::clone(&shared);
        let thread = thread::spawn(move || wait_for_both(&waiter));
        let changer = Arc::clone(&shared);
        let other = thread::spawn(move || change(&changer, 1));
        wait_for_both(&shared);
        thread.join().unwrap();
        other.join().unwrap();
    });
}

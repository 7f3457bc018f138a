//! The latch: no set is lost, whenever it comes. A lost one leaves a sleeper that nobody wakes: a
//! deadlock, which loom reports.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use shmem_slots::{Latch, Wake};

struct Shared {
    latch: AtomicU64,
    condition: AtomicU64,
}

fn shared() -> Arc<Shared> {
    Arc::new(Shared { latch: AtomicU64::new(0), condition: AtomicU64::new(0) })
}

/// The owner's loop: reset, look, wait. Fails when `set` checks by a plain load whether the latch
/// is set already, when it does not wake a sleeper, or when the wait does not announce itself.
#[test]
fn an_owner_sees_what_each_setter_did_and_never_sleeps_on_a_set_latch() {
    loom::model(|| {
        let shared = shared();
        let setters: Vec<_> = (0..2)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    shared.condition.fetch_add(1, Ordering::Relaxed);
                    assert_eq!(Latch::new(&shared.latch).set(), Wake::Done);
                })
            })
            .collect();
        let latch = Latch::new(&shared.latch);
        loop {
            let seen = latch.reset();
            if shared.condition.load(Ordering::Relaxed) == 2 {
                break;
            }
            latch.wait(seen, &[], None).unwrap();
        }
        for setter in setters {
            setter.join().unwrap();
        }
    });
}

/// Fails when the announcement of the poll or the set is a plain store.
#[test]
fn the_owner_sees_a_set_before_it_polls_or_the_setter_sees_the_poll() {
    loom::model(|| {
        let shared = shared();
        let setter = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || Latch::new(&shared.latch).set())
        };
        let latch = Latch::new(&shared.latch);
        let unset = latch.begin_poll(latch.seen());
        let wake = setter.join().unwrap();
        assert!(!unset || wake == Wake::Signal);
    });
}

/// Two threads of the owner, each with its own condition, and one setter that sets for both. Fails
/// when one bit stands for both sleepers, and when a wait ends for a latch that is set but not for
/// one that the other thread has reset: the later one sleeps for ever.
#[test]
fn each_thread_of_the_owner_sees_a_set_whoever_resets_it() {
    loom::model(|| {
        let shared = shared();
        let setter = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                shared.condition.store(1, Ordering::Relaxed);
                assert_eq!(Latch::new(&shared.latch).set(), Wake::Done);
            })
        };
        let until_set = |shared: &Shared| {
            let latch = Latch::new(&shared.latch);
            loop {
                let seen = latch.reset();
                if shared.condition.load(Ordering::Relaxed) == 1 {
                    break;
                }
                latch.wait(seen, &[], None).unwrap();
            }
        };
        let other = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || until_set(&shared))
        };
        until_set(&shared);
        other.join().unwrap();
        setter.join().unwrap();
    });
}

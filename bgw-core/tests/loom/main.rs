//! Loom models of the latch: no set is lost, whenever it comes. A lost one is a sleeper that nobody
//! wakes: a deadlock, which loom reports.
//!
//! Run by `cargo xtask loom bgw-core`. The futex is a model, see `shmem-slots/src/loom_futex.rs`.
//! Each model says what makes it fail; each was tried.
#![cfg(loom)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bgw_core::{Latch, Wake};
use loom::sync::Arc;
use loom::thread;
use shmem_slots::primitive::{AtomicU64, Ordering};

struct Shared {
    latch: AtomicU64,
    condition: AtomicU64,
}

fn shared() -> Arc<Shared> {
    Arc::new(Shared { latch: AtomicU64::new(0), condition: AtomicU64::new(0) })
}

/// The right loop: reset, look, wait. Fails when `set` looks by a plain load whether it is set
/// already, when it does not wake a sleeper, or when the wait does not announce itself.
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
            latch.reset();
            if shared.condition.load(Ordering::Relaxed) == 2 {
                break;
            }
            latch.wait(&[], None).unwrap();
        }
        for setter in setters {
            setter.join().unwrap();
        }
    });
}

/// Either the owner sees the set before it polls, or the setter sees that it polls. Fails when the
/// announcement or the set is a store.
#[test]
fn a_set_before_a_poll_is_seen_by_the_owner_or_the_poll_by_the_setter() {
    loom::model(|| {
        let shared = shared();
        let setter = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || Latch::new(&shared.latch).set())
        };
        let unset = Latch::new(&shared.latch).begin_poll();
        let wake = setter.join().unwrap();
        assert!(!unset || wake == Wake::Signal { owner: 0 });
    });
}

//! What it costs to ask about a slot: alone, and while another process claims and frees others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use criterion::{Criterion, criterion_group, criterion_main};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};
use shmem_slots::{Options, PinnedSlot, Slots, State};
use std::sync::atomic::{AtomicU64, Ordering};

fn look(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("look at a slot");
    let options = Options {
        capacity: 64,
        tag: 0,
        shared_cells: 0,
        annex_cells: 0,
        spare_sets: 0,
        first_generation: 0,
    };
    let slots: Slots<[u64; 64], [u64; 8]> = Slots::create(&options).unwrap();
    let key = slots.claim(1).unwrap().publish(0).unwrap();
    let published = || slots.look(key).is_some_and(|word| word.state() == State::Published);
    let word = AtomicU64::new(1);
    group.bench_function("limit: one acquire load", |bench| {
        bench.iter(|| std::hint::black_box(&word).load(Ordering::Acquire));
    });
    group.bench_function("alone", |bench| bench.iter(|| assert!(published())));
    let slots = std::sync::Arc::new(slots);
    let pinned = PinnedSlot::new(std::sync::Arc::clone(&slots), key.index).unwrap();
    let published = || pinned.snapshot().generation() == key.generation;
    group.bench_function("alone, pinned", |bench| bench.iter(|| assert!(published())));
    // SAFETY: the child works on the shared slots alone until it is killed.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => loop {
            let key = slots.claim(2).unwrap().publish(0).unwrap();
            slots.free(key).unwrap();
        },
        ForkResult::Parent { child } => {
            group.bench_function("while another process claims and frees without pause", |bench| {
                bench.iter(|| assert!(published()));
            });
            kill(child, Signal::SIGKILL).unwrap();
            waitpid(child, None).unwrap();
        }
    }
    group.finish();
}

criterion_group!(benches, look);
criterion_main!(benches);

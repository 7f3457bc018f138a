//! What a slot's life costs, claim to free, and that it does not grow with the number of slots;
//! beside a bare compare-and-swap, the least that any claim needs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use shmem_slots::{Options, Slots};
use std::sync::atomic::{AtomicU64, Ordering};

fn slots(capacity: u32) -> Slots<[u64; 64], [u64; 8]> {
    let options = Options {
        capacity,
        tag: 0,
        shared_cells: 0,
        annex_cells: 0,
        spare_sets: 0,
        first_generation: 0,
    };
    Slots::create(&options).unwrap()
}

fn life(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("claim, publish, free");
    let word = AtomicU64::new(0);
    group.bench_function("limit: one compare-and-swap there and back", |bench| {
        bench.iter(|| {
            word.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire).unwrap();
            word.compare_exchange(1, 0, Ordering::AcqRel, Ordering::Acquire).unwrap();
        });
    });
    for capacity in [8, 64, 512, 4096, 65_536] {
        let slots = slots(capacity);
        group.bench_function(BenchmarkId::new("slots", capacity), |bench| {
            bench.iter(|| {
                let key = slots.claim(1).unwrap().publish(0).unwrap();
                slots.free(key).unwrap();
            });
        });
        assert_eq!(slots.in_use(), 0);
    }
    group.finish();
}

fn drain(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("find the one slot that changed");
    for capacity in [8, 512, 65_536] {
        let slots = slots(capacity);
        let keys: Vec<_> =
            (0..capacity).map(|_| slots.claim(1).unwrap().publish(0).unwrap()).collect();
        let last = *keys.last().unwrap();
        slots.drain_changes(|_, _| {});
        group.bench_function(BenchmarkId::new("slots", capacity), |bench| {
            bench.iter(|| {
                slots.set_flags(last, 1).unwrap();
                let mut found = 0;
                slots.drain_changes(|index, _| found = index + 1);
                assert_eq!(found, capacity);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, life, drain);
criterion_main!(benches);

//! What a latch costs when its owner is awake.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use criterion::{Criterion, criterion_group, criterion_main};
use shmem_slots::{Latch, Wake};
use std::sync::atomic::AtomicU64;

fn latch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("latch");
    let cell = AtomicU64::new(0);
    let latch = Latch::new(&cell);
    group.bench_function("set and reset", |bench| {
        bench.iter(|| {
            assert_eq!(latch.set(), Wake::Done);
            latch.reset();
        });
    });
    assert_eq!(latch.set(), Wake::Done);
    group.bench_function("set one that is set", |bench| {
        bench.iter(|| assert_eq!(latch.set(), Wake::Done));
    });
    group.finish();
}

criterion_group!(benches, latch);
criterion_main!(benches);

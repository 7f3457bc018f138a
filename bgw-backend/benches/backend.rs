//! What a backend's calls cost by themselves, without a postmaster at work: asking, registering
//! (claim, copy, publish, ring), and looking at all workers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../tests/support/mod.rs"]
mod support;

use bgw_backend::WorkerStatus;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use std::sync::atomic::{AtomicU64, Ordering};
use support::{cluster, key, report, worker};

fn status(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("status");
    let (straw, backend) = cluster(64);
    let handle = backend.register(&worker()).unwrap();
    straw.start(&handle, 42);
    let word = AtomicU64::new(1);
    group.bench_function("limit: one acquire load", |bench| {
        bench.iter(|| std::hint::black_box(&word).load(Ordering::Acquire));
    });
    group.bench_function("live handle", |bench| {
        bench.iter(|| assert!(matches!(handle.status(), WorkerStatus::Started(_))));
    });
    straw.end(&handle, &report(0));
    group.bench_function("stopped, with its report", |bench| {
        bench.iter(|| assert!(matches!(handle.status(), WorkerStatus::Stopped(Some(_)))));
    });
    group.finish();
}

fn register(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("register, and free the slot");
    for capacity in [8, 512, 65_536] {
        let (straw, backend) = cluster(capacity);
        let worker = worker();
        group.bench_function(BenchmarkId::from_parameter(capacity), |bench| {
            bench.iter(|| {
                let handle = backend.register(&worker).unwrap();
                straw.slots.free(key(&handle)).unwrap();
            });
        });
        assert_eq!(straw.slots.in_use(), 0);
    }
    group.finish();
}

criterion_group!(benches, status, register);
criterion_main!(benches);

//! What a record costs: a description on its way into a slot and out again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bgw_core::internals::WorkerRecord;
use bgw_core::{BackgroundWorker, Pid};
use criterion::{Criterion, criterion_group, criterion_main};

fn record(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record");
    let worker = BackgroundWorker::builder("worker").function("main").extra(&[7; 128]).build();
    let worker = worker.unwrap();
    group.bench_function("encode", |bench| {
        bench.iter(|| WorkerRecord::encode(std::hint::black_box(&worker), Pid::this()));
    });
    let record = WorkerRecord::encode(&worker, Pid::this());
    group.bench_function("decode and check", |bench| {
        bench.iter(|| assert!(std::hint::black_box(&record).decode().is_ok()));
    });
    group.finish();
}

criterion_group!(benches, record);
criterion_main!(benches);

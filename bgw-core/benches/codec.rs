//! What it costs to turn messages and descriptions into bytes and back, beside a copy of as many
//! bytes: the least that any way over memory can cost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bgw_core::internals::{
    LAYOUT_TAG, PostmasterCells, Reply, Request, SlotClasses, WorkerRecord, add_to_counter,
};
use bgw_core::{BackgroundWorker, Metric, MetricKind, Pid, Refusal};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

/// The limit: `len` bytes from one place to another.
fn copy(criterion: &mut Criterion, group: &str, len: usize) {
    let (from, mut to) = (vec![7u8; len], vec![0u8; len]);
    let mut group = criterion.benchmark_group(group);
    group.throughput(Throughput::Bytes(len as u64));
    group.bench_function(BenchmarkId::new("memcpy", len), |bench| {
        bench.iter(|| black_box(&mut to[..]).copy_from_slice(black_box(&from)));
    });
    group.finish();
}

/// The messages of an attach: the shortest, the one that names a session, the longest text, and a
/// packet full of names.
fn messages(criterion: &mut Criterion) {
    let (postmaster, owner) = (Pid::this(), Pid::this());
    let replies = [
        Reply::Done,
        Reply::Welcome { protocol: 1, postmaster, owner, liveness: 3, read_only: false },
        Reply::Refused { reason: Refusal::NotAllowed, detail: "x".repeat(200) },
        Reply::Functions(vec!["a_function_of_the_usual_kind".to_owned(); 17]),
    ];
    let hello = Request::Hello { protocol: 1, layout_tag: LAYOUT_TAG, read_only: false };
    let mut group = criterion.benchmark_group("message");
    let bytes = hello.encode();
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function(BenchmarkId::new("encode request", bytes.len()), |bench| {
        bench.iter(|| black_box(&hello).encode());
    });
    group.bench_function(BenchmarkId::new("decode request", bytes.len()), |bench| {
        bench.iter(|| Request::decode(black_box(&bytes)).unwrap());
    });
    for reply in &replies {
        let bytes = reply.encode();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::new("encode reply", bytes.len()), |bench| {
            bench.iter(|| black_box(reply).encode());
        });
        group.bench_function(BenchmarkId::new("decode reply", bytes.len()), |bench| {
            bench.iter(|| Reply::decode(black_box(&bytes)).unwrap());
        });
    }
    group.finish();
    for len in std::iter::once(&bytes).chain(&replies.map(|reply| reply.encode())).map(Vec::len) {
        copy(criterion, "message", len);
    }
}

/// A description on its whole way: encoded, written into a slot, read out of it, decoded and
/// checked. One without long text, and one whose command line fills its field.
fn records(criterion: &mut Criterion) {
    let builder = || BackgroundWorker::builder("worker 1 of 8").worker_type("worker");
    let workers = [
        ("function", builder().function("count").main_arg(u64::MAX).extra(&[7; 128])),
        ("command", builder().command("/usr/bin/program", vec!["an argument"; 80])),
    ];
    let cells = PostmasterCells::create(8, 0).unwrap();
    let slots = cells.slots();
    let len = size_of::<WorkerRecord>();
    let mut group = criterion.benchmark_group("record");
    group.throughput(Throughput::Bytes(len as u64));
    for (kind, builder) in workers {
        let worker = builder.build().unwrap();
        let record = WorkerRecord::encode(&worker, Pid::this());
        group.bench_function(BenchmarkId::new("encode", kind), |bench| {
            bench.iter(|| WorkerRecord::encode(black_box(&worker), Pid::this()));
        });
        group.bench_function(BenchmarkId::new("decode and check", kind), |bench| {
            bench.iter(|| black_box(&record).decode().unwrap());
        });
        let mut claim = slots.claim(1).unwrap();
        group.bench_function(BenchmarkId::new("write into a slot", kind), |bench| {
            bench.iter(|| claim.write(black_box(&record)).unwrap());
        });
        claim.write(&record).unwrap();
        let key = claim.publish(0).unwrap();
        group.bench_function(BenchmarkId::new("read from a slot", kind), |bench| {
            bench.iter(|| slots.read(black_box(key)).unwrap());
        });
        slots.free(key).unwrap();
    }
    group.finish();
    copy(criterion, "record", len);
}

/// One addition to a counter, as a worker makes it, beside a bare relaxed addition.
fn metrics(criterion: &mut Criterion) {
    let metrics = vec![Metric::new("done", "", MetricKind::Counter)];
    let cells =
        PostmasterCells::create_for(SlotClasses::new(8, 0, Vec::new()), metrics, 0).unwrap();
    let cell = cells.cluster().metric_plan().value(3, 0, 0).unwrap();
    let mut group = criterion.benchmark_group("metric");
    group.bench_function("add to a counter", |bench| {
        bench.iter(|| {
            let cells = black_box(cells.slots()).writable_cells().unwrap();
            add_to_counter(cells.shared_cell(black_box(cell)).unwrap(), 1);
        });
    });
    let bare = AtomicU64::new(0);
    group.bench_function("bare addition", |bench| {
        bench.iter(|| black_box(&bare).fetch_add(1, Ordering::Relaxed));
    });
    group.finish();
}

criterion_group!(benches, messages, records, metrics);
criterion_main!(benches);

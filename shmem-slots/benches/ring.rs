//! What it costs to append a value of 120 bytes to a ring and to read it, beside the bare copy of
//! as many bytes, and what it costs to wake nobody, beside a write to an eventfd; all in the same
//! run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use criterion::{Criterion, criterion_group, criterion_main};
use nix::sys::eventfd::EventFd;
use shmem_slots::ring::{Ring, RingOptions};
use std::hint::black_box;
use std::os::fd::AsFd;

/// With its number, two cache lines.
type Value = [u64; 15];

fn append_and_read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a value of 120 bytes");
    for entries in [64, 1024, 65_536] {
        let ring: Ring<Value> = Ring::create(&RingOptions { entries, tag: 0 }).unwrap();
        let file = ring.region().as_fd().try_clone_to_owned().unwrap();
        let reader: Ring<Value> = Ring::attach(file, 0).unwrap();
        for value in 0..u64::from(entries) {
            ring.append(&[value; 15]).unwrap();
        }
        let mut value = 0;
        group.bench_function(format!("append, {entries} entries"), |bench| {
            bench.iter(|| {
                value += 1;
                ring.append(black_box(&[value; 15])).unwrap()
            });
        });
        let mut cursor = reader.newest();
        group.bench_function(format!("append and read, {entries} entries"), |bench| {
            bench.iter(|| {
                value += 1;
                ring.append(black_box(&[value; 15])).unwrap();
                let (_, read) = reader.next(&mut cursor).unwrap().unwrap();
                assert_eq!(read[14], value);
            });
        });
        assert_eq!(cursor.missed(), 0);
    }
    let mut buffer = vec![[0; 15]; 1024];
    let mut value = 0_u64;
    group.bench_function("bare copy, 1024 entries", |bench| {
        bench.iter(|| {
            value += 1;
            buffer[value as usize % 1024] = black_box([value; 15]);
            black_box(&mut buffer);
        });
    });
    group.finish();
}

fn wake_nobody(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wake nobody");
    let ring: Ring<Value> = Ring::create(&RingOptions { entries: 64, tag: 0 }).unwrap();
    group.bench_function("ring", |bench| bench.iter(|| ring.wake()));
    let eventfd = EventFd::new().unwrap();
    group.bench_function("eventfd", |bench| bench.iter(|| eventfd.write(1).unwrap()));
    group.finish();
}

criterion_group!(benches, append_and_read, wake_nobody);
criterion_main!(benches);

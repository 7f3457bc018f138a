//! What a decision costs, and that it does not grow with the number of registered workers: the
//! whole life of one worker (registered, started, ended) through the rules, beside none to 65,536
//! others.
//!
//! The rules are private. They are compiled into this program from their sources.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code, unused_imports, unreachable_pub, reason = "the benchmark uses a part of them")]
#[path = "../src/rules/mod.rs"]
mod rules;

/// The groups that the rules know.
#[allow(dead_code, unreachable_pub, reason = "the rules use a part of it")]
#[path = "../src/named_group.rs"]
mod named_group;

/// Their maps.
#[allow(dead_code, unused_imports, unreachable_pub, reason = "the rules use a part of it")]
#[path = "../src/quick_map.rs"]
mod quick_map;

/// The table that the registry is made of.
#[allow(dead_code, unused_imports, reason = "the rules use a part of it")]
#[path = "../src/sys"]
mod sys {
    mod anon_map;
    pub(crate) mod private_table;
}

use bgw_core::{BackgroundWorker, ExitCause, Pid};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rules::{Action, Cluster, Event, Exit, Policy, ProcessEnd};
use shmem_slots::Key;
use std::time::{Duration, Instant};

fn clean_end() -> ProcessEnd {
    ProcessEnd {
        pid: Pid::this(),
        cause: ExitCause::Exited(0),
        ran_for: Duration::ZERO,
        user_time: Duration::ZERO,
        system_time: Duration::ZERO,
        max_rss_kib: 0,
        copied_kib: None,
    }
}

fn key(index: u32) -> Key {
    Key { index, generation: 1 }
}

fn start(cluster: &mut Cluster, key: Key, worker: &BackgroundWorker, out: &mut Vec<Action>) {
    let worker = Box::new(worker.clone());
    let event = Event::Registered { key, worker, notify: None, terminate: false, registered_at: 0 };
    let now = Instant::now();
    cluster.step(event, now, out);
    assert_eq!(cluster.next_to_start(), Some(key));
    cluster.step(Event::Forked { key, pid: Pid::this(), random: 0 }, now, out);
}

fn one_life(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one worker's life through the rules, others live");
    let worker = BackgroundWorker::builder("w").function("f").build().unwrap();
    for others in [0, 64, 4096, 65_536] {
        let mut cluster = Cluster::new(Policy::default());
        let mut out = Vec::new();
        for index in 0..others {
            start(&mut cluster, key(index), &worker, &mut out);
        }
        out.clear();
        let end = clean_end();
        group.bench_function(BenchmarkId::from_parameter(others), |bench| {
            bench.iter(|| {
                start(&mut cluster, key(others), &worker, &mut out);
                let exit = Exit { end, dirty: false, group_left: false, random: 0 };
                let event = Event::ChildExited { key: key(others), exit };
                cluster.step(event, Instant::now(), &mut out);
                assert_eq!(out.len(), 5);
                out.clear();
            });
        });
        assert_eq!(cluster.registry().running(), others as usize);
    }
    group.finish();
}

criterion_group!(benches, one_life);
criterion_main!(benches);

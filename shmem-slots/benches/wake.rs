//! What it costs to wake another process through a slot and to be woken back, on one core and from
//! core to core; beside the same round trip over bare futex calls, in the same run.
//!
//! Not shown: what a wake costs when the core of the sleeper has gone into a deep sleep, and what
//! it costs with other load on the machine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use rustix::thread::futex::{Flags, wait, wake};
use shmem_slots::futex::{self, Half, Watch};
use shmem_slots::{Key, Options, Slots};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

type Array = Slots<[u64; 4], [u64; 1]>;

fn pin(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core).unwrap();
    sched_setaffinity(Pid::from_raw(0), &cores).unwrap();
}

fn other_process(core: usize, run: impl Fn()) -> Pid {
    // SAFETY: criterion's process has one thread here, and the child works on shared cells alone.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => loop {
            pin(core);
            run();
        },
        ForkResult::Parent { child } => child,
    }
}

fn end(child: Pid) {
    kill(child, Signal::SIGKILL).unwrap();
    waitpid(child, None).unwrap();
}

/// Waits until the pid in the slot is `wanted`, as everybody waits on a slot.
fn wait_for(slots: &Array, key: Key, wanted: u32) {
    loop {
        let seen = slots.look(key).unwrap();
        if seen.pid() == wanted {
            return;
        }
        slots.wait(key.index, seen, &[], None).unwrap();
    }
}

fn through_a_slot(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, core: usize) {
    let options = Options {
        capacity: 64,
        tag: 0,
        shared_cells: 0,
        annex_cells: 0,
        spare_sets: 0,
        first_generation: 0,
    };
    let slots: Array = Slots::create(&options).unwrap();
    let there = slots.claim(1).unwrap().publish(0).unwrap();
    let back = slots.claim(1).unwrap().publish(0).unwrap();
    let child = other_process(core, || {
        wait_for(&slots, there, 1);
        slots.update(there, 0, 0).unwrap();
        slots.update(back, 1, 0).unwrap();
    });
    let mut trips = 0_u64;
    group.bench_function(format!("{name}: update a slot, be answered"), |bench| {
        bench.iter(|| {
            slots.update(there, 1, 0).unwrap();
            wait_for(&slots, back, 1);
            slots.update(back, 0, 0).unwrap();
            trips += 1;
        });
    });
    assert!(trips > 0);
    end(child);
}

fn half(cell: &AtomicU64) -> &AtomicU32 {
    // SAFETY: the lower half of a cell that outlives the reference; only touched atomically.
    unsafe { &*cell.as_ptr().cast::<AtomicU32>() }
}

fn bare(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, core: usize) {
    let options = Options {
        capacity: 1,
        tag: 0,
        shared_cells: 16,
        annex_cells: 0,
        spare_sets: 0,
        first_generation: 0,
    };
    let slots: Array = Slots::create(&options).unwrap();
    // Two cells in two cache lines.
    let cells = slots.writable_cells().unwrap();
    let (there, back) = (half(cells.shared_cell(0).unwrap()), half(cells.shared_cell(8).unwrap()));
    let wait_for = |word: &AtomicU32| {
        while word.load(Ordering::Acquire) == 0 {
            let _ = wait(word, Flags::empty(), 0, None);
        }
        word.store(0, Ordering::Release);
    };
    let tell = |word: &AtomicU32| {
        word.store(1, Ordering::Release);
        wake(word, Flags::empty(), 1).unwrap();
    };
    let child = other_process(core, || {
        wait_for(there);
        tell(back);
    });
    group.bench_function(format!("{name}: limit, bare futex there and back"), |bench| {
        bench.iter(|| {
            tell(there);
            wait_for(back);
        });
    });
    end(child);
}

fn round_trip(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wake and be woken");
    pin(0);
    let cores = std::fs::read_to_string("/proc/cpuinfo").unwrap().matches("processor\t").count();
    for (name, core) in [("one core", 0), ("two cores", 1)].into_iter().take(cores.min(2)) {
        bare(&mut group, name, core);
        through_a_slot(&mut group, name, core);
    }
    group.finish();
}

fn nobody_waits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wake where nobody waits");
    let options = Options {
        capacity: 64,
        tag: 0,
        shared_cells: 0,
        annex_cells: 0,
        spare_sets: 0,
        first_generation: 0,
    };
    let slots: Array = Slots::create(&options).unwrap();
    let key = slots.claim(1).unwrap().publish(0).unwrap();
    let cell = AtomicU64::new(0);
    group.bench_function("limit: one futex wake", |bench| bench.iter(|| futex::wake_all(&cell)));
    group.bench_function("update a slot", |bench| {
        bench.iter(|| slots.update(key, 1, 0).unwrap());
    });
    let word = slots.look(key).unwrap();
    let watch = Watch { cell: (&cell).into(), half: Half::Low, seen: 1 };
    group.bench_function("a wait that finds its word changed", |bench| {
        bench.iter(|| futex::wait_any(&[watch], None).unwrap());
    });
    assert_eq!(slots.look(key), Some(word));
    group.finish();
}

criterion_group!(benches, round_trip, nobody_waits);
criterion_main!(benches);

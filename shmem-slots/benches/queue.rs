//! What it costs to pass messages of 8 bytes to 1 MiB from one process to another through a queue,
//! beside a pipe and a Unix socket pair in the same run: one way, as many as go through, and round
//! trips, one at a time. The processes run on two cores, if there are two.
//!
//! Pipe and socket carry bare bytes of a length that both ends know; the queue carries the lengths,
//! too. Queue and pipe have 64 KiB of buffer, the socket what the system gives it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, pipe};
use shmem_slots::queue::{Queue, QueueOptions, Receiver, Sender};
use std::fs::File;
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const SIZES: [(&str, usize); 4] = [("8 B", 8), ("64 B", 64), ("4 KiB", 4096), ("1 MiB", 1 << 20)];

fn pin(core: usize) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut set = CpuSet::new();
    set.set(core.min(cores - 1)).unwrap();
    // Fails where the machine has no such core: the process then runs anywhere.
    let _ = sched_setaffinity(Pid::from_raw(0), &set);
}

/// One direction between two processes.
trait Way {
    fn send(&mut self, message: &[u8]);
    /// Receives a message of the length that `into` has.
    fn receive(&mut self, into: &mut Vec<u8>);
}

struct Queued {
    sender: Option<Sender<'static>>,
    receiver: Option<Receiver<'static>>,
}

impl Way for Queued {
    fn send(&mut self, message: &[u8]) {
        self.sender.as_mut().unwrap().send(message, &[], None).unwrap();
    }

    fn receive(&mut self, into: &mut Vec<u8>) {
        self.receiver.as_mut().unwrap().receive(into, &[], None).unwrap();
    }
}

struct Piped {
    writer: File,
    reader: File,
}

impl Way for Piped {
    fn send(&mut self, message: &[u8]) {
        self.writer.write_all(message).unwrap();
    }

    fn receive(&mut self, into: &mut Vec<u8>) {
        self.reader.read_exact(into).unwrap();
    }
}

impl Way for UnixStream {
    fn send(&mut self, message: &[u8]) {
        self.write_all(message).unwrap();
    }

    fn receive(&mut self, into: &mut Vec<u8>) {
        self.read_exact(into).unwrap();
    }
}

/// The two ends of a round trip of one kind.
fn ways(kind: &str) -> (Box<dyn Way>, Box<dyn Way>) {
    match kind {
        "queue" => {
            let options = QueueOptions { buffer: 1 << 16, max_message: 1 << 20, tag: 0 };
            let queue =
                || -> &'static Queue { Box::leak(Box::new(Queue::create(&options).unwrap())) };
            let (there, back) = (queue(), queue());
            let end = |to: &'static Queue, from: &'static Queue| {
                let (sender, receiver) = (to.sender(1).unwrap(), from.receiver(1).unwrap());
                Box::new(Queued { sender: Some(sender), receiver: Some(receiver) })
            };
            (end(there, back), end(back, there))
        }
        "pipe" => {
            let (there, back) = (pipe().unwrap(), pipe().unwrap());
            (
                Box::new(Piped { writer: there.1.into(), reader: back.0.into() }),
                Box::new(Piped { writer: back.1.into(), reader: there.0.into() }),
            )
        }
        _ => {
            let (ours, theirs) = UnixStream::pair().unwrap();
            (Box::new(ours), Box::new(theirs))
        }
    }
}

/// Runs `far` in a child until it is killed; `near` with the other end here.
fn between(kind: &str, far: impl Fn(&mut dyn Way), near: impl FnOnce(&mut dyn Way)) {
    let (mut ours, mut theirs) = ways(kind);
    // SAFETY: criterion's process has one thread here, and the child works on its own end alone.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            pin(1);
            loop {
                far(&mut *theirs);
            }
        }
        ForkResult::Parent { child } => {
            near(&mut *ours);
            kill(child, Signal::SIGKILL).unwrap();
            waitpid(child, None).unwrap();
        }
    }
}

fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    pin(0);
    group
}

fn one_way(criterion: &mut Criterion) {
    let mut group = group(criterion, "messages one way");
    for (name, size) in SIZES {
        group.throughput(Throughput::Bytes(size as u64));
        for kind in ["queue", "pipe", "socket pair"] {
            // Counts to a full batch, and says so.
            let batch = (1 << 22) / (size + 100);
            let far = |way: &mut dyn Way| {
                let mut message = vec![0; size];
                for _ in 0..batch {
                    way.receive(&mut message);
                }
                way.send(&message);
            };
            between(kind, far, |way| {
                let (message, mut answer) = (vec![7; size], vec![0; size]);
                group.bench_function(format!("{name}: {kind}"), |bench| {
                    bench.iter_custom(|iterations| {
                        let batches = iterations.div_ceil(batch as u64);
                        let begin = Instant::now();
                        for _ in 0..batches {
                            for _ in 0..batch {
                                way.send(black_box(&message));
                            }
                            way.receive(&mut answer);
                        }
                        // Scales the time of all messages passed to the number asked for.
                        let passed = (batches * batch as u64) as f64;
                        begin.elapsed().mul_f64(iterations as f64 / passed)
                    });
                });
            });
        }
    }
    group.finish();
}

fn there_and_back(criterion: &mut Criterion) {
    let mut group = group(criterion, "a message there and back");
    for (name, size) in SIZES {
        for kind in ["queue", "pipe", "socket pair"] {
            let far = |way: &mut dyn Way| {
                let mut message = vec![0; size];
                way.receive(&mut message);
                way.send(&message);
            };
            between(kind, far, |way| {
                let (message, mut answer) = (vec![7; size], vec![0; size]);
                group.bench_function(format!("{name}: {kind}"), |bench| {
                    bench.iter(|| {
                        way.send(black_box(&message));
                        way.receive(&mut answer);
                    });
                });
                assert_eq!(answer, message);
            });
        }
    }
    group.finish();
}

criterion_group!(benches, one_way, there_and_back);
criterion_main!(benches);

//! One worker at a time: from registration to its first line, from registration to the report of
//! its start, from terminate to the report of its end. Forked, in a warm spare that the postmaster
//! wakes, and in one that who registers wakes itself, in three placements.

use crate::arguments::Arguments;
use crate::clock::{Placement, cell, now, pin};
use crate::cluster::{Cluster, Result, STAMP, sleeping, started, stop};
use crate::limits::Bare;
use crate::report::{Figure, Goal, Report, Row, Unit, nanos};
use bgw_backend::BackgroundWorker;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const WAKE_UP: &str = "futex wake-up";

/// The times of one start and stop.
#[derive(Debug, Default)]
struct Samples {
    first: Vec<f64>,
    started: Vec<f64>,
    stopped: Vec<f64>,
    fork: Vec<f64>,
    wake: Vec<f64>,
}

/// How a worker is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Forked,
    /// By the postmaster, in a process that was forked ahead.
    Spare,
    /// By who registers it, in such a process.
    Direct,
}

impl Start {
    const ALL: [Self; 3] = [Self::Forked, Self::Spare, Self::Direct];

    const fn name(self) -> &'static str {
        match self {
            Self::Forked => "forked",
            Self::Spare => "warm spare",
            Self::Direct => "warm spare woken directly",
        }
    }

    fn launch(self) -> Result<Cluster> {
        match self {
            Self::Forked => Cluster::launch(64, 0),
            Self::Spare => Cluster::launch(64, 4),
            Self::Direct => Cluster::launch_direct(64, 4),
        }
    }
}

/// The rows of one kind of start in one placement.
pub(crate) fn names(start: Start, placement: Placement) -> [String; 3] {
    let way = start.name();
    ["register → first line", "register → wait_for_startup", "terminate → wait_for_shutdown"]
        .map(|what| format!("{what}, {way}, {}", placement.name()))
}

pub(crate) fn measure(arguments: &Arguments, report: &mut Report) -> Result<()> {
    for start in Start::ALL {
        for placement in Placement::ALL {
            let names = names(start, placement);
            if !names.iter().any(|name| report.wants(name)) {
                continue;
            }
            let samples = samples(arguments, start, placement)?;
            add(report, names, start, samples);
        }
    }
    program(arguments, report)
}

/// A command that exits at once, beside the same program by the C library's `posix_spawn`.
fn program(arguments: &Arguments, report: &mut Report) -> Result<()> {
    const PROGRAM: &str = "/bin/true";
    let name = "register → wait_for_shutdown of a program that ends at once";
    if !report.wants(name) {
        return Ok(());
    }
    let cluster = Cluster::launch(64, 0)?;
    let worker = BackgroundWorker::builder("program").command(PROGRAM, [""; 0]).build()?;
    let (mut ours, mut limit) = (Vec::new(), Vec::new());
    for _ in 0..arguments.samples(400) {
        let begin = Instant::now();
        cluster.register(&worker)?.wait_for_shutdown()?;
        ours.push(nanos(begin.elapsed()));
        pause();
        let begin = Instant::now();
        Command::new(PROGRAM).status()?;
        limit.push(nanos(begin.elapsed()));
        pause();
    }
    cluster.end()?;
    report.add(Row {
        name: name.to_owned(),
        unit: Unit::Nanoseconds,
        ours: Figure::of(ours),
        limit: Some((Figure::of(limit), "posix_spawn + wait")),
        peers: Default::default(),
        goal: Goal::TimesLimit(1.4),
    });
    Ok(())
}

fn add(report: &mut Report, names: [String; 3], start: Start, samples: Samples) {
    let Samples { first, started, stopped, fork, wake } = samples;
    let (fork, wake) = (Figure::of(fork), Figure::of(wake));
    let (limit, goal, startup) = match start {
        Start::Forked => ((fork, "bare fork"), Goal::TimesLimit(1.4), Goal::AtMost(100e3)),
        Start::Spare => ((wake, WAKE_UP), Goal::TimesLimit(3.0), Goal::AtMost(15e3)),
        Start::Direct => ((wake, WAKE_UP), Goal::TimesLimit(2.0), Goal::TimesLimit(2.5)),
    };
    let rows =
        [(first, goal), (started, startup), (stopped, Goal::AtMost(100e3))].into_iter().zip(names);
    for ((samples, goal), name) in rows {
        let ours = Figure::of(samples);
        let (unit, limit) = (Unit::Nanoseconds, Some(limit));
        report.add(Row { name, unit, ours, limit, peers: Default::default(), goal });
    }
}

fn samples(arguments: &Arguments, start: Start, placement: Placement) -> Result<Samples> {
    let _ = cell(0);
    let mut bare = Bare::launch()?;
    let cluster = start.launch()?;
    let (ours, theirs) = placement.cores();
    pin(0, ours)?;
    cluster.pin(theirs)?;
    bare.pin(theirs)?;
    // Use up the spares that were forked before the pinning.
    for _ in 0..8 {
        one(&cluster, &sleeping()?, &mut Samples::default())?;
    }
    let mut samples = Samples::default();
    let worker = sleeping()?;
    for _ in 0..arguments.samples(400) {
        one(&cluster, &worker, &mut samples)?;
        samples.fork.push(bare.fork().from_fork);
        pause();
        samples.wake.push(bare.wake().from_order);
        pause();
    }
    pin(0, None)?;
    cluster.end()?;
    Ok(samples)
}

/// Long enough for every waiter to sleep.
fn pause() {
    std::thread::sleep(Duration::from_millis(2));
}

/// Long enough for the spare that was taken to be replaced: the postmaster sees that within 5 ms,
/// and forks another one a moment later.
fn replaced() {
    std::thread::sleep(Duration::from_millis(10));
}

fn one(cluster: &Cluster, worker: &BackgroundWorker, samples: &mut Samples) -> Result<()> {
    cell(STAMP).store(0, Ordering::Release);
    let begin = now();
    let handle = cluster.register(worker)?;
    started(&handle)?;
    samples.started.push((now() - begin) as f64);
    handle.wait_for_ready()?;
    samples.first.push((cell(STAMP).load(Ordering::Acquire) - begin) as f64);
    replaced();
    let begin = Instant::now();
    stop(&handle)?;
    samples.stopped.push(nanos(begin.elapsed()));
    pause();
    Ok(())
}

//! Pooled jobs: one at a time, many in flight, while workers are killed, from several processes.
//! Beside bare rings, which lose what a dead worker had in hand.

use crate::arguments::Arguments;
use crate::clock::{cell, now};
use crate::cluster::{Cluster, Result};
use crate::jobs::work;
use crate::report::{Figure, Goal, Report, Row, Unit};
use crate::ring::Rings;
use crate::sys;
use bgw_backend::{Backend, Bytes, Pool, PoolOptions, SegmentHandle, WorkerStatus};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const WORKERS: usize = 2;
pub(crate) const IN_FLIGHT: usize = 64;
/// How often a worker is killed.
const BETWEEN_KILLS: Duration = Duration::from_millis(20);
const SUBMITTERS: usize = 4;
/// The number of repetitions.
const RUNS: usize = 9;
const RINGS: &str = "bare rings";

/// The cells in which submitters say that they are ready, are told to go, and count outcomes.
const READY: usize = 12;
const GO: usize = 13;
const DONE: usize = 14;

/// The rows that others can be measured by, too.
pub(crate) const ONE: &str = "pooled job, one at a time";
pub(crate) const EMPTY: &str = "empty pooled jobs, 64 in flight";
pub(crate) const LONGER: &str = "pooled jobs of 10 µs, 64 in flight";

pub(crate) fn measure(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let _ = cell(0);
    one(arguments, report)?;
    many(arguments, report, EMPTY, "empty", || (), 20_000, 0.7)?;
    many(arguments, report, LONGER, "works", work, 4_000, 0.9)?;
    in_place(arguments, report)?;
    killed(arguments, report)?;
    several(arguments, report)
}

fn options(function: &str) -> PoolOptions {
    let workers = WORKERS as u32;
    PoolOptions::new(function).workers(workers..=workers)
}

fn launch(function: &str) -> Result<(Cluster, Pool<u64, u64>)> {
    let cluster = Cluster::launch_for_pools(64)?;
    let pool = cluster.backend.create_pool(&options(function))?;
    // Once the workers are there.
    run(&pool, 4 * WORKERS, WORKERS)?;
    Ok((cluster, pool))
}

/// Runs `count` jobs, each of which must succeed.
fn run(pool: &Pool<u64, u64>, count: usize, in_flight: usize) -> Result<()> {
    for done in pool.map(0..count as u64).at_once(in_flight) {
        let (_, outcome) = done?;
        outcome.into_output()?;
    }
    Ok(())
}

fn one(arguments: &Arguments, report: &mut Report) -> Result<()> {
    if !report.wants(ONE) {
        return Ok(());
    }
    let (cluster, pool) = launch("empty")?;
    let rings = Rings::launch(WORKERS, || ())?;
    let (mut ours, mut limit) = (Vec::new(), Vec::new());
    for number in 0..arguments.samples(4_000) {
        let begin = now();
        pool.submit(&(number as u64))?.wait()?.into_output()?;
        ours.push((now() - begin) as f64);
        let begin = now();
        rings.run(1, 1);
        limit.push((now() - begin) as f64);
    }
    drop(pool);
    cluster.end()?;
    report.add(Row {
        name: ONE.to_owned(),
        unit: Unit::Nanoseconds,
        ours: Figure::of(ours),
        limit: Some((Figure::of(limit), RINGS)),
        peers: Default::default(),
        goal: Goal::TimesLimit(1.3),
    });
    Ok(())
}

/// 64 MiB in and out, which stay where they are.
fn in_place(arguments: &Arguments, report: &mut Report) -> Result<()> {
    const BYTES: u64 = 64 << 20;
    let name = "pooled job with 64 MiB in and out, in place";
    if !report.wants(name) {
        return Ok(());
    }
    let cluster = Cluster::launch_for_pools(64)?;
    let pool = cluster.backend.create_pool::<Bytes, Bytes>(&options("in place"))?;
    let segment = cluster.backend.create_segment(BYTES)?;
    let bytes = Bytes::in_segment(&segment, 0..segment.len())?;
    let rings = Rings::launch(WORKERS, || ())?;
    let (mut ours, mut limit) = (Vec::new(), Vec::new());
    for number in 0..arguments.samples(1_000) as u64 {
        let word = number.to_le_bytes();
        let begin = now();
        segment.write(0, &word)?;
        pool.submit(&bytes)?.wait()?.into_output()?;
        let mut last = [0; 8];
        segment.read(segment.len() - last.len(), &mut last)?;
        ours.push((now() - begin) as f64);
        if last != word {
            return Err("the worker has not seen the caller's bytes".into());
        }
        let begin = now();
        rings.run(1, 1);
        limit.push((now() - begin) as f64);
    }
    drop((pool, segment));
    cluster.end()?;
    report.add(Row {
        name: name.to_owned(),
        unit: Unit::Nanoseconds,
        ours: Figure::of(ours),
        limit: Some((Figure::of(limit), RINGS)),
        peers: Default::default(),
        goal: Goal::TimesLimit(2.0),
    });
    Ok(())
}

/// How many a second.
fn rate(count: usize, run: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begin = Instant::now();
    run()?;
    Ok(count as f64 / begin.elapsed().as_secs_f64())
}

fn add_rates(
    report: &mut Report,
    name: &str,
    ours: Vec<f64>,
    limit: (Vec<f64>, &'static str),
    share: f64,
) {
    report.add(Row {
        name: name.to_owned(),
        unit: Unit::PerSecond,
        ours: Figure::of(ours),
        limit: Some((Figure::of(limit.0), limit.1)),
        peers: Default::default(),
        goal: Goal::ShareOfLimit(share),
    });
}

fn many(
    arguments: &Arguments,
    report: &mut Report,
    name: &str,
    function: &str,
    work: fn(),
    count: usize,
    share: f64,
) -> Result<()> {
    if !report.wants(name) {
        return Ok(());
    }
    let (cluster, pool) = launch(function)?;
    let rings = Rings::launch(WORKERS, work)?;
    let count = arguments.samples(count);
    let (mut ours, mut limit) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(rate(count, || run(&pool, count, IN_FLIGHT))?);
        limit.push(rate(count, || {
            rings.run(count, IN_FLIGHT);
            Ok(())
        })?);
    }
    drop(pool);
    cluster.end()?;
    add_rates(report, name, ours, (limit, RINGS), share);
    Ok(())
}

/// A worker is killed again and again: each job has one outcome, and most are outputs.
fn killed(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let name = format!("{LONGER}, a worker killed every 20 ms");
    if !report.wants(&name) {
        return Ok(());
    }
    let (cluster, pool) = launch("works")?;
    let count = arguments.samples(50_000);
    let (mut ours, mut limit, mut lost) = (Vec::new(), Vec::new(), 0);
    for _ in 0..RUNS {
        limit.push(rate(count, || run(&pool, count, IN_FLIGHT))?);
        let mut outcomes = 0;
        ours.push(rate(count, || {
            let mut last = Instant::now();
            for done in pool.map(0..count as u64).at_once(IN_FLIGHT) {
                let (_, outcome) = done?;
                outcomes += 1;
                lost += usize::from(outcome.into_output().is_err());
                if last.elapsed() >= BETWEEN_KILLS {
                    last = Instant::now();
                    kill_one(&cluster.backend, outcomes);
                }
            }
            Ok(())
        })?);
        if outcomes != count {
            return Err(format!("{outcomes} outcomes of {count} jobs").into());
        }
    }
    println!("{lost} of {} jobs ended with their worker", RUNS * count);
    drop(pool);
    cluster.end()?;
    add_rates(report, &name, ours, (limit, "the same, nobody killed"), 0.8);
    Ok(())
}

fn kill_one(backend: &Backend, random: usize) {
    let workers = backend.workers();
    let pids: Vec<_> = workers
        .iter()
        .filter_map(|info| match info.status {
            WorkerStatus::Started(pid) => Some(pid),
            _ => None,
        })
        .collect();
    if let Some(pid) = pids.get(random % pids.len().max(1)) {
        // It may have ended just now.
        let _ = kill(Pid::from_raw(pid.as_raw()), Signal::SIGKILL);
    }
}

/// Four processes submit at once, beside one that submits as many jobs alone.
fn several(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let name = "empty pooled jobs, four processes submit";
    if !report.wants(name) {
        return Ok(());
    }
    let (cluster, pool) = launch("empty")?;
    let count = arguments.samples(20_000);
    let submit = |submitters: usize| submitted(cluster.folder(), pool.handle(), submitters, count);
    let (mut ours, mut limit) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(submit(SUBMITTERS)?);
        limit.push(submit(1)?);
    }
    drop(pool);
    cluster.end()?;
    add_rates(report, name, ours, (limit, "one process alone"), 0.9);
    Ok(())
}

/// How many jobs a second so many processes submit, which share `count`.
fn submitted(folder: &Path, pool: SegmentHandle, submitters: usize, count: usize) -> Result<f64> {
    for number in [READY, GO, DONE] {
        cell(number).store(0, Ordering::Release);
    }
    let submits = || -> Result<()> {
        let backend = Backend::connect(folder)?;
        let pool = backend.open_pool::<u64, u64>(pool)?;
        run(&pool, 1, 1)?;
        cell(READY).fetch_add(1, Ordering::AcqRel);
        while cell(GO).load(Ordering::Acquire) == 0 {
            std::thread::sleep(Duration::from_micros(100));
        }
        run(&pool, count / submitters, IN_FLIGHT / SUBMITTERS)?;
        cell(DONE).fetch_add(1, Ordering::AcqRel);
        Ok(())
    };
    let mut children = Vec::new();
    for _ in 0..submitters {
        children.push(sys::child(|| {
            if let Err(error) = submits() {
                eprintln!("a submitter failed: {error}");
            }
        })?);
    }
    let until = Instant::now() + Duration::from_secs(30);
    while cell(READY).load(Ordering::Acquire) < submitters as u64 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    let begin = Instant::now();
    cell(GO).store(1, Ordering::Release);
    for child in children {
        waitpid(child, None)?;
    }
    let took = begin.elapsed();
    if cell(DONE).load(Ordering::Acquire) != submitters as u64 {
        return Err("a submitter failed".into());
    }
    Ok(count as f64 / took.as_secs_f64())
}

//! Many workers: throughput, starts beside live workers, starts in large slot arrays.

use crate::arguments::Arguments;
use crate::clock::{cell, now};
use crate::cluster::{Cluster, Result, STAMP, quick, sleeping, started, stop};
use crate::report::{Figure, Goal, Report, Row, Unit, nanos};
use crate::sys;
use bgw_backend::Handle;
use nix::sys::wait::waitpid;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// The number of live workers in the rows of a crowd.
pub(crate) const CROWD: u32 = 2000;
/// The numbers of short-lived workers in flight.
pub(crate) const IN_FLIGHT: [usize; 3] = [1, 4, 32];
/// The number of repetitions.
pub(crate) const CHURNS: usize = 9;

/// The row of short-lived workers.
pub(crate) fn churn_name(in_flight: usize) -> String {
    format!("workers that exit at once, {in_flight} in flight")
}

/// The rows of a crowd: a start beside it, the start of all, the end of all.
pub(crate) fn crowd_names() -> [String; 3] {
    [
        format!("start of one, {CROWD} idle workers beside it"),
        format!("start {CROWD} workers"),
        format!("stop {CROWD} workers"),
    ]
}

pub(crate) fn measure(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let _ = cell(0);
    for in_flight in IN_FLIGHT {
        churn(arguments, report, in_flight)?;
    }
    crowd(arguments, report)?;
    slots(arguments, report)
}

/// Short-lived workers, several in flight, beside bare children that exit at once.
fn churn(arguments: &Arguments, report: &mut Report, in_flight: usize) -> Result<()> {
    let name = churn_name(in_flight);
    if !report.wants(&name) {
        return Ok(());
    }
    let cluster = Cluster::launch(64, 0)?;
    let worker = quick()?;
    let (mut ours, mut limit) = (Vec::new(), Vec::new());
    let count = arguments.samples(1000).max(in_flight);
    for _ in 0..CHURNS {
        let begin = Instant::now();
        let mut running: Vec<Handle> = Vec::new();
        for _ in 0..count {
            if running.len() == in_flight {
                let (place, _) = bgw_backend::wait_any(&running, None)?;
                running.swap_remove(place);
            }
            running.push(cluster.register(&worker)?);
        }
        bgw_backend::wait_all(&running, None)?;
        ours.push(count as f64 / begin.elapsed().as_secs_f64());
        limit.push(bare_churn(count, in_flight)?);
    }
    cluster.end()?;
    report.add(Row {
        name,
        unit: Unit::PerSecond,
        ours: Figure::of(ours),
        limit: Some((Figure::of(limit), "bare fork + exit + wait")),
        peers: Default::default(),
        goal: Goal::ShareOfLimit(0.8),
    });
    Ok(())
}

/// A separate process forks the children, since it has as little memory as the postmaster.
fn bare_churn(count: usize, in_flight: usize) -> Result<f64> {
    let begin = now();
    let forker = sys::child(|| {
        let mut running = 0;
        for _ in 0..count {
            if running == in_flight && waitpid(None, None).is_ok() {
                running -= 1;
            }
            running += usize::from(sys::child(|| ()).is_ok());
        }
        while waitpid(None, None).is_ok() {}
    })?;
    waitpid(forker, None)?;
    Ok(count as f64 / ((now() - begin) as f64 / 1e9))
}

/// From registration to the worker's first line.
fn first_line(cluster: &Cluster) -> Result<f64> {
    let worker = sleeping()?;
    cell(STAMP).store(0, Ordering::Release);
    let begin = now();
    let handle = cluster.register(&worker)?;
    handle.wait_for_ready()?;
    let took = (cell(STAMP).load(Ordering::Acquire) - begin) as f64;
    stop(&handle)?;
    Ok(took)
}

/// A start beside no worker and beside many idle ones, and the time to start and stop them all.
fn crowd(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let names = crowd_names();
    if !names.iter().any(|name| report.wants(name)) {
        return Ok(());
    }
    let [beside, start_all, stop_all] = names;
    let (empty, full) = (Cluster::launch(CROWD + 64, 0)?, Cluster::launch(CROWD + 64, 0)?);
    let worker = sleeping()?;
    let begin = Instant::now();
    let handles: Vec<Handle> = (0..CROWD).map(|_| full.register(&worker)).collect::<Result<_>>()?;
    handles.iter().try_for_each(started)?;
    let started_all = begin.elapsed();
    for handle in &handles {
        handle.wait_for_ready()?;
    }
    let (mut alone, mut crowded) = (Vec::new(), Vec::new());
    for _ in 0..arguments.samples(300) {
        alone.push(first_line(&empty)?);
        crowded.push(first_line(&full)?);
    }
    report.add(Row {
        name: beside,
        unit: Unit::Nanoseconds,
        ours: Figure::of(crowded),
        limit: Some((Figure::of(alone), "beside none")),
        peers: Default::default(),
        goal: Goal::TimesLimit(1.1),
    });
    let begin = Instant::now();
    handles.iter().try_for_each(|handle| handle.terminate())?;
    bgw_backend::wait_all(&handles, None)?;
    let stopped_all = begin.elapsed();
    for (name, took) in [(start_all, started_all), (stop_all, stopped_all)] {
        report.add(Row {
            name,
            unit: Unit::Nanoseconds,
            ours: Figure::one(nanos(took)),
            limit: None,
            peers: Default::default(),
            goal: Goal::FasterThanPostgres(8.0),
        });
    }
    empty.end()?;
    full.end()
}

/// The same start in a small and a large slot array.
fn slots(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let name = "start of one, 65,536 slots against 8";
    if !report.wants(name) {
        return Ok(());
    }
    let (small, large) = (Cluster::launch(8, 0)?, Cluster::launch(65_536, 0)?);
    let (mut few, mut many) = (Vec::new(), Vec::new());
    for _ in 0..arguments.samples(500) {
        few.push(first_line(&small)?);
        many.push(first_line(&large)?);
    }
    small.end()?;
    large.end()?;
    report.add(Row {
        name: name.to_owned(),
        unit: Unit::Nanoseconds,
        ours: Figure::of(many),
        limit: Some((Figure::of(few), "8 slots")),
        peers: Default::default(),
        goal: Goal::TimesLimit(1.03),
    });
    Ok(())
}

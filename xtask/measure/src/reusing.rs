//! A job of its own life in a process that has had others: from its registration to the report of
//! its end, beside one bare wake-up.

use crate::arguments::Arguments;
use crate::clock::{Placement, cell, now, pin};
use crate::cluster::{Cluster, Result, again};
use crate::limits::Bare;
use crate::report::{Figure, Goal, Report, Row, Unit};
use std::time::Duration;

pub(crate) fn measure(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let ways =
        [false, true].into_iter().flat_map(|direct| Placement::ALL.map(|place| (direct, place)));
    for (direct, placement) in ways {
        let way = if direct { " woken directly" } else { "" };
        let name = format!("register → outcome, reused worker{way}, {}", placement.name());
        if !report.wants(&name) {
            continue;
        }
        let (ours, limit) = samples(arguments, direct, placement)?;
        report.add(Row {
            name,
            unit: Unit::Nanoseconds,
            ours: Figure::of(ours),
            limit: Some((Figure::of(limit), "futex wake-up")),
            peers: Default::default(),
            goal: Goal::TimesLimit(2.0),
        });
    }
    Ok(())
}

/// Our times and those of the bare wake-up, taken in turn.
fn samples(
    arguments: &Arguments,
    direct: bool,
    placement: Placement,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let _ = cell(0);
    let mut bare = Bare::launch()?;
    let cluster = if direct { Cluster::launch_direct(64, 4)? } else { Cluster::launch(64, 4)? };
    let (ours, theirs) = placement.cores();
    pin(0, ours)?;
    cluster.pin(theirs)?;
    bare.pin(theirs)?;
    let worker = again()?;
    let job = |samples: &mut Vec<f64>| -> Result<()> {
        let begin = now();
        cluster.register(&worker)?.wait_for_shutdown()?;
        samples.push((now() - begin) as f64);
        pause();
        Ok(())
    };
    // Use up the spares that were forked before the pinning: those that come back stay where they
    // are, so each process is one that was pinned.
    cluster.use_up_spares(8)?;
    job(&mut Vec::new())?;
    let (mut samples, mut limit) = (Vec::new(), Vec::new());
    for _ in 0..arguments.samples(400) {
        job(&mut samples)?;
        limit.push(bare.wake().from_order);
        pause();
    }
    pin(0, None)?;
    cluster.end()?;
    Ok((samples, limit))
}

/// Long enough for a process to sleep again.
fn pause() {
    std::thread::sleep(Duration::from_millis(2));
}

//! Workers of a template that has 1 GiB loaded: in private pages, which a fork has to list, and in
//! shared memory, which it leaves alone; with a child that the template has forked ahead, too.
//! Beside bare forks of a process with as much and with none.
//!
//! Not in the quick report, since loading takes longer than measuring.

use crate::arguments::Arguments;
use crate::clock::{cell, now};
use crate::cluster::{Cluster, Result, STAMP, of_template, started, stop};
use crate::limits::Bare;
use crate::report::{Figure, Goal, Report, Row, Unit};
use crate::sys;
use std::sync::atomic::Ordering;
use std::time::Duration;

const BYTES: usize = 1 << 30;

pub(crate) fn measure(arguments: &Arguments, report: &mut Report) -> Result<()> {
    if arguments.quick {
        return Ok(());
    }
    let private = ("a wake-up, and a bare fork of such a process", Goal::TimesLimit(1.2));
    let name = "register → first line, template with 1 GiB, private pages";
    row(report, name, (false, 0), private)?;
    let shared = ("a wake-up, and a bare fork of an empty process", Goal::TimesLimit(1.5));
    let name = "register → first line, template with 1 GiB, shared memory";
    row(report, name, (true, 0), shared)?;
    row(report, &format!("{name}, a spare"), (true, 1), shared)
}

/// The next spare is forked at once, and asleep by then.
const SPARE_ASLEEP: Duration = Duration::from_millis(20);

fn row(
    report: &mut Report,
    name: &str,
    (shared, spares): (bool, usize),
    (limit_of, goal): (&'static str, Goal),
) -> Result<()> {
    const SAMPLES: usize = 40;
    if !report.wants(name) {
        return Ok(());
    }
    let _ = cell(0);
    let mut bare = Bare::launch_after(|| {
        // Without the memory the forks are quick, which shows.
        let _ = if shared { Ok(()) } else { sys::fill(BYTES, false) };
    })?;
    let cluster = Cluster::launch_with_template(spares, move || sys::fill(BYTES, shared))?;
    let worker = of_template()?;
    let (mut ours, mut limit) = (Vec::new(), Vec::new());
    for number in 0..SAMPLES {
        if spares > 0 {
            std::thread::sleep(SPARE_ASLEEP);
        }
        cell(STAMP).store(0, Ordering::Release);
        let begin = now();
        let handle = cluster.register(&worker)?;
        started(&handle)?;
        handle.wait_for_ready()?;
        let first = (cell(STAMP).load(Ordering::Acquire) - begin) as f64;
        stop(&handle)?;
        let bare = bare.fork().from_order;
        // The first one waits until everything is loaded.
        if number > 0 {
            ours.push(first);
            limit.push(bare);
        }
    }
    cluster.end()?;
    report.add(Row {
        name: name.to_owned(),
        unit: Unit::Nanoseconds,
        ours: Figure::of(ours),
        limit: Some((Figure::of(limit), limit_of)),
        peers: Default::default(),
        goal,
    });
    Ok(())
}

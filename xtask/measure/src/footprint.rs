//! The cost of idle workers: memory, and wake-ups of the postmaster.

use crate::arguments::Arguments;
use crate::clock::cell;
use crate::cluster::{Cluster, Result, held, sleeping};
use crate::report::{Figure, Goal, Report, Row, Unit};
use bgw_backend::{Handle, WorkerStatus};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

pub(crate) fn measure(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let _ = cell(0);
    memory(report)?;
    sleep(arguments, report)
}

fn idle(cluster: &Cluster, count: u32) -> Result<Vec<Handle>> {
    let worker = sleeping()?;
    let handles: Vec<Handle> =
        (0..count).map(|_| cluster.register(&worker)).collect::<Result<_>>()?;
    for handle in &handles {
        handle.wait_for_ready()?;
    }
    Ok(handles)
}

/// The KiB of a line `Name:   123 kB`.
fn field(text: &str, name: &str) -> f64 {
    text.lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter_map(|rest| {
            rest.trim_start_matches(':').split_whitespace().next()?.parse::<f64>().ok()
        })
        .sum()
}

/// The part of the region that is backed by memory, in KiB.
fn region() -> Result<f64> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let path = entry?.path();
        if std::fs::read_link(&path).is_ok_and(|to| to.to_string_lossy().contains("shmem-slots")) {
            return Ok(std::fs::metadata(&path)?.blocks() as f64 / 2.0);
        }
    }
    // An attached program has mapped the region and closed its descriptor.
    let maps = std::fs::read_to_string("/proc/self/smaps")?;
    let region = maps.lines().skip_while(|line| !line.contains("shmem-slots"));
    Ok(field(&region.take(20).collect::<Vec<_>>().join("\n"), "Rss"))
}

fn memory(report: &mut Report) -> Result<()> {
    let names = [
        "private memory of an idle worker",
        "memory of an idle worker among 20, shared pages divided (PSS)",
        "shared memory for 4,096 slots, all in use",
    ];
    if !names.iter().any(|name| report.wants(name)) {
        return Ok(());
    }
    let cluster = Cluster::launch_held(4096)?;
    let handles = idle(&cluster, 20)?;
    let (mut private, mut shared) = (Vec::new(), Vec::new());
    for handle in &handles {
        let WorkerStatus::Started(pid) = handle.status() else { continue };
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        private.push(field(&text, "Private_Clean") + field(&text, "Private_Dirty"));
        shared.push(field(&text, "Pss"));
    }
    let all = (0..4096 - 20).map(|_| cluster.register(&held()?)).collect::<Result<Vec<_>>>()?;
    let rows = [(private, 120.0), (shared, 150.0), (vec![region()?], 4096.0)];
    drop(all);
    for (name, (samples, goal)) in names.into_iter().zip(rows) {
        report.add(Row {
            name: name.to_owned(),
            unit: Unit::KiB,
            ours: Figure::of(samples),
            limit: None,
            peers: Default::default(),
            goal: Goal::AtMost(goal),
        });
    }
    cluster.end()
}

/// Wake-ups of the postmaster while thousands of workers are idle.
fn sleep(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let name = "wake-ups of the postmaster in 5 s, 2,000 idle workers";
    if !report.wants(name) {
        return Ok(());
    }
    let cluster = Cluster::launch(2048, 0)?;
    let _handles = idle(&cluster, 2000)?;
    let path = format!("/proc/{}/status", cluster.launched.pid());
    let switches = || -> Result<f64> {
        let text = std::fs::read_to_string(&path)?;
        Ok(field(&text, "voluntary_ctxt_switches") + field(&text, "nonvoluntary_ctxt_switches"))
    };
    // The postmaster still has work to do after the last start.
    std::thread::sleep(Duration::from_millis(100));
    let before = switches()?;
    std::thread::sleep(Duration::from_millis(arguments.samples(5000) as u64));
    let after = switches()?;
    cluster.end()?;
    report.add(Row {
        name: name.to_owned(),
        unit: Unit::Count,
        ours: Figure::one(after - before),
        limit: None,
        peers: Default::default(),
        goal: Goal::AtMost(0.0),
    });
    Ok(())
}

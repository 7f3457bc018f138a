//! The cost of a status query: alone, beside another process that queries, beside one that
//! registers.

use crate::arguments::Arguments;
use crate::clock::{cell, now, pin};
use crate::cluster::{Cluster, Result, quick, sleeping, started, stop};
use crate::report::{Figure, Goal, Report, Row, Unit};
use crate::sys;
use bgw_backend::{Backend, Handle, WorkerStatus};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use std::hint::black_box;
use std::sync::atomic::Ordering;

const BATCH: u32 = 1000;
const LOADED: usize = 12;
const READY: usize = 13;

#[derive(Clone, Copy)]
enum Beside {
    Nobody,
    OneThatAsks,
    OneThatRegisters,
}

/// The rows that PostgreSQL also has.
pub(crate) const ALONE: &str = "status of a live worker, alone";
pub(crate) const TWO: &str = "status, two processes asking at once";

pub(crate) fn measure(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let rows = [
        (ALONE, Beside::Nobody, 1.0),
        (TWO, Beside::OneThatAsks, 1.2),
        ("status, while another registers", Beside::OneThatRegisters, 1.5),
    ];
    let _ = cell(0);
    for (name, beside, goal) in rows {
        if !report.wants(name) {
            continue;
        }
        let cluster = Cluster::launch(64, 0)?;
        let handle = cluster.register(&sleeping()?)?;
        started(&handle)?;
        pin(0, Some(0))?;
        let other = other(&cluster, &handle, beside)?;
        let (mut ours, mut limit) = (Vec::new(), Vec::new());
        for _ in 0..arguments.samples(2000) {
            ours.push(batch(|| matches!(black_box(&handle).status(), WorkerStatus::Started(_))));
            limit.push(batch(|| black_box(cell(LOADED)).load(Ordering::Acquire) == 0));
        }
        if let Some(pid) = other {
            kill(pid, Signal::SIGKILL)?;
            waitpid(pid, None)?;
        }
        pin(0, None)?;
        stop(&handle)?;
        cluster.end()?;
        report.add(Row {
            name: name.to_owned(),
            unit: Unit::Nanoseconds,
            ours: Figure::of(ours),
            limit: Some((Figure::of(limit), "one acquire load")),
            peers: Default::default(),
            goal: Goal::AtMost(goal),
        });
    }
    Ok(())
}

/// The mean of many queries, in nanoseconds: reading the clock takes longer than one query.
fn batch(mut question: impl FnMut() -> bool) -> f64 {
    let begin = now();
    for _ in 0..BATCH {
        black_box(question());
    }
    (now() - begin) as f64 / f64::from(BATCH)
}

fn other(cluster: &Cluster, handle: &Handle, beside: Beside) -> Result<Option<nix::unistd::Pid>> {
    cell(READY).store(0, Ordering::Release);
    let wait = || {
        while cell(READY).load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
    };
    let pid = match beside {
        Beside::Nobody => return Ok(None),
        Beside::OneThatAsks => sys::child(|| {
            let _ = pin(0, Some(1));
            cell(READY).store(1, Ordering::Release);
            loop {
                black_box(handle.status());
                black_box(cell(LOADED).load(Ordering::Acquire));
            }
        })?,
        Beside::OneThatRegisters => {
            cluster.pin(Some(1))?;
            let worker = quick()?;
            sys::child(|| {
                let _ = pin(0, Some(1));
                // Another program, with an attachment of its own.
                let Ok(backend) = Backend::connect(cluster.folder()) else { return };
                cell(READY).store(1, Ordering::Release);
                while let Ok(handle) = backend.register(&worker) {
                    let _ = handle.wait_for_shutdown();
                }
            })?
        }
    };
    wait();
    Ok(Some(pid))
}

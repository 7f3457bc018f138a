//! A pooled job with 64 MiB in and out, copied through a segment that is kept: in by the caller,
//! out and in by the worker, out by the caller. Beside bare copies through shared memory, with a
//! ring to hand it over.

use crate::arguments::Arguments;
use crate::clock::now;
use crate::cluster::{Cluster, Result};
use crate::jobs::{COPIED as BYTES, with_own};
use crate::report::{Figure, Goal, Report, Row, Unit};
use crate::ring::Rings;
use crate::sys;
use bgw_backend::{Bytes, PoolOptions};
use shmem_slots::Segment;
use std::sync::OnceLock;

/// The memory of the bare way, made before its worker is forked.
static BARE: OnceLock<Segment> = OnceLock::new();

fn bare_copies() {
    if let Some(segment) = BARE.get() {
        with_own(|own| {
            sys::copy_out(segment.cells(), own);
            sys::copy_in(segment.cells(), own);
        });
    }
}

pub(crate) fn measure(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let name = "pooled job with 64 MiB in and out, copied";
    if !report.wants(name) {
        return Ok(());
    }
    let cluster = Cluster::launch_for_pools(8)?;
    let pool = cluster.backend.create_pool::<Bytes, Bytes>(&PoolOptions::new("copied"))?;
    let segment = cluster.backend.create_segment(BYTES as u64)?;
    let bytes = Bytes::in_segment(&segment, 0..segment.len())?;
    let bare = Segment::attach(Segment::create_file(BYTES as u64)?)?;
    let bare = BARE.get_or_init(|| bare);
    let rings = Rings::launch(1, bare_copies)?;
    let (mut input, mut output) = (vec![1; BYTES], vec![0; BYTES]);
    let (mut ours, mut limit) = (Vec::new(), Vec::new());
    for number in 0..=arguments.samples(60) {
        input[BYTES - 1] = number as u8;
        let begin = now();
        segment.write(0, &input)?;
        pool.submit(&bytes)?.wait()?.into_output()?;
        segment.read(0, &mut output)?;
        let job = (now() - begin) as f64;
        if output[BYTES - 1] != number as u8 {
            return Err("the bytes have not come back".into());
        }
        let begin = now();
        sys::copy_in(bare.cells(), &input);
        rings.run(1, 1);
        sys::copy_out(bare.cells(), &mut output);
        let copies = (now() - begin) as f64;
        // The first time all memory is fresh.
        if number > 0 {
            ours.push(job);
            limit.push(copies);
        }
    }
    drop((pool, segment));
    cluster.end()?;
    report.add(Row {
        name: name.to_owned(),
        unit: Unit::Nanoseconds,
        ours: Figure::of(ours),
        limit: Some((Figure::of(limit), "bare copies through shared memory")),
        peers: Default::default(),
        goal: Goal::TimesLimit(1.2),
    });
    Ok(())
}

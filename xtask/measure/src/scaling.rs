//! How the cost of each event grows with the number of slots and of live workers.
//!
//! Samples of every size alternate with samples of the smallest one, so a machine that slows down
//! slows down all sizes; the ratio to the smallest is what counts. The postmaster's CPU time is
//! measured as well as elapsed times, because wake-ups add no noise to it.

use crate::against;
use crate::arguments::Arguments;
use crate::clock::{cell, now};
use crate::cluster::{Cluster, Result, STAMP, sleeping, started, stop};
use crate::limits::Bare;
use crate::report::{Figure, Unit, nanos};
use bgw_backend::{Handle, WorkerStatus};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fmt::Write;
use std::hint::black_box;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Numbers of slots; nothing else runs.
const SLOTS: [u32; 6] = [8, 64, 512, 4096, 16_384, 65_536];
/// Numbers of idle workers beside the measured one.
const LIVE: [u32; 7] = [0, 100, 400, 1000, 2000, 5000, 10_000];
/// PostgreSQL takes 80 KiB for a slot and 300 KiB for a worker.
const POSTGRES_SLOTS: u32 = 16_384;
const POSTGRES_LIVE: u32 = 2000;

/// What is measured at each size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    First,
    Started,
    Stopped,
    Asked,
    PostmasterCpu,
    BareFork,
}

impl Event {
    pub(crate) const ALL: [Self; 6] = [
        Self::First,
        Self::Started,
        Self::Stopped,
        Self::Asked,
        Self::PostmasterCpu,
        Self::BareFork,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::First => "register → first line",
            Self::Started => "register → wait_for_startup",
            Self::Stopped => "terminate → wait_for_shutdown",
            Self::Asked => "status of a live worker",
            Self::PostmasterCpu => "postmaster's CPU time, start and end of one",
            Self::BareFork => "for comparison: a bare fork, to its first line",
        }
    }
}

/// One event over all sizes of an axis.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) event: Event,
    pub(crate) points: Vec<Point>,
}

/// One size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) size: u32,
    pub(crate) figure: Figure,
    /// The smallest size, sampled alternately.
    pub(crate) smallest: Figure,
}

impl Point {
    /// The cost relative to the smallest size; 0 if that was not measured.
    pub(crate) fn growth(&self) -> f64 {
        let Self { figure, smallest, .. } = self;
        if smallest.median > 0.0 { figure.median / smallest.median } else { 0.0 }
    }
}

/// The figures along one axis.
#[derive(Debug)]
pub(crate) struct Axis {
    pub(crate) name: &'static str,
    pub(crate) ours: Vec<Series>,
    pub(crate) postgres: Vec<Series>,
    /// A note for the reader.
    pub(crate) note: String,
}

/// Samples of all events at one size.
#[derive(Default)]
struct Samples {
    of: [Vec<f64>; Event::ALL.len()],
}

impl Samples {
    fn push(&mut self, event: Event, sample: f64) {
        self.of[event as usize].push(sample);
    }

    fn figures(self) -> [Figure; Event::ALL.len()] {
        self.of.map(Figure::of)
    }
}

/// Measures both axes.
pub(crate) fn measure(arguments: &Arguments, bench: Option<&against::Bench>) -> Result<Vec<Axis>> {
    let _ = cell(0);
    let limit = raise_descriptors()?;
    let mut slots = by_slots(arguments)?;
    let mut live = by_live(arguments, limit)?;
    if let Some(bench) = bench {
        slots.postgres = postgres_by_slots(arguments, bench)?;
        live.postgres = postgres_by_live(arguments, bench)?;
        let _ = write!(
            live.note,
            " PostgreSQL was measured up to {POSTGRES_LIVE} workers and {POSTGRES_SLOTS} slots, in \
             turn and not side by side."
        );
    }
    Ok(vec![slots, live])
}

/// Raises the limit: the postmaster has a descriptor for each worker. Returns the limit.
fn raise_descriptors() -> Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

fn by_slots(arguments: &Arguments) -> Result<Axis> {
    println!("scaling: slots {SLOTS:?}");
    let mut bare = Bare::launch()?;
    let clusters =
        SLOTS.map(|slots| Cluster::launch(slots, 0).map(|cluster| (cluster, Samples::default())));
    let mut clusters: Vec<_> = clusters.into_iter().collect::<Result<_>>()?;
    for _ in 0..arguments.samples(300) {
        for (cluster, samples) in &mut clusters {
            one(cluster, &mut bare, samples)?;
        }
    }
    let mut all = Vec::new();
    for (cluster, samples) in clusters {
        cluster.end()?;
        all.push(samples.figures());
    }
    let smallest = all[0];
    let rows =
        SLOTS.into_iter().zip(all).map(|(size, figures)| (size, figures, smallest)).collect();
    Ok(Axis {
        name: "slots",
        ours: by_event(&Event::ALL, rows),
        postgres: Vec::new(),
        note: "Nothing else is running; all sizes are sampled in turn.".to_owned(),
    })
}

fn by_live(arguments: &Arguments, descriptors: u64) -> Result<Axis> {
    // Leave some for the postmaster itself and for inherited ones.
    let most = descriptors.saturating_sub(256).min(u64::from(LIVE[LIVE.len() - 1]));
    let mut note = format!("RLIMIT_NOFILE is {descriptors}.");
    let capacity = LIVE[LIVE.len() - 1] + 64;
    let mut bare = Bare::launch()?;
    let (alone, crowded) = (Cluster::launch(capacity, 0)?, Cluster::launch(capacity, 0)?);
    let (worker, mut crowd, mut rows) = (sleeping()?, Vec::<Handle>::new(), Vec::new());
    for live in LIVE {
        if u64::from(live) > most {
            let _ = write!(note, " {live} workers are more than that allows.");
            continue;
        }
        println!("scaling: {live} live workers");
        while crowd.len() < live as usize {
            // In groups: a long queue of starts would delay the measured one.
            crowd.push(crowded.register(&worker)?);
            if crowd.len() % 100 == 0 {
                crowd.iter().rev().take(100).try_for_each(|one| one.wait_for_ready().map(drop))?;
            }
        }
        crowd.iter().rev().take(100).try_for_each(|one| one.wait_for_ready().map(drop))?;
        let (mut smallest, mut samples) = (Samples::default(), Samples::default());
        for _ in 0..arguments.samples(200) {
            one(&alone, &mut bare, &mut smallest)?;
            one(&crowded, &mut bare, &mut samples)?;
        }
        rows.push((live, samples.figures(), smallest.figures()));
    }
    alone.end()?;
    crowded.end()?;
    Ok(Axis { name: "live workers", ours: by_event(&Event::ALL, rows), postgres: Vec::new(), note })
}

/// One start and end, with a status query in between.
fn one(cluster: &Cluster, bare: &mut Bare, samples: &mut Samples) -> Result<()> {
    let cpu = cluster.postmaster_cpu()?;
    cell(STAMP).store(0, Ordering::Release);
    let begin = now();
    let handle = cluster.register(&sleeping()?)?;
    started(&handle)?;
    samples.push(Event::Started, (now() - begin) as f64);
    handle.wait_for_ready()?;
    samples.push(Event::First, (cell(STAMP).load(Ordering::Acquire) - begin) as f64);
    samples.push(Event::Asked, asked(&handle));
    let begin = Instant::now();
    stop(&handle)?;
    samples.push(Event::Stopped, nanos(begin.elapsed()));
    // The postmaster has finished with the worker once it answers.
    cluster.backend.ping()?;
    samples.push(Event::PostmasterCpu, cluster.postmaster_cpu()? - cpu);
    samples.push(Event::BareFork, bare.fork().from_fork);
    Ok(())
}

/// The mean of many status queries, in nanoseconds.
fn asked(handle: &Handle) -> f64 {
    const TIMES: u32 = 1000;
    let begin = now();
    for _ in 0..TIMES {
        black_box(matches!(black_box(handle).status(), WorkerStatus::Started(_)));
    }
    (now() - begin) as f64 / f64::from(TIMES)
}

/// Rows by size become series by event.
fn by_event<const N: usize>(
    events: &[Event; N],
    rows: Vec<(u32, [Figure; N], [Figure; N])>,
) -> Vec<Series> {
    let series = |(at, &event): (usize, &Event)| {
        let points = rows.iter().map(|(size, figures, smallest)| Point {
            size: *size,
            figure: figures[at],
            smallest: smallest[at],
        });
        Series { event, points: points.collect() }
    };
    events.iter().enumerate().map(series).collect()
}

const POSTGRES_EVENTS: [Event; 3] = [Event::First, Event::Started, Event::Stopped];

fn postgres_by_slots(arguments: &Arguments, bench: &against::Bench) -> Result<Vec<Series>> {
    let mut all = Vec::new();
    for slots in SLOTS.into_iter().filter(|&slots| slots <= POSTGRES_SLOTS) {
        let figures = bench.start(slots)?.start_stop(arguments.samples(300))?;
        all.push((slots, figures));
    }
    let smallest = all.first().map(|(_, figures)| *figures).unwrap_or_default();
    let rows = all.into_iter().map(|(slots, figures)| (slots, figures, smallest)).collect();
    Ok(by_event(&POSTGRES_EVENTS, rows))
}

fn postgres_by_live(arguments: &Arguments, bench: &against::Bench) -> Result<Vec<Series>> {
    let mut server = bench.start(POSTGRES_LIVE + 64)?;
    let mut rows = Vec::new();
    for live in LIVE.into_iter().filter(|&live| live <= POSTGRES_LIVE) {
        println!("scaling: PostgreSQL, {live} live workers");
        let smallest = server.start_stop(arguments.samples(200))?;
        let figures = server.start_stop_beside(live, arguments.samples(200))?;
        rows.push((live, figures, smallest));
    }
    Ok(by_event(&POSTGRES_EVENTS, rows))
}

/// A table for each axis.
pub(crate) fn markdown(axes: &[Axis]) -> String {
    let mut text = String::new();
    for axis in axes {
        let _ = writeln!(text, "### Cost by number of {}\n\n{}\n", axis.name, axis.note);
        for (who, all) in [("", &axis.ours), ("PostgreSQL: ", &axis.postgres)] {
            let Some(first) = all.first() else { continue };
            let sizes: Vec<String> =
                first.points.iter().map(|point| format!(" {} |", point.size)).collect();
            let _ = writeln!(text, "| {who}median (× the smallest) |{}", sizes.concat());
            let _ = writeln!(text, "|---|{}", "---|".repeat(sizes.len()));
            for series in all {
                let cells = series.points.iter().map(|point| {
                    let shown = Unit::Nanoseconds.show(point.figure.median);
                    format!(" {shown} ({:.2}) |", point.growth())
                });
                let _ = writeln!(text, "| {} |{}", series.event.name(), cells.collect::<String>());
            }
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis() -> Axis {
        let rows = [8u32, 64]
            .map(|size| {
                let figures = Event::ALL.map(|_| Figure::one(f64::from(size) * 1000.0));
                (size, figures, Event::ALL.map(|_| Figure::one(8000.0)))
            })
            .to_vec();
        Axis {
            name: "slots",
            ours: by_event(&Event::ALL, rows),
            postgres: Vec::new(),
            note: "A note.".to_owned(),
        }
    }

    /// Breaks if a figure lands at another event, or its growth at another size.
    #[test]
    fn a_table_has_a_line_for_each_event_and_the_growth_beside_each_figure() {
        let text = markdown(&[axis()]);
        assert!(text.contains("| median (× the smallest) | 8 | 64 |"), "{text}");
        assert!(text.contains("| status of a live worker | 8.0 µs (1.00) | 64.0 µs (8.00) |"));
        assert_eq!(text.matches("(8.00)").count(), Event::ALL.len());
        let json = crate::json::scaling(&[axis()]).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let axis = &json["axes"][0];
        assert_eq!(
            (&axis["note"], &axis["ours"][0]["points"][1]["growth"]),
            (&"A note.".into(), &8.0.into())
        );
    }

    /// Breaks if a missing figure leads to a division by zero.
    #[test]
    fn a_smallest_that_was_not_measured_gives_no_growth() {
        let zero = Figure::of(Vec::new());
        assert!(Point { size: 1, figure: Figure::one(1.0), smallest: zero }.growth().abs() < 1e-9);
    }
}

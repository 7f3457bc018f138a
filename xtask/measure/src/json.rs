//! The report and the scaling axes as JSON, for programs.

use crate::cluster::Result;
use crate::peer::Peer;
use crate::report::{Figure, Report, Row, machine};
use crate::scaling::{Axis, Point, Series};
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Serialize)]
struct ReportDocument<'a> {
    machine: String,
    rows: Vec<RowEntry<'a>>,
}

#[derive(Serialize)]
struct RowEntry<'a> {
    name: &'a str,
    unit: &'a str,
    ours: Figure,
    limit: Option<Limit<'a>>,
    /// By the peer's key; null where the peer has no such row.
    #[serde(flatten)]
    peers: BTreeMap<&'a str, Option<Figure>>,
    goal: String,
    reached: Option<bool>,
}

#[derive(Serialize)]
struct Limit<'a> {
    what: &'a str,
    figure: Figure,
}

#[derive(Serialize)]
struct ScalingDocument<'a> {
    unit: &'a str,
    axes: Vec<AxisEntry<'a>>,
}

#[derive(Serialize)]
struct AxisEntry<'a> {
    axis: &'a str,
    note: &'a str,
    ours: Vec<SeriesEntry<'a>>,
    postgres: Vec<SeriesEntry<'a>>,
}

#[derive(Serialize)]
struct SeriesEntry<'a> {
    event: &'a str,
    points: Vec<PointEntry>,
}

#[derive(Serialize)]
struct PointEntry {
    size: u32,
    #[serde(flatten)]
    figure: Figure,
    growth: f64,
}

pub(crate) fn report(report: &Report) -> Result<String> {
    let columns = report.columns();
    let rows = report.rows().iter().map(|row| row_entry(row, &columns)).collect();
    text(&ReportDocument { machine: machine(), rows })
}

fn row_entry<'a>(row: &'a Row, columns: &[Peer]) -> RowEntry<'a> {
    RowEntry {
        name: &row.name,
        unit: row.unit.name(),
        ours: row.ours,
        limit: row.limit.map(|(figure, what)| Limit { what, figure }),
        peers: columns.iter().map(|&peer| (peer.key(), row.peer(peer))).collect(),
        goal: row.goal_text(),
        reached: row.reached(),
    }
}

pub(crate) fn scaling(axes: &[Axis]) -> Result<String> {
    text(&ScalingDocument { unit: "ns", axes: axes.iter().map(axis_entry).collect() })
}

fn axis_entry(axis: &Axis) -> AxisEntry<'_> {
    AxisEntry {
        axis: axis.name,
        note: &axis.note,
        ours: axis.ours.iter().map(series_entry).collect(),
        postgres: axis.postgres.iter().map(series_entry).collect(),
    }
}

fn series_entry(series: &Series) -> SeriesEntry<'static> {
    let point = |point: &Point| PointEntry {
        size: point.size,
        figure: point.figure,
        growth: point.growth(),
    };
    SeriesEntry { event: series.event.name(), points: series.points.iter().map(point).collect() }
}

fn text(document: &impl Serialize) -> Result<String> {
    Ok(serde_json::to_string_pretty(document)? + "\n")
}

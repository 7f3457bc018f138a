//! Samples become rows, and rows become Markdown.

use crate::peer::Peer;
use serde::Serialize;
use std::fmt::Write;
use std::time::Duration;

/// Median and 99th percentile of samples in nanoseconds (or of whatever the row counts).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) p99: f64,
    pub(crate) samples: usize,
}

impl Figure {
    /// Zeros if there are no samples.
    pub(crate) fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let at = |share: usize| {
            samples.get(samples.len() * share / 100).or(samples.last()).copied().unwrap_or(0.0)
        };
        Self { median: at(50), p99: at(99), samples: samples.len() }
    }

    /// A single sample.
    pub(crate) fn one(value: f64) -> Self {
        Self::of(vec![value])
    }
}

/// The unit of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Nanoseconds,
    PerSecond,
    KiB,
    Count,
}

impl Unit {
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::Nanoseconds if value < 100.0 => format!("{value:.2} ns"),
            Self::Nanoseconds if value < 1e6 => format!("{:.1} µs", value / 1e3),
            Self::Nanoseconds => format!("{:.1} ms", value / 1e6),
            Self::PerSecond => format!("{value:.0}/s"),
            Self::KiB => format!("{value:.0} KiB"),
            Self::Count => format!("{value:.0}"),
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nanoseconds => "ns",
            Self::PerSecond => "1/s",
            Self::KiB => "KiB",
            Self::Count => "count",
        }
    }
}

/// The goal of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    /// At most this, in the row's unit.
    AtMost(f64),
    /// At most this many times the limit.
    TimesLimit(f64),
    /// At least this share of the limit.
    ShareOfLimit(f64),
    /// At least this many times faster than PostgreSQL in the same run.
    FasterThanPostgres(f64),
}

/// One line of the report.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: Unit,
    pub(crate) ours: Figure,
    /// The kernel's own figure, and what it measures.
    pub(crate) limit: Option<(Figure, &'static str)>,
    /// The figures of the peers, in the order of [`Peer::ALL`]; added later.
    pub(crate) peers: [Option<Figure>; Peer::ALL.len()],
    pub(crate) goal: Goal,
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        let (limit, _) = self.limit.as_ref()?;
        (limit.median > 0.0).then(|| self.ours.median / limit.median)
    }

    pub(crate) const fn peer(&self, peer: Peer) -> Option<Figure> {
        self.peers[peer as usize]
    }

    /// `None` if there is nothing to compare with.
    pub(crate) fn reached(&self) -> Option<bool> {
        match self.goal {
            Goal::AtMost(most) => Some(self.ours.median <= most),
            Goal::TimesLimit(times) => self.ratio().map(|ratio| ratio <= times),
            Goal::ShareOfLimit(share) => self.ratio().map(|ratio| ratio >= share),
            Goal::FasterThanPostgres(times) => {
                self.peer(Peer::Postgres).map(|theirs| self.ours.median * times <= theirs.median)
            }
        }
    }

    pub(crate) fn goal_text(&self) -> String {
        match self.goal {
            Goal::AtMost(most) => format!("≤ {}", self.unit.show(most)),
            Goal::TimesLimit(times) => format!("≤ {times} × limit"),
            Goal::ShareOfLimit(share) => format!("≥ {:.0} % of limit", share * 100.0),
            Goal::FasterThanPostgres(times) => format!("≥ {times} × faster than PostgreSQL"),
        }
    }
}

/// The rows so far.
#[derive(Debug)]
pub(crate) struct Report {
    rows: Vec<Row>,
    filter: Option<String>,
}

impl Report {
    pub(crate) const fn new(filter: Option<String>) -> Self {
        Self { rows: Vec::new(), filter }
    }

    /// Whether the filter wants a row of this name. Prints that its measurement begins.
    pub(crate) fn wants(&self, name: &str) -> bool {
        let wanted = self.filter.as_ref().is_none_or(|part| name.contains(part.as_str()));
        if wanted {
            println!("measuring: {name}");
        }
        wanted
    }

    pub(crate) fn add(&mut self, row: Row) {
        let (median, p99) = (row.unit.show(row.ours.median), row.unit.show(row.ours.p99));
        let ratio = row.ratio().map(|ratio| format!(", {ratio:.2} × limit")).unwrap_or_default();
        println!("           {}: {median} (p99 {p99}){ratio}", row.name);
        self.rows.push(row);
    }

    /// Whether there is a row of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.rows.iter().any(|row| row.name == name)
    }

    /// Adds a peer's figure to the row of this name, if there is one.
    pub(crate) fn set_peer(&mut self, name: &str, peer: Peer, figure: Figure) {
        for row in self.rows.iter_mut().filter(|row| row.name == name) {
            println!("{}: {name}: {}", peer.key(), row.unit.show(figure.median));
            row.peers[peer as usize] = Some(figure);
        }
    }

    /// The peers that have a column.
    pub(crate) fn columns(&self) -> Vec<Peer> {
        let has = |peer: &Peer| self.rows.iter().any(|row| row.peer(*peer).is_some());
        Peer::ALL.into_iter().filter(has).collect()
    }

    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("{}\n\n", machine());
        let columns = self.columns();
        let title: String =
            columns.iter().map(|peer| format!(" {}, same run |", peer.title())).collect();
        let line = "---|".repeat(columns.len());
        let _ = writeln!(
            text,
            "| what | median | p99 | limit, same run | ratio |{title} goal | reached |"
        );
        let _ = writeln!(text, "|---|---|---|---|---|{line}---|---|");
        for row in &self.rows {
            let limit = row.limit.as_ref().map_or_else(
                || "–".to_owned(),
                |(figure, what)| format!("{} ({what})", row.unit.show(figure.median)),
            );
            let ratio = row.ratio().map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
            let peers: String = columns
                .iter()
                .map(|&peer| match row.peer(peer) {
                    Some(figure) => format!(" {} |", row.unit.show(figure.median)),
                    None => " – |".to_owned(),
                })
                .collect();
            let reached = match row.reached() {
                Some(true) => "yes",
                Some(false) => "no",
                None => "–",
            };
            let _ = writeln!(
                text,
                "| {} | {} | {} | {limit} | {ratio} |{peers} {} | {reached} |",
                row.name,
                row.unit.show(row.ours.median),
                row.unit.show(row.ours.p99),
                row.goal_text(),
            );
        }
        text
    }
}

/// The machine: cores, processor, kernel, load.
pub(crate) fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches([' ', '\t', ':']);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load: Vec<&str> = load.split(' ').take(3).collect();
    format!("{cores} cores, {model}, Linux {}, load {}", kernel.trim(), load.join(" "))
}

/// A duration as a sample.
pub(crate) fn nanos(time: Duration) -> f64 {
    time.as_nanos() as f64
}

#[cfg(test)]
mod tests {
    use super::{Figure, Goal, Report, Row, Unit};
    use crate::json;
    use crate::peer::Peer;

    fn row(ours: f64, limit: f64, goal: Goal) -> Row {
        let limit = Some((Figure::one(limit), "bare"));
        let (name, unit, ours) = ("a".into(), Unit::Nanoseconds, Figure::one(ours));
        Row { name, unit, ours, limit, peers: Default::default(), goal }
    }

    #[test]
    fn figures_are_medians_and_percentiles() {
        let figure = Figure::of((1..=1000).map(f64::from).collect());
        assert!((figure.median - 501.0).abs() < 0.5 && (figure.p99 - 991.0).abs() < 0.5);
        assert_eq!(Figure::of(Vec::new()).samples, 0);
    }

    #[test]
    fn goals_are_reached_or_not() {
        for (row, reached) in [
            (row(10.0, 5.0, Goal::TimesLimit(2.0)), Some(true)),
            (row(10.1, 5.0, Goal::TimesLimit(2.0)), Some(false)),
            (row(4.0, 5.0, Goal::ShareOfLimit(0.8)), Some(true)),
            (row(3.9, 5.0, Goal::ShareOfLimit(0.8)), Some(false)),
            (row(3.0, 5.0, Goal::AtMost(2.9)), Some(false)),
            (row(3.0, 0.0, Goal::TimesLimit(1.0)), None),
        ] {
            assert_eq!(row.reached(), reached, "{row:?}");
        }
    }

    #[test]
    fn every_row_is_in_both_forms() {
        let mut report = Report::new(None);
        report.add(row(1500.0, 1000.0, Goal::TimesLimit(2.0)));
        assert!(report.markdown().contains("| a | 1.5 µs | 1.5 µs | 1.0 µs (bare) | 1.50 |"));
        assert!(json::report(&report).unwrap().contains("\"median\": 1500.0"));
        assert!(!Report::new(Some("b".into())).wants("a"));
    }

    /// Breaks if a figure of PostgreSQL's is lost, or if its column appears without one.
    #[test]
    fn the_column_of_postgres_is_there_only_when_measured() {
        let mut report = Report::new(None);
        report.add(row(1500.0, 1000.0, Goal::TimesLimit(2.0)));
        let other = Row { name: "b".into(), ..row(1.0, 1.0, Goal::AtMost(1.0)) };
        report.add(other);
        let columns = |report: &Report| {
            let markdown = report.markdown();
            let table = markdown.lines().filter(|line| line.starts_with('|'));
            table.map(|line| line.matches('|').count() - 1).collect::<Vec<_>>()
        };
        assert_eq!(columns(&report), [7; 4]);
        assert!(!json::report(&report).unwrap().contains("postgres"));

        report.set_peer("nobody", Peer::Postgres, Figure::one(1.0));
        assert_eq!(columns(&report), [7; 4]);
        report.set_peer("a", Peer::Postgres, Figure::one(540_000.0));
        assert!(report.has("a") && !report.has("nobody"));
        assert_eq!(columns(&report), [8; 4]);
        assert!(report.markdown().contains("| 1.50 | 540.0 µs | ≤ 2 × limit |"));
        assert!(report.markdown().contains("| 1.00 | – | ≤ 1.00 ns |"));
        let json: serde_json::Value =
            serde_json::from_str(&json::report(&report).unwrap()).unwrap();
        assert_eq!(json["rows"][0]["postgres"]["median"], 540_000.0);
        assert!(json["rows"][1].as_object().unwrap()["postgres"].is_null());
    }
}

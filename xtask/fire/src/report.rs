//! All that was seen of a server.

use crate::phase::Phase;
use crate::request::{Fate, Request};
use crate::server::{Boot, Kind};
use crate::verdict::{Death, Figures, is_cut};
use std::time::Duration;

/// What was seen of a phase besides its requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Workers that died unasked.
    pub(crate) deaths: Vec<Death>,
    /// Starts of workers within the phase.
    pub(crate) boots: Vec<Boot>,
    pub(crate) lasted: Duration,
    /// CPU time of the process that starts the workers.
    pub(crate) cpu: Option<Duration>,
    pub(crate) logged: u64,
    /// How long each hung request lasted.
    pub(crate) hung: Vec<Duration>,
    /// How many hung requests never ended.
    pub(crate) still_hung: usize,
    /// The most memory that a worker had for itself.
    pub(crate) peak: u64,
    /// From the order to replace all to the end of the last old worker.
    pub(crate) replaced: Option<Duration>,
    /// The moment of the order to stop, and how long that took.
    pub(crate) stopped: Option<(Duration, Duration)>,
    /// When the server ended by itself.
    pub(crate) gone: Option<Duration>,
    /// It did not have all its workers again in time.
    pub(crate) crippled: bool,
}

/// A phase that is over.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) phase: Phase,
    pub(crate) facts: Facts,
    pub(crate) figures: Figures,
    /// For each death, how long until a worker that was started after it answered.
    pub(crate) first_answers: Vec<Duration>,
    /// Requests begun after the order to stop whose connection broke.
    pub(crate) broken_by_stop: usize,
    /// The first requests that failed.
    first_failures: Vec<Request>,
    begin: Duration,
    end: Duration,
}

/// What one server went through.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) kind: Kind,
    pub(crate) reports: Vec<Report>,
    /// What else was wrong with it.
    pub(crate) complaints: Vec<String>,
}

impl Outcome {
    fn sum(&self, count: impl Fn(&Report) -> usize) -> usize {
        self.reports.iter().map(count).sum()
    }

    pub(crate) fn requests(&self) -> usize {
        self.sum(|report| report.figures.requests)
    }

    pub(crate) fn cut(&self) -> usize {
        self.sum(|report| report.figures.cut.iter().sum())
    }

    /// Requests that waited too long because all workers hung.
    pub(crate) fn late(&self) -> usize {
        self.sum(Report::late)
    }

    pub(crate) fn failed(&self) -> usize {
        self.sum(|report| report.figures.failures() - report.late())
    }

    pub(crate) fn worst(&self) -> impl Iterator<Item = (Phase, Duration)> + '_ {
        self.reports.iter().filter_map(|report| Some((report.phase, report.figures.worst()?)))
    }
}

impl Report {
    fn late(&self) -> usize {
        let late = self.figures.failed.get(&Fate::Late).copied().unwrap_or(0);
        if self.phase == Phase::HangAll { late } else { 0 }
    }

    pub(crate) fn of(phase: Phase, facts: Facts, begin: Duration, end: Duration) -> Self {
        let facts = Facts { lasted: end - begin, ..facts };
        Self {
            phase,
            facts,
            figures: Figures::default(),
            first_answers: Vec::new(),
            broken_by_stop: 0,
            first_failures: Vec::new(),
            begin,
            end,
        }
    }

    /// Judges the requests that were begun in this phase, by the deaths of all phases.
    pub(crate) fn judge(&mut self, requests: &[Request], deaths: &[Death]) {
        let until = self.facts.stopped.map_or(self.end, |(asked, _)| asked);
        let begun = |begin, end| {
            requests.iter().filter(move |request| request.begin >= begin && request.begin < end)
        };
        self.figures = Figures::of(begun(self.begin, until), deaths);
        let failed =
            |request: &&Request| request.fate != Fate::Answered && !is_cut(request, deaths);
        self.first_failures = begun(self.begin, until).filter(failed).take(FEW).cloned().collect();
        let after = begun(until, self.end);
        self.broken_by_stop = after.filter(|request| request.fate.is_broken()).count();
        let answered = |boot: &Boot| {
            let by_it = |request: &&Request| {
                request.fate == Fate::Answered
                    && request.worker == Some(boot.pid)
                    && request.end >= boot.at
            };
            requests.iter().filter(by_it).map(|request| request.end).min()
        };
        self.first_answers = (self.facts.deaths.iter())
            .filter_map(|death| {
                let boot = self.facts.boots.iter().find(|boot| boot.at > death.at)?;
                Some(answered(boot)? - death.at)
            })
            .collect();
    }
}

/// How many failed requests of a phase are described.
const FEW: usize = 5;

impl Report {
    fn describe(&self, request: &Request) -> String {
        let worker = request.worker.map_or("?".to_owned(), |worker| worker.to_string());
        let after = |at: Duration| format!("{:.4} s", at.saturating_sub(self.begin).as_secs_f64());
        format!(
            "{} at {} to {}, {} connection of worker {worker}",
            request.fate.name(),
            after(request.begin),
            after(request.end),
            if request.kept { "kept" } else { "new" },
        )
    }
}

/// What was wrong with the server itself; prints how requests failed.
pub(crate) fn complaint(report: &Report) -> Option<String> {
    let phase = report.phase;
    if report.figures.failures() > 0 {
        let kinds = report.figures.failed.iter();
        let kinds: Vec<_> = kinds.map(|(fate, n)| format!("{n} {}", fate.name())).collect();
        println!("{phase}: {}", kinds.join(", "));
        for request in &report.first_failures {
            println!("  {}", report.describe(request));
        }
    }
    for death in report.facts.deaths.iter().filter(|_| report.figures.failures() > 0) {
        let at = (death.at - report.begin).as_secs_f64();
        println!("  worker {} died at {at:.4} s", death.pid);
    }
    match (&report.facts, phase) {
        (Facts { gone: Some(_), .. }, _) => Some(format!("{phase}: the server has gone")),
        (Facts { crippled: true, .. }, _) => Some(format!("{phase}: workers are missing")),
        (Facts { still_hung: 1.., .. }, _) => Some(format!("{phase}: a worker hangs for ever")),
        _ => None,
    }
}

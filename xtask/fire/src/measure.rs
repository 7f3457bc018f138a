//! What is shown of each phase, with the goal of ours.

use crate::phase::Phase;
use crate::report::Report;
use crate::server::Kind;
use std::time::Duration;

/// One figure of one server.
#[derive(Clone, Debug)]
pub(crate) struct Measure {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    pub(crate) goal: &'static str,
    /// Whether the goal is reached; `None` without a goal or without a figure.
    pub(crate) reached: Option<bool>,
}

fn ms(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1e3)
}

fn or_dash<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), show)
}

fn median(values: &[Duration]) -> Option<Duration> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

fn plain(name: &'static str, value: String) -> Measure {
    Measure { name, value, goal: "", reached: None }
}

fn judged(name: &'static str, value: String, goal: &'static str, reached: bool) -> Measure {
    Measure { name, value, goal, reached: Some(reached) }
}

/// The figures of a phase: the same names in the same order for all servers.
pub(crate) fn of(kind: &Kind, report: &Report) -> Vec<Measure> {
    let (facts, figures) = (&report.facts, &report.figures);
    let mut measures = Vec::new();
    if report.phase != Phase::NoneStarts {
        let failed = figures.failures();
        let goal = if report.phase == Phase::HangAll { "< 350, recovered" } else { "0" };
        let good = if report.phase == Phase::HangAll { failed < 350 } else { failed == 0 };
        let whole = facts.gone.is_none() && !facts.crippled && facts.still_hung == 0;
        let note = if whole { "" } else { ", not recovered" };
        measures.push(judged("failed", format!("{failed}{note}"), goal, good && whole));
        let p99 = |kept| or_dash(figures.p99(kept), ms);
        let both = format!("{} / {} / {}", p99(false), p99(true), or_dash(figures.worst(), ms));
        measures.push(plain("p99 of new / kept connections / worst, ms", both));
    }
    match report.phase {
        Phase::Quiet => {
            let share = or_dash(figures.busiest, |share| format!("{:.0} %", share * 100.0));
            let even = figures.busiest.is_some_and(|share| share <= 0.3);
            measures.push(judged("kept connections: the busiest of 4", share, "≤ 30 %", even));
            let ratio = (figures.p99(true).zip(figures.p99(false)))
                .map(|(kept, new)| kept.as_secs_f64() / new.as_secs_f64());
            let near = ratio.is_some_and(|ratio| ratio <= 2.0);
            let shown = or_dash(ratio, |ratio| format!("{ratio:.1} ×"));
            measures.push(judged("p99 of kept over that of new", shown, "≤ 2 ×", near));
        }
        Phase::Kill => kill(report, &mut measures),
        Phase::Crash => starts(report, &mut measures),
        Phase::Hang | Phase::HangAll => {
            let last = facts.hung.iter().max().copied().filter(|_| facts.still_hung == 0);
            let in_time = last.is_some_and(|last| last <= Duration::from_millis(3100));
            let shown = last.map_or_else(|| "never".to_owned(), ms);
            measures.push(judged("killed after, ms (limit 3 s)", shown, "≤ 3100", in_time));
            let cut = figures.cut.iter().sum::<usize>().to_string();
            measures.push(plain("cut with their worker", cut));
        }
        Phase::Leak => {
            let peak = facts.peak as f64;
            let limit = kind.memory_limit().map(|limit| peak / limit as f64);
            let within = limit.is_some_and(|ratio| ratio <= 1.2);
            let ratio = limit.map(|ratio| format!(" ({ratio:.2} × its limit)")).unwrap_or_default();
            let shown = format!("{:.0} MiB{ratio}", peak / f64::from(1 << 20));
            measures.push(judged("most memory of a worker", shown, "≤ 1.2 ×", within));
            measures.push(plain("workers started", facts.boots.len().to_string()));
        }
        Phase::Roll => {
            let shown = or_dash(facts.replaced, ms);
            measures.push(plain("until the last old one has gone, ms", shown));
        }
        Phase::Reload => {}
        Phase::Stop => {
            let took = facts.stopped.map(|(_, took)| took);
            let fast = took.is_some_and(|took| took <= Duration::from_millis(50));
            measures.push(judged("ends after, ms", or_dash(took, ms), "≤ 50", fast));
            let broken = report.broken_by_stop;
            measures.push(judged("begun after it, reset", broken.to_string(), "0", broken == 0));
        }
        Phase::NoneStarts => none_starts(report, &mut measures),
    }
    measures
}

fn kill(report: &Report, measures: &mut Vec<Measure>) {
    let (facts, [new, kept]) = (&report.facts, report.figures.cut);
    let kills = facts.deaths.len();
    let shown = format!("{new} / {kept} in {kills}");
    measures.push(judged("cut: new / kept connections", shown, "≤ 1 a kill", new <= kills));
    let lines: Vec<Duration> = (facts.deaths.iter())
        .filter_map(|death| {
            let boot = facts.boots.iter().find(|boot| boot.at > death.at)?;
            Some(boot.at - death.at)
        })
        .collect();
    let line = median(&lines);
    let soon = line.is_some_and(|line| line <= Duration::from_millis(1));
    measures.push(judged("next worker's first line, ms", or_dash(line, ms), "≤ 1", soon));
    let answer = median(&report.first_answers);
    let soon = answer.is_some_and(|answer| answer <= Duration::from_millis(7));
    measures.push(judged("its first answer, ms", or_dash(answer, ms), "≤ 7", soon));
}

fn starts(report: &Report, measures: &mut Vec<Measure>) {
    let facts = &report.facts;
    let rate = facts.boots.len() as f64 / facts.lasted.as_secs_f64();
    let few = rate <= 10.0;
    measures.push(judged("starts a second", format!("{rate:.1}"), "≤ 10", few));
}

fn none_starts(report: &Report, measures: &mut Vec<Measure>) {
    let facts = &report.facts;
    starts(report, measures);
    let share = facts.cpu.map(|cpu| cpu.as_secs_f64() / facts.lasted.as_secs_f64() * 100.0);
    let idle = share.is_some_and(|share| share <= 1.0);
    let shown = or_dash(share, |share| format!("{share:.1} %"));
    measures.push(judged("CPU of the postmaster", shown, "≤ 1 % of a core", idle));
    let kib = facts.logged as f64 / 1024.0;
    measures.push(judged("log, KiB", format!("{kib:.1}"), "≤ 10", kib <= 10.0));
    let gone = or_dash(facts.gone, |gone| format!("after {:.1} s", gone.as_secs_f64()));
    measures.push(judged("gives up", gone, "never", facts.gone.is_none()));
}

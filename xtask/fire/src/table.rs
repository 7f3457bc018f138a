//! All servers in one table.

use crate::measure::{self, Measure};
use crate::phase::Phase;
use crate::report::Outcome;

/// The table, in Markdown. The first outcome is that of the server with the goals.
pub(crate) fn render(outcomes: &[Outcome]) -> String {
    let mut lines = vec![row(&heads(outcomes)), "|---".repeat(outcomes.len() + 4) + "|"];
    for phase in Phase::ALL {
        let columns: Vec<Option<Vec<Measure>>> = outcomes
            .iter()
            .map(|outcome| {
                let report = outcome.reports.iter().find(|report| report.phase == phase)?;
                Some(measure::of(&outcome.kind, report))
            })
            .collect();
        let Some(longest) = columns.iter().flatten().max_by_key(|measures| measures.len()) else {
            continue;
        };
        for (index, measure) in longest.iter().enumerate() {
            let mut cells = vec![phase.title().to_owned(), measure.name.to_owned()];
            for (outcome, column) in outcomes.iter().zip(&columns) {
                cells.push(match column {
                    Some(measures) => measures[index].value.clone(),
                    None => outcome.kind.lacks(phase).unwrap_or("–").to_owned(),
                });
            }
            let ours = columns.first().and_then(Option::as_ref);
            let reached = ours.and_then(|measures| measures[index].reached);
            let reached = reached.map_or("", |reached| if reached { "yes" } else { "no" });
            cells.extend([measure.goal.to_owned(), reached.to_owned()]);
            lines.push(row(&cells));
        }
    }
    lines.join("\n") + "\n"
}

fn heads(outcomes: &[Outcome]) -> Vec<String> {
    let mut heads = vec!["phase".to_owned(), "figure".to_owned()];
    heads.extend(outcomes.iter().map(|outcome| outcome.kind.name().to_owned()));
    heads.extend(["goal".to_owned(), "reached".to_owned()]);
    heads
}

fn row(cells: &[String]) -> String {
    format!("| {} |", cells.join(" | "))
}

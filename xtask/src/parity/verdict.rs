//! What became of each test, and what follows for its rows. No processes here.

use super::rows::Row;
use serde_json::{Value, json};
use std::fmt::Write;

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    /// With the reason.
    Skipped(String),
    /// With what it printed.
    Failed(String),
}

/// A test that ran.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) package: String,
    pub(crate) program: String,
    pub(crate) name: String,
    pub(crate) ids: Vec<String>,
    pub(crate) outcome: Outcome,
    pub(crate) seconds: f64,
}

/// A row with its tests.
#[derive(Debug)]
pub(crate) struct Verdict<'a> {
    pub(crate) row: &'a Row,
    pub(crate) tests: Vec<&'a Ran>,
}

impl Verdict<'_> {
    /// A test passed, and none failed. A skipped one proves nothing.
    pub(crate) fn proven(&self) -> bool {
        let passed = self.tests.iter().any(|test| test.outcome == Outcome::Passed);
        passed && !self.tests.iter().any(|test| matches!(test.outcome, Outcome::Failed(_)))
    }

    fn why_not(&self) -> &'static str {
        if self.proven() {
            "proven"
        } else if self.tests.is_empty() {
            "NO TEST"
        } else if self.tests.iter().any(|test| matches!(test.outcome, Outcome::Failed(_))) {
            "FAILED"
        } else {
            "SKIPPED"
        }
    }
}

/// The rows in their order, each with its tests.
pub(crate) fn verdicts<'a>(rows: &[&'a Row], ran: &'a [Ran]) -> Vec<Verdict<'a>> {
    rows.iter()
        .map(|row| {
            let tests = ran.iter().filter(|test| test.ids.iter().any(|id| id == row.id)).collect();
            Verdict { row, tests }
        })
        .collect()
}

/// The listing: row, title, outcome, what meets it, its tests.
pub(crate) fn listing(verdicts: &[Verdict<'_>]) -> String {
    let mut text = String::new();
    for verdict in verdicts {
        let Verdict { row, tests } = verdict;
        let _ = writeln!(text, "{}  {:7}  {}", row.id, verdict.why_not(), row.title);
        if !row.met_by.is_empty() {
            let _ = writeln!(text, "              met by: {}", row.met_by);
        }
        for test in tests {
            let outcome = match &test.outcome {
                Outcome::Passed => "ok".to_owned(),
                Outcome::Skipped(why) => format!("skipped: {why}"),
                Outcome::Failed(_) => "FAILED".to_owned(),
            };
            let Ran { package, program, name, seconds, .. } = test;
            let _ = writeln!(text, "     {package}/{program} {name} ({seconds:.1} s) {outcome}");
        }
    }
    text
}

/// The same for programs.
pub(crate) fn document(verdicts: &[Verdict<'_>]) -> Value {
    let rows: Vec<Value> = verdicts
        .iter()
        .map(|verdict| {
            let tests: Vec<Value> = verdict.tests.iter().map(|test| entry(test)).collect();
            json!({
                "id": verdict.row.id,
                "title": verdict.row.title,
                "met_by": verdict.row.met_by,
                "proven": verdict.proven(),
                "tests": tests,
            })
        })
        .collect();
    let (proven, of) = tally(verdicts);
    json!({ "proven": proven, "of": of, "rows": rows })
}

fn entry(test: &Ran) -> Value {
    let (outcome, detail) = match &test.outcome {
        Outcome::Passed => ("passed", ""),
        Outcome::Skipped(why) => ("skipped", why.as_str()),
        Outcome::Failed(printed) => ("failed", printed.as_str()),
    };
    json!({
        "crate": test.package,
        "program": test.program,
        "name": test.name,
        "outcome": outcome,
        "detail": detail,
        "seconds": test.seconds,
    })
}

/// How many rows are proven, and how many there are.
pub(crate) fn tally(verdicts: &[Verdict<'_>]) -> (usize, usize) {
    (verdicts.iter().filter(|verdict| verdict.proven()).count(), verdicts.len())
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Ran, document, listing, tally, verdicts};
    use crate::parity::rows::{ROWS, Row};

    fn ran(ids: &[&str], outcome: Outcome) -> Ran {
        Ran {
            package: "p".into(),
            program: "t".into(),
            name: "n".into(),
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            outcome,
            seconds: 0.5,
        }
    }

    #[test]
    fn a_row_is_proven_by_a_passed_test_and_no_failed_one() {
        let rows: Vec<&Row> = ROWS.iter().take(5).collect();
        let ran = [
            ran(&["B01", "B02", "B03"], Outcome::Passed),
            ran(&["B02"], Outcome::Failed("panicked".into())),
            ran(&["B03", "B04"], Outcome::Skipped("not root".into())),
        ];
        let verdicts = verdicts(&rows, &ran);
        let proven: Vec<_> = verdicts.iter().map(super::Verdict::proven).collect();
        assert_eq!(proven, [true, false, true, false, false]);
        assert_eq!(tally(&verdicts), (2, 5));
        let text = listing(&verdicts);
        for part in ["B01  proven", "B02  FAILED", "B04  SKIPPED", "B05  NO TEST", "not root"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let document = document(&verdicts);
        assert_eq!((&document["proven"], &document["of"]), (&2.into(), &5.into()));
        assert_eq!(document["rows"][1]["tests"][1]["detail"], "panicked");
        assert_eq!(document["rows"][4]["tests"].as_array().map(Vec::len), Some(0));
    }
}

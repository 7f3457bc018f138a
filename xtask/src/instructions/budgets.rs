//! The budgets, which `instructions.json` holds, and how counts compare with them.

use super::callgrind::Counts;
use crate::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::fmt;
use std::process::ExitCode;

/// From the root of the workspace.
pub(super) const FILE: &str = "xtask/instructions.json";
const TOLERANCE_PERCENT: u64 = 5;

/// The checked-in file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Budgets {
    pub(super) rustc: String,
    architecture: String,
    counts: BTreeMap<String, u64>,
}

impl Budgets {
    pub(super) fn of(counts: &Counts, rustc: &str) -> Self {
        Self {
            rustc: rustc.to_owned(),
            architecture: ARCH.to_owned(),
            counts: counts.iter().cloned().collect(),
        }
    }

    pub(super) fn parse(json: &str) -> Result<Self> {
        serde_json::from_str(json).map_err(|error| format!("{FILE}: {error}").into())
    }

    pub(super) fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Counts of one architecture say nothing about another.
    pub(super) fn other_architecture(&self) -> Option<String> {
        let there = &self.architecture;
        (there != ARCH).then(|| format!("this is {ARCH} and the budgets are for {there}"))
    }

    /// All operations that were counted, then those that only have a budget.
    pub(super) fn compare(&self, counts: &Counts) -> Vec<Row> {
        let counted = counts.iter().map(|(name, count)| Row {
            name: name.clone(),
            count: Some(*count),
            budget: self.counts.get(name).copied(),
        });
        let missing =
            self.counts.iter().filter(|(name, _)| counts.iter().all(|(other, _)| other != *name));
        let missing = missing.map(|(name, budget)| Row {
            name: name.clone(),
            count: None,
            budget: Some(*budget),
        });
        counted.chain(missing).collect()
    }
}

/// One operation: what it costs and what it may cost.
#[derive(Debug)]
pub(super) struct Row {
    name: String,
    count: Option<u64>,
    budget: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    Within,
    /// So far below that the budget no longer guards it.
    Below,
    Above,
    NoBudget,
    NotCounted,
}

impl Row {
    fn verdict(&self) -> Verdict {
        let part = |of: u64, percent: u64| u128::from(of) * u128::from(percent);
        match (self.count, self.budget) {
            (None, _) => Verdict::NotCounted,
            (_, None) => Verdict::NoBudget,
            (Some(count), Some(budget)) => {
                if part(count, 100) > part(budget, 100 + TOLERANCE_PERCENT) {
                    Verdict::Above
                } else if part(count, 100) < part(budget, 100 - TOLERANCE_PERCENT) {
                    Verdict::Below
                } else {
                    Verdict::Within
                }
            }
        }
    }

    fn failed(&self) -> bool {
        !matches!(self.verdict(), Verdict::Within | Verdict::Below)
    }

    /// In percent of the budget, and what is to be done.
    fn change(&self) -> String {
        let percent = match (self.count, self.budget) {
            (Some(count), Some(budget)) if budget > 0 => {
                format!("{:+.1} %", (count as f64 / budget as f64 - 1.0) * 100.0)
            }
            _ => String::new(),
        };
        match self.verdict() {
            Verdict::Within => percent,
            Verdict::Below => format!("{percent}, record it"),
            Verdict::Above => format!("{percent}, TOO MANY"),
            Verdict::NoBudget => "NO BUDGET, record it".into(),
            Verdict::NotCounted => "NOT COUNTED, record it".into(),
        }
    }
}

pub(super) fn print(rows: &[Row]) {
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    let line = |name: &str, count: &dyn fmt::Display, budget: &dyn fmt::Display, change: &str| {
        println!("{name:<width$} | {count:>8} | {budget:>8} | {change}");
    };
    let number = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
    println!();
    line("name", &"count", &"budget", "change");
    for row in rows {
        line(&row.name, &number(row.count), &number(row.budget), &row.change());
    }
}

pub(super) fn conclude(rows: &[Row]) -> (String, ExitCode) {
    let failed: Vec<_> = rows.iter().filter(|row| row.failed()).map(|r| r.name.as_str()).collect();
    if failed.is_empty() {
        return (format!("instructions: ok, {} counts", rows.len()), ExitCode::SUCCESS);
    }
    let (count, all, names) = (failed.len(), rows.len(), failed.join("; "));
    (format!("instructions: failed, {count} of {all}: {names}"), ExitCode::FAILURE)
}

#[cfg(test)]
mod tests {
    use super::super::callgrind::Counts;
    use super::{Budgets, Verdict, conclude};
    use std::process::ExitCode;

    fn counts(of: &[(&str, u64)]) -> Counts {
        of.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    fn budgets(of: &[(&str, u64)]) -> Budgets {
        Budgets::of(&counts(of), "rustc 1")
    }

    #[test]
    fn exactly_five_percent_more_is_within_the_budget_and_one_instruction_more_is_not() {
        let cases = [
            (1000, 1000, Verdict::Within),
            (1050, 1000, Verdict::Within),
            (1051, 1000, Verdict::Above),
            (950, 1000, Verdict::Within),
            (949, 1000, Verdict::Below),
            // Of small numbers, one is more than 5 %.
            (20, 19, Verdict::Above),
            (21, 20, Verdict::Within),
            (0, 0, Verdict::Within),
            (1, 0, Verdict::Above),
            (u64::MAX, u64::MAX, Verdict::Within),
            (u64::MAX, 1, Verdict::Above),
        ];
        for (count, budget, verdict) in cases {
            let rows = budgets(&[("a", budget)]).compare(&counts(&[("a", count)]));
            assert_eq!(rows[0].verdict(), verdict, "{count} of {budget}");
        }
    }

    #[test]
    fn one_row_above_its_budget_fails_all_and_is_named() {
        let some = counts(&[("a", 100), ("b", 106), ("c", 50)]);
        let rows = budgets(&[("a", 100), ("b", 100), ("c", 100)]).compare(&some);
        let said = "instructions: failed, 1 of 3: b".to_owned();
        assert_eq!(conclude(&rows), (said, ExitCode::FAILURE));
        assert_eq!(
            (rows[1].change(), rows[0].change()),
            ("+6.0 %, TOO MANY".into(), "+0.0 %".into())
        );
        let rows = budgets(&[("a", 100)]).compare(&some[..1].to_vec());
        assert_eq!(conclude(&rows), ("instructions: ok, 1 counts".into(), ExitCode::SUCCESS));
    }

    #[test]
    fn a_count_without_a_budget_and_a_budget_without_a_count_fail() {
        let rows = budgets(&[("gone", 1)]).compare(&counts(&[("new", 1)]));
        let verdicts: Vec<_> = rows.iter().map(|row| (&*row.name, row.verdict())).collect();
        assert_eq!(verdicts, [("new", Verdict::NoBudget), ("gone", Verdict::NotCounted)]);
        assert_eq!(conclude(&rows).1, ExitCode::FAILURE);
    }

    #[test]
    fn what_is_recorded_is_read_back() {
        let some = budgets(&[("b", 2), ("a", 1)]);
        let json = some.to_json().unwrap();
        assert_eq!(Budgets::parse(&json).unwrap(), some);
        assert_eq!(some.other_architecture(), None);
        let other = Budgets { architecture: "pdp11".into(), ..some };
        assert!(other.other_architecture().unwrap().ends_with("the budgets are for pdp11"));
        for bad in ["", "{}", r#"{"rustc": "", "architecture": "", "counts": {"a": -1}}"#] {
            assert!(Budgets::parse(bad).is_err(), "{bad}");
        }
    }
}

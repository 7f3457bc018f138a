//! The table at the end of `test` and `loom`, and the verdict.

use super::Report;
use crate::watched::Ran;
use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

/// One call of `cargo test`.
#[derive(Debug)]
pub(crate) struct Row {
    package: String,
    features: String,
    report: Report,
    took: Duration,
}

impl Row {
    /// A call that failed without naming a failed test counts as one failure, so that no sum hides
    /// a crate which did not build or a test program which died.
    pub(crate) fn new(package: &str, features: &str, ran: &Ran) -> Self {
        let mut report = Report::parse(&ran.text);
        if !ran.success() && report.failed == 0 {
            report.failed = 1;
            report.failures.push(match ran.status {
                Some(status) => format!("did not build, or a test program died ({status})"),
                None => "hung: ended since it printed nothing for long".to_owned(),
            });
        }
        Self { package: package.into(), features: features.into(), report, took: ran.took }
    }
}

/// The rows, in the order in which they ran.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Row>);

impl Table {
    pub(crate) fn push(&mut self, row: Row) {
        self.0.push(row);
    }

    /// Prints the table, the skipped and the failed tests, and the sums as the last line.
    pub(crate) fn conclude(&self) -> ExitCode {
        println!("\n{self}");
        if self.good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn sums(&self) -> (u64, u64, u64) {
        self.0.iter().fold((0, 0, 0), |(passed, failed, skipped), row| {
            let report = &row.report;
            (passed + report.passed, failed + report.failed, skipped + report.skipped)
        })
    }

    /// Nothing failed, and something ran.
    fn good(&self) -> bool {
        let (passed, failed, _) = self.sums();
        failed == 0 && passed > 0
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = |text: fn(&Row) -> &str, least: usize| {
            self.0.iter().map(|row| text(row).len()).max().unwrap_or(0).max(least)
        };
        let a = width(|row| &row.package, "crate".len());
        let b = width(|row| &row.features, "features".len());
        writeln!(f, "{:a$}  {:b$}  passed  failed  skipped  seconds", "crate", "features")?;
        let mut notes = String::new();
        for row in &self.0 {
            let Report { passed, failed, skipped, skips, failures } = &row.report;
            writeln!(
                f,
                "{:a$}  {:b$}  {passed:>6}  {failed:>6}  {skipped:>7}  {:>7.1}",
                row.package,
                row.features,
                row.took.as_secs_f64()
            )?;
            let set = format!("{}, {}", row.package, row.features);
            for skip in skips {
                writeln!(notes, "skipped: {set}: {skip}")?;
            }
            for failure in failures {
                writeln!(notes, "FAILED: {set}: {failure}")?;
            }
        }
        if !notes.is_empty() {
            writeln!(f, "\n{notes}")?;
        }
        let (passed, failed, skipped) = self.sums();
        if passed + failed == 0 {
            writeln!(f, "no test ran: that is a failure")?;
        }
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::{Row, Table};
    use crate::watched::Ran;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;
    use std::time::Duration;

    fn row(text: &str, code: i32) -> Row {
        let status = Some(ExitStatus::from_raw(code << 8));
        let ran = Ran { text: text.into(), status, took: Duration::from_millis(1500) };
        Row::new("bgw-core", "default", &ran)
    }

    const GOOD: &str =
        "test odd ... ignored (why)\ntest result: ok. 2 passed; 0 failed; 1 ignored; 0 measured";

    #[test]
    fn the_last_line_holds_the_sums_and_nothing_else() {
        let table = Table(vec![row(GOOD, 0), row(GOOD, 0)]);
        let text = table.to_string();
        assert_eq!(text.lines().last(), Some("4 passed, 0 failed, 2 skipped"));
        assert!(text.contains("skipped: bgw-core, default: : odd: why\n"), "{text}");
        assert!(table.good());
    }

    #[test]
    fn a_crate_that_does_not_build_is_a_failure() {
        let table = Table(vec![row(GOOD, 0), row("error: could not compile", 101)]);
        assert!(!table.good());
        assert_eq!(table.sums(), (2, 1, 1));
        assert!(table.to_string().contains("did not build, or a test program died"));
    }

    #[test]
    fn a_program_that_died_after_another_passed_is_a_failure() {
        let table = Table(vec![row(GOOD, 101)]);
        assert_eq!(table.sums(), (2, 1, 1));
        assert!(!table.good());
    }

    #[test]
    fn a_hang_is_a_failure() {
        let ran = Ran { text: GOOD.into(), status: None, took: Duration::ZERO };
        let table = Table(vec![Row::new("x", "all", &ran)]);
        assert!(!table.good());
        assert!(table.to_string().contains("hung"));
    }

    #[test]
    fn no_test_at_all_is_a_failure() {
        let table = Table(vec![row("", 0)]);
        assert!(!table.good());
        assert!(table.to_string().contains("no test ran"));
    }
}

//! Counts tests from what `cargo test` printed, by its `test result:` lines.
//!
//! The text is cut at cargo's lines `Running …` and `Doc-tests …`. Of a test program the last
//! result counts, since a failed test may show the report of a program that it ran; of doc tests
//! all count, since rustdoc may report in several parts.

/// What the tests of one call of cargo came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
    /// The skipped tests, each with its program and its reason.
    pub(crate) skips: Vec<String>,
    /// The failed tests, each with its program.
    pub(crate) failures: Vec<String>,
}

/// The numbers of one `test result:` line.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Numbers {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Report {
    pub(crate) fn parse(text: &str) -> Self {
        let mut report = Self::default();
        let mut program = String::new();
        let mut doc_tests = false;
        let mut last = None;
        for line in text.lines() {
            let trimmed = line.trim_start();
            if let Some(rest) = trimmed.strip_prefix("Running ")
                && line.starts_with(' ')
            {
                report.add(last.take());
                // `unittests src/lib.rs (target/debug/deps/x-0123)`
                program = rest.split(" (").next().unwrap_or(rest).to_owned();
                doc_tests = false;
            } else if let Some(rest) = trimmed.strip_prefix("Doc-tests ")
                && line.starts_with(' ')
            {
                report.add(last.take());
                program = format!("doc tests of {rest}");
                doc_tests = true;
            } else if let Some(numbers) = Numbers::parse(line) {
                if doc_tests {
                    report.add(last.take());
                }
                last = Some(numbers);
            } else {
                report.note(&program, line);
            }
        }
        report.add(last);
        report
    }

    fn add(&mut self, numbers: Option<Numbers>) {
        let Numbers { passed, failed, skipped } = numbers.unwrap_or_default();
        self.passed += passed;
        self.failed += failed;
        self.skipped += skipped;
    }

    /// `test NAME ... FAILED`, `test NAME ... ignored, WHY`, `test NAME ... ignored (WHY)`.
    fn note(&mut self, program: &str, line: &str) {
        let Some((name, end)) =
            line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
        else {
            return;
        };
        let name = name.trim_end();
        if end.starts_with("FAILED") {
            self.failures.push(format!("{program}: {name}"));
        } else if let Some(why) = end.strip_prefix("ignored") {
            let why = why.trim_start_matches([',', ' ']);
            let why = why.strip_prefix('(').and_then(|why| why.strip_suffix(')')).unwrap_or(why);
            let why = if why.is_empty() { "no reason given" } else { why };
            self.skips.push(format!("{program}: {name}: {why}"));
        }
    }
}

impl Numbers {
    fn parse(line: &str) -> Option<Self> {
        // `test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; …`
        let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let mut found = Self::default();
        for part in numbers.split("; ") {
            let Some((number, what)) = part.split_once(' ') else { continue };
            let place = match what {
                "passed" => &mut found.passed,
                "failed" => &mut found.failed,
                "ignored" => &mut found.skipped,
                _ => continue,
            };
            *place = number.parse().ok()?;
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::Report;

    const TEXT: &str = "\
   Compiling x v0.1.0
     Running unittests src/lib.rs (target/debug/deps/x-1)

running 2 tests
test a ... ok
test b ... ignored, needs a clock

test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

     Running tests/crash.rs (target/debug/deps/crash-1)

running 3 tests
test root_is_needed ... ignored (needs root: see ... the manual)
test broken         ... FAILED
test fine           ... ok

failures:

---- broken ----
-- output --
test result: ok. 70 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.00s

   Doc-tests x

running 1 test
test x/src/lib.rs - (line 3) ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

running 2 tests
test x/src/lib.rs - (line 9) ... ignored
test x/src/lib.rs - (line 7) - compile fail ... ok

test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    #[test]
    fn results_are_summed_over_programs_and_parts_of_doc_tests() {
        let report = Report::parse(TEXT);
        assert_eq!((report.passed, report.failed, report.skipped), (4, 1, 3));
    }

    #[test]
    fn skipped_and_failed_tests_are_named_with_program_and_reason() {
        let report = Report::parse(TEXT);
        assert_eq!(report.failures, ["tests/crash.rs: broken"]);
        assert_eq!(
            report.skips,
            [
                "unittests src/lib.rs: b: needs a clock",
                "tests/crash.rs: root_is_needed: needs root: see ... the manual",
                "doc tests of x: x/src/lib.rs - (line 9): no reason given",
            ]
        );
    }

    #[test]
    fn a_program_that_died_counts_nothing_and_takes_nothing_from_the_next() {
        let text = "     Running a (x)\nrunning 2 tests\n     Running b (y)\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";
        assert_eq!(Report::parse(text).passed, 1);
        assert_eq!(Report::parse("error: could not compile"), Report::default());
    }

    #[test]
    fn a_line_that_only_resembles_a_result_counts_nothing() {
        for line in [
            "test result: ok",
            "test result: ok. x passed; 0 failed",
            "a test result: ok. 1 passed",
        ] {
            assert_eq!(Report::parse(line), Report::default(), "{line}");
        }
    }
}

//! The tests that RELIABILITY.md and SECURITY.md name, as `module::sentence`, exist. A row of
//! RELIABILITY.md names tests that prove it, or says that nothing does yet, and there is one for
//! each promise.

use super::{Finding, syntax::Source};
use std::collections::BTreeSet;

const RULE: &str = "named-test";
/// Their rows are those of `cargo xtask parity` that concern reliability.
const KINDS: [(char, u32); 4] = [('D', 20), ('J', 47), ('P', 67), ('R', 27)];
const TABLE: &str = "RELIABILITY.md";
/// The tests of a promise that nothing proves.
const UNPROVEN: &str = "| not yet |";

/// The tests that exist, and the rows that they claim.
#[derive(Debug, Default)]
pub(super) struct Tests {
    /// `module::function`, the module by the name of its file.
    names: BTreeSet<String>,
    /// Function and row.
    proofs: BTreeSet<(String, String)>,
}

impl Tests {
    pub(super) fn of(sources: &[Source]) -> Self {
        let mut tests = Self::default();
        for source in sources {
            let module = module_of(&source.file);
            for item in source.modules.iter().flat_map(|module| &module.items) {
                tests.names.insert(format!("{module}::{item}"));
            }
            tests.add_proofs(&source.text);
        }
        tests
    }

    /// As tests say it, `name => [D01, B05]`, and the table of those that cannot:
    /// `"module::name", &["D01"]`.
    fn add_proofs(&mut self, text: &str) {
        for (opening, quoted) in [(" => [", false), ("&[", true)] {
            let mut rest = text;
            while let Some((before, after)) = rest.split_once(opening) {
                rest = after;
                // A long name stands on a line of its own.
                let before =
                    if quoted { before.trim_end().strip_suffix("\",") } else { Some(before) };
                let Some(before) = before else { continue };
                let name = before.rsplit(|c: char| !(c.is_alphanumeric() || c == '_')).next();
                let (Some(name), Some((ids, _))) = (name, after.split_once(']')) else { continue };
                for id in ids.split(", ").map(|id| if quoted { id.trim_matches('"') } else { id }) {
                    if is_id(id) {
                        self.proofs.insert((name.to_owned(), id.to_owned()));
                    }
                }
            }
        }
    }
}

/// The name by which a file is a module: `ends` of `tests/promises/ends.rs`.
fn module_of(file: &str) -> &str {
    let path = file.strip_suffix(".rs").unwrap_or(file);
    let path = path.strip_suffix("/mod").or_else(|| path.strip_suffix("/main")).unwrap_or(path);
    path.rsplit('/').next().unwrap_or(path)
}

fn is_id(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(|kind| kind.is_ascii_uppercase())
        && text.len() == 3
        && characters.all(|digit| digit.is_ascii_digit())
}

pub(super) fn check(file: &str, text: &str, tests: &Tests) -> Vec<Finding> {
    let mut findings = Vec::new();
    if file != TABLE && file != "SECURITY.md" {
        return findings;
    }
    let mut add = |line, text: String| {
        findings.push(Finding { file: file.to_owned(), line, rule: RULE, text });
    };
    let mut rows = BTreeSet::new();
    for (index, line) in text.lines().enumerate() {
        let row = line.strip_prefix("| ").and_then(|rest| rest.split(' ').next());
        let row = row.filter(|row| is_id(row));
        rows.extend(row);
        let proven = tests.proofs.iter().find(|(_, id)| Some(id.as_str()) == row);
        if let Some((name, id)) = proven.filter(|_| line.contains(UNPROVEN)) {
            add(index + 1, format!("`{name}` says that it proves {id}; name it"));
        }
        for test in line.split('`').skip(1).step_by(2).filter(|span| is_test(span)) {
            let name = test.rsplit("::").next().unwrap_or(test);
            if !tests.names.contains(test) {
                add(index + 1, format!("there is no test `{test}`; correct the name"));
            } else if let Some(row) = row
                && !tests.proofs.contains(&(name.to_owned(), row.to_owned()))
            {
                add(index + 1, format!("`{test}` does not say that it proves {row}"));
            }
        }
    }
    if file == TABLE {
        let wanted = KINDS
            .iter()
            .flat_map(|(kind, last)| (1..=*last).map(move |number| format!("{kind}{number:02}")));
        for id in wanted.filter(|id| !rows.contains(id.as_str())) {
            add(0, format!("there is no row for {id}"));
        }
    }
    findings
}

/// Is a span meant as a test? Modules and functions are lower case, types are not.
fn is_test(span: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | ':');
    span.contains("::") && span.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::{KINDS, Source, TABLE, Tests, check};

    fn there_are() -> Tests {
        let tests = "fn all() { tests![ends => [Z01, Z02], other] } fn ends() {} fn other() {}";
        let claims = r#"const C: &[X] = &[loom("reset::torn", &["Z17"]), a(
            "reset::torn",
            &["Z18"])];"#;
        let sources = [
            ("a/tests/promises/waits.rs", tests),
            ("a/tests/loom/reset.rs", "fn torn() {}"),
            ("a/tests/hostile/main.rs", "mod tests { fn inner() {} }"),
            ("xtask/src/parity/claims.rs", claims),
        ];
        Tests::of(&sources.map(|(file, text)| Source::parse(file, text).unwrap()))
    }

    fn found(file: &str, text: &str) -> Vec<String> {
        let findings = check(file, text, &there_are()).into_iter();
        findings.filter(|found| found.line > 0).map(|found| found.text).collect()
    }

    #[test]
    fn a_test_is_named_by_its_file_and_its_function() {
        let fine = "| Z01 | x | `waits::ends` |\n| Z17 | `reset::torn` |\n`hostile::inner`";
        assert_eq!(found(TABLE, fine), [""; 0]);
        assert_eq!(found(TABLE, "| Z18 | `reset::torn` |\n| Z19 | x | not yet |"), [""; 0]);
        let gone = found("SECURITY.md", "`waits::gone` and `Worker::gone` and `gone`");
        assert_eq!(gone, ["there is no test `waits::gone`; correct the name"]);
        assert_eq!(found("README.md", "`waits::gone`"), [""; 0]);
    }

    #[test]
    fn a_row_names_tests_that_prove_it() {
        for row in ["| Z03 | `waits::ends` |", "| Z01 | `waits::other` |"] {
            assert!(found(TABLE, row)[0].contains("does not say that it proves"), "{row}");
        }
    }

    #[test]
    fn a_row_that_has_a_proof_is_not_called_unproven() {
        let late = found(TABLE, "| Z01 | x | not yet |");
        assert_eq!(late, ["`ends` says that it proves Z01; name it"]);
    }

    #[test]
    fn a_promise_without_a_row_is_found() {
        let all: u32 = KINDS.iter().map(|(_, last)| last).sum();
        let missing = check(TABLE, "| D01 | promised |\n", &there_are());
        assert_eq!(missing.len() as u32, all - 1);
        assert_eq!(missing[0].text, "there is no row for D02");
    }
}

//! `cargo xtask parity`: is every behaviour of PostgreSQL's background workers here, and every
//! promise beyond them, of supervision and of jobs, too, proven by a test?
//!
//! Each test says which rows it proves (`claims.rs`). The task builds all test programs, runs those
//! tests one by one, and fails when a row has no passing test, when a test of a row failed, or when
//! a test names a row that does not exist.

mod claims;
mod programs;
mod rows;
mod verdict;

use crate::test::Report;
use crate::workspace::Workspace;
use crate::{Result, flags, watched};
use programs::Test;
use rows::{ROWS, Row};
use std::process::ExitCode;
use verdict::{Outcome, Ran};

pub(crate) fn run(flags: &flags::Parity) -> Result<ExitCode> {
    let rows = select(&flags.rows)?;
    let workspace = Workspace::load()?;
    println!("building the test programs; the first time takes some minutes");
    let mut tests = programs::tests(&workspace)?;
    if let Some(stray) = tests.iter().find(|test| !test.ids.iter().all(|id| known(id))) {
        let Test { package, program, name, .. } = stray;
        let ranges = rows::ranges();
        let text = format!("{package}/{program}: {name} proves an unknown row; there are {ranges}");
        return Err(text.into());
    }
    let found = tests.iter().map(|test| (&*test.package, &*test.program, &*test.name));
    if let [first, ..] = &claims::stray(found)[..] {
        return Err(format!("claims.rs names a test that does not exist: {first}").into());
    }
    tests.retain(|test| rows.iter().any(|row| test.ids.iter().any(|id| id == row.id)));

    let mut ran = Vec::new();
    for (index, test) in tests.iter().enumerate() {
        print!("[{:3}/{}] {}", index + 1, tests.len(), test.name);
        std::io::Write::flush(&mut std::io::stdout())?;
        let outcome = one(test)?;
        match &outcome.outcome {
            Outcome::Passed => println!(" ... ok"),
            Outcome::Skipped(why) => println!(" ... skipped: {why}"),
            Outcome::Failed(printed) => println!(" ... FAILED\n{printed}"),
        }
        ran.push(outcome);
    }

    let verdicts = verdict::verdicts(&rows, &ran);
    println!("\n{}", verdict::listing(&verdicts));
    if let Some(file) = &flags.json {
        let text = serde_json::to_string_pretty(&verdict::document(&verdicts))?;
        std::fs::write(file, text + "\n")
            .map_err(|error| format!("writing {} failed: {error}", file.display()))?;
    }
    let (proven, of) = verdict::tally(&verdicts);
    println!("parity: {proven} of {of} rows proven");
    Ok(if proven == of { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn known(id: &str) -> bool {
    ROWS.iter().any(|row| row.id == id)
}

/// The rows that were asked for, or all.
fn select(names: &[String]) -> Result<Vec<&'static Row>> {
    let names: Vec<String> = names.iter().map(|name| name.to_ascii_uppercase()).collect();
    if let Some(name) = names.iter().find(|name| !known(name)) {
        return Err(format!("no row {name}; there are {}", rows::ranges()).into());
    }
    Ok(ROWS.iter().filter(|row| names.is_empty() || names.iter().any(|n| n == row.id)).collect())
}

fn one(test: &Test) -> Result<Ran> {
    let ended = watched::run_quietly(test.command())?;
    let report = Report::parse(&ended.text);
    let outcome = if ended.success() && report.passed == 1 && report.failed == 0 {
        Outcome::Passed
    } else if ended.success() && report.skipped == 1 && report.passed + report.failed == 0 {
        let why = report.skips.first().and_then(|skip| skip.splitn(3, ": ").nth(2));
        Outcome::Skipped(why.unwrap_or("no reason given").to_owned())
    } else {
        Outcome::Failed(ended.text)
    };
    Ok(Ran {
        package: test.package.clone(),
        program: test.program.clone(),
        name: test.name.clone(),
        ids: test.ids.clone(),
        outcome,
        seconds: ended.took.as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    use super::{ROWS, select};

    #[test]
    fn rows_are_chosen_by_name_and_a_wrong_name_is_an_error() {
        assert_eq!(select(&[]).unwrap().len(), ROWS.len());
        let ids: Vec<_> = select(&["x09".into(), "B01".into()]).unwrap();
        assert_eq!(ids.iter().map(|row| row.id).collect::<Vec<_>>(), ["B01", "X09"]);
        assert!(select(&["B85".into()]).unwrap_err().to_string().starts_with("no row B85"));
    }
}

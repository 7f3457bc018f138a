//! `cargo xtask bench --instructions`: how many instructions each fast path executes, beside a
//! budget that is checked in. A count more than 5 % above its budget fails. Times differ from run
//! to run, these counts do not: the program runs twice, and two different counts fail, too.
//!
//! The counts depend on the compiler, the C library and the kind of processor (`memcpy` has a
//! version for each). The file names compiler and architecture: another architecture fails, another
//! compiler prints a note. `--record` writes the file anew.

mod budgets;
mod callgrind;

use crate::workspace::Workspace;
use crate::{Result, flags};
use budgets::{Budgets, FILE};
use callgrind::Counts;
use std::fs;
use std::process::ExitCode;
use xshell::cmd;

pub(crate) use callgrind::BENCH;

pub(crate) fn run(flags: &flags::Bench) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let file = workspace.root.join(FILE);
    if !callgrind::is_installed()? {
        println!(
            "instructions: failed, valgrind is not installed; install it: apt-get install valgrind"
        );
        return Ok(ExitCode::FAILURE);
    }
    let program = callgrind::build(&workspace)?;
    let counts = callgrind::count(&workspace, &program)?;
    let again = callgrind::count(&workspace, &program)?;
    if let Some(difference) = difference(&counts, &again) {
        println!("\ninstructions: failed, two runs differ: {difference}");
        return Ok(ExitCode::FAILURE);
    }
    let rustc = cmd!(workspace.shell, "rustc --version").quiet().read()?;
    if flags.record {
        fs::write(&file, Budgets::of(&counts, &rustc).to_json()?)?;
    }
    let budgets = Budgets::parse(
        &fs::read_to_string(&file)
            .map_err(|error| format!("reading {FILE} failed ({error}); --record writes it"))?,
    )?;
    if let Some(other) = budgets.other_architecture() {
        println!("\ninstructions: failed, {other}");
        return Ok(ExitCode::FAILURE);
    }
    let rows = budgets.compare(&counts);
    budgets::print(&rows);
    if budgets.rustc != rustc {
        println!("\nthe budgets are those of {}, this is {rustc}", budgets.rustc);
    }
    let (verdict, code) = budgets::conclude(&rows);
    println!("\n{verdict}");
    Ok(code)
}

/// The first thing in which two runs differ.
fn difference(one: &Counts, other: &Counts) -> Option<String> {
    if one.len() != other.len() {
        return Some(format!("{} counts, then {}", one.len(), other.len()));
    }
    let (first, then) = one.iter().zip(other).find(|(first, then)| first != then)?;
    Some(format!("{}: {}, then {}: {}", first.0, first.1, then.0, then.1))
}

#[cfg(test)]
mod tests {
    use super::{Counts, difference};

    fn counts(of: &[(&str, u64)]) -> Counts {
        of.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn two_runs_that_differ_are_told_apart() {
        let one = counts(&[("a", 1), ("b", 2)]);
        assert_eq!(difference(&one, &one.clone()), None);
        let other = difference(&one, &counts(&[("a", 1), ("b", 3)]));
        assert_eq!(other.as_deref(), Some("b: 2, then b: 3"));
        assert_eq!(difference(&one, &counts(&[])).as_deref(), Some("2 counts, then 0"));
    }
}

//! `cargo xtask bench --instructions`: how many instructions each fast path executes, beside a budget
//! that is checked in. More than 5 % above it fails. Times differ from run to run, these do not: the
//! program runs twice, and two different counts fail, too.
//!
//! Valgrind's callgrind counts; we call it ourselves. The crate gungraun would do it, but its runner
//! is a second program to be installed in exactly the version of the library, and it compares with the
//! last run, not with a file under review. What is needed is small: callgrind sets its counters to
//! zero whenever one function is entered and writes them down whenever it is left (`--zero-before`,
//! `--dump-after`). The program is bgw-backend's bench `instructions`, whose head comment has the
//! other half of the contract.
//!
//! The counts are those of one compiler, one C library and one kind of processor (`memcpy` has a
//! version for each). The file names compiler and architecture; on another architecture nothing is
//! compared, with another compiler the output says so, and `--record` writes the file anew.

use crate::flags;
use crate::sh::{self, Result};
use crate::workspace::Workspace;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// The bench program that is counted, and no criterion bench.
pub(crate) const BENCH: &str = "instructions";
const PACKAGE: &str = "bgw-backend";
/// The function in it whose calls are counted, as its symbol is named.
const COUNTED: &str = "bgw_counted";
const BUDGETS: &str = "xtask/instructions.json";
const TOLERANCE_PERCENT: u64 = 5;

/// Name and instructions of each operation, in the order of the program.
type Counts = Vec<(String, u64)>;

pub(crate) fn run(flags: &flags::Bench) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let file = workspace.root.join(BUDGETS);
    if !has_valgrind()? {
        println!(
            "instructions: failed, valgrind is not installed; install it: apt-get install valgrind"
        );
        return Ok(ExitCode::FAILURE);
    }
    let program = build(&workspace)?;
    let counts = count(&workspace, &program)?;
    let again = count(&workspace, &program)?;
    if let Some(difference) = difference(&counts, &again) {
        println!("\ninstructions: failed, two runs differ: {difference}");
        return Ok(ExitCode::FAILURE);
    }
    let rustc = rustc()?;
    if flags.record {
        fs::write(&file, written(&counts, &rustc)?)?;
    }
    let budgets = Budgets::parse(
        &fs::read_to_string(&file)
            .map_err(|error| format!("reading {BUDGETS} failed ({error}); --record writes it"))?,
    )?;
    if budgets.architecture != std::env::consts::ARCH {
        let (here, there) = (std::env::consts::ARCH, &budgets.architecture);
        println!("\ninstructions: failed, this is {here} and the budgets are of {there}");
        return Ok(ExitCode::FAILURE);
    }
    let rows = compare(&counts, &budgets.counts);
    print(&rows);
    if budgets.rustc != rustc {
        println!("\nthe budgets are those of {}, this is {rustc}", budgets.rustc);
    }
    let (verdict, code) = conclude(&rows);
    println!("\n{verdict}");
    Ok(code)
}

fn has_valgrind() -> Result<bool> {
    match Command::new("valgrind").arg("--version").stdout(Stdio::null()).status() {
        Ok(status) => Ok(status.success()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(format!("starting valgrind failed: {error}").into()),
    }
}

fn rustc() -> Result<String> {
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.arg("--version");
    Ok(sh::output(command)?.trim().to_owned())
}

/// Builds the program with the profile of benches and says where it is.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    let mut command = sh::cargo();
    command
        .args(["bench", "--no-run", "--message-format", "json-render-diagnostics"])
        .args(["-p", PACKAGE, "--bench", BENCH])
        .current_dir(&workspace.root);
    let messages = sh::output(command)?;
    executable(&messages).ok_or_else(|| format!("cargo built no program {BENCH}").into())
}

/// The program among what cargo says of a build.
fn executable(messages: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == BENCH)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

fn count(workspace: &Workspace, program: &Path) -> Result<Counts> {
    let profile = workspace.target.join("instructions.callgrind");
    let mut out: OsString = "--callgrind-out-file=".into();
    out.push(&profile);
    let mut command = Command::new("valgrind");
    command
        .args(["-q", "--tool=callgrind", "--combine-dumps=yes"])
        .args([format!("--zero-before={COUNTED}"), format!("--dump-after={COUNTED}")])
        .arg(out)
        .arg(program)
        // Nothing of the caller's surroundings is to be on the program's stack.
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    let shown = sh::shown(&command);
    // Parts are appended to a file that is there.
    match fs::remove_file(&profile) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let ran = sh::run_silently(command)?;
    if !ran.success() {
        return Err(format!("{shown} failed:\n{}", ran.text).into());
    }
    paired(&ran.text, &fs::read_to_string(&profile)?)
}

/// The names that the program printed with the counts that callgrind wrote, one part a call. The part
/// at the program's end is none of them.
fn paired(output: &str, profile: &str) -> Result<Counts> {
    let names: Vec<&str> =
        output.lines().filter_map(|line| line.strip_prefix("counted ")).collect();
    let mut counts = Vec::new();
    let mut after_a_call = false;
    for line in profile.lines() {
        if let Some(trigger) = line.strip_prefix("desc: Trigger: ") {
            after_a_call = trigger == format!("--dump-after={COUNTED}");
        } else if let Some(count) = line.strip_prefix("summary: ")
            && after_a_call
        {
            counts.push(count.trim().parse::<u64>()?);
        }
    }
    if names.is_empty() || names.len() != counts.len() {
        let (names, counts) = (names.len(), counts.len());
        return Err(format!("{names} operations ran, {counts} were counted").into());
    }
    Ok(names.into_iter().map(str::to_owned).zip(counts).collect())
}

/// The first thing in which two runs differ.
fn difference(one: &Counts, other: &Counts) -> Option<String> {
    if one.len() != other.len() {
        return Some(format!("{} counts, then {}", one.len(), other.len()));
    }
    let (first, then) = one.iter().zip(other).find(|(first, then)| first != then)?;
    Some(format!("{}: {}, then {}: {}", first.0, first.1, then.0, then.1))
}

/// The checked-in file.
#[derive(Debug, PartialEq)]
struct Budgets {
    rustc: String,
    architecture: String,
    counts: BTreeMap<String, u64>,
}

impl Budgets {
    fn parse(json: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(json)?;
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let counts = value["counts"].as_object().ok_or(format!("no counts in {BUDGETS}"))?;
        let number = |(name, count): (&String, &Value)| match count.as_u64() {
            Some(count) => Ok((name.clone(), count)),
            None => Err(format!("the budget of {name} in {BUDGETS} is {count}, no number")),
        };
        Ok(Self {
            rustc: text("rustc"),
            architecture: text("architecture"),
            counts: counts.iter().map(number).collect::<std::result::Result<_, _>>()?,
        })
    }
}

fn written(counts: &Counts, rustc: &str) -> Result<String> {
    let counts: BTreeMap<_, _> = counts.iter().cloned().collect();
    let value = json!({"architecture": std::env::consts::ARCH, "rustc": rustc, "counts": counts});
    Ok(serde_json::to_string_pretty(&value)? + "\n")
}

/// One operation: what it costs and what it may cost.
#[derive(Debug)]
struct Row {
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

/// All operations that were counted, then those that only have a budget.
fn compare(counts: &Counts, budgets: &BTreeMap<String, u64>) -> Vec<Row> {
    let counted = counts.iter().map(|(name, count)| Row {
        name: name.clone(),
        count: Some(*count),
        budget: budgets.get(name).copied(),
    });
    let gone = budgets.iter().filter(|(name, _)| counts.iter().all(|(other, _)| other != *name));
    let gone =
        gone.map(|(name, budget)| Row { name: name.clone(), count: None, budget: Some(*budget) });
    counted.chain(gone).collect()
}

fn print(rows: &[Row]) {
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

fn conclude(rows: &[Row]) -> (String, ExitCode) {
    let failed: Vec<_> = rows.iter().filter(|row| row.failed()).map(|r| r.name.as_str()).collect();
    if failed.is_empty() {
        return (format!("instructions: ok, {} counts", rows.len()), ExitCode::SUCCESS);
    }
    let (count, all, names) = (failed.len(), rows.len(), failed.join("; "));
    (format!("instructions: failed, {count} of {all}: {names}"), ExitCode::FAILURE)
}

#[cfg(test)]
mod tests {
    use super::{Budgets, Counts, Verdict, compare, conclude, difference, executable};
    use super::{paired, written};
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::process::ExitCode;

    fn counts(of: &[(&str, u64)]) -> Counts {
        of.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    fn budgets(of: &[(&str, u64)]) -> BTreeMap<String, u64> {
        counts(of).into_iter().collect()
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
            let rows = compare(&counts(&[("a", count)]), &budgets(&[("a", budget)]));
            assert_eq!(rows[0].verdict(), verdict, "{count} of {budget}");
        }
    }

    #[test]
    fn one_row_above_its_budget_fails_all_and_is_named() {
        let some = counts(&[("a", 100), ("b", 106), ("c", 50)]);
        let rows = compare(&some, &budgets(&[("a", 100), ("b", 100), ("c", 100)]));
        let said = "instructions: failed, 1 of 3: b".to_owned();
        assert_eq!(conclude(&rows), (said, ExitCode::FAILURE));
        assert_eq!(
            (rows[1].change(), rows[0].change()),
            ("+6.0 %, TOO MANY".into(), "+0.0 %".into())
        );
        let rows = compare(&some[..1].to_vec(), &budgets(&[("a", 100)]));
        assert_eq!(conclude(&rows), ("instructions: ok, 1 counts".into(), ExitCode::SUCCESS));
    }

    #[test]
    fn a_count_without_a_budget_and_a_budget_without_a_count_fail() {
        let rows = compare(&counts(&[("new", 1)]), &budgets(&[("gone", 1)]));
        let verdicts: Vec<_> = rows.iter().map(|row| (&*row.name, row.verdict())).collect();
        assert_eq!(verdicts, [("new", Verdict::NoBudget), ("gone", Verdict::NotCounted)]);
        assert_eq!(conclude(&rows).1, ExitCode::FAILURE);
    }

    #[test]
    fn names_and_parts_are_paired_and_a_missing_one_is_an_error() {
        let part = |trigger: &str, count: u32| {
            format!("part: 1\ndesc: Trigger: {trigger}\nsummary: {count}\ntotals: {count}\n")
        };
        let call = "--dump-after=bgw_counted";
        let profile = part(call, 7) + &part(call, 9) + &part("Program termination", 1000);
        let both = paired("counted a\nwarning\ncounted b c\n", &profile).unwrap();
        assert_eq!(both, counts(&[("a", 7), ("b c", 9)]));
        let error = paired("counted a\n", &profile).unwrap_err().to_string();
        assert_eq!(error, "1 operations ran, 2 were counted");
        assert!(paired("", &part("Program termination", 1)).is_err());
    }

    #[test]
    fn two_runs_that_differ_are_told_apart() {
        let one = counts(&[("a", 1), ("b", 2)]);
        assert_eq!(difference(&one, &one.clone()), None);
        let other = difference(&one, &counts(&[("a", 1), ("b", 3)]));
        assert_eq!(other.as_deref(), Some("b: 2, then b: 3"));
        assert_eq!(difference(&one, &counts(&[])).as_deref(), Some("2 counts, then 0"));
    }

    #[test]
    fn what_is_recorded_is_read_back() {
        let some = counts(&[("b", 2), ("a", 1)]);
        let read = Budgets::parse(&written(&some, "rustc 1").unwrap()).unwrap();
        assert_eq!((read.counts, &*read.rustc), (budgets(&[("a", 1), ("b", 2)]), "rustc 1"));
        assert_eq!(read.architecture, std::env::consts::ARCH);
        for bad in ["", "{}", r#"{"counts": {"a": -1}}"#] {
            assert!(Budgets::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_program_is_found_in_what_cargo_says() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"other"},"executable":"/o"}
{"reason":"compiler-artifact","target":{"name":"instructions"},"executable":"/i"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages).as_deref(), Some(Path::new("/i")));
        assert_eq!(executable(""), None);
    }
}

//! Counts by valgrind's callgrind, which sets its counters to zero whenever one function is entered
//! and writes them down whenever it returns (`--zero-before`, `--dump-after`). The program is
//! bgw-backend's bench `instructions`; its head comment has the other half of the contract.

use crate::artifacts::executables;
use crate::workspace::Workspace;
use crate::{Result, watched};
use cargo_metadata::camino::{Utf8Path, Utf8PathBuf};
use std::fs;
use std::io;
use std::process::{Command, Stdio};
use xshell::cmd;

/// The bench program that is counted. It is not a criterion bench.
pub(crate) const BENCH: &str = "instructions";
const PACKAGE: &str = "bgw-backend";
/// The symbol of the function whose calls are counted.
const COUNTED: &str = "bgw_counted";

/// Name and instructions of each operation, in the order of the program.
pub(super) type Counts = Vec<(String, u64)>;

pub(super) fn is_installed() -> Result<bool> {
    match Command::new("valgrind").arg("--version").stdout(Stdio::null()).status() {
        Ok(status) => Ok(status.success()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(format!("starting valgrind failed: {error}").into()),
    }
}

/// Builds the program with the profile of benches and returns its path.
pub(super) fn build(workspace: &Workspace) -> Result<Utf8PathBuf> {
    let command = cmd!(workspace.shell, "cargo bench --no-run -p {PACKAGE} --bench {BENCH}")
        .args(["--message-format", "json-render-diagnostics"]);
    println!("$ {command}");
    let built = executables(&command.quiet().read()?)?;
    let program = built.into_iter().find(|program| program.target.name == BENCH);
    let program = program.and_then(|program| program.executable);
    program.ok_or_else(|| format!("cargo built no program {BENCH}").into())
}

pub(super) fn count(workspace: &Workspace, program: &Utf8Path) -> Result<Counts> {
    let profile = workspace.target.join("instructions.callgrind");
    // Parts are appended to an existing file.
    match fs::remove_file(&profile) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let command = cmd!(
        workspace.shell,
        "valgrind -q --tool=callgrind --combine-dumps=yes --zero-before={COUNTED}
            --dump-after={COUNTED} --callgrind-out-file={profile} {program}"
    );
    let shown = command.to_string();
    // The caller's environment would lie on the program's stack and change its alignment.
    let command = command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    let ran = watched::run_quietly(command)?;
    if !ran.success() {
        return Err(format!("{shown} failed:\n{}", ran.text).into());
    }
    paired(&ran.text, &fs::read_to_string(&profile)?)
}

/// The names that the program printed, each with the count that callgrind wrote for its call. The
/// part that callgrind writes at the program's end belongs to no call.
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

#[cfg(test)]
mod tests {
    use super::paired;

    #[test]
    fn names_and_parts_are_paired_and_a_missing_one_is_an_error() {
        let part = |trigger: &str, count: u32| {
            format!("part: 1\ndesc: Trigger: {trigger}\nsummary: {count}\ntotals: {count}\n")
        };
        let call = "--dump-after=bgw_counted";
        let profile = part(call, 7) + &part(call, 9) + &part("Program termination", 1000);
        let both = paired("counted a\nwarning\ncounted b c\n", &profile).unwrap();
        assert_eq!(both, [("a".to_owned(), 7), ("b c".to_owned(), 9)]);
        let error = paired("counted a\n", &profile).unwrap_err().to_string();
        assert_eq!(error, "1 operations ran, 2 were counted");
        assert!(paired("", &part("Program termination", 1)).is_err());
    }
}

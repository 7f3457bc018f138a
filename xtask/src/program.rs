//! Builds a program of this workspace, runs it, and passes its exit status on. The
//! program prints the task's last line itself; if it fails, a line of ours follows.

use crate::Result;
use crate::workspace::Workspace;
use std::ffi::OsString;
use std::process::{Command, ExitCode};
use xshell::{Shell, cmd};

/// Runs `program` of `package` for the task of that name, built in release mode.
pub(crate) fn run(
    task: &str,
    package: &str,
    program: &str,
    flags: &[OsString],
) -> Result<ExitCode> {
    run_built(&["--release"], task, [package, program], flags)
}

/// The same, built with these features of the package.
pub(crate) fn run_with(
    task: &str,
    package: &str,
    program: &str,
    features: &[&str],
    flags: &[OsString],
) -> Result<ExitCode> {
    let features = features.join(",");
    run_built(&["--release", "--features", &features], task, [package, program], flags)
}

/// The same, built with debug assertions and overflow checks.
pub(crate) fn run_with_checks(
    task: &str,
    package: &str,
    program: &str,
    flags: &[OsString],
) -> Result<ExitCode> {
    run_built(&[], task, [package, program], flags)
}

fn run_built(
    options: &[&str],
    task: &str,
    [package, program]: [&str; 2],
    flags: &[OsString],
) -> Result<ExitCode> {
    let manifest = Workspace::load()?.root.join("Cargo.toml");
    // In the caller's folder: the program reads and writes files that the caller names.
    let shell = Shell::new()?;
    let command = cmd!(
        shell,
        "cargo run --quiet {options...} --manifest-path {manifest} -p {package} --bin {program} -- {flags...}"
    );
    println!("building {program}; the first time takes some minutes");
    let status = Command::from(command)
        .status()
        .map_err(|error| format!("starting cargo failed: {error}"))?;
    if status.success() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("{task}: failed, {status}");
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}

//! `cargo xtask demo`: builds and runs the program `demo` of bgw-examples, and passes its exit
//! status on. The program prints `demo: ok …` as its last line itself.

use crate::flags;
use crate::sh::{self, Result};
use crate::workspace::Workspace;
use std::process::ExitCode;

pub(crate) fn run(flags: &flags::Demo) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let mut command = sh::cargo();
    command
        .args(["run", "--quiet", "--release", "-p", "bgw-examples", "--bin", "demo"])
        // Not by changing the folder: what the program writes belongs to the caller's.
        .arg("--manifest-path")
        .arg(workspace.root.join("Cargo.toml"))
        .arg("--")
        .args(arguments(flags));
    println!("building the demonstration; the first time takes some minutes");
    let status = command.status().map_err(|error| format!("starting cargo failed: {error}"))?;
    if status.success() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("demo: failed, {status}");
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}

fn arguments(flags: &flags::Demo) -> Vec<String> {
    let mut arguments = Vec::new();
    if let Some(seconds) = flags.seconds {
        arguments.extend(["--seconds".to_owned(), seconds.to_string()]);
    }
    if flags.keep {
        arguments.push("--keep".to_owned());
    }
    if let Some(database) = &flags.database {
        arguments.extend(["--database".to_owned(), database.clone()]);
    }
    arguments
}

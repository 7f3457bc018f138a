//! `cargo xtask model`: builds and runs the crate `slot-model`, and passes its exit status on. The
//! program prints `model: ok …` as its last line itself.

use crate::sh::{self, Result};
use crate::workspace::Workspace;
use std::process::ExitCode;

pub(crate) fn run() -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let mut command = sh::cargo();
    command.args(["run", "--quiet", "--release", "-p", "slot-model"]).current_dir(&workspace.root);
    let status = command.status().map_err(|error| format!("starting cargo failed: {error}"))?;
    if status.success() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("model: failed, {status}");
    Ok(ExitCode::FAILURE)
}

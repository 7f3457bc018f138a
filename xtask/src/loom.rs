//! `cargo xtask loom`: the models in `tests/loom.rs` of each crate that has them.
//!
//! They are built with `--cfg loom` in a target folder of their own, so that neither build throws
//! the other away, and in release mode, since a model runs its code many thousand times.

use crate::flags;
use crate::sh::{self, Result};
use crate::test::{Row, Table};
use crate::workspace::{Package, Workspace};
use std::process::ExitCode;

pub(crate) fn run(flags: &flags::Loom) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let packages = models(&workspace.select(&flags.crates)?);
    let mut table = Table::default();
    for (index, package) in packages.iter().enumerate() {
        println!("\n[{}/{}] {}, loom models", index + 1, packages.len(), package.name);
        table.push(check(&workspace, package, flags.preemptions)?);
    }
    Ok(table.conclude())
}

/// The crates that have models: a test target named `loom`.
pub(crate) fn models<'a>(packages: &[&'a Package]) -> Vec<&'a Package> {
    let has_models = |package: &&&Package| package.targets("test").any(|test| test.name == "loom");
    packages.iter().filter(has_models).copied().collect()
}

/// Runs the models of one crate.
pub(crate) fn check(workspace: &Workspace, package: &Package, preemptions: u32) -> Result<Row> {
    let mut command = sh::cargo();
    command
        .args(["test", "--release", "--no-fail-fast", "-p", &package.name, "--test", "loom"])
        .arg("--target-dir")
        .arg(workspace.target.join("loom"))
        .env("RUSTFLAGS", "--cfg loom")
        .env("LOOM_MAX_PREEMPTIONS", preemptions.to_string())
        .current_dir(&workspace.root);
    let ran = sh::run_and_keep(command)?;
    Ok(Row::new(&package.name, &format!("loom, {preemptions} preemptions"), &ran))
}

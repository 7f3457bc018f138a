//! `cargo xtask loom`: the models in `tests/loom` of each crate that has them.
//!
//! They are built with `--cfg loom` in a target folder of their own, so neither build discards the
//! other, and in release mode, since a model runs its code many thousand times.

use crate::test::{Row, Table};
use crate::workspace::{PackageExt, Workspace};
use crate::{Result, flags, watched};
use cargo_metadata::{Package, TargetKind};
use std::process::ExitCode;
use xshell::cmd;

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
    let has_models =
        |package: &&&Package| package.targets_of(TargetKind::Test).any(|test| test.name == "loom");
    packages.iter().filter(has_models).copied().collect()
}

/// Runs the models of one crate.
pub(crate) fn check(workspace: &Workspace, package: &Package, preemptions: u32) -> Result<Row> {
    let (name, target) = (package.name.as_str(), workspace.target.join("loom"));
    let flags = "--cfg loom";
    let preemptions = preemptions.to_string();
    let command = cmd!(
        workspace.shell,
        "env RUSTFLAGS={flags} LOOM_MAX_PREEMPTIONS={preemptions}
            cargo test --release --no-fail-fast -p {name} --test loom --target-dir {target}"
    );
    Ok(Row::new(name, &format!("loom, {preemptions} preemptions"), &watched::run(command)?))
}

//! `cargo xtask test`: every crate alone, so that it cannot lean on features which another crate
//! turned on; with its default features, with each feature alone, with all; then the loom models.
//!
//! A set fails when a test failed, when it did not build, or when a test program died before it
//! could report. The task fails when a set failed, or when not a single test ran.

mod feature_sets;
mod report;
mod table;

pub(crate) use report::Report;
pub(crate) use table::{Row, Table};

use crate::workspace::Workspace;
use crate::{Result, flags, loom, watched};
use cargo_metadata::Package;
use feature_sets::FeatureSet;
use std::process::ExitCode;
use xshell::cmd;

pub(crate) fn run(flags: &flags::Test) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let packages = workspace.select(&flags.crates)?;
    let steps: Vec<(&Package, FeatureSet)> = packages
        .iter()
        .flat_map(|package| feature_sets::of(package).into_iter().map(|set| (*package, set)))
        .collect();
    let models = if flags.no_loom { Vec::new() } else { loom::models(&packages) };
    let count = steps.len() + models.len();

    let mut table = Table::default();
    for (index, (package, set)) in steps.iter().enumerate() {
        println!("\n[{}/{count}] {}, features: {}", index + 1, package.name, set.label);
        table.push(test(&workspace, package, set)?);
    }
    for (index, package) in models.iter().enumerate() {
        println!("\n[{}/{count}] {}, loom models", steps.len() + index + 1, package.name);
        table.push(loom::check(&workspace, package, flags.preemptions)?);
    }
    Ok(table.conclude())
}

fn test(workspace: &Workspace, package: &Package, set: &FeatureSet) -> Result<Row> {
    let (name, features) = (package.name.as_str(), &set.arguments);
    let command = cmd!(workspace.shell, "cargo test --no-fail-fast -p {name} {features...}");
    Ok(Row::new(name, &set.label, &watched::run(command)?))
}

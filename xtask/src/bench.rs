//! `cargo xtask bench`: the criterion benches of each crate, one program after the other, since two
//! at a time would measure each other.

use crate::flags;
use crate::sh::{self, Result};
use crate::workspace::{Package, Target, Workspace};
use std::process::ExitCode;

pub(crate) fn run(flags: &flags::Bench) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let packages = workspace.select(&flags.crates)?;
    let benches: Vec<(&Package, &Target)> = packages
        .iter()
        .flat_map(|package| package.targets("bench").map(|bench| (*package, bench)))
        .collect();

    let mut failed = Vec::new();
    for (index, (package, bench)) in benches.iter().enumerate() {
        println!("\n[{}/{}] {}, bench {}", index + 1, benches.len(), package.name, bench.name);
        let mut command = sh::cargo();
        command
            .args(["bench", "-p", &package.name, "--bench", &bench.name])
            .current_dir(&workspace.root);
        if !bench.required_features.is_empty() {
            command.args(["--features", &bench.required_features.join(",")]);
        }
        command.arg("--").args(flags.filter.iter());
        if flags.quick {
            command.arg("--quick");
        }
        if !sh::run_and_keep(command)?.success() {
            failed.push(format!("{}/{}", package.name, bench.name));
        }
    }

    if benches.is_empty() {
        println!("\nbench: failed, there is no bench to run");
        return Ok(ExitCode::FAILURE);
    }
    if !failed.is_empty() {
        println!("\nbench: failed, {} of {}: {}", failed.len(), benches.len(), failed.join(", "));
        return Ok(ExitCode::FAILURE);
    }
    let folder = workspace.target.join("criterion");
    println!("\nbench: ok, {} programs ran; figures in {}", benches.len(), folder.display());
    Ok(ExitCode::SUCCESS)
}

//! `cargo xtask bench`: the criterion benches of each crate, one program at a time, since two would
//! disturb each other. `--report` and `--scaling` run `xtask/measure` instead, which measures each
//! figure beside the kernel's own limit in the same run (and, with `--against`, beside other programs).
//! `--instructions` runs `instructions.rs`.

use crate::sh::{self, Result};
use crate::workspace::{Package, Target, Workspace};
use crate::{flags, instructions};
use std::process::ExitCode;

pub(crate) fn run(flags: &flags::Bench) -> Result<ExitCode> {
    if flags.instructions {
        return instructions::run(flags);
    }
    let workspace = Workspace::load()?;
    if flags.report || flags.scaling {
        return report(&workspace, flags);
    }
    let packages = workspace.select(&flags.crates)?;
    let benches: Vec<(&Package, &Target)> = packages
        .iter()
        .flat_map(|package| package.targets("bench").map(|bench| (*package, bench)))
        .filter(|(_, bench)| bench.name != instructions::BENCH)
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

/// The program prints its progress, the table, and `report: ok …` as its last line.
fn report(workspace: &Workspace, flags: &flags::Bench) -> Result<ExitCode> {
    let mut command = sh::cargo();
    command
        .args(["run", "--quiet", "--release", "-p", "measure"])
        // Not by changing the folder: the files that it writes are named from the caller's.
        .arg("--manifest-path")
        .arg(workspace.root.join("Cargo.toml"))
        .arg("--");
    if flags.quick {
        command.arg("--quick");
    }
    if flags.scaling {
        command.arg("--scaling");
    }
    let files =
        [("--json", &flags.json), ("--markdown", &flags.markdown), ("--plots", &flags.plots)];
    for (name, file) in files {
        if let Some(file) = file {
            command.arg(name).arg(file);
        }
    }
    for peer in &flags.against {
        command.args(["--against", peer.name()]);
    }
    if let Some(filter) = &flags.filter {
        command.args(["--filter", filter]);
    }
    println!("building the measuring program; the first time takes some minutes");
    let status = command.status().map_err(|error| format!("starting cargo failed: {error}"))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}

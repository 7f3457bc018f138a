//! `cargo xtask bench`: the criterion benches of each crate, one program at a time, since two would
//! disturb each other. `--report` and `--scaling` run `xtask/measure` instead, which measures each
//! figure beside the kernel's own limit in the same run (and, with `--against`, beside other
//! programs). `--instructions` runs `instructions.rs`.

use crate::workspace::{PackageExt, Workspace};
use crate::{Result, flags, instructions, program, watched};
use cargo_metadata::{Package, Target, TargetKind};
use std::ffi::OsString;
use std::process::ExitCode;
use xshell::cmd;

pub(crate) fn run(flags: &flags::Bench) -> Result<ExitCode> {
    if flags.instructions {
        return instructions::run(flags);
    }
    if flags.report || flags.scaling {
        let task = if flags.report { "report" } else { "scaling" };
        return program::run(task, "measure", "measure", &measure_flags(flags));
    }
    let workspace = Workspace::load()?;
    let packages = workspace.select(&flags.crates)?;
    let benches: Vec<(&Package, &Target)> = packages
        .iter()
        .flat_map(|package| package.targets_of(TargetKind::Bench).map(|bench| (*package, bench)))
        .filter(|(_, bench)| bench.name != instructions::BENCH)
        .collect();

    let mut failed = Vec::new();
    for (index, (package, bench)) in benches.iter().enumerate() {
        let (package, name) = (package.name.as_str(), &bench.name);
        println!("\n[{}/{}] {package}, bench {name}", index + 1, benches.len());
        let mut command = cmd!(workspace.shell, "cargo bench -p {package} --bench {name}");
        if !bench.required_features.is_empty() {
            command = command.args(["--features", &bench.required_features.join(",")]);
        }
        command = command.arg("--").args(&flags.filter);
        if flags.quick {
            command = command.arg("--quick");
        }
        if !watched::run(command)?.success() {
            failed.push(format!("{package}/{name}"));
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
    println!("\nbench: ok, {} programs ran; figures in {folder}", benches.len());
    Ok(ExitCode::SUCCESS)
}

/// The flags of the measuring program.
fn measure_flags(flags: &flags::Bench) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    if flags.quick {
        arguments.push("--quick".into());
    }
    if flags.scaling {
        arguments.push("--scaling".into());
    }
    let files =
        [("--json", &flags.json), ("--markdown", &flags.markdown), ("--plots", &flags.plots)];
    for (name, file) in files {
        if let Some(file) = file {
            arguments.extend([name.into(), file.into()]);
        }
    }
    for peer in &flags.against {
        arguments.extend(["--against".into(), peer.name().into()]);
    }
    if let Some(filter) = &flags.filter {
        arguments.extend(["--filter".into(), filter.into()]);
    }
    arguments
}

//! `cargo xtask release`: brings crates to crates.io, each with its own version. Nothing here
//! publishes or tags; the last line says what a human types.
//!
//! A human chooses the version: as `## 0.2.0 (unreleased)` on top of the crate's CHANGELOG. `plan`
//! says what follows from that and what forbids it. `prepare` writes versions and dates. `dry-run`
//! packages the crates and builds them from their packages.

mod manifest;
mod plan;

use crate::workspace::{PackageExt, Workspace};
use crate::{Result, changelog, flags, watched};
use cargo_metadata::semver::Version;
use plan::{State, Step};
use std::process::ExitCode;
use xshell::cmd;

pub(crate) fn run(flags: &flags::Release) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let steps = plan::plan(&workspace)?;
    for step in &steps {
        println!("{step}");
    }
    let blocked = steps.iter().filter(|step| matches!(step.state, State::Blocked(_))).count();
    if blocked > 0 {
        println!("release: failed, {blocked} of {} crates are blocked", steps.len());
        return Ok(ExitCode::FAILURE);
    }
    match flags.step {
        flags::ReleaseStep::Plan => {
            let planned = of(&steps, |state| matches!(state, State::Planned(_)));
            let prepared = of(&steps, |state| matches!(state, State::Prepared(_)));
            println!("release: ok, {} planned, {} prepared", planned.len(), prepared.len());
            Ok(ExitCode::SUCCESS)
        }
        flags::ReleaseStep::Prepare => prepare(&workspace, &steps),
        flags::ReleaseStep::DryRun => dry_run(&workspace, &steps),
    }
}

/// The crates in a state that names a version, with that version.
fn of(steps: &[Step], wanted: impl Fn(&State) -> bool) -> Vec<(&str, &Version)> {
    steps
        .iter()
        .filter(|step| wanted(&step.state))
        .filter_map(|step| match &step.state {
            State::Planned(version) | State::Prepared(version) => Some((&*step.name, version)),
            State::Released | State::Blocked(_) => None,
        })
        .collect()
}

/// Writes the planned versions into all manifests and the date into the CHANGELOGs.
fn prepare(workspace: &Workspace, steps: &[Step]) -> Result<ExitCode> {
    let planned = of(steps, |state| matches!(state, State::Planned(_)));
    if planned.is_empty() {
        println!("release: failed, nothing is planned; write a section in a CHANGELOG.md");
        return Ok(ExitCode::FAILURE);
    }
    let shell = &workspace.shell;
    let date = cmd!(shell, "date -u +%F").quiet().read()?;
    for package in &workspace.packages {
        let file = &package.manifest_path;
        let before = shell.read_file(file)?;
        let after = manifest::with_versions(&before, &package.name, &planned)?;
        if after != before {
            shell.write_file(file, after)?;
            println!("written: {file}");
        }
        if planned.iter().any(|(name, _)| package.name == *name) {
            let file = package.folder().join("CHANGELOG.md");
            shell.write_file(&file, changelog::dated(&shell.read_file(&file)?, &date))?;
            println!("written: {file}");
        }
    }
    // The versions in Cargo.lock follow the manifests.
    cmd!(shell, "cargo update --workspace --offline").run()?;
    println!("release: ok, {} crates prepared; look at the changes and commit them", planned.len());
    Ok(ExitCode::SUCCESS)
}

/// Packages the prepared crates, builds each from its package, and prints what a human types.
fn dry_run(workspace: &Workspace, steps: &[Step]) -> Result<ExitCode> {
    let prepared = of(steps, |state| matches!(state, State::Prepared(_)));
    if prepared.is_empty() {
        println!("release: failed, nothing is prepared; run `cargo xtask release prepare` first");
        return Ok(ExitCode::FAILURE);
    }
    let names = prepared.iter().flat_map(|(name, _)| ["-p", name]);
    // In one call: a crate is built against the packages of the others, not against crates.io.
    let ran = watched::run(cmd!(workspace.shell, "cargo package --offline {names...}"))?;
    if !ran.success() {
        println!("release: failed, a crate cannot be packaged");
        return Ok(ExitCode::FAILURE);
    }
    println!("\nEverything fits. To publish, type:");
    for (name, version) in &prepared {
        println!("    git tag {0} && cargo publish -p {name}", plan::tag(name, version));
    }
    println!("    git push origin --tags");
    println!("release: ok, {} crates can be published", prepared.len());
    Ok(ExitCode::SUCCESS)
}

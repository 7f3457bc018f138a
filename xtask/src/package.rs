//! `cargo xtask package`: what each crate would publish, looked at offline. Builds nothing and
//! uploads nothing.

use crate::Result;
use crate::workspace::{PackageExt, Workspace};
use cargo_metadata::Package;
use std::process::ExitCode;
use xshell::cmd;

const WANTED: [&str; 4] = ["Cargo.toml", "README.md", "CHANGELOG.md", "src/lib.rs"];

pub(crate) fn run() -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let mut findings = Vec::new();
    let mut count = 0;
    for package in workspace.packages.iter().filter(|package| package.is_published()) {
        count += 1;
        let (name, version) = (package.name.as_str(), &package.version);
        let command =
            cmd!(workspace.shell, "cargo package --list --allow-dirty --offline -p {name}");
        let files = command.quiet().read()?;
        println!("{name} {version}: {} files", files.lines().count());
        findings.extend(about(package));
        findings.extend(contents(package, &files));
    }
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() && count > 0 {
        println!("package: ok, {count} crates");
        return Ok(ExitCode::SUCCESS);
    }
    println!("package: failed, {} findings in {count} crates", findings.len());
    Ok(ExitCode::FAILURE)
}

/// The fields of the manifest that are missing.
fn about(package: &Package) -> Vec<String> {
    let fields = [
        ("description", package.description.is_some()),
        ("license", package.license.is_some()),
        ("readme", package.readme.is_some()),
        ("repository", package.repository.is_some()),
        ("rust-version", package.rust_version.is_some()),
    ];
    let missing = fields.iter().filter(|(_, there)| !there);
    missing
        .map(|(field, _)| {
            format!("{}: the manifest lacks `{field}`; add it to [package]", package.name)
        })
        .collect()
}

/// Files that are missing in the list, and files that do not belong there.
fn contents(package: &Package, files: &str) -> Vec<String> {
    let name = &package.name;
    let files: Vec<&str> = files.lines().collect();
    let mut findings: Vec<String> = WANTED
        .iter()
        .filter(|wanted| !files.contains(wanted))
        .map(|wanted| format!("{name}: {wanted} would not be published; add it"))
        .collect();
    for file in files {
        if ["target/", "fuzz/", ".git"].iter().any(|prefix| file.starts_with(prefix)) {
            findings.push(format!("{name}: {file} would be published; exclude it"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{about, contents};
    use crate::workspace::example;
    use serde_json::json;

    #[test]
    fn a_missing_field_is_named_as_the_manifest_spells_it() {
        let fields = json!({
            "description": "d", "license": "MIT", "readme": "README.md", "repository": "r",
        });
        let package = example("x", fields);
        assert_eq!(about(&package), ["x: the manifest lacks `rust-version`; add it to [package]"]);
    }

    #[test]
    fn missing_and_stray_files_are_named() {
        let package = example("x", json!({}));
        let good = "CHANGELOG.md\nCargo.toml\nREADME.md\nsrc/lib.rs";
        assert!(contents(&package, good).is_empty());
        let bad = "Cargo.toml\nREADME.md\nsrc/lib.rs\nfuzz/corpus/1";
        assert_eq!(
            contents(&package, bad),
            [
                "x: CHANGELOG.md would not be published; add it",
                "x: fuzz/corpus/1 would be published; exclude it"
            ]
        );
    }
}

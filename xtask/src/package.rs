//! `cargo xtask package`: what each crate would publish, looked at offline. Builds nothing and
//! uploads nothing.

use crate::workspace::{PackageExt, Workspace};
use crate::{Result, changelog};
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
        findings.extend(out_of_step(package, &workspace.packages));
        let changelog = workspace.shell.read_file(package.folder().join("CHANGELOG.md"));
        findings.extend(unreadable(name, &changelog.unwrap_or_default()));
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

/// Dependencies on published crates of this workspace in another version than they have here. They
/// would build here, where the path counts, and not elsewhere.
fn out_of_step(package: &Package, packages: &[Package]) -> Vec<String> {
    let other = |name: &str| packages.iter().find(|p| p.name == name && p.is_published());
    let pairs = package.dependencies.iter().filter_map(|d| Some((d, other(&d.name)?)));
    pairs
        .filter(|(dependency, other)| dependency.req.to_string() != format!("^{}", other.version))
        .map(|(dependency, other)| {
            let (name, wanted, version) = (&package.name, &dependency.name, &other.version);
            format!("{name}: wants {wanted} {}, which is {version}; write that", dependency.req)
        })
        .collect()
}

/// What is wrong with a CHANGELOG.
fn unreadable(name: &str, text: &str) -> Option<String> {
    match changelog::sections(text) {
        Ok(sections) if sections.is_empty() => {
            Some(format!("{name}: CHANGELOG.md has no `## VERSION (unreleased)`; write one"))
        }
        Ok(_) => None,
        Err(error) => Some(format!("{name}: CHANGELOG.md: {error}")),
    }
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
    use super::{about, contents, out_of_step, unreadable};
    use crate::workspace::{example, example_dependency};
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
    fn path_dependencies_name_the_version_that_is_here() {
        let lower = example("lower", json!({"version": "0.1.1"}));
        for (req, wrong) in [("^0.1.1", 0), ("^0.1.0", 1), (">=0.1", 1)] {
            let dependency = example_dependency("lower", req, None);
            let upper = example("upper", json!({"dependencies": [dependency]}));
            assert_eq!(out_of_step(&upper, std::slice::from_ref(&lower)).len(), wrong, "{req}");
        }
    }

    #[test]
    fn a_changelog_names_versions() {
        assert_eq!(unreadable("x", "## 0.1.0 (unreleased)\n"), None);
        assert!(unreadable("x", "").unwrap().contains("write one"));
        assert!(unreadable("x", "## soon\n").unwrap().contains("line 1"));
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

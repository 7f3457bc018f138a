//! Rules on the manifests: which crate may lean on which, and what each crate has.

use super::Finding;
use crate::workspace::{PackageExt, Workspace};
use cargo_metadata::{DependencyKind, Package};
use std::fs;
use toml_edit::DocumentMut;

/// Which crates of the workspace each may depend on. The arrows point down only; postmaster and
/// backend meet in bgw-core alone, in their tests too.
const ARROWS: [(&str, &[&str]); 13] = [
    ("shmem-slots", &[]),
    ("bgw-core", &["shmem-slots"]),
    ("bgw-postmaster", &["shmem-slots", "bgw-core"]),
    ("bgw-backend", &["shmem-slots", "bgw-core"]),
    (
        "bgw-examples",
        &["shmem-slots", "bgw-core", "bgw-postmaster", "bgw-backend", "throwaway-postgres"],
    ),
    ("chaos", &["shmem-slots", "bgw-postmaster", "bgw-backend", "process-test"]),
    (
        "measure",
        &["shmem-slots", "bgw-core", "bgw-postmaster", "bgw-backend", "throwaway-postgres"],
    ),
    ("fire", &["shmem-slots", "bgw-backend", "bgw-examples"]),
    ("fuzz", &["shmem-slots", "bgw-core", "bgw-postmaster"]),
    ("process-test", &[]),
    ("slot-model", &["shmem-slots"]),
    ("throwaway-postgres", &[]),
    ("xtask", &["process-test"]),
];
/// May be a dev-dependency of every crate, and of nothing else a dependency.
const HARNESS: &str = "process-test";
/// What a published crate has.
const FILES: [&str; 3] = ["README.md", "CHANGELOG.md", "benches/"];

pub(crate) fn check(workspace: &Workspace, files: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &workspace.packages {
        let folder = package.folder();
        let folder = folder.strip_prefix(&workspace.root).unwrap_or(folder).to_string();
        let file = format!("{folder}/Cargo.toml");
        let manifest = fs::read_to_string(workspace.root.join(&file)).unwrap_or_default();
        findings.extend(dependencies(&file, package, &workspace.packages));
        findings.extend(literal_version(&file, &manifest));
        findings.extend(wanted_files(&folder, package, files));
    }
    findings
}

fn finding(file: &str, line: usize, rule: &'static str, text: String) -> Finding {
    Finding { file: file.to_owned(), line, rule, text }
}

fn dependencies(file: &str, package: &Package, packages: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let name = &package.name;
    let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| name == from) else {
        let text = format!("`{name}` is not in the table of arrows; add it to xtask's tidy");
        return vec![finding(file, 0, "arrows", text)];
    };
    for dependency in package.dependencies.iter().filter(|dependency| dependency.path.is_some()) {
        let other = dependency.name.as_str();
        let dev = dependency.kind == DependencyKind::Development;
        let harness = dev && other == HARNESS;
        if !allowed.contains(&other) && !harness {
            let text =
                format!("`{name}` must not depend on `{other}`; share through a lower crate");
            findings.push(finding(file, 0, "arrows", text));
        }
        // Cargo drops a dev-dependency without a version when it packages; one with a version it
        // would look for at crates.io.
        let published = packages.iter().any(|p| p.name == other && p.is_published());
        let versioned = dependency.req.to_string() != "*";
        if !versioned && (published || !dev) {
            let text = format!("`{other}` has a path and no version; add `version = \"…\"`");
            findings.push(finding(file, 0, "path-version", text));
        } else if versioned && dev && !published && package.is_published() {
            let text = format!("`{other}` is never published; take its version away");
            findings.push(finding(file, 0, "path-version", text));
        }
    }
    findings
}

fn literal_version(file: &str, manifest: &str) -> Option<Finding> {
    let document: DocumentMut = match manifest.parse() {
        Ok(document) => document,
        Err(error) => return Some(finding(file, 0, "version", error.to_string())),
    };
    match document.get("package").and_then(|package| package.get("version")) {
        Some(version) if version.is_str() => None,
        Some(_) => {
            let text = "the version is inherited; write it here, crates are released one by one";
            Some(finding(file, 0, "version", text.to_owned()))
        }
        None => Some(finding(file, 0, "version", "no version in [package]; write one".to_owned())),
    }
}

fn wanted_files(folder: &str, package: &Package, files: &[String]) -> Vec<Finding> {
    let wanted = if package.is_published() { &FILES[..] } else { &FILES[..1] };
    wanted
        .iter()
        .filter(|name| {
            let path = format!("{folder}/{name}");
            !files
                .iter()
                .any(|file| *file == path || (path.ends_with('/') && file.starts_with(&path)))
        })
        .map(|name| {
            let text = format!("{name} is missing in `{}`; add it", package.name);
            finding(&format!("{folder}/{name}"), 0, "crate-files", text)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{dependencies, literal_version, wanted_files};
    use crate::workspace::{example, example_dependency};
    use cargo_metadata::Package;
    use serde_json::json;

    fn package(name: &str, published: bool) -> Package {
        if published { example(name, json!({})) } else { example(name, json!({"publish": []})) }
    }

    /// The rules that a dependency of `from` on `to` breaks.
    fn broken(from: &str, to: &str, version: &str, dev: bool) -> Vec<&'static str> {
        let names = ["shmem-slots", "bgw-core", "bgw-postmaster", "bgw-backend"];
        let mut packages: Vec<Package> = names.iter().map(|name| package(name, true)).collect();
        packages.push(package("process-test", false));
        packages.push(package("xtask", false));
        let dependency = example_dependency(to, version, dev.then_some("dev"));
        let mut fields = json!({"dependencies": [dependency]});
        if from == "xtask" {
            fields["publish"] = json!([]);
        }
        dependencies("x", &example(from, fields), &packages)
            .into_iter()
            .map(|finding| finding.rule)
            .collect()
    }

    #[test]
    fn arrows_point_down_only() {
        for (from, to) in [
            ("bgw-core", "shmem-slots"),
            ("bgw-postmaster", "bgw-core"),
            ("bgw-backend", "bgw-core"),
        ] {
            assert_eq!(broken(from, to, "^0.1.0", false), [""; 0], "{from} -> {to}");
            assert_eq!(broken(to, from, "^0.1.0", false), ["arrows"], "{to} -> {from}");
        }
    }

    #[test]
    fn postmaster_and_backend_know_nothing_of_each_other_even_in_tests() {
        for dev in [false, true] {
            assert_eq!(broken("bgw-backend", "bgw-postmaster", "^0.1.0", dev), ["arrows"]);
            assert_eq!(broken("bgw-postmaster", "bgw-backend", "^0.1.0", dev), ["arrows"]);
        }
        assert_eq!(broken("xtask", "bgw-core", "^0.1.0", false), ["arrows"]);
    }

    #[test]
    fn a_path_has_a_version_unless_it_is_the_harness() {
        assert_eq!(broken("bgw-core", "shmem-slots", "*", false), ["path-version"]);
        assert_eq!(broken("bgw-core", "process-test", "*", true), [""; 0]);
        assert_eq!(broken("bgw-core", "process-test", "^0.1", true), ["path-version"]);
        assert_eq!(broken("bgw-core", "process-test", "*", false), ["arrows", "path-version"]);
    }

    #[test]
    fn a_crate_nobody_knows_is_a_finding() {
        assert_eq!(broken("bgw-extra", "bgw-core", "^0.1.0", false), ["arrows"]);
    }

    #[test]
    fn the_version_is_literal() {
        assert_eq!(literal_version("x", "[package]\nname = \"a\"\nversion = \"0.1.0\"\n"), None);
        for other in [
            "[package]\nversion.workspace = true\n",
            "[package]\nversion = { workspace = true }\n",
            "[dependencies]\nversion = \"1\"\n",
            "[package",
        ] {
            assert!(literal_version("x", other).is_some(), "{other}");
        }
    }

    #[test]
    fn a_published_crate_has_readme_changelog_and_benches() {
        let files = ["a/README.md", "a/CHANGELOG.md", "a/benches/b.rs"].map(str::to_owned);
        assert_eq!(wanted_files("a", &package("a", true), &files), []);
        let missing = wanted_files("b", &package("b", true), &files);
        let names: Vec<_> = missing.iter().map(|finding| finding.file.as_str()).collect();
        assert_eq!(names, ["b/README.md", "b/CHANGELOG.md", "b/benches/"]);
        assert_eq!(wanted_files("b", &package("b", false), &files).len(), 1);
    }
}

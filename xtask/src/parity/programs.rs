//! Builds all test programs, and lists the tests in them that prove a row.

use super::claims;
use crate::sh::{self, Result};
use crate::workspace::{Package, Workspace};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// A test that claims to prove rows.
#[derive(Debug)]
pub(crate) struct Test {
    pub(crate) package: String,
    /// The test program's name.
    pub(crate) program: String,
    pub(crate) name: String,
    pub(crate) ids: Vec<String>,
    executable: PathBuf,
    folder: PathBuf,
    /// How often a loom model may switch threads; `None` for other tests.
    preemptions: Option<u32>,
}

/// One call of cargo.
struct Build<'a> {
    packages: Vec<&'a Package>,
    features: Vec<String>,
    /// Only this test program.
    only: Option<String>,
    loom: bool,
}

impl Test {
    /// Runs this test and nothing else.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command.args(["--exact", &self.name]).current_dir(&self.folder);
        if let Some(preemptions) = self.preemptions {
            command.env("LOOM_MAX_PREEMPTIONS", preemptions.to_string());
        }
        command
    }
}

/// Every test that claims to prove a row, of every crate: as users build it; programs that need a
/// feature with that feature; loom models.
pub(crate) fn tests(workspace: &Workspace) -> Result<Vec<Test>> {
    let mut tests = Vec::new();
    for build in builds(workspace) {
        tests.extend(list(workspace, &build)?);
    }
    Ok(tests)
}

fn builds(workspace: &Workspace) -> Vec<Build<'_>> {
    let all: Vec<&Package> = workspace.packages.iter().collect();
    let plain = Build { packages: all.clone(), features: Vec::new(), only: None, loom: false };
    let mut builds = vec![plain];
    for package in &workspace.packages {
        for target in package.targets("test") {
            let features = target.required_features.clone();
            if !features.is_empty() {
                let only = Some(target.name.clone());
                builds.push(Build { packages: vec![package], features, only, loom: false });
            }
        }
    }
    for package in crate::loom::models(&all) {
        let only = Some("loom".to_owned());
        builds.push(Build { packages: vec![package], features: Vec::new(), only, loom: true });
    }
    builds
}

fn list(workspace: &Workspace, build: &Build<'_>) -> Result<Vec<Test>> {
    let mut command = sh::cargo();
    command.args(["test", "--no-run", "--message-format", "json-render-diagnostics"]);
    for package in &build.packages {
        command.args(["-p", &package.name]);
    }
    if !build.features.is_empty() {
        command.args(["--features", &build.features.join(",")]);
    }
    if let Some(only) = &build.only {
        command.args(["--test", only]);
    }
    if build.loom {
        command.arg("--release").arg("--target-dir").arg(workspace.target.join("loom"));
        command.env("RUSTFLAGS", "--cfg loom");
    }
    command.current_dir(&workspace.root);
    println!("$ {}", sh::shown(&command));
    let built = sh::output(command)?;

    let mut tests = Vec::new();
    for (manifest, program, executable) in built.lines().filter_map(executable) {
        let package = build.packages.iter().find(|package| manifest.starts_with(&package.folder));
        let Some(package) = package else { continue };
        let mut command = Command::new(&executable);
        command.arg("--list").current_dir(&package.folder);
        for (name, mut ids) in listed(&sh::output(command)?) {
            ids.extend(claims::of(&package.name, &program, &name));
            if !ids.is_empty() {
                tests.push(Test {
                    package: package.name.clone(),
                    program: program.clone(),
                    name,
                    ids,
                    executable: executable.clone(),
                    folder: package.folder.clone(),
                    preemptions: build.loom.then_some(3),
                });
            }
        }
    }
    Ok(tests)
}

/// Manifest, name and file of a test program, from one line of cargo's.
fn executable(line: &str) -> Option<(PathBuf, String, PathBuf)> {
    let value: Value = serde_json::from_str(line).ok()?;
    if value["reason"] != "compiler-artifact" || value["profile"]["test"] != true {
        return None;
    }
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Some((
        text(&value["manifest_path"])?.into(),
        text(&value["target"]["name"])?,
        text(&value["executable"])?.into(),
    ))
}

/// The tests in a listing, each once, with the ids in brackets before its name:
/// `[B05 B10] name: test`.
fn listed(listing: &str) -> BTreeMap<String, Vec<String>> {
    let tests = listing.lines().filter_map(|line| line.strip_suffix(": test"));
    tests
        .map(|test| match test.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
            Some((ids, name)) => (name.to_owned(), ids.split(' ').map(str::to_owned).collect()),
            None => (test.to_owned(), Vec::new()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{executable, listed};

    #[test]
    fn a_listing_gives_the_tests_and_not_the_benches() {
        let listing = "a::x: test\nc: bench\n[B01 R27] d::y: test\n\n2 tests, 1 benchmarks\n";
        let listed: Vec<_> = listed(listing).into_iter().collect();
        let expected = [("a::x", vec![]), ("d::y", vec!["B01".to_owned(), "R27".to_owned()])];
        assert_eq!(listed, expected.map(|(name, ids)| (name.to_owned(), ids)));
    }

    #[test]
    fn only_test_programs_are_taken_from_what_cargo_says() {
        let line = |test: bool, file: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/w/x/Cargo.toml","target":{{"name":"x"}},"profile":{{"test":{test}}},"executable":{file}}}"#
            )
        };
        assert!(executable(&line(true, "\"/w/t/x-1\"")).is_some());
        assert!(executable(&line(false, "\"/w/t/x\"")).is_none());
        assert!(executable(&line(true, "null")).is_none());
        assert!(executable("warning: no JSON").is_none());
    }
}

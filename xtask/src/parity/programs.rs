//! Builds all test programs, and lists the tests in them that carry the id of a row.

use super::rows;
use crate::sh::{self, Result};
use crate::workspace::{Package, Workspace};
use serde_json::Value;
use std::collections::BTreeSet;
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

/// Every test with an id in its name, of every crate: as users build it; programs that need a
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
        for name in names(&sh::output(command)?) {
            let ids = rows::ids(&name);
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

/// The names in a listing of libtest; each once.
fn names(listing: &str) -> BTreeSet<String> {
    listing.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::{executable, names};

    #[test]
    fn a_listing_gives_the_tests_and_not_the_benches() {
        let listing = "a::b01_x: test\nc: bench\n\n2 tests, 1 benchmarks\n";
        assert!(names(listing).iter().eq(["a::b01_x"]));
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

//! Builds all test programs, and lists the tests in them that prove a row.

use super::claims;
use crate::Result;
use crate::artifacts::executables;
use crate::workspace::{PackageExt, Workspace};
use cargo_metadata::camino::Utf8PathBuf;
use cargo_metadata::{Package, TargetKind};
use std::collections::BTreeMap;
use std::process::Command;
use xshell::cmd;

/// A test that claims to prove rows.
#[derive(Debug)]
pub(crate) struct Test {
    pub(crate) package: String,
    /// The test program's name.
    pub(crate) program: String,
    pub(crate) name: String,
    pub(crate) ids: Vec<String>,
    executable: Utf8PathBuf,
    folder: Utf8PathBuf,
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
        for target in package.targets_of(TargetKind::Test) {
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
    let shell = &workspace.shell;
    let mut command = match build.loom {
        false => cmd!(shell, "cargo test"),
        true => {
            let (flags, target) = ("--cfg loom", workspace.target.join("loom"));
            cmd!(shell, "env RUSTFLAGS={flags} cargo test --release --target-dir {target}")
        }
    };
    command = command.args(["--no-run", "--message-format", "json-render-diagnostics"]);
    for package in &build.packages {
        command = command.args(["-p", package.name.as_str()]);
    }
    if !build.features.is_empty() {
        command = command.args(["--features", &build.features.join(",")]);
    }
    if let Some(only) = &build.only {
        command = command.args(["--test", only]);
    }
    println!("$ {command}");
    let built = command.quiet().read()?;

    let mut tests = Vec::new();
    for artifact in executables(&built)?.into_iter().filter(|artifact| artifact.profile.test) {
        let package = build.packages.iter().find(|package| package.id == artifact.package_id);
        let (Some(package), Some(executable)) = (package, artifact.executable) else { continue };
        let program = artifact.target.name;
        let _folder = shell.push_dir(package.folder());
        for (name, mut ids) in listed(&cmd!(shell, "{executable} --list").quiet().read()?) {
            ids.extend(claims::of(&package.name, &program, &name));
            if !ids.is_empty() {
                tests.push(Test {
                    package: package.name.to_string(),
                    program: program.clone(),
                    name,
                    ids,
                    executable: executable.clone(),
                    folder: package.folder().to_owned(),
                    preemptions: build.loom.then_some(3),
                });
            }
        }
    }
    Ok(tests)
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
    use super::listed;

    #[test]
    fn a_listing_gives_the_tests_and_not_the_benches() {
        let listing = "a::x: test\nc: bench\n[B01 R27] d::y: test\n\n2 tests, 1 benchmarks\n";
        let listed: Vec<_> = listed(listing).into_iter().collect();
        let expected = [("a::x", vec![]), ("d::y", vec!["B01".to_owned(), "R27".to_owned()])];
        assert_eq!(listed, expected.map(|(name, ids)| (name.to_owned(), ids)));
    }
}

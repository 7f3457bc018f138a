//! What a release would be: for each published crate its newest section of the CHANGELOG, its
//! manifest, its last tag, and what forbids a release.

use crate::Result;
use crate::changelog::{self, Section};
use crate::workspace::{PackageExt, Workspace};
use cargo_metadata::semver::Version;
use cargo_metadata::{DependencyKind, Package};
use std::fmt;
use xshell::cmd;

/// One crate.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: String,
    /// In the manifest.
    pub(super) manifest: Version,
    pub(super) state: State,
}

/// Where a crate is between two releases.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The newest section is tagged, and nothing has changed since.
    Released,
    /// The newest section is unreleased: `prepare` comes next.
    Planned(Version),
    /// The newest section has a date and no tag: `dry-run` comes next, then a human.
    Prepared(Version),
    /// A human must act before anything else.
    Blocked(String),
}

/// What is known of a crate.
struct Facts<'a> {
    package: &'a Package,
    sections: std::result::Result<Vec<Section>, String>,
    /// Of the newest version that has a tag.
    tagged: Option<Version>,
    /// Commits to its folder since that tag; 0 without a tag.
    commits: usize,
}

/// The published crates, each after those that it depends on.
pub(super) fn plan(workspace: &Workspace) -> Result<Vec<Step>> {
    let packages: Vec<&Package> = workspace.packages.iter().filter(|p| p.is_published()).collect();
    let facts: Vec<Facts<'_>> =
        packages.iter().map(|package| gather(workspace, package)).collect::<Result<_>>()?;
    let mut steps: Vec<Step> = facts
        .iter()
        .map(|facts| Step {
            name: facts.package.name.to_string(),
            manifest: facts.package.version.clone(),
            state: state(facts),
        })
        .collect();
    block_stragglers(&facts, &mut steps);
    Ok(steps)
}

fn gather<'a>(workspace: &Workspace, package: &'a Package) -> Result<Facts<'a>> {
    let shell = &workspace.shell;
    let changelog = shell.read_file(package.folder().join("CHANGELOG.md"));
    let sections = match changelog {
        Ok(text) => changelog::sections(&text),
        Err(error) => Err(error.to_string()),
    };
    let pattern = format!("{}-v*", package.name);
    let tags = cmd!(shell, "git tag --list {pattern}").quiet().read()?;
    let versions = tags.lines().filter_map(|tag| tag.get(pattern.len() - 1..)?.parse().ok());
    let tagged: Option<Version> = versions.max();
    let commits = match &tagged {
        Some(version) => {
            let range = format!("{}..HEAD", tag(&package.name, version));
            let folder = package.folder();
            cmd!(shell, "git rev-list --count {range} -- {folder}").quiet().read()?.parse()?
        }
        None => 0,
    };
    Ok(Facts { package, sections, tagged, commits })
}

/// The tag of a release.
pub(super) fn tag(name: &str, version: &Version) -> String {
    format!("{name}-v{version}")
}

fn state(facts: &Facts<'_>) -> State {
    let blocked = |why: String| State::Blocked(format!("CHANGELOG.md: {why}"));
    let sections = match &facts.sections {
        Ok(sections) => sections,
        Err(error) => return blocked(error.clone()),
    };
    let Some(newest) = sections.first() else {
        return blocked("no `## VERSION (unreleased)`; write one".to_owned());
    };
    let version = &newest.version;
    if !newest.written {
        return blocked(format!("nothing is written under {version}"));
    }
    if let Some(before) = sections.get(1)
        && newest.breaking
        && !changelog::may_break(&before.version, version)
    {
        let before = &before.version;
        return blocked(format!("{version} has breaking entries and follows {before}; raise it"));
    }
    let is_tagged = facts.tagged.as_ref() == Some(version);
    match (&newest.date, is_tagged) {
        (None, true) => blocked(format!("{version} is unreleased and has a tag; raise it")),
        (None, false) if facts.tagged.as_ref().is_some_and(|tagged| tagged > version) => {
            blocked(format!("{version} is older than the last tag; raise it"))
        }
        (None, false) => State::Planned(version.clone()),
        (Some(_), false) if facts.package.version != *version => {
            let manifest = &facts.package.version;
            blocked(format!("{version} has a date and the manifest says {manifest}"))
        }
        (Some(_), false) => State::Prepared(version.clone()),
        (Some(_), true) if facts.commits > 0 => {
            let commits = facts.commits;
            blocked(format!("{commits} commits since {version}; write what they change"))
        }
        (Some(_), true) => State::Released,
    }
}

/// A breaking release of a crate needs a release of every crate that depends on it: else a program
/// gets two versions of the lower one, and their types do not fit.
fn block_stragglers(facts: &[Facts<'_>], steps: &mut [Step]) {
    let breaking: Vec<(String, Version)> = steps
        .iter()
        .zip(facts)
        .filter_map(|(step, facts)| match &step.state {
            State::Planned(next) | State::Prepared(next) => {
                let before = facts.tagged.as_ref()?;
                changelog::may_break(before, next).then(|| (step.name.clone(), next.clone()))
            }
            _ => None,
        })
        .collect();
    for (step, facts) in steps.iter_mut().zip(facts) {
        let lower = facts.package.dependencies.iter().find_map(|dependency| {
            let normal = dependency.kind == DependencyKind::Normal;
            breaking.iter().find(|(name, _)| normal && dependency.name == *name)
        });
        if let Some((name, version)) = lower
            && step.state == State::Released
        {
            step.state = State::Blocked(format!(
                "{name} {version} breaks it; write a section in CHANGELOG.md, it is released, too"
            ));
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, manifest, state } = self;
        match state {
            State::Released => write!(f, "{name} {manifest}: released, unchanged"),
            State::Planned(version) => write!(f, "{name} {manifest}: {version} is planned"),
            State::Prepared(version) => write!(f, "{name} {manifest}: {version} is prepared"),
            State::Blocked(why) => write!(f, "{name} {manifest}: blocked: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Facts, State, Step, block_stragglers, changelog, state};
    use crate::workspace::{example, example_dependency};
    use cargo_metadata::Package;
    use serde_json::json;

    fn facts<'a>(package: &'a Package, text: &str, tag: &str, commits: usize) -> Facts<'a> {
        Facts { package, sections: changelog::sections(text), tagged: tag.parse().ok(), commits }
    }

    #[test]
    fn the_newest_section_and_the_last_tag_decide() {
        let package = example("x", json!({"version": "0.1.0"}));
        let of = |text: &str, tag: &str, commits| state(&facts(&package, text, tag, commits));
        let version = || "0.1.0".parse().unwrap();
        assert_eq!(of("## 0.1.0 (unreleased)\na\n", "", 0), State::Planned(version()));
        assert_eq!(of("## 0.1.0 (2026-01-01)\na\n", "", 0), State::Prepared(version()));
        assert_eq!(of("## 0.1.0 (2026-01-01)\na\n", "0.1.0", 0), State::Released);
        let two = "## 0.2.0 (unreleased)\n### Breaking\na\n## 0.1.0 (2026-01-01)\n";
        assert_eq!(of(two, "0.1.0", 9), State::Planned("0.2.0".parse().unwrap()));
    }

    #[test]
    fn what_a_human_must_write_blocks_a_release() {
        let package = example("x", json!({"version": "0.1.0"}));
        for (text, tag, commits, why) in [
            ("", "", 0, "write one"),
            ("## 0.1.0 (unreleased)\n", "", 0, "nothing is written"),
            ("## 0.1.0 (unreleased)\na", "0.1.0", 0, "has a tag"),
            ("## 0.1.0 (unreleased)\na", "0.2.0", 0, "older than the last tag"),
            ("## 0.2.0 (2026-01-01)\na", "", 0, "the manifest says 0.1.0"),
            ("## 0.1.0 (2026-01-01)\na", "0.1.0", 3, "3 commits since 0.1.0"),
            ("## 0.1.1 (unreleased)\n### Breaking\na\n## 0.1.0 (2026-01-01)\n", "", 0, "raise it"),
        ] {
            let State::Blocked(said) = state(&facts(&package, text, tag, commits)) else {
                panic!("{text} is not blocked")
            };
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn a_breaking_release_takes_its_dependents_along() {
        let lower = example("lower", json!({}));
        let dependency = example_dependency("lower", "^0.1.0", None);
        let upper = example("upper", json!({"dependencies": [dependency]}));
        let released = "## 0.1.0 (2026-01-01)\na";
        for (next, blocked) in [("0.2.0", true), ("0.1.1", false)] {
            let text = format!("## {next} (unreleased)\na\n{released}");
            let facts = [facts(&lower, &text, "0.1.0", 1), facts(&upper, released, "0.1.0", 0)];
            let step = |facts: &Facts<'_>| Step {
                name: facts.package.name.to_string(),
                manifest: facts.package.version.clone(),
                state: state(facts),
            };
            let mut steps = facts.iter().map(step).collect::<Vec<_>>();
            block_stragglers(&facts, &mut steps);
            assert_eq!(matches!(steps[1].state, State::Blocked(_)), blocked, "{next}");
        }
    }
}

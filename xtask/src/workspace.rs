//! The workspace, as `cargo metadata` describes it, and a shell whose folder is its root.

use crate::Result;
use cargo_metadata::camino::{Utf8Path, Utf8PathBuf};
use cargo_metadata::{Metadata, MetadataCommand, Package, Target, TargetKind};
use xshell::Shell;

/// The workspace.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: Utf8PathBuf,
    pub(crate) target: Utf8PathBuf,
    /// Each after those of this workspace that it depends on.
    pub(crate) packages: Vec<Package>,
    /// Runs commands in the root.
    pub(crate) shell: Shell,
}

impl Workspace {
    /// Asks cargo, without a network.
    pub(crate) fn load() -> Result<Self> {
        Self::from(metadata().no_deps().exec()?)
    }

    fn from(metadata: Metadata) -> Result<Self> {
        let shell = Shell::new()?;
        shell.change_dir(&metadata.workspace_root);
        Ok(Self {
            root: metadata.workspace_root,
            target: metadata.target_directory,
            packages: bottom_up(metadata.packages),
            shell,
        })
    }

    /// The named crates, or all when none is named. An unknown name is an error.
    pub(crate) fn select(&self, names: &[String]) -> Result<Vec<&Package>> {
        for name in names {
            if !self.packages.iter().any(|package| package.name == *name) {
                let known: Vec<_> = self.packages.iter().map(|p| p.name.as_str()).collect();
                return Err(format!("no crate {name} here; there are {}", known.join(", ")).into());
            }
        }
        let named = |package: &&Package| names.iter().any(|name| package.name == *name);
        Ok(self.packages.iter().filter(|package| names.is_empty() || named(package)).collect())
    }
}

/// The command that asks cargo about this workspace, from whatever folder xtask was called.
pub(crate) fn metadata() -> MetadataCommand {
    let mut command = MetadataCommand::new();
    command.manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    command
}

/// What the tasks ask of a package.
pub(crate) trait PackageExt {
    /// The folder of its manifest.
    fn folder(&self) -> &Utf8Path;
    /// Its targets of one kind.
    fn targets_of(&self, kind: TargetKind) -> impl Iterator<Item = &Target>;
    /// May it be published?
    fn is_published(&self) -> bool;
}

impl PackageExt for Package {
    fn folder(&self) -> &Utf8Path {
        self.manifest_path.parent().unwrap_or(&self.manifest_path)
    }

    fn targets_of(&self, kind: TargetKind) -> impl Iterator<Item = &Target> {
        self.targets.iter().filter(move |target| target.is_kind(kind.clone()))
    }

    fn is_published(&self) -> bool {
        // `publish = false` is an empty list of registries.
        self.publish.as_ref().is_none_or(|registries| !registries.is_empty())
    }
}

/// Lower crates first. A cycle, which only dev-dependencies can form, keeps cargo's order.
fn bottom_up(mut rest: Vec<Package>) -> Vec<Package> {
    let mut sorted: Vec<Package> = Vec::new();
    while !rest.is_empty() {
        let waits_for = |package: &Package, other: &Package| {
            other.name != package.name && package.dependencies.iter().any(|d| d.name == *other.name)
        };
        let free = rest
            .iter()
            .position(|package| !rest.iter().any(|other| waits_for(package, other)))
            .unwrap_or(0);
        sorted.push(rest.remove(free));
    }
    sorted
}

/// A package for a test, with what `fields` says and nothing else.
#[cfg(test)]
pub(crate) fn example(name: &str, fields: serde_json::Value) -> Package {
    let mut package = serde_json::json!({
        "name": name, "version": "0.1.0", "id": name, "dependencies": [], "targets": [],
        "features": {}, "manifest_path": format!("/w/{name}/Cargo.toml"),
    });
    for (field, value) in fields.as_object().unwrap() {
        package[field] = value.clone();
    }
    serde_json::from_value(package).unwrap()
}

/// A dependency on a crate of the workspace, for a test.
#[cfg(test)]
pub(crate) fn example_dependency(name: &str, req: &str, kind: Option<&str>) -> serde_json::Value {
    serde_json::json!({
        "name": name, "req": req, "kind": kind, "optional": false, "uses_default_features": true,
        "features": [], "path": format!("/w/{name}"),
    })
}

#[cfg(test)]
mod tests {
    use super::{PackageExt, Workspace, bottom_up, example, example_dependency};
    use cargo_metadata::TargetKind;
    use serde_json::json;

    #[test]
    fn lower_crates_come_first() {
        let lower = example("lower", json!({}));
        let upper =
            example("upper", json!({"dependencies": [example_dependency("lower", "^0.1", None)]}));
        let names: Vec<_> = bottom_up(vec![upper, lower]).into_iter().map(|p| p.name).collect();
        assert_eq!(names, ["lower", "upper"]);
    }

    #[test]
    fn only_publish_false_forbids_publishing() {
        assert!(example("a", json!({})).is_published());
        assert!(example("a", json!({"publish": ["crates-io"]})).is_published());
        assert!(!example("a", json!({"publish": []})).is_published());
    }

    #[test]
    fn a_crate_that_does_not_exist_is_an_error_that_lists_those_that_do() {
        let workspace = Workspace::load().unwrap();
        assert_eq!(workspace.select(&[]).unwrap().len(), workspace.packages.len());
        let error = workspace.select(&["xtusk".into()]).unwrap_err().to_string();
        assert!(
            error.starts_with("no crate xtusk here; there are ") && error.contains("bgw-core"),
            "{error}"
        );
    }

    #[test]
    fn this_workspace_can_be_read() {
        let workspace = Workspace::load().unwrap();
        let this = workspace.select(&["xtask".into()]).unwrap()[0];
        assert!(this.folder().join("Cargo.toml").is_file() && !this.is_published());
        assert_eq!(this.targets_of(TargetKind::Bin).count(), 1);
    }
}

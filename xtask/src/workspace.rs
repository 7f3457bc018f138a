//! The workspace as `cargo metadata` tells it. Values only; what is missing there reads as empty.

use crate::sh::{self, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The workspace.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    /// In the order in which they build on each other.
    pub(crate) packages: Vec<Package>,
}

/// One crate of the workspace.
#[derive(Debug, Default)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    pub(crate) features: BTreeMap<String, Vec<String>>,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) targets: Vec<Target>,
    /// Fields of the manifest that crates.io wants, with their values; empty when missing.
    pub(crate) about: BTreeMap<&'static str, String>,
    pub(crate) published: bool,
}

/// One line of `[dependencies]`, `[dev-dependencies]` or `[build-dependencies]`.
#[derive(Debug, Default)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// The wanted version, `*` when the manifest names none.
    pub(crate) version: String,
    pub(crate) dev: bool,
    pub(crate) local: bool,
}

/// A library, program, test or bench.
#[derive(Debug, Default)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) required_features: Vec<String>,
}

impl Package {
    /// The targets of one kind: `bin`, `test`, `bench`, `example`.
    pub(crate) fn targets(&self, kind: &str) -> impl Iterator<Item = &Target> {
        self.targets.iter().filter(move |target| target.kind == kind)
    }
}

impl Workspace {
    /// Asks cargo.
    pub(crate) fn load() -> Result<Self> {
        // Built in this workspace, so this crate's parent is its root, wherever it was called.
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
        let mut command = sh::cargo();
        command.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(root);
        Self::parse(&sh::output(command)?)
    }

    fn parse(json: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(json)?;
        let packages = list(&value["packages"]).iter().map(Package::parse).collect();
        Ok(Self {
            root: text(&value["workspace_root"]).into(),
            target: text(&value["target_directory"]).into(),
            packages: bottom_up(packages),
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
        Ok(self.packages.iter().filter(|p| names.is_empty() || names.contains(&p.name)).collect())
    }
}

impl Package {
    fn parse(value: &Value) -> Self {
        let manifest = PathBuf::from(text(&value["manifest_path"]));
        let mut features = BTreeMap::new();
        if let Some(map) = value["features"].as_object() {
            for (name, enables) in map {
                features.insert(name.clone(), texts(enables));
            }
        }
        let fields = ["description", "license", "repository", "readme", "rust_version", "version"];
        Self {
            name: text(&value["name"]),
            folder: manifest.parent().map(Path::to_owned).unwrap_or_default(),
            features,
            dependencies: list(&value["dependencies"]).iter().map(Dependency::parse).collect(),
            targets: list(&value["targets"]).iter().map(Target::parse).collect(),
            about: fields.into_iter().map(|field| (field, text(&value[field]))).collect(),
            // `publish = false` is an empty list of registries.
            published: value["publish"].as_array().is_none_or(|registries| !registries.is_empty()),
        }
    }
}

impl Dependency {
    fn parse(value: &Value) -> Self {
        Self {
            name: text(&value["name"]),
            version: text(&value["req"]),
            dev: value["kind"] == "dev",
            local: value["path"].is_string(),
        }
    }
}

impl Target {
    fn parse(value: &Value) -> Self {
        Self {
            name: text(&value["name"]),
            kind: texts(&value["kind"]).into_iter().next().unwrap_or_default(),
            required_features: texts(&value["required-features"]),
        }
    }
}

/// Lower crates first. A circle, which only dev-dependencies can make, keeps cargo's order.
fn bottom_up(mut rest: Vec<Package>) -> Vec<Package> {
    let mut sorted: Vec<Package> = Vec::new();
    while !rest.is_empty() {
        let free = rest.iter().position(|package| {
            package.dependencies.iter().filter(|dependency| dependency.local).all(|dependency| {
                !rest
                    .iter()
                    .any(|other| other.name == dependency.name && other.name != package.name)
            })
        });
        sorted.push(rest.remove(free.unwrap_or(0)));
    }
    sorted
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    list(value).iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::Workspace;

    const JSON: &str = r#"{
        "workspace_root": "/w", "target_directory": "/w/target",
        "packages": [
            {"name": "upper", "manifest_path": "/w/upper/Cargo.toml", "publish": [],
             "features": {"cli": ["dep:clap"]},
             "dependencies": [
                {"name": "lower", "req": "^0.1", "kind": null, "path": "/w/lower"},
                {"name": "nix", "req": "^0.31", "kind": "dev", "path": null}],
             "targets": [
                {"name": "speed", "kind": ["bench"], "required-features": ["cli"]},
                {"name": "upper", "kind": ["lib"]}]},
            {"name": "lower", "manifest_path": "/w/lower/Cargo.toml", "publish": null,
             "description": "x", "features": {}, "dependencies": [], "targets": []}
        ]}"#;

    #[test]
    fn metadata_is_read_and_lower_crates_come_first() {
        let workspace = Workspace::parse(JSON).unwrap();
        let names: Vec<_> = workspace.packages.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["lower", "upper"]);
        let [lower, upper] = &workspace.packages[..] else { panic!("two packages") };
        assert!(lower.published && !upper.published);
        assert_eq!((&*lower.about["description"], &*upper.about["description"]), ("x", ""));
        assert_eq!(upper.features["cli"], ["dep:clap"]);
        let kinds: Vec<_> = upper.dependencies.iter().map(|d| (d.local, d.dev)).collect();
        assert_eq!(kinds, [(true, false), (false, true)]);
        let bench = upper.targets("bench").next().unwrap();
        assert_eq!((&*bench.name, &bench.required_features[..]), ("speed", &["cli".into()][..]));
    }

    #[test]
    fn a_crate_that_does_not_exist_is_an_error_that_lists_those_that_do() {
        let workspace = Workspace::parse(JSON).unwrap();
        assert_eq!(workspace.select(&[]).unwrap().len(), 2);
        assert_eq!(workspace.select(&["upper".into()]).unwrap()[0].name, "upper");
        let error = workspace.select(&["uper".into()]).unwrap_err().to_string();
        assert_eq!(error, "no crate uper here; there are lower, upper");
    }

    #[test]
    fn this_workspace_can_be_read() {
        let workspace = Workspace::load().unwrap();
        let this = workspace.select(&["xtask".into()]).unwrap()[0];
        assert!(this.folder.join("Cargo.toml").is_file());
        assert!(!this.published);
    }
}

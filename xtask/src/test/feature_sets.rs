//! Which sets of features a crate is tested with: default, none, each alone, all; each set once.

use cargo_metadata::Package;
use std::collections::{BTreeMap, BTreeSet};

/// A choice of features.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FeatureSet {
    pub(crate) label: String,
    /// For cargo.
    pub(crate) arguments: Vec<String>,
}

/// The sets of a crate, without those that turn on the same as an earlier one.
pub(crate) fn of(package: &Package) -> Vec<FeatureSet> {
    let features = &package.features;
    let names = || features.keys().map(String::as_str).filter(|name| *name != "default");

    let mut wanted = vec![("default".to_owned(), vec![], closure(features, ["default"]))];
    wanted.push(("none".to_owned(), vec!["--no-default-features".to_owned()], BTreeSet::new()));
    for name in names() {
        let arguments = ["--no-default-features", "--features", name].map(str::to_owned).to_vec();
        wanted.push((name.to_owned(), arguments, closure(features, [name])));
    }
    wanted.push(("all".to_owned(), vec!["--all-features".to_owned()], closure(features, names())));

    let mut seen = BTreeSet::new();
    wanted
        .into_iter()
        .filter(|(_, _, turned_on)| seen.insert(turned_on.clone()))
        .map(|(label, arguments, _)| FeatureSet { label, arguments })
        .collect()
}

/// All that the features turn on: features, optional dependencies, features of dependencies.
fn closure<'a>(
    features: &'a BTreeMap<String, Vec<String>>,
    start: impl IntoIterator<Item = &'a str>,
) -> BTreeSet<&'a str> {
    let mut rest: Vec<&str> = start.into_iter().collect();
    let mut found = BTreeSet::new();
    while let Some(name) = rest.pop() {
        if found.insert(name) {
            rest.extend(features.get(name).into_iter().flatten().map(String::as_str));
        }
    }
    // A crate without a default feature has an empty default set all the same.
    found.remove("default");
    found
}

#[cfg(test)]
mod tests {
    use super::of;
    use crate::workspace::example;
    use serde_json::{Map, json};

    fn labels(features: &[(&str, &[&str])]) -> Vec<String> {
        let features: Map<_, _> =
            features.iter().map(|(name, enables)| ((*name).to_owned(), json!(enables))).collect();
        of(&example("x", json!({"features": features}))).into_iter().map(|set| set.label).collect()
    }

    #[test]
    fn a_crate_without_features_is_tested_once() {
        assert_eq!(labels(&[]), ["default"]);
        assert_eq!(labels(&[("default", &[])]), ["default"]);
    }

    #[test]
    fn a_single_feature_needs_no_set_of_all() {
        assert_eq!(labels(&[("fault", &[])]), ["default", "fault"]);
    }

    #[test]
    fn several_features_are_tested_alone_and_together() {
        let features: [(&str, &[&str]); 2] = [("fault", &[]), ("tokio", &["dep:tokio"])];
        assert_eq!(labels(&features), ["default", "fault", "tokio", "all"]);
    }

    #[test]
    fn a_crate_with_default_features_is_tested_without_them() {
        let features: [(&str, &[&str]); 3] =
            [("default", &["sqlite"]), ("sqlite", &["dep:rusqlite"]), ("cli", &["sqlite"])];
        // `sqlite` alone is the default; `cli` turns on all there is.
        assert_eq!(labels(&features), ["default", "none", "cli"]);
    }

    #[test]
    fn features_that_name_each_other_end() {
        assert_eq!(labels(&[("a", &["b"]), ("b", &["a"])]), ["default", "a"]);
    }
}

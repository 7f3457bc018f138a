//! Versions in manifests: a crate's own, and those of the crates here that it depends on.

use crate::Result;
use cargo_metadata::semver::Version;
use toml_edit::{DocumentMut, Item, value};

const SECTIONS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// The manifest of `package` with these versions of crates of the workspace, each in its own
/// manifest and in every path dependency that names a version. Comments and layout stay.
pub(super) fn with_versions(
    manifest: &str,
    package: &str,
    versions: &[(&str, &Version)],
) -> Result<String> {
    let mut document: DocumentMut = manifest.parse()?;
    for (name, version) in versions {
        let version = version.to_string();
        if *name == package {
            replace(&mut document["package"]["version"], &version);
        }
        for section in SECTIONS {
            let dependency = document.get_mut(section).and_then(|table| table.get_mut(name));
            if let Some(dependency) = dependency
                && dependency.get("path").is_some()
                && dependency.get("version").is_some()
            {
                replace(&mut dependency["version"], &version);
            }
        }
    }
    Ok(document.to_string())
}

/// Replaces a text and keeps the blanks and comments around it.
fn replace(item: &mut Item, text: &str) {
    let decor = item.as_value().map(|value| value.decor().clone());
    *item = value(text);
    if let (Some(value), Some(decor)) = (item.as_value_mut(), decor) {
        *value.decor_mut() = decor;
    }
}

#[cfg(test)]
mod tests {
    use super::with_versions;

    const MANIFEST: &str = "[package]\nname = \"upper\"\nversion = \"0.1.0\" # ours\n\n\
        [dependencies]\nlower = { version = \"0.1.0\", path = \"../lower\" }\n\
        other = \"0.1.0\"\n\n[dev-dependencies]\nharness = { path = \"../harness\" }\n";

    #[test]
    fn only_the_crates_of_a_release_change() {
        let next = "0.2.0".parse().unwrap();
        let versions = [("lower", &next), ("other", &next), ("harness", &next)];
        let text = with_versions(MANIFEST, "upper", &versions).unwrap();
        let expected =
            MANIFEST.replace("lower = { version = \"0.1.0\"", "lower = { version = \"0.2.0\"");
        assert_eq!(text, expected);
        let text = with_versions(MANIFEST, "upper", &[("upper", &next)]).unwrap();
        assert_eq!(
            text,
            MANIFEST.replace("version = \"0.1.0\" # ours", "version = \"0.2.0\" # ours")
        );
    }
}

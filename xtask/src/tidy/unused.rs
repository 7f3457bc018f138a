//! Every dependency is named by a path in its crate: a normal one in `src/` or a build script, a
//! dev-dependency anywhere.

use super::Finding;
use super::syntax::Source;
use crate::workspace::{PackageExt, Workspace};
use cargo_metadata::{Dependency, DependencyKind, Package};

const RULE: &str = "unused-dependency";

pub(super) fn check(workspace: &Workspace, sources: &[Source]) -> Vec<Finding> {
    let of = |package: &Package| {
        let folder = package.folder();
        let folder = folder.strip_prefix(&workspace.root).unwrap_or(folder);
        let nested = |file: &str| {
            let other = |other: &&Package| other.folder() != package.folder();
            let mut others = workspace.packages.iter().filter(other).map(PackageExt::folder);
            others.any(|other| {
                other.starts_with(package.folder()) && workspace.root.join(file).starts_with(other)
            })
        };
        let own = sources.iter().filter(|source| source.file.starts_with(&format!("{folder}/")));
        let own: Vec<&Source> = own.filter(|source| !nested(&source.file)).collect();
        unused(folder.as_str(), package, &own)
    };
    workspace.packages.iter().flat_map(of).collect()
}

/// `sources` are the files of the package.
fn unused(folder: &str, package: &Package, sources: &[&Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for dependency in &package.dependencies {
        let name = dependency.rename.as_ref().unwrap_or(&dependency.name).replace('-', "_");
        let shipped = |source: &&&Source| {
            source.file.starts_with(&format!("{folder}/src/"))
                || source.file == format!("{folder}/build.rs")
        };
        let anywhere = sources.iter().any(|source| names(source, &name));
        let here = match dependency.kind {
            DependencyKind::Development => anywhere,
            _ => sources.iter().filter(shipped).any(|source| names(source, &name)),
        };
        if !here {
            let text = advice(dependency, anywhere);
            findings.push(Finding {
                file: format!("{folder}/Cargo.toml"),
                line: 0,
                rule: RULE,
                text,
            });
        }
    }
    findings
}

fn advice(dependency: &Dependency, anywhere: bool) -> String {
    let name = &dependency.name;
    if anywhere {
        format!("only tests name `{name}`; move it to [dev-dependencies]")
    } else {
        format!("no code names `{name}`; take it out")
    }
}

/// Does a path of the file begin with the crate, in its code or in an example of a doc comment?
fn names(source: &Source, name: &str) -> bool {
    let in_code = source.paths().any(|path| {
        // One segment alone may be a variable, unless it is imported.
        path.segments[0] == name && (path.segments.len() > 1 || path.imported)
    });
    let in_examples = || {
        let comments =
            source.text.lines().map(str::trim_start).filter(|line| line.starts_with("//"));
        let mut comments = comments.filter(|line| !line.starts_with("// "));
        let path = format!("{name}::");
        comments.any(|line| {
            line.match_indices(&path).any(|(at, _)| {
                let before = line.get(..at).and_then(|text| text.chars().last());
                !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ':'))
            })
        })
    };
    in_code || in_examples()
}

#[cfg(test)]
mod tests {
    use super::unused;
    use crate::tidy::syntax::Source;
    use crate::workspace::{example, example_dependency};
    use serde_json::json;

    /// What is said about a dependency on `some-crate` in a package of these files.
    fn said(kind: Option<&str>, files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<_> =
            files.iter().map(|(file, text)| Source::parse(file, text).unwrap()).collect();
        let dependency = example_dependency("some-crate", "1", kind);
        let package = example("x", json!({"dependencies": [dependency]}));
        let findings = unused("x", &package, &sources.iter().collect::<Vec<_>>());
        findings.into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn a_dependency_is_used_by_a_path_an_import_or_an_example() {
        for text in [
            "use some_crate::a;",
            "use some_crate as s;",
            "fn f() { m!(some_crate::f()) }",
            "#[derive(some_crate::Error)] struct S;",
            "/// ```\n/// some_crate::f();\n/// ```\nfn f() {}",
        ] {
            assert_eq!(said(None, &[("x/src/lib.rs", text)]), [""; 0], "{text}");
        }
        for text in
            ["fn f(some_crate: u8) { g(some_crate) }", "// some_crate::f()", "use a::some_crate;"]
        {
            let expected = ["no code names `some-crate`; take it out"];
            assert_eq!(said(None, &[("x/src/lib.rs", text)]), expected, "{text}");
        }
    }

    #[test]
    fn what_only_tests_use_is_a_dev_dependency() {
        let files = [("x/src/lib.rs", ""), ("x/tests/t.rs", "use some_crate::a;")];
        assert_eq!(said(Some("dev"), &files), [""; 0]);
        let expected = ["only tests name `some-crate`; move it to [dev-dependencies]"];
        assert_eq!(said(None, &files), expected);
    }
}

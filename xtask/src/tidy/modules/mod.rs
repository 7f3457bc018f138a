//! Rules on the modules of a crate: which file names what is in which other file.
//!
//! A path is followed through imports and re-exports to the file that defines its item, so a
//! `mod.rs` or `lib.rs` that only re-exports is nobody's dependency. Code that is compiled for
//! tests only is left out. Calls of methods are not seen: they name no path.

mod cycles;
mod tree;

use super::Finding;
use super::syntax::Source;
use crate::workspace::Workspace;
use tree::Tree;

pub(super) fn check(workspace: &Workspace, sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &workspace.packages {
        for target in &package.targets {
            let root = target.src_path.strip_prefix(&workspace.root).unwrap_or(&target.src_path);
            if target.is_lib() || target.is_bin() {
                findings.extend(rules(sources, root.as_str()));
            }
        }
    }
    findings
}

/// All rules on the crate whose root is this file.
fn rules(sources: &[Source], root: &str) -> Vec<Finding> {
    let tree = Tree::of(sources, root);
    let edges = tree.edges();
    let mut findings = Vec::new();
    for cycle in cycles::shortest(&edges) {
        let (file, next) = (cycle[0], cycle[1 % cycle.len()]);
        let (line, path) = edges.get(&(file, next)).cloned().unwrap_or_default();
        let text = format!(
            "`{path}` closes a cycle: {} → {file}; move what several files need below them",
            cycle.join(" → ")
        );
        findings.push(Finding { file: file.to_owned(), line, rule: "import-cycle", text });
    }
    for ((file, other), (line, path)) in &edges {
        if is_sys(file) && !is_sys(other) && !is_fault(other) {
            let text = format!("`{path}` is above `sys/`, in {other}; pass it in, or move it down");
            let (file, line) = ((*file).to_owned(), *line);
            findings.push(Finding { file, line, rule: "sys-names-above", text });
        }
    }
    for (file, child) in tree.children().filter(|(_, child)| child.name == "sys" && child.public) {
        let text = "`pub mod sys` publishes system calls; make it private".to_owned();
        let (file, line) = (file.to_owned(), child.line);
        findings.push(Finding { file, line, rule: "sys-is-private", text });
    }
    findings
}

/// The fault points of a crate: a leaf, which every layer may name.
fn is_fault(file: &str) -> bool {
    file.ends_with("/src/fault.rs")
}

fn is_sys(file: &str) -> bool {
    file.split('/').any(|part| part == "sys" || part == "sys.rs")
}

#[cfg(test)]
mod tests {
    use super::rules;
    use crate::tidy::syntax::Source;

    /// The rules that a crate of these files breaks, each with its file and line.
    fn broken(files: &[(&str, &str)]) -> Vec<(String, usize, &'static str)> {
        let sources: Vec<_> =
            files.iter().map(|(file, text)| Source::parse(file, text).unwrap()).collect();
        let findings = rules(&sources, files[0].0).into_iter();
        findings.map(|finding| (finding.file, finding.line, finding.rule)).collect()
    }

    fn at(file: &str, line: usize, rule: &'static str) -> (String, usize, &'static str) {
        (file.to_owned(), line, rule)
    }

    #[test]
    fn two_files_that_name_each_other_are_a_cycle() {
        let a = ("x/a.rs", "use crate::b::B;\npub struct A(B);");
        let lib = ("x/lib.rs", "mod a;\nmod b;\npub use a::A;");
        let through_the_root = ("x/b.rs", "pub struct B;\nfn f(_: crate::A) {}");
        assert_eq!(broken(&[lib, a, through_the_root]), [at("x/a.rs", 1, "import-cycle")]);
        for harmless in [
            "pub struct B;\n#[cfg(test)]\nmod tests { use crate::a::A; }",
            "pub struct B;\n/// See [`crate::a::A`].\nfn f() {}",
            "pub struct B;\nuse a::A;",
        ] {
            assert_eq!(broken(&[lib, a, ("x/b.rs", harmless)]), [], "{harmless}");
        }
    }

    #[test]
    fn a_longer_cycle_is_reported_once() {
        let lib = ("x/lib.rs", "mod a;\nmod b;\nmod c;");
        let a = ("x/a.rs", "\nfn a() { crate::b::b() }");
        let b = ("x/b.rs", "use super::c;\nfn b() { c::c() }");
        let c = ("x/c.rs", "use super::a::*;\nfn c() { m!(a()) }");
        assert_eq!(broken(&[lib, a, b, c]), [at("x/a.rs", 2, "import-cycle")]);
    }

    #[test]
    fn a_file_that_only_re_exports_is_no_part_of_a_cycle() {
        let lib = ("x/lib.rs", "mod a;\npub use a::{One, Two};");
        let a = ("x/a/mod.rs", "mod one;\nmod two;\npub use one::One;\npub use two::*;");
        let one = ("x/a/one.rs", "pub struct One;");
        let two = ("x/a/two.rs", "use super::One;\npub struct Two(One);\nfn f(_: crate::Two) {}");
        assert_eq!(broken(&[lib, a, one, two]), []);
        let own =
            "mod one;\nmod two;\npub use one::One;\npub use two::*;\nstruct S(Two);\nfn f() {}";
        let two = ("x/a/two.rs", "pub struct Two;\nfn g() { super::f() }");
        assert_eq!(
            broken(&[lib, ("x/a/mod.rs", own), one, two]),
            [at("x/a/mod.rs", 5, "import-cycle")]
        );
    }

    #[test]
    fn sys_names_nothing_above_it_and_is_private() {
        let lib = ("x/lib.rs", "mod sys;\npub struct Error;");
        let module = ("x/sys/mod.rs", "mod fork;\nmod wait;");
        let fork = ("x/sys/fork.rs", "use super::wait::Wait;\nfn f(_: Wait) -> std::io::Error {}");
        let wait = ("x/sys/wait.rs", "pub struct Wait;");
        assert_eq!(broken(&[lib, module, fork, wait]), []);
        let wait = ("x/sys/wait.rs", "\npub struct Wait(crate::Error);");
        assert_eq!(broken(&[lib, module, fork, wait]), [at("x/sys/wait.rs", 2, "sys-names-above")]);
        assert_eq!(
            broken(&[("x/lib.rs", "\npub mod sys {}")]),
            [at("x/lib.rs", 2, "sys-is-private")]
        );
    }
}

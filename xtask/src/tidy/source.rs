//! Rules on one Rust file.

use super::Finding;
use super::lexer::{code_only, lines_with};

/// The longest file, tests included. A longer one holds two concepts.
const LONGEST: usize = 450;

/// Folders in which a file may use `unsafe`: the layer of system calls, and programs that are never
/// shipped.
const MAY_BE_UNSAFE: [&str; 5] = ["sys", "tests", "benches", "examples", "fuzz"];

pub(crate) fn check(file: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |line, rule, text: String| {
        findings.push(Finding { file: file.to_owned(), line, rule, text });
    };

    let first = text.lines().find(|line| !line.is_empty() && !line.starts_with("#!["));
    if !first.is_some_and(|line| line.starts_with("//!")) {
        add(1, "head-comment", "no `//!` at the top; say what the file is for".to_owned());
    }
    let length = text.lines().count();
    if length > LONGEST {
        let text = format!("{length} lines, the limit is {LONGEST}; split it by concept");
        add(length, "length", text);
    }

    let code = code_only(text);
    let folders: Vec<&str> = file.split('/').collect();
    if !MAY_BE_UNSAFE.iter().any(|folder| folders.contains(folder)) {
        for (line, after) in lines_with(&code, "unsafe") {
            // `#[unsafe(no_mangle)]` is an attribute.
            if !after.starts_with('(') {
                let text = "`unsafe` outside of `sys/`; move it behind a safe function there";
                add(line, "unsafe-outside-sys", text.to_owned());
            }
        }
    }
    if file.starts_with("shmem-slots/src/") && !file.ends_with("/primitive.rs") {
        for path in ["std::sync::atomic", "core::sync::atomic"] {
            for (line, _) in lines_with(&code, path) {
                let text = format!("`{path}` hides from loom; take it from `crate::primitive`");
                add(line, "atomics", text);
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, check};

    fn rules(file: &str, text: &str) -> Vec<(usize, &'static str)> {
        check(file, text).into_iter().map(|finding| (finding.line, finding.rule)).collect()
    }

    #[test]
    fn a_file_begins_with_its_head_comment() {
        assert_eq!(rules("a/src/b.rs", "//! b\nfn f() {}\n"), []);
        assert_eq!(rules("a/src/b.rs", "#![cfg(loom)]\n\n//! b\n"), []);
        assert_eq!(rules("a/src/b.rs", "use x;\n//! b\n"), [(1, "head-comment")]);
        assert_eq!(rules("a/src/b.rs", ""), [(1, "head-comment")]);
    }

    #[test]
    fn a_file_of_two_concepts_is_too_long() {
        let text = format!("//! b\n{}", "\n".repeat(LONGEST));
        assert_eq!(rules("a/src/b.rs", &text), [(LONGEST + 1, "length")]);
        assert_eq!(rules("a/src/b.rs", text.trim_end()), []);
    }

    #[test]
    fn unsafe_stands_in_sys_only() {
        let text = "//! b\n// unsafe\nunsafe {}\n#[unsafe(no_mangle)]\n#![deny(unsafe_code)]\n";
        assert_eq!(rules("a/src/b.rs", text), [(3, "unsafe-outside-sys")]);
        assert_eq!(rules("a/src/bin/b.rs", text), [(3, "unsafe-outside-sys")]);
        assert_eq!(rules("a/src/system/b.rs", text), [(3, "unsafe-outside-sys")]);
        for file in ["a/src/sys/b.rs", "a/tests/b.rs", "a/benches/b.rs", "a/fuzz/b.rs"] {
            assert_eq!(rules(file, text), [], "{file}");
        }
    }

    #[test]
    fn only_primitive_names_atomics() {
        let text = "//! b\nuse std::sync::atomic::AtomicU64;\n";
        assert_eq!(rules("shmem-slots/src/word.rs", text), [(2, "atomics")]);
        assert_eq!(rules("shmem-slots/src/primitive.rs", text), []);
        assert_eq!(rules("shmem-slots/tests/crash.rs", text), []);
        assert_eq!(rules("bgw-core/src/attachment.rs", text), []);
    }
}

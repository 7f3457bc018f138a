//! Rules on one Rust file.

use super::Finding;
use super::syntax::{Source, each_token};
use proc_macro2::{Delimiter, TokenTree};

/// The longest file, tests included. A longer one holds two concepts.
const LONGEST: usize = 450;
/// The same for the files that a crate publishes.
const LONGEST_PUBLISHED: usize = 400;
/// The widest comment, in characters. rustfmt wraps code alone.
const WIDEST: usize = 100;
/// Folders in which a file may use `unsafe`: the layer of system calls, and programs that are never
/// published.
const MAY_BE_UNSAFE: [&str; 5] = ["sys", "ffi", "tests", "benches", "examples"];
/// The sources of the published crates.
const PUBLISHED: [&str; 4] =
    ["shmem-slots/src/", "bgw-core/src/", "bgw-postmaster/src/", "bgw-backend/src/"];
/// Macros that mark unfinished work.
const UNFINISHED: [&str; 2] = ["todo", "unimplemented"];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let (file, text) = (&source.file, &source.text);
    let mut findings = Vec::new();
    let mut add = |line, rule, text: String| {
        findings.push(Finding { file: file.clone(), line, rule, text });
    };

    let first = text.lines().find(|line| !line.is_empty() && !line.starts_with("#!["));
    if !first.is_some_and(|line| line.starts_with("//!")) {
        add(1, "head-comment", "no `//!` at the top; say what the file is for".to_owned());
    }
    let length = text.lines().count();
    let longest = if is_published(file) { LONGEST_PUBLISHED } else { LONGEST };
    if length > longest {
        let text = format!("{length} lines, the limit is {longest}; split it by concept");
        add(length, "length", text);
    }

    for (index, line) in text.lines().enumerate() {
        let width = line.chars().count();
        if width > WIDEST && is_prose(line) {
            let text = format!("{width} characters, the limit is {WIDEST}; wrap the comment");
            add(index + 1, "comment-width", text);
        }
    }

    let may_be_unsafe = file.split('/').any(|folder| MAY_BE_UNSAFE.contains(&folder));
    each_token(source.tokens.clone(), &mut |token, next| {
        let TokenTree::Ident(word) = token else { return };
        let line = word.span().start().line;
        // `#[unsafe(no_mangle)]` is an attribute.
        let attribute = matches!(next, Some(TokenTree::Group(group))
            if group.delimiter() == Delimiter::Parenthesis);
        if word == "unsafe" && !attribute && !may_be_unsafe {
            let text = "`unsafe` outside of `sys/`; move it behind a safe function there";
            add(line, "unsafe-outside-sys", text.to_owned());
        }
        let call = matches!(next, Some(TokenTree::Punct(mark)) if mark.as_char() == '!');
        if call && UNFINISHED.iter().any(|name| word == name) {
            add(line, "unfinished", format!("`{word}!`: write it, or leave it out"));
        }
    });

    if file.starts_with("shmem-slots/src/") && !file.ends_with("/primitive.rs") {
        for path in source.paths() {
            let segments: Vec<_> = path.segments.iter().map(String::as_str).collect();
            if matches!(segments[..], ["std" | "core", "sync", "atomic", ..]) {
                let text = "loom does not see `std::sync::atomic`; use `crate::primitive`";
                add(path.line, "atomics", text.to_owned());
            }
        }
    }
    findings
}

/// Does a published crate have this file in its library or programs?
fn is_published(file: &str) -> bool {
    PUBLISHED.iter().any(|folder| file.starts_with(folder))
}

/// Is the line a comment that can be wrapped? A row of a table and a link without a space cannot.
fn is_prose(line: &str) -> bool {
    let Some(comment) = line.trim_start().strip_prefix("//") else { return false };
    let text = comment.trim_start_matches(['/', '!']).trim();
    !text.starts_with('|') && text.contains(' ')
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, check};
    use crate::tidy::syntax::Source;

    fn rules(file: &str, text: &str) -> Vec<(usize, &'static str)> {
        let source = Source::parse(file, text).unwrap();
        check(&source).into_iter().map(|finding| (finding.line, finding.rule)).collect()
    }

    #[test]
    fn a_file_begins_with_its_head_comment() {
        assert_eq!(rules("a/src/b.rs", "//! b\nfn f() {}\n"), []);
        assert_eq!(rules("a/src/b.rs", "#![cfg(loom)]\n\n//! b\n"), []);
        assert_eq!(rules("a/src/b.rs", "use x;\n// b\n"), [(1, "head-comment")]);
        assert_eq!(rules("a/src/b.rs", ""), [(1, "head-comment")]);
    }

    #[test]
    fn a_file_of_two_concepts_is_too_long() {
        let text = format!("//! b\n{}", "\n".repeat(LONGEST));
        assert_eq!(rules("a/src/b.rs", &text), [(LONGEST + 1, "length")]);
        assert_eq!(rules("a/src/b.rs", text.trim_end()), []);
    }

    #[test]
    fn published_files_are_shorter() {
        let text = format!("//! b\n{}", "\n".repeat(400));
        assert_eq!(rules("bgw-core/src/b.rs", &text), [(401, "length")]);
        assert_eq!(rules("bgw-core/tests/b.rs", &text), []);
    }

    #[test]
    fn a_comment_wraps_and_a_table_does_not() {
        let word = "x".repeat(50);
        assert_eq!(rules("a/b.rs", &format!("//! {word} {word}\n")), [(1, "comment-width")]);
        assert_eq!(
            rules("a/b.rs", &format!("//! b\n    // {word} {word}\n")),
            [(2, "comment-width")]
        );
        assert_eq!(rules("a/b.rs", &format!("//! | {word} | {word} |\n")), []);
        assert_eq!(rules("a/b.rs", &format!("//! <https://{word}.{word}>\n")), []);
        assert_eq!(rules("a/b.rs", &format!("//! {word}{}\n", "→".repeat(46))), []);
    }

    #[test]
    fn unsafe_stands_in_sys_only() {
        let text = "//! b\n#![deny(unsafe_code)]\n// unsafe\nfn f() { unsafe {} }\n#[unsafe(no_mangle)]\nfn g() { \"unsafe\"; }";
        assert_eq!(rules("a/src/b.rs", text), [(4, "unsafe-outside-sys")]);
        assert_eq!(rules("a/src/bin/b.rs", text), [(4, "unsafe-outside-sys")]);
        assert_eq!(rules("a/src/system/b.rs", text), [(4, "unsafe-outside-sys")]);
        for file in ["a/src/sys/b.rs", "a/tests/b.rs", "a/benches/b.rs"] {
            assert_eq!(rules(file, text), [], "{file}");
        }
    }

    #[test]
    fn only_primitive_names_atomics() {
        let text = "//! b\nuse std::sync::atomic::AtomicU64;\n";
        assert_eq!(rules("shmem-slots/src/word.rs", text), [(2, "atomics")]);
        let grouped = "//! b\nuse std::{fs, sync::{Arc, atomic}};\n";
        assert_eq!(rules("shmem-slots/src/word.rs", grouped), [(2, "atomics")]);
        assert_eq!(rules("shmem-slots/src/primitive.rs", text), []);
        assert_eq!(rules("shmem-slots/tests/crash.rs", text), []);
        assert_eq!(rules("bgw-core/src/attachment.rs", text), []);
    }

    #[test]
    fn macros_of_unfinished_work_are_found_in_code_only() {
        let text = "//! b\nfn f() { todo!() }\nfn g() { m!(unimplemented!(\"x\")) }\n";
        assert_eq!(rules("a/src/b.rs", text), [(2, "unfinished"), (3, "unfinished")]);
        let text = "//! b\n// todo!()\n#[warn(clippy::todo)]\nfn f() { \"todo!\"; }";
        assert_eq!(rules("a/src/b.rs", text), []);
    }
}

//! Words that must not be taken in: unfinished work, and folders of somebody's machine.

use super::Finding;
use super::lexer::{code_only, lines_with};

/// Marks of unfinished work, in code and text. Written in two parts, so that this file is clean.
const MARKS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
/// Macros of unfinished work.
const MACROS: [&str; 2] = ["todo", "unimplemented"];
/// Folders that exist on one machine only.
const FOLDERS: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/tmp/", "plan"), concat!("/ho", "me/")];

pub(crate) fn check(file: &str, text: &str, rust: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |line, rule, text: String| {
        findings.push(Finding { file: file.to_owned(), line, rule, text });
    };
    for mark in MARKS {
        for (line, _) in lines_with(text, mark) {
            add(line, "unfinished", format!("`{mark}`: do it now, or write down the limit"));
        }
    }
    if rust {
        let code = code_only(text);
        for name in MACROS {
            for (line, after) in lines_with(&code, name) {
                if after.starts_with('!') {
                    add(line, "unfinished", format!("`{name}!`: write it, or leave it out"));
                }
            }
        }
    }
    for (index, line) in text.lines().enumerate() {
        for folder in FOLDERS {
            if begins_a_path(line, folder) {
                let text = format!("`{folder}` exists on one machine only; name no such folder");
                add(index + 1, "machine-path", text);
            }
        }
    }
    findings
}

/// Does `folder` stand in the line as the beginning of a path, not in the middle of one?
fn begins_a_path(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().last());
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '*' | '}'))
    })
}

#[cfg(test)]
mod tests {
    use super::{FOLDERS, MARKS, check};

    fn rules(text: &str, rust: bool) -> Vec<(usize, &'static str)> {
        check("x", text, rust).into_iter().map(|finding| (finding.line, finding.rule)).collect()
    }

    #[test]
    fn unfinished_work_is_found_in_code_and_text() {
        let text = format!("a\n// {}: later\n", MARKS[0]);
        assert_eq!(rules(&text, true), [(2, "unfinished")]);
        assert_eq!(rules(&text, false), [(2, "unfinished")]);
        assert_eq!(rules("todo!()\nunimplemented!(\"x\")", true).len(), 2);
        assert_eq!(rules("// todo!()\n#[warn(clippy::todo)]\n\"todo!\"", true), []);
        assert_eq!(rules("todo!()", false), []);
    }

    #[test]
    fn folders_of_a_machine_are_found_and_parts_of_other_paths_are_not() {
        for folder in FOLDERS {
            assert_eq!(rules(&format!("see {folder}x"), false), [(1, "machine-path")]);
            assert_eq!(rules(&format!("\"{folder}x\""), true), [(1, "machine-path")]);
            assert_eq!(rules(&format!("see a{folder}x"), false), []);
        }
    }
}

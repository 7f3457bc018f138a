//! Words that must not be taken in: unfinished work, and folders of somebody's machine.

use super::Finding;

/// Marks of unfinished work, in code and text. Written in two parts, so that this file is clean.
const MARKS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
/// Folders that exist on one machine only.
const FOLDERS: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/tmp/", "plan"), concat!("/ho", "me/")];

pub(super) fn check(file: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |line, rule, text: String| {
        findings.push(Finding { file: file.to_owned(), line, rule, text });
    };
    for (index, line) in text.lines().enumerate() {
        for mark in MARKS.iter().filter(|mark| has_word(line, mark)) {
            add(index + 1, "unfinished", format!("`{mark}`: do it now, or write down the limit"));
        }
        for folder in FOLDERS {
            if begins_a_path(line, folder) {
                let text = format!("`{folder}` exists on one machine only; name no such folder");
                add(index + 1, "machine-path", text);
            }
        }
    }
    findings
}

/// Is `word` in the line, and not a part of a longer word?
fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|part| part == word)
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

    fn rules(text: &str) -> Vec<(usize, &'static str)> {
        check("x", text).into_iter().map(|finding| (finding.line, finding.rule)).collect()
    }

    #[test]
    fn unfinished_work_is_found() {
        assert_eq!(rules(&format!("a\n// {}: later\n", MARKS[0])), [(2, "unfinished")]);
        assert_eq!(rules(&format!("{}S", MARKS[0])), []);
    }

    #[test]
    fn folders_of_a_machine_are_found_and_parts_of_other_paths_are_not() {
        for folder in FOLDERS {
            assert_eq!(rules(&format!("see {folder}x")), [(1, "machine-path")]);
            assert_eq!(rules(&format!("see a{folder}x")), []);
        }
    }
}

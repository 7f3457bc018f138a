//! Every path that ARCHITECTURE.md names exists, and so does every file that a Markdown file links
//! to. A path may be named from the root, or by its last parts alone (`word.rs`, `sys/map.rs`).
//! What ARCHITECTURE.md says lies in a file (`serve` in `event_loop.rs`) is defined there.

use super::{Finding, syntax::Source};

const RULE: &str = "named-path";

/// `files` are all files of the workspace.
pub(crate) fn check(file: &str, text: &str, files: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        let mut add = |path: &str| {
            let text = format!("`{path}` does not exist; correct the name or add the file");
            findings.push(Finding { file: file.to_owned(), line: index + 1, rule: RULE, text });
        };
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            for link in links(line) {
                if !exists(&resolve(folder, link), files, false) {
                    add(link);
                }
            }
            if file == "ARCHITECTURE.md" {
                for path in spans(line).filter(|span| is_path(span, files)) {
                    if !exists(path, files, true) {
                        add(path);
                    }
                }
            }
        }
    }
    findings
}

/// What ARCHITECTURE.md says lies in a file that does not define it.
pub(super) fn check_items(file: &str, text: &str, sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|_| file == "ARCHITECTURE.md") {
        for (before, after) in line.match_indices("` in `").map(|(at, _)| line.split_at(at)) {
            let item = before.rsplit(['`', ':']).next().unwrap_or_default();
            let path = after.split('`').nth(2).unwrap_or_default();
            if path.ends_with(".rs") && !sources.iter().any(|source| defines(source, path, item)) {
                let text = format!("`{path}` does not define `{item}`; name the file that does");
                findings.push(Finding { file: file.to_owned(), line: index + 1, rule: RULE, text });
            }
        }
    }
    findings
}

/// Is `source` the file of this path, and does it define a function or type `item`?
fn defines(source: &Source, path: &str, item: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    let is_defined = |kind: &str| source.text.split(&format!("{kind} {item}")).skip(1).any(ends);
    format!("/{}", source.file).ends_with(&format!("/{path}"))
        && ["fn", "enum", "struct", "const"].into_iter().any(is_defined)
}

/// The targets of `[text](target)` that are files here.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| {
        let target = rest.split_once(')')?.0;
        let target = target.split('#').next().unwrap_or(target);
        let elsewhere = target.is_empty() || target.contains(':') || target.starts_with('/');
        (!elsewhere).then_some(target)
    })
}

/// What stands between single backticks.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Is a span meant as a path of this workspace?
fn is_path(span: &str, files: &[String]) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '_' | '-');
    if span.is_empty() || span.starts_with('/') || !span.chars().all(plain) {
        return false;
    }
    if [".rs", ".md", ".toml"].iter().any(|end| span.ends_with(end)) {
        return true;
    }
    let Some((first, _)) = span.split_once('/') else { return false };
    span.ends_with('/') || files.iter().any(|file| file.split('/').next() == Some(first))
}

/// `folder/target`, with `.` and `..` worked out.
fn resolve(folder: &str, target: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(target.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// Is there a file or folder of this name, from the root, or (`anywhere`) from any folder?
fn exists(path: &str, files: &[String], anywhere: bool) -> bool {
    let path = path.trim_end_matches('/');
    if path.is_empty() {
        return true;
    }
    files.iter().any(|file| {
        let padded = format!("/{file}/");
        let wanted = format!("/{path}/");
        if anywhere { padded.contains(&wanted) } else { padded.starts_with(&wanted) }
    })
}

#[cfg(test)]
mod tests {
    use super::{Source, check, check_items};

    fn missing(file: &str, text: &str) -> Vec<(usize, String)> {
        let files =
            ["README.md", ".ci/run", "shmem-slots/src/word.rs", "shmem-slots/src/sys/map.rs"];
        let files = files.map(str::to_owned);
        check(file, text, &files)
            .into_iter()
            .map(|f| (f.line, f.text.split('`').nth(1).unwrap_or_default().to_owned()))
            .collect()
    }

    #[test]
    fn a_path_may_be_named_from_the_root_or_by_its_end() {
        let text = "`shmem-slots/src/word.rs`, `word.rs`, `sys/map.rs`, `sys/`, `src/`, `.ci/run`";
        assert_eq!(missing("ARCHITECTURE.md", text), []);
    }

    #[test]
    fn a_path_that_is_gone_is_found() {
        let text = "a\n`shmem-slots/src/words.rs` and `map` and `shmem-slots/tests` and `ord.rs`";
        let gone = ["shmem-slots/src/words.rs", "shmem-slots/tests", "ord.rs"];
        assert_eq!(missing("ARCHITECTURE.md", text), gone.map(|path| (2, path.to_owned())));
    }

    #[test]
    fn what_is_no_path_is_left_alone() {
        let text = "`fork/exec`, `/proc/PID/stat`, `a::b`, `cargo xtask test`, `*.rs`, `Slots<T>`\n```\n`gone.rs`\n```";
        assert_eq!(missing("ARCHITECTURE.md", text), []);
    }

    #[test]
    fn an_item_is_defined_in_the_file_that_is_named() {
        let file = Source::parse("a/src/server/ready.rs", "impl S { fn ended() {} }").unwrap();
        let found = |text| check_items("ARCHITECTURE.md", text, std::slice::from_ref(&file)).len();
        assert_eq!(
            found("`ended` in `server/ready.rs`, `S::ended` in `ready.rs`; in `ready.rs`"),
            0
        );
        assert_eq!(found("`end` in `ready.rs`"), 1);
        assert_eq!(found("`ended` in `already.rs` and `ended` in `loop.rs`"), 2);
    }

    #[test]
    fn links_are_followed_from_the_folder_of_the_file() {
        let text = "[a](../README.md#top) [b](src/word.rs) [c](https://example.invalid/x) [d](#e)";
        assert_eq!(missing("shmem-slots/README.md", text), []);
        assert_eq!(
            missing("shmem-slots/README.md", "[a](README.md) `gone.rs`"),
            [(1, "README.md".to_owned())]
        );
    }
}

//! `cargo xtask tidy`: rules of layout that the compiler does not know. All findings are collected
//! before it fails, and each says where, which rule, and what to do.
//!
//! | rule | holds in |
//! |---|---|
//! | head-comment, length | every Rust file |
//! | unsafe-outside-sys | `src/` of every crate; tests and benches may use it |
//! | atomics | `src/` of shmem-slots: only `primitive.rs` names them, else loom is blind |
//! | unfinished, machine-path | every Rust, Markdown, TOML and shell file |
//! | named-path | ARCHITECTURE.md, and the links of every Markdown file |
//! | arrows, path-version, version, crate-files | every manifest |

mod lexer;
mod manifest;
mod named_path;
mod source;
mod words;

use crate::Result;
use crate::workspace::Workspace;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

/// Something that is not as it should be.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// From the root of the workspace.
    pub(crate) file: String,
    /// From 1; 0 when the file as a whole is meant.
    pub(crate) line: usize,
    pub(crate) rule: &'static str,
    /// What was found, and what to do.
    pub(crate) text: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, line, rule, text } = self;
        match line {
            0 => write!(f, "{file}: {rule}: {text}"),
            _ => write!(f, "{file}:{line}: {rule}: {text}"),
        }
    }
}

pub(crate) fn run() -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let mut files = Vec::new();
    list(workspace.root.as_std_path(), "", &mut files)?;
    files.sort();

    let mut findings = Vec::new();
    for file in &files {
        let Ok(text) = fs::read_to_string(workspace.root.join(file)) else {
            // Not text: pictures, corpora.
            continue;
        };
        let kind = file.rsplit_once('.').map_or("", |(_, end)| end);
        if kind == "rs" {
            findings.extend(source::check(file, &text));
        }
        if matches!(kind, "rs" | "md" | "toml" | "sh") || file.starts_with(".ci/") {
            findings.extend(words::check(file, &text, kind == "rs"));
        }
        if kind == "md" {
            findings.extend(named_path::check(file, &text, &files));
        }
    }
    if !files.iter().any(|file| file == "ARCHITECTURE.md") {
        let text = "is missing; write the map of the workspace".to_owned();
        findings.push(Finding {
            file: "ARCHITECTURE.md".into(),
            line: 0,
            rule: "crate-files",
            text,
        });
    }
    findings.extend(manifest::check(&workspace, &files));

    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("tidy: ok, {} files", files.len());
        return Ok(ExitCode::SUCCESS);
    }
    println!("tidy: failed, {} findings in {} files", findings.len(), files.len());
    Ok(ExitCode::FAILURE)
}

/// All files below `folder`, relative to `root`, without what is built or hidden.
fn list(root: &Path, folder: &str, files: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let hidden = name.starts_with('.') && name != ".ci" && name != ".cargo";
        if hidden || matches!(name.as_str(), "target" | "corpus" | "artifacts" | "coverage") {
            continue;
        }
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        let kind = entry.file_type()?;
        if kind.is_dir() {
            list(root, &path, files)?;
        } else if kind.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Finding;

    #[test]
    fn a_finding_says_file_line_rule_and_what_to_do() {
        let mut finding = Finding {
            file: "a/src/b.rs".into(),
            line: 7,
            rule: "length",
            text: "too long; split it".into(),
        };
        assert_eq!(finding.to_string(), "a/src/b.rs:7: length: too long; split it");
        finding.line = 0;
        assert_eq!(finding.to_string(), "a/src/b.rs: length: too long; split it");
    }
}

//! `cargo xtask tidy`: rules of layout that the compiler does not know. It collects all findings
//! before it fails; each says where, which rule, and what to do. syn parses the Rust files.
//!
//! | rule | holds in |
//! |---|---|
//! | head-comment, length, comment-width | every Rust file; files that are published are shorter |
//! | unsafe-outside-sys | `src/` of every crate; tests and benches may use it |
//! | atomics | `src/` of shmem-slots: only `primitive.rs` names them, else loom does not see them |
//! | import-cycle | the files of every library and program |
//! | sys-names-above, sys-is-private | `sys/` of every crate |
//! | unfinished, machine-path | every Rust, Markdown, TOML and shell file |
//! | named-path | ARCHITECTURE.md, and the links of every Markdown file |
//! | named-test | RELIABILITY.md and SECURITY.md |
//! | arrows, path-version, version, crate-files, unused-dependency | every manifest |

mod finding;
mod manifest;
mod modules;
mod named_path;
mod named_test;
mod source;
mod syntax;
mod unused;
mod words;

use crate::Result;
use crate::workspace::Workspace;
use finding::Finding;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use syntax::Source;

pub(crate) fn run() -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let mut files = Vec::new();
    list(workspace.root.as_std_path(), "", &mut files)?;
    files.sort();

    let (mut findings, mut sources, mut texts) = (Vec::new(), Vec::new(), Vec::new());
    for file in &files {
        let Ok(text) = fs::read_to_string(workspace.root.join(file)) else {
            // Not text: pictures, corpora.
            continue;
        };
        let kind = file.rsplit_once('.').map_or("", |(_, end)| end);
        if kind == "rs" {
            match Source::parse(file, &text) {
                Ok(source) => {
                    findings.extend(source::check(&source));
                    sources.push(source);
                }
                Err(error) => findings.push(Finding {
                    file: file.clone(),
                    line: error.span().start().line,
                    rule: "syntax",
                    text: error.to_string(),
                }),
            }
        }
        if matches!(kind, "rs" | "md" | "toml" | "sh") || file.starts_with(".ci/") {
            findings.extend(words::check(file, &text));
        }
        if kind == "md" {
            findings.extend(named_path::check(file, &text, &files));
            texts.push((file, text));
        }
    }
    let tests = named_test::Tests::of(&sources);
    for (file, text) in &texts {
        findings.extend(named_test::check(file, text, &tests));
        findings.extend(named_path::check_items(file, text, &sources));
    }
    findings.extend(modules::check(&workspace, &sources));
    findings.extend(unused::check(&workspace, &sources));
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

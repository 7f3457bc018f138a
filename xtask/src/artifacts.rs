//! The programs that a build made, from cargo's messages.

use crate::Result;
use cargo_metadata::{Artifact, Message};

/// The programs among the messages of `--message-format json`.
pub(crate) fn executables(messages: &str) -> Result<Vec<Artifact>> {
    let mut programs = Vec::new();
    for message in Message::parse_stream(messages.as_bytes()) {
        if let Message::CompilerArtifact(artifact) = message?
            && artifact.executable.is_some()
        {
            programs.push(artifact);
        }
    }
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use super::executables;
    use serde_json::{Value, json};

    #[test]
    fn libraries_and_other_lines_are_left_out() {
        let line = |executable: Value| {
            let message = json!({
                "reason": "compiler-artifact", "package_id": "x", "manifest_path": "/w/Cargo.toml",
                "target": {"name": "x", "kind": ["test"], "src_path": "/w/tests/x.rs"},
                "profile": {"opt_level": "0", "debug_assertions": true, "overflow_checks": true,
                    "test": true},
                "features": [], "filenames": [], "executable": executable, "fresh": true,
            });
            message.to_string()
        };
        let messages = [line("/w/t/x-1".into()), line(Value::Null), "a line".to_owned()].join("\n");
        let programs = executables(&messages).unwrap();
        let [program] = &programs[..] else { panic!("{programs:?}") };
        assert_eq!(program.executable.as_ref().unwrap(), "/w/t/x-1");
    }
}

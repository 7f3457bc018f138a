//! What tidy prints.

/// Something that breaks a rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// From the root of the workspace.
    pub(crate) file: String,
    /// From 1; 0 means the file as a whole.
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

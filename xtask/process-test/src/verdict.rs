//! How a test ended, and the file by which the guard tells the runner.
//!
//! One writer (the guard, once, at its end), one reader (the runner, after the guard's exit), so
//! no ordering is needed. A guard that dies early leaves no file, which the runner calls a failure.

use std::fs;
use std::io;
use std::path::Path;

const FILE: &str = "verdict";

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The function returned and left nothing behind.
    Passed,
    /// What went wrong, in one or more lines.
    Failed(String),
    /// Why the test could not run here.
    Skipped(String),
}

impl Outcome {
    pub(crate) fn store(&self, folder: &Path) -> io::Result<()> {
        let text = match self {
            Self::Passed => "passed\n".to_owned(),
            Self::Failed(why) => format!("failed\n{why}"),
            Self::Skipped(why) => format!("skipped\n{why}"),
        };
        fs::write(folder.join(FILE), text)
    }

    /// `None` when there is no verdict, or none that this version knows.
    pub(crate) fn load(folder: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(folder.join(FILE)).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        match text.split_once('\n')? {
            ("passed", _) => Some(Self::Passed),
            ("failed", why) => Some(Self::Failed(why.to_owned())),
            ("skipped", why) => Some(Self::Skipped(why.to_owned())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    #[test]
    fn a_verdict_survives_the_way_through_the_file() {
        let folder = std::env::temp_dir().join(format!("verdict-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for outcome in [
            Outcome::Passed,
            Outcome::Failed("two\nlines".into()),
            Outcome::Skipped("needs root".into()),
        ] {
            outcome.store(&folder).unwrap();
            assert_eq!(Outcome::load(&folder), Some(outcome));
        }
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(Outcome::load(&folder), None);
    }

    #[test]
    fn half_a_verdict_is_none() {
        assert_eq!(Outcome::parse(""), None);
        assert_eq!(Outcome::parse("passed"), None);
        assert_eq!(Outcome::parse("odd\n"), None);
    }
}

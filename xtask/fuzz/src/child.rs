//! What a child process runs. It ends with success if every input passed; a panic, a crash or the
//! alarm ends it otherwise.

use crate::input;
use crate::targets::Target;
use nix::unistd::alarm;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;

/// A stretch of inputs may take this long. It is a thousand times what it needs.
const STRETCH_SECONDS: u32 = 120;
/// The same for one input.
const INPUT_SECONDS: u32 = 3;

/// Some inputs in a row: `FROM:COUNT`, or `FROM:COUNT:loud`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) from: u64,
    pub(crate) count: u64,
    /// Prints the number of each input before it runs.
    pub(crate) loud: bool,
}

impl FromStr for Stretch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no FROM:COUNT");
        let (from, rest) = text.split_once(':').ok_or_else(wrong)?;
        let (count, loud) = match rest.strip_suffix(":loud") {
            Some(count) => (count, true),
            None => (rest, false),
        };
        let number = |text: &str| text.parse().map_err(|_| wrong());
        Ok(Self { from: number(from)?, count: number(count)?, loud })
    }
}

impl std::fmt::Display for Stretch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}{}", self.from, self.count, if self.loud { ":loud" } else { "" })
    }
}

pub(crate) fn run_stretch(target: Target, seed: u64, stretch: Stretch) -> ExitCode {
    alarm::set(STRETCH_SECONDS);
    let (mut checker, examples) = (target.checker(), target.examples());
    for number in stretch.from..stretch.from + stretch.count {
        if stretch.loud {
            println!("{number}");
            if std::io::stdout().flush().is_err() {
                return ExitCode::FAILURE;
            }
        }
        checker(&input::of(seed, number, &examples));
    }
    ExitCode::SUCCESS
}

pub(crate) fn run_file(target: Target, file: &Path) -> ExitCode {
    match std::fs::read(file) {
        Ok(bytes) => {
            alarm::set(INPUT_SECONDS);
            target.checker()(&bytes);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("reading {}: {error}", file.display());
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Stretch;

    #[test]
    fn a_stretch_is_read_as_it_is_shown() {
        for text in ["0:1", "17:20000:loud"] {
            assert_eq!(text.parse::<Stretch>().unwrap().to_string(), text);
        }
        for text in ["", "1", "1:x", "-1:1", "1:1:l"] {
            assert!(text.parse::<Stretch>().is_err(), "{text}");
        }
    }
}

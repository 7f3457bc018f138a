//! What a command finds when it starts: its environment, working folder and standard input. With
//! their validation; pure.

use super::invalid::InvalidWorker;
use super::policy::EntryPoint;
use super::text::{not_empty, system_text};
use std::collections::BTreeMap;
use std::path::Path;

/// All of it, in bytes, with what separates its parts.
pub const SURROUNDINGS_LIMIT: usize = 16 << 10;
/// The path of a folder or of a file.
const PATH_LIMIT: usize = 1023;

/// Variables that the postmaster sets itself, or hides.
const OF_THE_POSTMASTER: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "BGW_ATTACH",
    "BGW_HANDLE",
    "BGW_RUNTIME_DIR",
];

/// What a command reads from its standard input.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Input {
    /// What the postmaster would read.
    #[default]
    Inherit,
    /// Nothing: end of file at once.
    Null,
    /// This file, from its beginning; an absolute path of at most 1,023 bytes. Each run opens it
    /// anew, so a run whose file cannot be opened ends as one whose program cannot be executed.
    File(String),
}

/// What a command finds when it starts. The default is what any child of the postmaster finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The environment begins empty.
    pub clear: bool,
    /// What is set, and what is removed (`None`).
    pub variables: BTreeMap<String, Option<String>>,
    /// The working folder, if it is another one than the postmaster's.
    pub folder: Option<String>,
    /// The standard input.
    pub input: Input,
}

impl Surroundings {
    /// True if nothing differs from the default, so that a description need not mention it.
    #[must_use]
    pub fn are_default(&self) -> bool {
        *self == Self::default()
    }

    /// The first field that is said, with its value.
    pub(super) fn said(&self) -> Option<(&'static str, String)> {
        let variable = self.variables.iter().next();
        let set = variable.map(|(name, value)| match value {
            Some(_) => ("env", name.clone()),
            None => ("env_remove", name.clone()),
        });
        let clear = self.clear.then(|| ("env_clear", "set".to_owned()));
        let folder = self.folder.clone().map(|folder| ("current_dir", folder));
        let input = (self.input != Input::Inherit).then(|| ("stdin", format!("{:?}", self.input)));
        clear.or(set).or(folder).or(input)
    }
}

/// Whatever it is of.
pub(crate) fn check_surroundings(surroundings: &Surroundings) -> Result<(), InvalidWorker> {
    let Surroundings { variables, folder, input, .. } = surroundings;
    for (name, value) in variables {
        let field = if value.is_some() { "env" } else { "env_remove" };
        not_empty(field, name)?;
        if name.contains('=') {
            let limit = "a name without =";
            return Err(InvalidWorker::OutOfRange { field, value: name.clone(), limit });
        }
        if OF_THE_POSTMASTER.contains(&name.as_str()) {
            let limit = "a variable that the postmaster does not set itself";
            return Err(InvalidWorker::OutOfRange { field, value: name.clone(), limit });
        }
        system_text(field, name, SURROUNDINGS_LIMIT)?;
        system_text(field, value.as_deref().unwrap_or_default(), SURROUNDINGS_LIMIT)?;
    }
    if let Some(folder) = folder {
        absolute("current_dir", folder)?;
    }
    if let Input::File(path) = input {
        absolute("stdin", path)?;
    }
    let of_variables = variables.iter().map(|(name, value)| {
        // One byte says which it is, one ends it, one is the equals sign.
        name.len() + value.as_ref().map_or(0, |value| value.len() + 1) + 2
    });
    let file = if let Input::File(path) = input { path.len() } else { 0 };
    let len = of_variables.sum::<usize>() + folder.as_ref().map_or(0, String::len) + file + 8;
    if len > SURROUNDINGS_LIMIT {
        let (field, limit) = ("env, with current_dir and stdin,", SURROUNDINGS_LIMIT);
        return Err(InvalidWorker::TooLong { field, len, limit });
    }
    Ok(())
}

/// Those of a description.
pub(super) fn check_fit(
    surroundings: &Surroundings,
    entry: &EntryPoint,
) -> Result<(), InvalidWorker> {
    check_surroundings(surroundings)?;
    match surroundings.said() {
        Some((field, value)) if !matches!(entry, EntryPoint::Command { .. }) => {
            Err(InvalidWorker::Unfit { field, value, needs: "a command" })
        }
        _ => Ok(()),
    }
}

fn absolute(field: &'static str, path: &str) -> Result<(), InvalidWorker> {
    system_text(field, path, PATH_LIMIT)?;
    if Path::new(path).is_absolute() {
        return Ok(());
    }
    let (value, limit) = (format!("\"{path}\""), "an absolute path");
    Err(InvalidWorker::OutOfRange { field, value, limit })
}

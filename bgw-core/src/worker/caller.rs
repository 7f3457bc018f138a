//! Who can call the methods of a worker. Pure.

use super::invalid::InvalidWorker;
use super::policy::EntryPoint;

/// What kind of program a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// A function, of the program or of a library.
    Function,
    /// A command that cannot call them.
    Command,
    /// A command that gets its worker.
    AttachedCommand,
}

impl Caller {
    /// That of a description, which may be incomplete.
    pub(super) fn of(entry: Option<&EntryPoint>, attached: bool) -> Result<Self, InvalidWorker> {
        match (entry, attached) {
            (Some(EntryPoint::Command { .. }), true) => Ok(Self::AttachedCommand),
            (Some(EntryPoint::Command { .. }), false) => Ok(Self::Command),
            (None, _) | (Some(_), false) => Ok(Self::Function),
            (Some(_), true) => {
                let (field, value) = ("attach", "set".to_owned());
                let needs = "a command; a function is attached in any case";
                Err(InvalidWorker::Unfit { field, value, needs })
            }
        }
    }

    pub(super) const fn is_command(self) -> bool {
        !matches!(self, Self::Function)
    }
}

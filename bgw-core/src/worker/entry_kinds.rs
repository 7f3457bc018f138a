//! What a postmaster lets backends register.

use super::policy::EntryPoint;
use bitflags::bitflags;

bitflags! {
    /// What backends may register besides functions whose output goes where the postmaster's goes.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct EntryKinds: u32 {
        /// Commands.
        const COMMANDS = 1;
        /// Functions of shared libraries.
        const LIBRARIES = 2;
        /// Workers whose output goes to a file.
        const OUTPUT_FILES = 4;
    }
}

impl EntryKinds {
    /// The kinds whose code is not the postmaster's own.
    pub const FOREIGN_CODE: Self = Self::COMMANDS.union(Self::LIBRARIES);

    /// What a worker with this entry point is, and the setting of the postmaster's builder that
    /// lets backends register it.
    #[must_use]
    pub const fn setting_for(entry: &EntryPoint) -> (&'static str, &'static str) {
        match entry {
            EntryPoint::Library { .. } => ("libraries", "allow_libraries"),
            EntryPoint::Function(_) | EntryPoint::Command { .. } => ("commands", "allow_commands"),
        }
    }

    /// True if a worker with this entry point may be registered.
    #[must_use]
    pub const fn permit(self, entry: &EntryPoint) -> bool {
        match entry {
            EntryPoint::Function(_) => true,
            EntryPoint::Library { .. } => self.contains(Self::LIBRARIES),
            EntryPoint::Command { .. } => self.contains(Self::COMMANDS),
        }
    }
}

//! Which entry points a postmaster lets backends register.

use super::policy::EntryPoint;
use bitflags::bitflags;

bitflags! {
    /// The kinds of entry points that backends may register besides functions.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct EntryKinds: u32 {
        /// Commands.
        const COMMANDS = 1;
        /// Functions of shared libraries.
        const LIBRARIES = 2;
    }
}

impl EntryKinds {
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

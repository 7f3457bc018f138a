//! The named groups that workers may join.

use super::PostmasterBuilder;
use crate::error::BuildError;
use crate::named_group::Group;

impl PostmasterBuilder {
    /// Adds a named group, which workers join by
    /// [`group`](bgw_core::BackgroundWorkerBuilder::group) in their descriptions. Default: none; a
    /// worker that names another group is refused.
    pub fn group(mut self, group: Group) -> Self {
        self.groups.push(group);
        self
    }

    pub(super) fn check_groups(&self) -> Result<(), BuildError> {
        for (at, group) in self.groups.iter().enumerate() {
            let twice = self.groups.iter().take(at).any(|other| other.name == group.name);
            let twice = twice.then(|| "there are two of this name".to_owned());
            if let Some(reason) = group.objection().or(twice) {
                let name = group.name.escape_debug().to_string();
                return Err(BuildError::Group { name, reason });
            }
        }
        Ok(())
    }
}

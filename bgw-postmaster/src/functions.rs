//! The table of functions that workers may name as their entry point.
//!
//! Filled before the postmaster runs; every child has it by the fork. Names cross processes,
//! addresses never do. Backends learn the names when they attach, so that a name that does not exist
//! is refused at registration; the child looks once more.

use bgw_core::EntryFn;
use std::collections::HashMap;
use std::fmt;

/// Functions by name.
#[derive(Default)]
pub struct Functions {
    by_name: HashMap<String, Box<EntryFn>>,
}

impl Functions {
    /// Adds a function; a name that is taken keeps its first function and `false` comes back.
    pub fn insert(&mut self, name: String, function: Box<EntryFn>) -> bool {
        match self.by_name.entry(name) {
            std::collections::hash_map::Entry::Occupied(_) => false,
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(function);
                true
            }
        }
    }

    /// The function called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&EntryFn> {
        self.by_name.get(name).map(Box::as_ref)
    }

    /// All names, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Functions").field(&self.names()).finish()
    }
}

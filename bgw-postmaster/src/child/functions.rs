//! The table of functions that workers may name as their entry point.
//!
//! It is filled before the postmaster runs; every child has it by the fork. Names cross processes,
//! addresses never do. Backends learn the names when they attach, so that a registration with an
//! unknown name is refused at once. The postmaster looks up the function's index before it forks: it
//! has those pages mapped, a child would have to fault them in.

use bgw_core::{BackgroundWorker, EntryFn, EntryPoint};
use std::fmt;

/// Functions by name.
#[derive(Default)]
pub(crate) struct Functions {
    /// Sorted by name.
    all: Vec<(String, Box<EntryFn>)>,
}

impl Functions {
    /// Adds a function. A taken name keeps its first function, and `false` is returned.
    pub(crate) fn insert(&mut self, name: String, function: Box<EntryFn>) -> bool {
        match self.search(&name) {
            Ok(_) => false,
            Err(index) => {
                self.all.insert(index, (name, function));
                true
            }
        }
    }

    fn search(&self, name: &str) -> Result<usize, usize> {
        self.all.binary_search_by(|(known, _)| known.as_str().cmp(name))
    }

    /// The function called `name`.
    #[must_use]
    pub(crate) fn get(&self, name: &str) -> Option<&EntryFn> {
        self.at(self.index(name)?)
    }

    /// The index of the function called `name`, valid until one is added.
    #[must_use]
    pub(crate) fn index(&self, name: &str) -> Option<usize> {
        self.search(name).ok()
    }

    /// The index of the function that is the entry point of `worker`.
    #[must_use]
    pub(crate) fn index_of(&self, worker: &BackgroundWorker) -> Option<usize> {
        match worker.entry() {
            EntryPoint::Function(name) => self.index(name),
            EntryPoint::Library { .. } | EntryPoint::Command { .. } => None,
        }
    }

    /// The function at `index`.
    #[must_use]
    pub(crate) fn at(&self, index: usize) -> Option<&EntryFn> {
        self.all.get(index).map(|(_, function)| function.as_ref())
    }

    /// All names, sorted.
    #[must_use]
    pub(crate) fn names(&self) -> Vec<&str> {
        self.all.iter().map(|(name, _)| name.as_str()).collect()
    }
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Functions").field(&self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Functions;

    /// Breaks if a second function of a name replaces the first, or an index means another name.
    #[test]
    fn each_name_keeps_its_first_function_and_an_index() {
        let mut functions = Functions::default();
        for name in ["b", "c", "a"] {
            assert!(functions.insert(name.to_owned(), Box::new(|_| Ok(()))));
        }
        assert!(!functions.insert("b".to_owned(), Box::new(|_| Err("the second".into()))));
        assert_eq!(functions.names(), ["a", "b", "c"]);
        assert_eq!(functions.index("c"), Some(2));
        assert!(functions.index("d").is_none() && functions.get("d").is_none());
        let second = functions.index("b").and_then(|index| functions.at(index));
        assert!(std::ptr::eq(second.unwrap(), functions.get("b").unwrap()));
        assert!(functions.at(3).is_none());
    }
}

//! The table of functions that workers may name as their entry point.
//!
//! Filled before the postmaster runs; every child has it by the fork. Names cross processes,
//! addresses never do. Backends learn the names when they attach, so that a name that does not exist
//! is refused at registration. The postmaster looks up the place in the table before it forks: it has
//! the pages for that at hand, a child would have to fault them in.

use bgw_core::{BackgroundWorker, EntryFn, EntryPoint};
use std::fmt;

/// Functions by name.
#[derive(Default)]
pub struct Functions {
    /// Sorted by name.
    all: Vec<(String, Box<EntryFn>)>,
}

impl Functions {
    /// Adds a function; a name that is taken keeps its first function and `false` comes back.
    pub fn insert(&mut self, name: String, function: Box<EntryFn>) -> bool {
        match self.search(&name) {
            Ok(_) => false,
            Err(place) => {
                self.all.insert(place, (name, function));
                true
            }
        }
    }

    fn search(&self, name: &str) -> Result<usize, usize> {
        self.all.binary_search_by(|(known, _)| known.as_str().cmp(name))
    }

    /// The function called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&EntryFn> {
        self.at(self.place(name)?)
    }

    /// Where the function called `name` stands, for as long as none is added.
    #[must_use]
    pub fn place(&self, name: &str) -> Option<usize> {
        self.search(name).ok()
    }

    /// Where the function stands that is the entry point of `worker`.
    #[must_use]
    pub fn place_of(&self, worker: &BackgroundWorker) -> Option<usize> {
        match worker.entry() {
            EntryPoint::Function(name) => self.place(name),
            EntryPoint::Library { .. } | EntryPoint::Command { .. } => None,
        }
    }

    /// The function at `place`.
    #[must_use]
    pub fn at(&self, place: usize) -> Option<&EntryFn> {
        self.all.get(place).map(|(_, function)| function.as_ref())
    }

    /// All names, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
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

    /// Breaks if a second function of a name replaces the first, or a place means another name.
    #[test]
    fn each_name_has_its_first_function_and_a_place() {
        let mut functions = Functions::default();
        for name in ["b", "c", "a"] {
            assert!(functions.insert(name.to_owned(), Box::new(|_| Ok(()))));
        }
        assert!(!functions.insert("b".to_owned(), Box::new(|_| Err("the second".into()))));
        assert_eq!(functions.names(), ["a", "b", "c"]);
        assert_eq!(functions.place("c"), Some(2));
        assert!(functions.place("d").is_none() && functions.get("d").is_none());
        let second = functions.place("b").and_then(|place| functions.at(place));
        assert!(std::ptr::eq(second.unwrap(), functions.get("b").unwrap()));
        assert!(functions.at(3).is_none());
    }
}

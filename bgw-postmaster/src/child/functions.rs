//! The table of functions that workers may name as their entry point.
//!
//! It is filled before the postmaster runs, and every child inherits it. Names cross processes,
//! addresses never do. Backends learn the names when they attach, so that a registration with an
//! unknown name is refused at once. The postmaster looks up the function's index before it forks:
//! it has those pages mapped, a child would have to fault them in.

use crate::reuse::Reuse;
use bgw_core::internals::{CallType, Function as Listed};
use bgw_core::{BackgroundWorker, EntryFn, EntryPoint};
use std::fmt;

/// Functions by name.
#[derive(Default)]
pub(crate) struct Functions {
    /// Sorted by name.
    all: Vec<(String, Function)>,
}

struct Function {
    main: Box<EntryFn>,
    /// `None`: its process ends with it.
    reuse: Option<Reuse>,
    /// Its type, if it is called with a value.
    call: Option<CallType>,
}

impl Functions {
    /// Adds a function. If the name is taken, keeps the first function and returns false.
    pub(crate) fn insert(
        &mut self,
        name: String,
        main: Box<EntryFn>,
        reuse: Option<Reuse>,
        call: Option<CallType>,
    ) -> bool {
        match self.search(&name) {
            Ok(_) => false,
            Err(index) => {
                self.all.insert(index, (name, Function { main, reuse, call }));
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
        self.all.get(index).map(|(_, function)| function.main.as_ref())
    }

    /// How long processes serve that run the function at `index`; `None`: one worker each.
    #[must_use]
    pub(crate) fn reuse(&self, index: usize) -> Option<Reuse> {
        self.all.get(index).and_then(|(_, function)| function.reuse)
    }

    /// True if any function is reusable.
    #[must_use]
    pub(crate) fn any_reusable(&self) -> bool {
        self.all.iter().any(|(_, function)| function.reuse.is_some())
    }

    /// As others know them, sorted by name.
    #[must_use]
    pub(crate) fn listed(&self) -> Vec<Listed> {
        let listed = |(name, function): &(String, Function)| Listed {
            name: name.clone(),
            call: function.call.clone(),
            reusable: function.reuse.is_some(),
        };
        self.all.iter().map(listed).collect()
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
            assert!(functions.insert(name.to_owned(), Box::new(|_| Ok(())), None, None));
        }
        let second = Box::new(|_: &_| Err("the second".into()));
        assert!(!functions.insert("b".to_owned(), second, Some(crate::Reuse::new()), None));
        assert!(!functions.any_reusable());
        assert_eq!(functions.names(), ["a", "b", "c"]);
        assert_eq!(functions.index("c"), Some(2));
        assert!(functions.index("d").is_none() && functions.get("d").is_none());
        let second = functions.index("b").and_then(|index| functions.at(index));
        assert!(std::ptr::eq(second.unwrap(), functions.get("b").unwrap()));
        assert!(functions.at(3).is_none());
    }
}

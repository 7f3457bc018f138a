//! A function that others call, as a postmaster's builder takes it.

use crate::function::CallType;
use crate::process::EntryFn;
use std::fmt;

/// A function that is called with a value and gives one back, as a postmaster's builder takes it.
/// `bgw_backend::call` makes one, with its feature `serde`.
pub struct CallEntry {
    /// The main.
    pub main: Box<EntryFn>,
    /// Its type.
    pub call: CallType,
}

impl fmt::Debug for CallEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CallEntry").field(&self.call).finish()
    }
}

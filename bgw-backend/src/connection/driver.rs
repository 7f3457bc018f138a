//! What a database driver implements.
//!
//! A statement that an interrupt cuts short fails with [`DatabaseError::Interrupted`].
//! `by_terminate` says whether SIGTERM counts: it does not in a worker that handles SIGTERM itself.

use super::{DatabaseError, Value};
use std::fmt::Debug;

/// An open connection.
pub(super) trait Driver: Debug {
    /// Begins a transaction.
    fn begin(&mut self, by_terminate: bool) -> Result<Box<dyn Transaction + '_>, DatabaseError>;
}

/// A running transaction. Dropping it rolls back.
pub(super) trait Transaction: Debug {
    /// Runs a statement; returns how many rows it changed.
    fn execute(&mut self, statement: &str, parameters: &[Value]) -> Result<u64, DatabaseError>;

    /// Runs a query; returns all its rows.
    fn query(
        &mut self,
        statement: &str,
        parameters: &[Value],
    ) -> Result<Vec<Vec<Value>>, DatabaseError>;

    /// Commits.
    fn commit(self: Box<Self>) -> Result<(), DatabaseError>;
}

//! The embedded database: needs no server.
//!
//! SQLite forbids carrying a connection over a fork, so it is opened in the worker. A transaction
//! begins as a writer (`BEGIN IMMEDIATE`): two workers on one file wait for each other at the
//! begin, never with half the work done.

use super::{ConnectError, Connection, Tx, Value};
use crate::worker::WorkerError;
use bgw_core::process::{self, Pending};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{ErrorCode, ToSql, TransactionBehavior};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a begin waits for another writer of the same file.
const BUSY: Duration = Duration::from_secs(30);
/// How many steps of the virtual machine run between two looks at the signals.
const STEPS: i32 = 1000;

#[derive(Debug)]
pub(super) struct Sqlite {
    connection: rusqlite::Connection,
    /// Whether SIGTERM cuts a statement short.
    cut_by_terminate: Arc<AtomicBool>,
}

impl Connection {
    pub(crate) fn open(
        dbname: Option<&str>,
        _username: Option<&str>,
    ) -> Result<Self, ConnectError> {
        let failed = |source: rusqlite::Error| ConnectError::Open {
            database: dbname.unwrap_or(":memory:").to_owned(),
            source: Box::new(source),
        };
        let mut connection = match dbname {
            Some(path) => rusqlite::Connection::open(path),
            None => rusqlite::Connection::open_in_memory(),
        }
        .map_err(failed)?;
        connection.busy_timeout(BUSY).map_err(failed)?;
        let cut_by_terminate = Arc::new(AtomicBool::new(false));
        let cut = Arc::clone(&cut_by_terminate);
        let must_stop = move || {
            let pending = process::pending();
            pending.contains(Pending::CANCEL)
                || (pending.contains(Pending::TERMINATE) && cut.load(Ordering::Relaxed))
        };
        connection.progress_handler(STEPS, Some(must_stop)).map_err(failed)?;
        Ok(Self { inner: Sqlite { connection, cut_by_terminate } })
    }

    pub(crate) fn transaction<T>(
        &mut self,
        cut_by_terminate: bool,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, WorkerError>,
    ) -> Result<T, WorkerError> {
        self.inner.cut_by_terminate.store(cut_by_terminate, Ordering::Relaxed);
        let behavior = TransactionBehavior::Immediate;
        let inner = self
            .inner
            .connection
            .transaction_with_behavior(behavior)
            .map_err(|error| failed("BEGIN IMMEDIATE", error))?;
        let mut tx = Tx { inner };
        // Dropped without a commit (an error, a panic), it rolls back.
        let value = work(&mut tx)?;
        tx.inner.commit().map_err(|error| failed("COMMIT", error))?;
        Ok(value)
    }
}

fn failed(statement: &str, error: rusqlite::Error) -> WorkerError {
    let error = if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) {
        ConnectError::Interrupted
    } else {
        ConnectError::Statement { statement: statement.to_owned(), source: Box::new(error) }
    };
    error.into()
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(value) => ValueRef::Integer(*value),
            Self::Real(value) => ValueRef::Real(*value),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl From<ValueRef<'_>> for Value {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(value) => Self::Integer(value),
            ValueRef::Real(value) => Self::Real(value),
            ValueRef::Text(text) => Self::Text(String::from_utf8_lossy(text).into_owned()),
            ValueRef::Blob(bytes) => Self::Bytes(bytes.to_vec()),
        }
    }
}

impl Tx<'_> {
    /// Runs a statement with parameters `$1`, `$2`, …; says how many rows it changed.
    ///
    /// # Errors
    /// [`ConnectError::Statement`] with what the database says of it.
    pub fn execute(&mut self, statement: &str, parameters: &[Value]) -> Result<u64, WorkerError> {
        let changed = self
            .inner
            .prepare_cached(statement)
            .and_then(|mut prepared| prepared.execute(rusqlite::params_from_iter(parameters)))
            .map_err(|error| failed(statement, error))?;
        Ok(changed as u64)
    }

    /// Runs a query with parameters `$1`, `$2`, …; all its rows.
    ///
    /// # Errors
    /// [`ConnectError::Statement`] with what the database says of it.
    pub fn query(
        &mut self,
        statement: &str,
        parameters: &[Value],
    ) -> Result<Vec<Vec<Value>>, WorkerError> {
        self.rows(statement, parameters).map_err(|error| failed(statement, error))
    }

    fn rows(&mut self, statement: &str, parameters: &[Value]) -> rusqlite::Result<Vec<Vec<Value>>> {
        let mut prepared = self.inner.prepare_cached(statement)?;
        let columns = prepared.column_count();
        let mut rows = prepared.query(rusqlite::params_from_iter(parameters))?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let values = (0..columns).map(|column| row.get_ref(column).map(Value::from));
            all.push(values.collect::<rusqlite::Result<Vec<Value>>>()?);
        }
        Ok(all)
    }
}

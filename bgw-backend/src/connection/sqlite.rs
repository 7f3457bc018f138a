//! The embedded database: needs no server.
//!
//! SQLite forbids carrying a connection over a fork, so it is opened in the worker. A transaction
//! begins as a writer (`BEGIN IMMEDIATE`): two workers on one file wait for each other at the
//! begin, never with half the work done.

use super::{ConnectError, Value, must_stop};
use crate::worker::WorkerError;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{ErrorCode, ToSql, Transaction, TransactionBehavior};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often a begin tries again while another writer holds the file: for about 30 seconds.
const TRIES: i32 = 600;
/// The longest pause between two tries, in milliseconds.
const LONGEST_PAUSE: u64 = 50;
/// How many steps of the virtual machine run between two looks at the signals.
const STEPS: i32 = 1000;

/// Whether SIGTERM cuts a statement short, as the running transaction has it. A worker has one
/// connection, and SQLite calls back to plain functions.
static CUT_BY_TERMINATE: AtomicBool = AtomicBool::new(false);

#[derive(Debug)]
pub(super) struct Sqlite {
    connection: rusqlite::Connection,
}

fn cut_short() -> bool {
    must_stop(CUT_BY_TERMINATE.load(Ordering::Relaxed))
}

/// Another process writes to the file: try again? SQLite knows no better way to wait for it.
fn try_again(tries: i32) -> bool {
    if cut_short() || tries >= TRIES {
        return false;
    }
    let pause = u64::from(tries.unsigned_abs()) + 1;
    std::thread::sleep(Duration::from_millis(pause.min(LONGEST_PAUSE)));
    true
}

impl Sqlite {
    pub(super) fn open(path: Option<&str>) -> Result<Self, ConnectError> {
        let failed = |source: rusqlite::Error| ConnectError::Open {
            database: path.unwrap_or(":memory:").to_owned(),
            source: Box::new(source),
        };
        let mut connection = match path {
            Some(path) => rusqlite::Connection::open(path),
            None => rusqlite::Connection::open_in_memory(),
        }
        .map_err(failed)?;
        connection.busy_handler(Some(try_again)).map_err(failed)?;
        connection.progress_handler(STEPS, Some(cut_short)).map_err(failed)?;
        Ok(Self { connection })
    }

    pub(super) fn begin(&mut self, cut_by_terminate: bool) -> Result<Transaction<'_>, WorkerError> {
        CUT_BY_TERMINATE.store(cut_by_terminate, Ordering::Relaxed);
        self.connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| failed("BEGIN IMMEDIATE", error))
    }
}

pub(super) fn commit(tx: Transaction<'_>) -> Result<(), WorkerError> {
    tx.commit().map_err(|error| failed("COMMIT", error))
}

pub(super) fn execute(
    tx: &Transaction<'_>,
    statement: &str,
    parameters: &[Value],
) -> Result<u64, WorkerError> {
    let changed = tx
        .prepare_cached(statement)
        .and_then(|mut prepared| prepared.execute(rusqlite::params_from_iter(parameters)))
        .map_err(|error| failed(statement, error))?;
    Ok(changed as u64)
}

pub(super) fn query(
    tx: &Transaction<'_>,
    statement: &str,
    parameters: &[Value],
) -> Result<Vec<Vec<Value>>, WorkerError> {
    rows(tx, statement, parameters).map_err(|error| failed(statement, error))
}

fn rows(
    tx: &Transaction<'_>,
    statement: &str,
    parameters: &[Value],
) -> rusqlite::Result<Vec<Vec<Value>>> {
    let mut prepared = tx.prepare_cached(statement)?;
    let columns = prepared.column_count();
    let mut rows = prepared.query(rusqlite::params_from_iter(parameters))?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        let values = (0..columns).map(|column| row.get_ref(column).map(Value::from));
        all.push(values.collect::<rusqlite::Result<Vec<Value>>>()?);
    }
    Ok(all)
}

fn failed(statement: &str, error: rusqlite::Error) -> WorkerError {
    let error = match error.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => ConnectError::Interrupted,
        // The wait for the other writer was cut short.
        Some(ErrorCode::DatabaseBusy) if cut_short() => ConnectError::Interrupted,
        _ => ConnectError::Statement { statement: statement.to_owned(), source: Box::new(error) },
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

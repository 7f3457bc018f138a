//! The embedded database, which needs no server.
//!
//! SQLite forbids carrying a connection over a fork, so the worker opens its own. A transaction
//! begins as a writer (`BEGIN IMMEDIATE`): two workers on one file wait for each other at the
//! begin, never half-way through their work.

use super::driver::{Driver, Transaction};
use super::{DatabaseError, Value};
use crate::interrupt;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{ErrorCode, Statement, ToSql, TransactionBehavior};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often a begin is retried while another writer holds the file: for about 30 seconds.
const TRIES: i32 = 600;
/// The longest pause between two tries, in milliseconds.
const LONGEST_PAUSE: u64 = 50;
/// How many steps of SQLite's virtual machine run between two checks for interrupts.
const STEPS: i32 = 1000;

/// Whether SIGTERM interrupts the running transaction. SQLite's callbacks are plain functions
/// without a context, and a worker has one connection, so a static does.
static BY_TERMINATE: AtomicBool = AtomicBool::new(false);

#[derive(Debug)]
pub(super) struct Sqlite {
    connection: rusqlite::Connection,
}

#[derive(Debug)]
struct Running<'a>(rusqlite::Transaction<'a>);

fn is_interrupted() -> bool {
    interrupt::is_pending(BY_TERMINATE.load(Ordering::Relaxed))
}

/// Another process writes to the file: pause, then try again? SQLite offers no better way to wait.
fn try_again(tries: i32) -> bool {
    if is_interrupted() || tries >= TRIES {
        return false;
    }
    let pause = u64::from(tries.unsigned_abs()) + 1;
    std::thread::sleep(Duration::from_millis(pause.min(LONGEST_PAUSE)));
    true
}

impl Sqlite {
    pub(super) fn open(path: Option<&str>) -> Result<Self, DatabaseError> {
        let failed = |source: rusqlite::Error| DatabaseError::Open {
            database: path.unwrap_or(":memory:").to_owned(),
            source: Box::new(source),
        };
        let mut connection = match path {
            Some(path) => rusqlite::Connection::open(path),
            None => rusqlite::Connection::open_in_memory(),
        }
        .map_err(failed)?;
        connection.busy_handler(Some(try_again)).map_err(failed)?;
        connection.progress_handler(STEPS, Some(is_interrupted)).map_err(failed)?;
        Ok(Self { connection })
    }
}

impl Driver for Sqlite {
    fn begin(&mut self, by_terminate: bool) -> Result<Box<dyn Transaction + '_>, DatabaseError> {
        BY_TERMINATE.store(by_terminate, Ordering::Relaxed);
        let begun = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        Ok(Box::new(Running(begun.map_err(|error| failed("BEGIN IMMEDIATE", error))?)))
    }
}

impl Transaction for Running<'_> {
    fn execute(&mut self, statement: &str, parameters: &[Value]) -> Result<u64, DatabaseError> {
        let changed = self
            .0
            .prepare_cached(statement)
            .and_then(|mut prepared| {
                bind(&mut prepared, parameters)?;
                prepared.raw_execute()
            })
            .map_err(|error| failed(statement, error))?;
        Ok(changed as u64)
    }

    fn query(
        &mut self,
        statement: &str,
        parameters: &[Value],
    ) -> Result<Vec<Vec<Value>>, DatabaseError> {
        rows(&self.0, statement, parameters).map_err(|error| failed(statement, error))
    }

    fn commit(self: Box<Self>) -> Result<(), DatabaseError> {
        self.0.commit().map_err(|error| failed("COMMIT", error))
    }
}

/// Binds `$1`, `$2`, … by the number in the name. To SQLite a name's number is the place where it
/// first appears.
fn bind(statement: &mut Statement<'_>, parameters: &[Value]) -> rusqlite::Result<()> {
    let mut most = 0;
    for place in 1..=statement.parameter_count() {
        let name = statement.parameter_name(place).and_then(|name| name.strip_prefix('$'));
        let number = name.and_then(|name| name.parse().ok()).unwrap_or(place);
        most = most.max(number);
        if let Some(value) = number.checked_sub(1).and_then(|at| parameters.get(at)) {
            statement.raw_bind_parameter(place, value)?;
        }
    }
    if parameters.len() == most {
        return Ok(());
    }
    Err(rusqlite::Error::InvalidParameterCount(parameters.len(), most))
}

fn rows(
    tx: &rusqlite::Transaction<'_>,
    statement: &str,
    parameters: &[Value],
) -> rusqlite::Result<Vec<Vec<Value>>> {
    let mut prepared = tx.prepare_cached(statement)?;
    let columns = prepared.column_count();
    bind(&mut prepared, parameters)?;
    let mut rows = prepared.raw_query();
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        let values = (0..columns).map(|column| row.get_ref(column).map(Value::from));
        all.push(values.collect::<rusqlite::Result<Vec<Value>>>()?);
    }
    Ok(all)
}

fn failed(statement: &str, error: rusqlite::Error) -> DatabaseError {
    // A busy file is an interrupt only if one ended the wait for the other writer.
    let may_be_interrupted = matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::OperationInterrupted | ErrorCode::DatabaseBusy)
    );
    if may_be_interrupted {
        if let Err(interrupt) = interrupt::check(BY_TERMINATE.load(Ordering::Relaxed)) {
            return interrupt.into();
        }
    }
    DatabaseError::Statement { statement: statement.to_owned(), source: Box::new(error) }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(rows: &[Vec<Value>]) -> Vec<i64> {
        rows.iter().flatten().filter_map(Value::as_integer).collect()
    }

    /// To SQLite `$2` is a name like any other: its number is the place where it first appears.
    #[test]
    fn a_parameter_has_the_number_in_its_name_wherever_it_stands() {
        let mut connection = Sqlite::open(None).unwrap();
        let mut tx = connection.begin(false).unwrap();
        tx.execute("CREATE TABLE t (a, b)", &[]).unwrap();
        let two = [Value::Integer(1), Value::Integer(2)];
        for insert in ["INSERT INTO t VALUES ($1, $2)", "INSERT INTO t VALUES (?, ?)"] {
            assert_eq!(tx.execute(insert, &two).unwrap(), 1);
        }
        let swapped = "UPDATE t SET b = $2 + 10 WHERE a = $1 AND b = $2";
        assert_eq!(tx.execute(swapped, &two).unwrap(), 2);
        let found = tx.query("SELECT b + $2, a + $1 FROM t", &two).unwrap();
        assert_eq!(numbers(&found), [14, 2, 14, 2]);
    }

    #[test]
    fn too_few_or_too_many_parameters_are_an_error() {
        let mut connection = Sqlite::open(None).unwrap();
        let mut tx = connection.begin(false).unwrap();
        let values = [1, 2, 3].map(Value::Integer);
        for (query, right) in [("SELECT 1", 0), ("SELECT $1", 1), ("SELECT $2, $1, $1", 2)] {
            for count in 0..=3 {
                let answer = tx.query(query, &values[..count]);
                assert_eq!(answer.is_ok(), count == right, "{query} with {count}: {answer:?}");
            }
        }
    }
}

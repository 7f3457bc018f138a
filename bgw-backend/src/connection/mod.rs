//! A worker's connection to a database: once, by flag, opened after the fork.
//!
//! The worker's code sees [`Tx`] alone: statements with numbered parameters (`$1`, `$2`), rows of
//! [`Value`]s. Which database it is follows from its name, whatever features are turned on:
//!
//! | `dbname` | database | feature |
//! |---|---|---|
//! | `postgres://HOST/NAME`, `postgresql://…` | NAME on a PostgreSQL server | `postgres` |
//! | any other | a file of that path, SQLite | `sqlite` |
//! | `None` | private, in memory, SQLite | `sqlite` |
//!
//! Without the feature a connection cannot be made, and [`ConnectError::NoDriver`] says so.

#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

use crate::worker::WorkerError;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use bgw_core::process::{self, Pending};
use std::convert::Infallible;
use std::marker::PhantomData;

/// Why there is no connection, or why a statement failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The worker was registered without the flag.
    #[error(
        "worker \"{worker}\" was registered without DATABASE_CONNECTION and cannot connect to a database"
    )]
    WithoutFlag {
        /// The worker.
        worker: String,
    },
    /// There is a connection already.
    #[error("this worker is connected already; a worker cannot change its database")]
    Twice,
    /// There is none yet.
    #[error("this worker is not connected; call initialize_connection first")]
    NotConnected,
    /// The driver was not built in.
    #[error(
        "bgw-backend was built without the driver of this database; enable its feature \"{feature}\""
    )]
    NoDriver {
        /// The feature that has it.
        feature: &'static str,
    },
    /// The database could not be opened.
    #[error("opening database {database} failed")]
    Open {
        /// Its name, without a password.
        database: String,
        /// What the driver said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A statement, or the making of the connection, was cut short by a signal.
    #[error("the statement was interrupted")]
    Interrupted,
    /// A statement failed.
    #[error("statement failed: {statement}")]
    Statement {
        /// The statement.
        statement: String,
        /// What the driver said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The connection is gone, and with it the transaction, as if it had been rolled back. There is
    /// no other: end the worker, and let it be restarted. Only when `statement` is `COMMIT` is it
    /// unknown whether the transaction took place.
    #[error("the connection to the database was lost in: {statement}")]
    Lost {
        /// The statement that found out.
        statement: String,
        /// What the driver said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A connection cannot be used from within an asynchronous runtime, which it would block.
    #[error("a worker's database connection blocks; use it outside of an asynchronous runtime")]
    InsideRuntime,
}

/// A value in a row, or a parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// A whole number. A truth value is 0 or 1.
    Integer(i64),
    /// A number.
    Real(f64),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl Value {
    /// The whole number, if it is one.
    #[must_use]
    pub const fn as_integer(&self) -> Option<i64> {
        if let Self::Integer(value) = self { Some(*value) } else { None }
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text.as_str()) } else { None }
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// True when `dbname` names a database on a PostgreSQL server, and no file.
#[must_use]
pub fn is_on_a_server(dbname: &str) -> bool {
    dbname.starts_with("postgres://") || dbname.starts_with("postgresql://")
}

/// True when a signal has come that cuts the running statement short.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
fn must_stop(cut_by_terminate: bool) -> bool {
    let pending = process::pending();
    pending.intersects(Pending::CANCEL | Pending::POSTMASTER_DIED)
        || (pending.contains(Pending::TERMINATE) && cut_by_terminate)
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection(Driver);

#[derive(Debug)]
enum Driver {
    #[cfg(feature = "sqlite")]
    Sqlite(sqlite::Sqlite),
    #[cfg(feature = "postgres")]
    Postgres(postgres::Postgres),
    #[allow(dead_code, reason = "there is none without a driver")]
    None(Infallible),
}

/// A running transaction.
#[derive(Debug)]
pub struct Tx<'a> {
    inner: Inner<'a>,
}

#[derive(Debug)]
enum Inner<'a> {
    #[cfg(feature = "sqlite")]
    Sqlite(rusqlite::Transaction<'a>),
    #[cfg(feature = "postgres")]
    Postgres(postgres::Transaction<'a>),
    #[allow(dead_code, reason = "there is none without a driver")]
    None(Infallible, PhantomData<&'a ()>),
}

impl Connection {
    /// `worker` is shown by servers that list their clients.
    #[allow(unused_variables, reason = "not every driver knows users or clients")]
    pub(crate) fn open(
        dbname: Option<&str>,
        username: Option<&str>,
        worker: &str,
    ) -> Result<Self, WorkerError> {
        match dbname {
            Some(url) if is_on_a_server(url) => {
                #[cfg(feature = "postgres")]
                return Ok(Self(Driver::Postgres(postgres::Postgres::open(
                    url, username, worker,
                )?)));
                #[cfg(not(feature = "postgres"))]
                return Err(ConnectError::NoDriver { feature: "postgres" }.into());
            }
            file => {
                #[cfg(feature = "sqlite")]
                return Ok(Self(Driver::Sqlite(sqlite::Sqlite::open(file)?)));
                #[cfg(not(feature = "sqlite"))]
                return Err(ConnectError::NoDriver { feature: "sqlite" }.into());
            }
        }
    }

    pub(crate) fn transaction<T>(
        &mut self,
        cut_by_terminate: bool,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, WorkerError>,
    ) -> Result<T, WorkerError> {
        let mut tx = self.begin(cut_by_terminate)?;
        // Dropped without a commit (an error, a panic), it rolls back.
        let value = work(&mut tx)?;
        tx.commit()?;
        Ok(value)
    }

    #[allow(unused_variables, reason = "unused without a driver")]
    fn begin(&mut self, cut_by_terminate: bool) -> Result<Tx<'_>, WorkerError> {
        match &mut self.0 {
            #[cfg(feature = "sqlite")]
            Driver::Sqlite(sqlite) => {
                Ok(Tx { inner: Inner::Sqlite(sqlite.begin(cut_by_terminate)?) })
            }
            #[cfg(feature = "postgres")]
            Driver::Postgres(postgres) => {
                Ok(Tx { inner: Inner::Postgres(postgres.begin(cut_by_terminate)?) })
            }
            Driver::None(never) => match *never {},
        }
    }
}

impl Tx<'_> {
    fn commit(self) -> Result<(), WorkerError> {
        match self.inner {
            #[cfg(feature = "sqlite")]
            Inner::Sqlite(tx) => sqlite::commit(tx),
            #[cfg(feature = "postgres")]
            Inner::Postgres(tx) => tx.commit(),
            Inner::None(never, _) => match never {},
        }
    }

    /// Runs a statement with parameters `$1`, `$2`, …; says how many rows it changed.
    ///
    /// # Errors
    /// [`ConnectError::Statement`] with what the database says of it; [`ConnectError::Interrupted`];
    /// [`ConnectError::Lost`]. After an error PostgreSQL takes no further statement of the
    /// transaction, and it will not commit (unless rolled back to a savepoint).
    #[allow(unused_variables, reason = "unused without a driver")]
    pub fn execute(&mut self, statement: &str, parameters: &[Value]) -> Result<u64, WorkerError> {
        match &mut self.inner {
            #[cfg(feature = "sqlite")]
            Inner::Sqlite(tx) => sqlite::execute(tx, statement, parameters),
            #[cfg(feature = "postgres")]
            Inner::Postgres(tx) => tx.execute(statement, parameters),
            Inner::None(never, _) => match *never {},
        }
    }

    /// Runs a query with parameters `$1`, `$2`, …; all its rows.
    ///
    /// # Errors
    /// As [`Tx::execute`]; a column of a type that [`Value`] cannot hold.
    #[allow(unused_variables, reason = "unused without a driver")]
    pub fn query(
        &mut self,
        statement: &str,
        parameters: &[Value],
    ) -> Result<Vec<Vec<Value>>, WorkerError> {
        match &mut self.inner {
            #[cfg(feature = "sqlite")]
            Inner::Sqlite(tx) => sqlite::query(tx, statement, parameters),
            #[cfg(feature = "postgres")]
            Inner::Postgres(tx) => tx.query(statement, parameters),
            Inner::None(never, _) => match *never {},
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_on_a_server;

    #[test]
    fn only_a_url_names_a_server() {
        for url in ["postgres://", "postgres:///counts", "postgresql://host:5432/counts"] {
            assert!(is_on_a_server(url), "{url}");
        }
        for file in ["", "counts", "postgres", "postgres:counts", "dir/postgres://", "host=x"] {
            assert!(!is_on_a_server(file), "{file}");
        }
    }
}

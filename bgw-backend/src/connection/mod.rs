//! A worker's connection to a database: once, by flag, opened after the fork.
//!
//! The worker's code sees [`Tx`] alone: statements with numbered parameters (`$1`, `$2`), rows of
//! [`Value`]s. Which database is behind it is a Cargo feature of this crate (`sqlite`); without one
//! a connection cannot be made, and [`ConnectError::NoDriver`] says so.

#[cfg(feature = "sqlite")]
mod sqlite;

#[cfg(not(feature = "sqlite"))]
use crate::worker::WorkerError;

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
    /// No driver was built in.
    #[error("bgw-backend was built without a database driver; enable its feature \"sqlite\"")]
    NoDriver,
    /// The database could not be opened.
    #[error("opening database {database} failed")]
    Open {
        /// Its name.
        database: String,
        /// What the driver said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A statement was cut short by a signal.
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
}

/// A value in a row, or a parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// A whole number.
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

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    #[cfg(feature = "sqlite")]
    inner: sqlite::Sqlite,
    #[cfg(not(feature = "sqlite"))]
    never: std::convert::Infallible,
}

/// A running transaction.
#[derive(Debug)]
pub struct Tx<'a> {
    #[cfg(feature = "sqlite")]
    inner: rusqlite::Transaction<'a>,
    #[cfg(not(feature = "sqlite"))]
    never: (std::convert::Infallible, std::marker::PhantomData<&'a ()>),
}

#[cfg(not(feature = "sqlite"))]
impl Connection {
    pub(crate) fn open(_: Option<&str>, _: Option<&str>) -> Result<Self, ConnectError> {
        Err(ConnectError::NoDriver)
    }

    pub(crate) fn transaction<T>(
        &mut self,
        _: bool,
        _: impl FnOnce(&mut Tx<'_>) -> Result<T, WorkerError>,
    ) -> Result<T, WorkerError> {
        match self.never {}
    }
}

#[cfg(not(feature = "sqlite"))]
impl Tx<'_> {
    /// Runs a statement; says how many rows it changed.
    ///
    /// # Errors
    /// What the database says of it.
    pub fn execute(&mut self, _: &str, _: &[Value]) -> Result<u64, WorkerError> {
        match self.never.0 {}
    }

    /// Runs a query; all its rows.
    ///
    /// # Errors
    /// What the database says of it.
    pub fn query(&mut self, _: &str, _: &[Value]) -> Result<Vec<Vec<Value>>, WorkerError> {
        match self.never.0 {}
    }
}

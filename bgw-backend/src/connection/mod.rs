//! A worker's connection to a database: opened once, after the fork, and only with the flag.
//!
//! The worker's code sees [`Tx`]: statements with numbered parameters (`$1`, `$2`) and rows of
//! [`Value`]s. The name of the database selects the driver, whatever features are enabled:
//!
//! | `dbname` | database | feature |
//! |---|---|---|
//! | `postgres://HOST/NAME`, `postgresql://…` | NAME on a PostgreSQL server | `postgres` |
//! | any other | an SQLite file at that path | `sqlite` |
//! | `None` | a private SQLite database in memory | `sqlite` |
//!
//! Without the feature, opening fails with [`DatabaseError::NoDriver`].
//!
//! A driver implements the two traits of `driver.rs` and fails with [`DatabaseError`] alone. It
//! knows nothing of the worker that owns the connection.

mod driver;
mod error;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
mod value;

pub use error::DatabaseError;
pub use value::Value;

use driver::{Driver, Transaction};

/// True if `dbname` names a database on a PostgreSQL server, false if it is the path of a file.
#[must_use]
pub fn is_on_a_server(dbname: &str) -> bool {
    dbname.starts_with("postgres://") || dbname.starts_with("postgresql://")
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection(Box<dyn Driver>);

impl Connection {
    /// Opens the database. `worker` is the name that a server lists its client under.
    pub(crate) fn open(
        dbname: Option<&str>,
        username: Option<&str>,
        worker: &str,
    ) -> Result<Self, DatabaseError> {
        let driver = match dbname {
            Some(url) if is_on_a_server(url) => open_on_server(url, username, worker),
            file => open_file(file),
        };
        driver.map(Self)
    }

    /// Runs `work` in a transaction. Dropped without a commit (an error, a panic), the transaction
    /// rolls back.
    pub(crate) fn transaction<T, E: From<DatabaseError>>(
        &mut self,
        by_terminate: bool,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut tx = Tx(self.0.begin(by_terminate)?);
        let value = work(&mut tx)?;
        tx.0.commit()?;
        Ok(value)
    }
}

#[cfg(feature = "postgres")]
fn open_on_server(
    url: &str,
    username: Option<&str>,
    worker: &str,
) -> Result<Box<dyn Driver>, DatabaseError> {
    Ok(Box::new(postgres::Postgres::open(url, username, worker)?))
}

#[cfg(not(feature = "postgres"))]
fn open_on_server(
    _url: &str,
    _username: Option<&str>,
    _worker: &str,
) -> Result<Box<dyn Driver>, DatabaseError> {
    Err(DatabaseError::NoDriver { feature: "postgres" })
}

#[cfg(feature = "sqlite")]
fn open_file(path: Option<&str>) -> Result<Box<dyn Driver>, DatabaseError> {
    Ok(Box::new(sqlite::Sqlite::open(path)?))
}

#[cfg(not(feature = "sqlite"))]
fn open_file(_path: Option<&str>) -> Result<Box<dyn Driver>, DatabaseError> {
    Err(DatabaseError::NoDriver { feature: "sqlite" })
}

/// A running transaction.
#[derive(Debug)]
pub struct Tx<'a>(Box<dyn Transaction + 'a>);

impl Tx<'_> {
    /// Runs a statement with parameters `$1`, `$2`, …; returns how many rows it changed.
    ///
    /// # Errors
    /// [`DatabaseError::Statement`] with the database's own message;
    /// [`DatabaseError::Interrupted`]; [`DatabaseError::Lost`]. After an error PostgreSQL takes no
    /// further statement of the transaction and does not commit it, unless it is rolled back to a
    /// savepoint.
    pub fn execute(&mut self, statement: &str, parameters: &[Value]) -> Result<u64, DatabaseError> {
        self.0.execute(statement, parameters)
    }

    /// Runs a query with parameters `$1`, `$2`, …; returns all its rows.
    ///
    /// # Errors
    /// As [`Tx::execute`]; a column of a type that [`Value`] cannot hold.
    pub fn query(
        &mut self,
        statement: &str,
        parameters: &[Value],
    ) -> Result<Vec<Vec<Value>>, DatabaseError> {
        self.0.query(statement, parameters)
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

//! A database for a demo or a test: an SQLite file, or a throwaway PostgreSQL server. And a client
//! for it, outside the cluster of workers, as any other program would use.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;
use throwaway_postgres::{ClusterError, SUPERUSER, ThrowawayCluster};

/// How long the client waits while a worker writes to the same file.
const BUSY: Duration = Duration::from_secs(30);
/// The database that every server has.
const DEFAULT: &str = "postgres";

/// A database.
#[derive(Debug)]
pub enum Database {
    /// A file, by its path.
    Sqlite(PathBuf),
    /// A server.
    Postgres(ThrowawayCluster),
}

impl Database {
    /// Starts a PostgreSQL server for it.
    ///
    /// # Errors
    /// PostgreSQL is not installed, or does not start.
    pub fn on_postgres() -> Result<Self, ClusterError> {
        Ok(Self::Postgres(ThrowawayCluster::start()?))
    }

    /// Its name for `initialize_connection`.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Sqlite(path) => path.to_string_lossy().into_owned(),
            Self::Postgres(cluster) => cluster.url(DEFAULT),
        }
    }

    /// The superuser, for `initialize_connection`.
    #[must_use]
    pub const fn user(&self) -> Option<&'static str> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(_) => Some(SUPERUSER),
        }
    }

    /// Connects to it.
    ///
    /// # Errors
    /// The error of the driver.
    pub fn client(&self) -> Result<Client, Box<dyn Error>> {
        Ok(match self {
            Self::Sqlite(path) => {
                let connection = rusqlite::Connection::open(path)?;
                connection.busy_timeout(BUSY)?;
                Client::Sqlite(connection)
            }
            Self::Postgres(cluster) => Client::Postgres(cluster.client(DEFAULT)?),
        })
    }
}

/// A connection to the database.
#[allow(missing_debug_implementations, reason = "one driver's connection has none")]
pub enum Client {
    /// To a file.
    Sqlite(rusqlite::Connection),
    /// To a server.
    Postgres(postgres::Client),
}

impl Client {
    /// Runs statements, separated by `;`.
    ///
    /// # Errors
    /// The error of the database.
    pub fn execute(&mut self, statements: &str) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Sqlite(connection) => connection.execute_batch(statements)?,
            Self::Postgres(client) => client.batch_execute(statements)?,
        }
        Ok(())
    }

    /// The whole numbers in the first row of a query's result.
    ///
    /// # Errors
    /// The error of the database; no row; a value that is not a whole number.
    pub fn numbers<const N: usize>(&mut self, query: &str) -> Result<[i64; N], Box<dyn Error>> {
        let mut numbers = [0; N];
        match self {
            Self::Sqlite(connection) => connection.query_row(query, [], |row| {
                for (place, number) in numbers.iter_mut().enumerate() {
                    *number = row.get(place)?;
                }
                Ok(())
            })?,
            Self::Postgres(client) => {
                let row = client.query_one(query, &[])?;
                for (place, number) in numbers.iter_mut().enumerate() {
                    *number = row
                        .try_get(place)
                        .or_else(|_| row.try_get::<_, i32>(place).map(i64::from))?;
                }
            }
        }
        Ok(numbers)
    }

    /// The number in the first row of a query's result.
    ///
    /// # Errors
    /// As [`Client::numbers`].
    pub fn number(&mut self, query: &str) -> Result<i64, Box<dyn Error>> {
        self.numbers(query).map(|[number]| number)
    }
}

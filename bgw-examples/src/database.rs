//! A database of its own for a demo or a test: a file, or a throwaway cluster. And a client of it
//! that belongs to no cluster, as any program that puts rows in.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;
use throwaway_postgres::{ClusterError, SUPERUSER, ThrowawayCluster};

/// How long the client waits for a worker that writes to the same file.
const BUSY: Duration = Duration::from_secs(30);
/// The database that every cluster has.
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
    /// On a server that is started for it.
    ///
    /// # Errors
    /// It is not installed, or does not start.
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

    /// A user for `initialize_connection` who may do everything.
    #[must_use]
    pub const fn user(&self) -> Option<&'static str> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(_) => Some(SUPERUSER),
        }
    }

    /// Connects from outside.
    ///
    /// # Errors
    /// The driver's.
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

/// A connection from outside.
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
    /// The database's.
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
    /// The database's; no row, or something else than numbers.
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

    /// The one number that a query answers with.
    ///
    /// # Errors
    /// As [`Client::numbers`].
    pub fn number(&mut self, query: &str) -> Result<i64, Box<dyn Error>> {
        self.numbers(query).map(|[number]| number)
    }
}

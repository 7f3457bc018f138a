//! Errors of a worker's database connection.

use crate::interrupt::Interrupt;
use std::error::Error;

/// Why a connection could not be opened, or a statement failed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// The worker was registered without the flag.
    #[error(
        "worker \"{worker}\" was registered without DATABASE_CONNECTION and cannot connect to a database; add the flag to its registration"
    )]
    WithoutFlag {
        /// The worker's name.
        worker: String,
    },
    /// The worker has a connection already.
    #[error("this worker is connected already; a worker cannot change its database")]
    Twice,
    /// The worker has no connection yet.
    #[error("this worker is not connected; call initialize_connection first")]
    NotConnected,
    /// The driver is not compiled in.
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
        /// The driver's error.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A signal or the postmaster's death cut the statement, or the opening, short.
    #[error(transparent)]
    Interrupted(#[from] Interrupt),
    /// A statement failed.
    #[error("statement failed: {statement}")]
    Statement {
        /// The statement.
        statement: String,
        /// The driver's error.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The connection is lost, and the transaction with it, as if rolled back. There is no
    /// reconnect: end the worker and let it be restarted. If `statement` is `COMMIT`, it is unknown
    /// whether the transaction was committed.
    #[error("the connection to the database was lost in: {statement}")]
    Lost {
        /// The statement that found out.
        statement: String,
        /// The driver's error.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The call came from within an asynchronous runtime, which it would block.
    #[error("a worker's database connection blocks; use it outside of an asynchronous runtime")]
    InsideRuntime,
}

bgw_core::debug_as_chain!(DatabaseError);

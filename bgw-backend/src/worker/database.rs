//! A worker's database connection.

use super::Worker;
use crate::connection::{Connection, DatabaseError, Tx};
use crate::interrupt;
use bgw_core::WorkerFlags;

impl Worker {
    /// Connects to a database. Once in the life of a worker, and only if it was registered with
    /// [`WorkerFlags::DATABASE_CONNECTION`].
    ///
    /// A `dbname` that begins with `postgres://` or `postgresql://` names a database and its
    /// PostgreSQL server: `postgres:///counts?host=/run/postgresql&port=5433` (a folder of sockets)
    /// or `postgres://10.0.0.7/counts`. `username` is the role; it overrides the one in the URL. By
    /// default the role is the operating system's user, and the database is named as the role. No
    /// environment variable is read, and TLS is not supported. The server lists the worker's name
    /// as the application.
    ///
    /// Any other `dbname` is the path of an SQLite file; `None` is a private database in memory.
    /// `username` has no effect there, since SQLite has no users.
    ///
    /// PostgreSQL's own workers may bypass a database's ban on connections and a role's ban on
    /// logins (`BGWORKER_BYPASS_ALLOWCONN`, `BGWORKER_BYPASS_ROLELOGINCHECK`). A client of a server
    /// cannot: the server refuses, and this fails.
    ///
    /// # Errors
    /// [`DatabaseError`]: the flag is missing, the worker is connected already, the database does
    /// not exist, or the server refuses. A signal during the wait on the server ends it too, even a
    /// SIGTERM that the worker handles itself.
    #[doc(alias = "BackgroundWorkerInitializeConnection")]
    pub fn initialize_connection(
        &mut self,
        dbname: Option<&str>,
        username: Option<&str>,
    ) -> Result<(), DatabaseError> {
        if !self.me.worker.flags().contains(WorkerFlags::DATABASE_CONNECTION) {
            return Err(DatabaseError::WithoutFlag { worker: self.name().to_owned() });
        }
        if self.connection.is_some() {
            return Err(DatabaseError::Twice);
        }
        self.connection = Some(Connection::open(dbname, username, self.name())?);
        Ok(())
    }

    /// Runs `work` in one transaction: committed if it returns `Ok`, rolled back if it fails,
    /// panics, or the process dies. SIGINT, the postmaster's death, and a SIGTERM that the worker
    /// does not handle itself cancel the running statement. The connection can be used for another
    /// transaction afterwards, unless it was lost.
    ///
    /// `work` may fail with any error that a [`DatabaseError`] converts to, for instance
    /// [`crate::WorkerError`] or a boxed error.
    ///
    /// # Errors
    /// The error of `work`; a failing begin or commit; [`DatabaseError::Interrupted`];
    /// [`DatabaseError::Lost`].
    #[doc(alias = "StartTransactionCommand")]
    #[doc(alias = "SPI_execute")]
    pub fn transaction<T, E: From<DatabaseError>>(
        &mut self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let by_terminate = !self.handles_terminate;
        interrupt::check(by_terminate).map_err(DatabaseError::from)?;
        let connection = self.connection.as_mut().ok_or(DatabaseError::NotConnected)?;
        connection.transaction(by_terminate, work)
    }
}

//! A PostgreSQL server, connected to after the fork.
//!
//! The driver is `tokio-postgres` on a runtime of this thread; no other thread is started. Why not
//! the blocking crate `postgres`, which wraps it: a signal cannot end its wait on the server
//! without a second thread. Here the wait is on the server's answer and on the descriptor by which
//! signal handlers wake this process.
//!
//! ```text
//! statement ──▶ wait for {answer, wake-up} ──▶ answer
//!                      │ SIGINT, SIGTERM, the postmaster's death
//!                      ▼
//!               cancel ──▶ wait for {answer, a pause} ──▶ answer: "canceled", or done after all
//!                      ▲                │ no answer
//!                      └────────────────┘
//! ```
//!
//! The server drops a cancel that overtakes its statement, so the cancel is repeated. A late cancel
//! would hit the next statement, so each cancel is completed before anything else is sent.
//!
//! Crash: when the connection ends, whoever ended it, the server rolls back what was not committed.

mod address;
mod values;

use super::driver::{self, Driver};
use super::{DatabaseError, Value};
use crate::interrupt;
use crate::sys::poll_wakeups::PollWakeUps;
use address::Peer;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{JoinHandle, yield_now};
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Error, NoTls};

/// How long the server may take to accept a cancel before the connection is closed.
const CANCEL_LIMIT: Duration = Duration::from_secs(10);
/// The pause before the first cancel is repeated; it doubles each time.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A connection.
pub(super) struct Postgres {
    runtime: Runtime,
    session: Session,
    /// Transfers the bytes while a request waits; its result says why the connection ended.
    driver: Option<JoinHandle<Result<(), Error>>>,
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("peer", &self.session.peer).finish_non_exhaustive()
    }
}

/// What a request needs while it waits.
struct Session {
    client: Client,
    peer: Peer,
    wake_ups: PollWakeUps,
}

/// How a request failed.
enum Failure {
    /// An interrupt came before it was sent, or cancelled it.
    Interrupted,
    /// The server or the driver refused it.
    Refused(Error),
    /// The server could not be reached for the cancel.
    Unreachable(io::Error),
}

impl Postgres {
    pub(super) fn open(
        url: &str,
        username: Option<&str>,
        worker: &str,
    ) -> Result<Self, DatabaseError> {
        if Handle::try_current().is_ok() {
            return Err(DatabaseError::InsideRuntime);
        }
        // The URL may contain a password, so it is not shown.
        let config = address::parse(url, username, worker).map_err(|source| {
            DatabaseError::Open { database: "of a postgres URL".to_owned(), source }
        })?;
        let failed = |source| DatabaseError::Open { database: address::name(&config), source };
        match Self::connect(&config).map_err(failed)? {
            Some(connection) => Ok(connection),
            None => Err(interrupted("CONNECT", true)),
        }
    }

    /// `None`: an interrupt came first.
    fn connect(config: &Config) -> Result<Option<Self>, Boxed> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let peers = address::peers(config)?;
        let connecting = async {
            let wake_ups = PollWakeUps::new()?;
            let mut outcome: Result<_, Boxed> = Err("the host has no address".into());
            for peer in peers {
                match first(
                    connect_to(&peer, config),
                    wake_ups.until(|| interrupt::is_pending(true)),
                )
                .await
                {
                    None => return Ok(None),
                    Some(Ok((client, driver))) => {
                        return Ok(Some((Session { client, peer, wake_ups }, driver)));
                    }
                    Some(Err(error)) => {
                        outcome =
                            Err(format!("{peer}: {}", bgw_core::chain(error.as_ref())).into());
                    }
                }
            }
            outcome
        };
        let connected = runtime.block_on(connecting)?;
        Ok(connected.map(|(session, driver)| Self { runtime, session, driver: Some(driver) }))
    }

    /// Runs one request to its end.
    fn run<T>(
        &mut self,
        statement: &str,
        stop_on: StopOn,
        request: impl AsyncFnOnce(&Client) -> Result<T, Error>,
    ) -> Result<T, DatabaseError> {
        if Handle::try_current().is_ok() {
            return Err(DatabaseError::InsideRuntime);
        }
        let Self { runtime, session, .. } = self;
        let done = runtime.block_on(async {
            let done = session.finish(stop_on, request(&session.client)).await;
            // The driver may send something of its own after a request (it releases a statement,
            // say). That goes out now, not at the worker's next request.
            yield_now().await;
            done
        });
        done.map_err(|failure| self.explain(statement, stop_on, failure))
    }

    fn explain(&mut self, statement: &str, stop_on: StopOn, failure: Failure) -> DatabaseError {
        let name = statement.to_owned();
        match failure {
            Failure::Interrupted => interrupted(statement, stop_on == StopOn::Everything),
            Failure::Unreachable(error) => {
                self.close();
                DatabaseError::Lost { statement: name, source: Box::new(error) }
            }
            Failure::Refused(error) if self.is_lost(&error) => {
                let reason = if error.is_closed() { self.why_it_ended() } else { None };
                DatabaseError::Lost { statement: name, source: Box::new(reason.unwrap_or(error)) }
            }
            Failure::Refused(error) => {
                DatabaseError::Statement { statement: name, source: Box::new(error) }
            }
        }
    }

    fn is_lost(&self, error: &Error) -> bool {
        let severity = error.as_db_error().and_then(|error| error.parsed_severity());
        error.is_closed()
            || self.session.client.is_closed()
            || matches!(severity, Some(Severity::Fatal | Severity::Panic))
    }

    /// The server's last message before the connection ended.
    fn why_it_ended(&mut self) -> Option<Error> {
        let driver = self.driver.take_if(|driver| driver.is_finished())?;
        self.runtime.block_on(driver).ok()?.err()
    }

    /// Closes the connection, which ends the transaction. All later requests fail.
    fn close(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.abort();
            // The result of an aborted task holds no information.
            let _ = self.runtime.block_on(driver);
        }
    }
}

impl Driver for Postgres {
    fn begin(
        &mut self,
        by_terminate: bool,
    ) -> Result<Box<dyn driver::Transaction + '_>, DatabaseError> {
        let stop_on = if by_terminate { StopOn::Everything } else { StopOn::NoTerminate };
        self.run("BEGIN", stop_on, async |client| client.batch_execute("BEGIN").await)?;
        Ok(Box::new(Transaction { connection: self, stop_on, failed: false, over: false }))
    }
}

/// Which interrupts cancel a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StopOn {
    /// Every interrupt.
    Everything,
    /// All but SIGTERM, which the worker handles itself.
    NoTerminate,
    /// None: a rollback is never cancelled.
    Nothing,
}

impl StopOn {
    fn is_pending(self) -> bool {
        self != Self::Nothing && interrupt::is_pending(self == Self::Everything)
    }
}

/// The error of a request that an interrupt cut short.
fn interrupted(statement: &str, by_terminate: bool) -> DatabaseError {
    match interrupt::check(by_terminate) {
        Err(interrupt) => interrupt.into(),
        // Another thread of the worker has taken the interrupt in the meantime.
        Ok(()) => DatabaseError::Statement {
            statement: statement.to_owned(),
            source: "an interrupt cancelled it".into(),
        },
    }
}

impl Session {
    /// Waits for the answer to `request`. An interrupt makes it ask the server to cancel; it still
    /// waits for the answer, so that the connection stays usable.
    async fn finish<T>(
        &self,
        stop_on: StopOn,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Failure> {
        let stop = || stop_on.is_pending();
        if stop() {
            return Err(Failure::Interrupted);
        }
        // Reads the socket first: if the server has ended the connection, its last message becomes
        // the error, not the broken pipe.
        yield_now().await;
        let mut request = pin!(request);
        if let Some(answer) = first(request.as_mut(), self.wake_ups.until(stop)).await {
            return answer.map_err(Failure::Refused);
        }
        let token = self.client.cancel_token();
        let mut pause = PAUSE;
        loop {
            self.peer.cancel(&token, CANCEL_LIMIT).await.map_err(Failure::Unreachable)?;
            if let Some(answer) = first(request.as_mut(), tokio::time::sleep(pause)).await {
                return answer.map_err(|error| match error.code() {
                    Some(&SqlState::QUERY_CANCELED) => Failure::Interrupted,
                    _ => Failure::Refused(error),
                });
            }
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }
}

/// A running transaction.
#[derive(Debug)]
struct Transaction<'a> {
    connection: &'a mut Postgres,
    stop_on: StopOn,
    /// A statement failed: the server may answer a commit with a rollback and report success.
    failed: bool,
    over: bool,
}

impl Transaction<'_> {
    fn run<T>(
        &mut self,
        statement: &str,
        request: impl AsyncFnOnce(&Client) -> Result<T, Error>,
    ) -> Result<T, DatabaseError> {
        let done = self.connection.run(statement, self.stop_on, request);
        self.failed |= done.is_err();
        done
    }
}

impl driver::Transaction for Transaction<'_> {
    fn execute(&mut self, statement: &str, parameters: &[Value]) -> Result<u64, DatabaseError> {
        let parameters = borrowed(parameters);
        self.run(statement, async |client| client.execute(statement, &parameters).await)
    }

    fn query(
        &mut self,
        statement: &str,
        parameters: &[Value],
    ) -> Result<Vec<Vec<Value>>, DatabaseError> {
        let parameters = borrowed(parameters);
        self.run(statement, async |client| {
            let rows = client.query(statement, &parameters).await?;
            rows.iter()
                .map(|row| (0..row.len()).map(|column| row.try_get(column)).collect())
                .collect()
        })
    }

    fn commit(mut self: Box<Self>) -> Result<(), DatabaseError> {
        if self.failed {
            // Fails unless the failed statement was rolled back to a savepoint.
            self.run("COMMIT", async |client| client.batch_execute("SELECT 1").await)?;
        }
        self.run("COMMIT", async |client| client.batch_execute("COMMIT").await)?;
        self.over = true;
        Ok(())
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let rollback = async |client: &Client| client.batch_execute("ROLLBACK").await;
        if self.connection.run("ROLLBACK", StopOn::Nothing, rollback).is_err() {
            // The state of the connection is unknown, so nobody may use it again.
            self.connection.close();
        }
    }
}

fn borrowed(parameters: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    parameters.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

type Boxed = Box<dyn std::error::Error + Send + Sync>;
type Parts = (Client, JoinHandle<Result<(), Error>>);

async fn connect_to(peer: &Peer, config: &Config) -> Result<Parts, Boxed> {
    let stream = peer.dial(config.get_connect_timeout().copied()).await?;
    let (client, connection) = config.connect_raw(stream, NoTls).await?;
    Ok((client, tokio::spawn(connection)))
}

/// The result of `wanted`, or `None` if `other` ends first.
async fn first<T>(wanted: impl Future<Output = T>, other: impl Future<Output = ()>) -> Option<T> {
    let (mut wanted, mut other) = (pin!(wanted), pin!(other));
    poll_fn(|context| {
        if let Poll::Ready(value) = wanted.as_mut().poll(context) {
            return Poll::Ready(Some(value));
        }
        other.as_mut().poll(context).map(|()| None)
    })
    .await
}

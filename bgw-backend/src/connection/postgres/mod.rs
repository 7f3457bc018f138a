//! A PostgreSQL server: reached after the fork, by this worker alone.
//!
//! The driver is `tokio-postgres`, which the blocking crate `postgres` is a wrapper of, on a runtime
//! of this thread: no other thread is started. Why not the wrapper: its wait on the server cannot be
//! ended by a signal without a second thread. Here the wait is on the server's answer and on the
//! descriptor by which signal handlers wake this process.
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
//! The server drops a cancel that overtakes its statement: so it is repeated. One that came late would
//! hit the next statement: so each is seen through to its end before anything else is sent.
//!
//! Crash: the server rolls back what was not committed when the connection ends, whoever ended it.

mod address;
mod values;

use super::{ConnectError, Value, must_stop};
use crate::sys::poll_wakeups::PollWakeUps;
use crate::worker::WorkerError;
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

/// How long the server may take to take a cancel before the connection is given up.
const CANCEL_LIMIT: Duration = Duration::from_secs(10);
/// How long an answer to the first cancel may take before it is repeated; twice as long each time.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A connection.
pub(super) struct Postgres {
    runtime: Runtime,
    session: Session,
    /// Moves the bytes while a request waits; its result says why the connection ended.
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
    /// It was not sent, or cancelled, because of a signal.
    Interrupted,
    /// The server or the driver said no.
    Refused(Error),
    /// It was to be cancelled, and the server could not be reached for that.
    Unreachable(io::Error),
}

impl Postgres {
    pub(super) fn open(
        url: &str,
        username: Option<&str>,
        worker: &str,
    ) -> Result<Self, ConnectError> {
        if Handle::try_current().is_ok() {
            return Err(ConnectError::InsideRuntime);
        }
        // The database as the URL names it may contain a password.
        let config = address::parse(url, username, worker).map_err(|source| {
            ConnectError::Open { database: "of a postgres URL".to_owned(), source }
        })?;
        let failed = |source| ConnectError::Open { database: address::name(&config), source };
        Self::connect(&config).map_err(failed)?.ok_or(ConnectError::Interrupted)
    }

    /// `None`: a signal came first.
    fn connect(config: &Config) -> Result<Option<Self>, Boxed> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let peers = address::peers(config)?;
        let connecting = async {
            let wake_ups = PollWakeUps::new()?;
            let mut outcome: Result<_, Boxed> = Err("the host has no address".into());
            for peer in peers {
                match first(connect_to(&peer, config), wake_ups.until(|| must_stop(true))).await {
                    None => return Ok(None),
                    Some(Ok((client, driver))) => {
                        return Ok(Some((Session { client, peer, wake_ups }, driver)));
                    }
                    Some(Err(error)) => {
                        outcome = Err(format!("{peer}: {}", with_causes(error.as_ref())).into());
                    }
                }
            }
            outcome
        };
        let connected = runtime.block_on(connecting)?;
        Ok(connected.map(|(session, driver)| Self { runtime, session, driver: Some(driver) }))
    }

    pub(super) fn begin(&mut self, cut_by_terminate: bool) -> Result<Transaction<'_>, WorkerError> {
        let stop = move || must_stop(cut_by_terminate);
        self.run("BEGIN", stop, async |client| client.batch_execute("BEGIN").await)?;
        Ok(Transaction { connection: self, cut_by_terminate, failed: false, over: false })
    }

    /// Runs one request to its end.
    fn run<T>(
        &mut self,
        statement: &str,
        stop: impl Fn() -> bool,
        request: impl AsyncFnOnce(&Client) -> Result<T, Error>,
    ) -> Result<T, WorkerError> {
        if Handle::try_current().is_ok() {
            return Err(ConnectError::InsideRuntime.into());
        }
        let Self { runtime, session, .. } = self;
        let done = runtime.block_on(async {
            let done = session.finish(stop, request(&session.client)).await;
            // What the driver sends of its own after a request (that a statement is no longer
            // needed) goes out now, not when the worker comes back.
            yield_now().await;
            done
        });
        done.map_err(|failure| self.explain(statement, failure).into())
    }

    fn explain(&mut self, statement: &str, failure: Failure) -> ConnectError {
        let statement = statement.to_owned();
        match failure {
            Failure::Interrupted => ConnectError::Interrupted,
            Failure::Unreachable(error) => {
                self.give_up();
                ConnectError::Lost { statement, source: Box::new(error) }
            }
            Failure::Refused(error) if self.is_lost(&error) => {
                let reason = if error.is_closed() { self.why_it_ended() } else { None };
                ConnectError::Lost { statement, source: Box::new(reason.unwrap_or(error)) }
            }
            Failure::Refused(error) => {
                ConnectError::Statement { statement, source: Box::new(error) }
            }
        }
    }

    fn is_lost(&self, error: &Error) -> bool {
        let severity = error.as_db_error().and_then(|error| error.parsed_severity());
        error.is_closed()
            || self.session.client.is_closed()
            || matches!(severity, Some(Severity::Fatal | Severity::Panic))
    }

    /// What the server said before it went.
    fn why_it_ended(&mut self) -> Option<Error> {
        let driver = self.driver.take_if(|driver| driver.is_finished())?;
        self.runtime.block_on(driver).ok()?.err()
    }

    /// Closes the connection, which ends the transaction. Requests fail from now on.
    fn give_up(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.abort();
            // A task that was aborted says so; there is nothing else to know.
            let _ = self.runtime.block_on(driver);
        }
    }
}

impl Session {
    /// Waits for the answer to `request`. Once `stop` says so, the server is asked to cancel it; the
    /// answer is waited for all the same, so that the connection can be used afterwards.
    async fn finish<T>(
        &self,
        stop: impl Fn() -> bool,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Failure> {
        if stop() {
            return Err(Failure::Interrupted);
        }
        // A look at the socket first: if the server has ended the connection meanwhile, its last words
        // become the error, not the broken pipe.
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

/// A running transaction; dropped without a commit it is rolled back.
#[derive(Debug)]
pub(super) struct Transaction<'a> {
    connection: &'a mut Postgres,
    cut_by_terminate: bool,
    /// A statement failed: the server may answer a commit with a rollback, and call that a success.
    failed: bool,
    over: bool,
}

impl Transaction<'_> {
    pub(super) fn execute(
        &mut self,
        statement: &str,
        parameters: &[Value],
    ) -> Result<u64, WorkerError> {
        let parameters = borrowed(parameters);
        self.run(statement, async |client| client.execute(statement, &parameters).await)
    }

    pub(super) fn query(
        &mut self,
        statement: &str,
        parameters: &[Value],
    ) -> Result<Vec<Vec<Value>>, WorkerError> {
        let parameters = borrowed(parameters);
        self.run(statement, async |client| {
            let rows = client.query(statement, &parameters).await?;
            rows.iter()
                .map(|row| (0..row.len()).map(|column| row.try_get(column)).collect())
                .collect()
        })
    }

    pub(super) fn commit(mut self) -> Result<(), WorkerError> {
        if self.failed {
            // Fails unless the failed statement was rolled back to a savepoint.
            self.run("COMMIT", async |client| client.batch_execute("SELECT 1").await)?;
        }
        self.run("COMMIT", async |client| client.batch_execute("COMMIT").await)?;
        self.over = true;
        Ok(())
    }

    fn run<T>(
        &mut self,
        statement: &str,
        request: impl AsyncFnOnce(&Client) -> Result<T, Error>,
    ) -> Result<T, WorkerError> {
        let cut_by_terminate = self.cut_by_terminate;
        let done = self.connection.run(statement, move || must_stop(cut_by_terminate), request);
        self.failed |= done.is_err();
        done
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let rolled_back =
            self.connection.run("ROLLBACK", || false, async |c| c.batch_execute("ROLLBACK").await);
        if rolled_back.is_err() {
            // Its state is not known, so nobody is to use it again.
            self.connection.give_up();
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

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// The result of `wanted`, or `None` when `other` ends first.
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

//! The address of a PostgreSQL server, out of the URL of a database.
//!
//! The driver could connect by itself. This module connects instead, because a cancel must reach
//! the very server of the connection and must complete before the next request (see
//! [`Peer::cancel`]). Host names are resolved in this thread; a worker has no other.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::{Host, TargetSessionAttrs};
use tokio_postgres::{CancelToken, Config, NoTls};

const PORT: u16 = 5432;

/// A byte stream to a server, of whatever kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

impl Peer {
    /// Connects.
    ///
    /// # Errors
    /// The system's; `TimedOut` after `limit`.
    pub(super) async fn dial(&self, limit: Option<Duration>) -> io::Result<Box<dyn Stream>> {
        let dialing = async {
            Ok(match self {
                Self::Unix(path) => Box::new(UnixStream::connect(path).await?) as Box<dyn Stream>,
                Self::Tcp(address) => {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    Box::new(stream)
                }
            })
        };
        match limit {
            Some(limit) => tokio::time::timeout(limit, dialing).await?,
            None => dialing.await,
        }
    }

    /// Asks the server to cancel the running statement of the connection of `token`. Returns when
    /// the server has processed the request: it closes the stream then. This cancel cannot hit a
    /// statement that is sent afterwards.
    ///
    /// # Errors
    /// The server cannot be reached, or does not answer within `limit`.
    pub(super) async fn cancel(&self, token: &CancelToken, limit: Duration) -> io::Result<()> {
        let asking = async {
            let mut stream = self.dial(None).await?;
            token.cancel_query_raw(&mut stream, NoTls).await.map_err(io::Error::other)?;
            // The server sends nothing. Only the end of the stream matters, even by a reset.
            let _ = stream.read_to_end(&mut Vec::new()).await;
            Ok(())
        };
        tokio::time::timeout(limit, asking).await?
    }
}

/// Parses a URL.
///
/// # Errors
/// What is wrong with the URL. The text does not repeat it, since it may contain a password.
pub(super) fn parse(
    url: &str,
    username: Option<&str>,
    worker: &str,
) -> Result<Config, Box<dyn std::error::Error + Send + Sync>> {
    let mut config: Config = url.parse()?;
    if let Some(username) = username {
        config.user(username);
    }
    if config.get_application_name().is_none() {
        config.application_name(format!("bgworker: {worker}"));
    }
    if config.get_target_session_attrs() != TargetSessionAttrs::Any {
        return Err("target_session_attrs is not supported".into());
    }
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err("no host is named; a folder of sockets is one, too: \
                    postgres:///NAME?host=/run/postgresql"
            .into());
    }
    Ok(config)
}

/// The database's name for errors, without a password.
pub(super) fn name(config: &Config) -> String {
    let or_default = |text: Option<&str>| text.unwrap_or("(default)").to_owned();
    let user = or_default(config.get_user());
    match config.get_dbname() {
        Some(dbname) => format!("\"{dbname}\" as user \"{user}\""),
        None => format!("of user \"{user}\""),
    }
}

/// The servers that the URL names, in its order.
///
/// # Errors
/// A host name cannot be resolved.
pub(super) fn peers(config: &Config) -> io::Result<Vec<Peer>> {
    let port = |place: usize| {
        let ports = config.get_ports();
        ports.get(place).or_else(|| ports.first()).copied().unwrap_or(PORT)
    };
    let addresses = config.get_hostaddrs();
    if !addresses.is_empty() {
        let peer = |(place, &ip)| Peer::Tcp(SocketAddr::new(ip, port(place)));
        return Ok(addresses.iter().enumerate().map(peer).collect());
    }
    let mut peers = Vec::new();
    for (place, host) in config.get_hosts().iter().enumerate() {
        match host {
            Host::Unix(folder) => {
                peers.push(Peer::Unix(folder.join(format!(".s.PGSQL.{}", port(place)))));
            }
            Host::Tcp(name) => {
                peers.extend((name.as_str(), port(place)).to_socket_addrs()?.map(Peer::Tcp));
            }
        }
    }
    Ok(peers)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{Peer, name, parse, peers};
    use std::path::PathBuf;

    #[test]
    fn a_url_names_server_database_and_user() {
        let url = "postgres://alice:secret@%2Frun%2Fpg:5433/counts?application_name=mine";
        let config = parse(url, None, "w").unwrap();
        assert_eq!(config.get_application_name(), Some("mine"));
        assert_eq!(name(&config), "\"counts\" as user \"alice\"");
        assert_eq!(peers(&config).unwrap(), [Peer::Unix(PathBuf::from("/run/pg/.s.PGSQL.5433"))]);
    }

    #[test]
    fn a_user_given_apart_overrides_the_one_in_the_url() {
        let url = "postgres://alice@127.0.0.1,127.0.0.2/counts";
        let config = parse(url, Some("bob"), "w").unwrap();
        assert_eq!(config.get_user(), Some("bob"));
        assert_eq!(config.get_application_name(), Some("bgworker: w"));
        let both = ["127.0.0.1:5432", "127.0.0.2:5432"];
        assert_eq!(peers(&config).unwrap(), both.map(|text| Peer::Tcp(text.parse().unwrap())));
    }

    #[test]
    fn an_unusable_url_is_refused_without_showing_the_password() {
        for (url, said) in [
            ("postgres://a:secret@/counts", "no host"),
            ("postgres://a:secret@h/counts?target_session_attrs=read-write", "target_session"),
            ("postgres://a:secret@h:notaport/counts", "invalid"),
            ("postgres://a:secret@h/counts?nonsense=secret", "invalid"),
        ] {
            let error = parse(url, None, "w").unwrap_err();
            let text = bgw_core::chain(error.as_ref()).to_string();
            assert!(text.contains(said) && !text.contains("secret"), "{url}: {text}");
        }
    }
}

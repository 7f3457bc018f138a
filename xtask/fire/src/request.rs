//! One HTTP request, and what became of it.

use std::io::{Error, ErrorKind};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    /// A whole answer.
    Answered,
    /// An answer that says that the server cannot.
    Unable,
    /// Nobody listens.
    Refused,
    /// The connection ended before a byte of the answer.
    Closed,
    /// It was reset before a byte of the answer.
    Reset,
    /// It ended within the answer.
    Torn,
    /// No whole answer within the client's patience.
    Late,
}

impl Fate {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Unable => "unable",
            Self::Refused => "refused",
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Torn => "torn",
            Self::Late => "late",
        }
    }

    /// True if the connection broke.
    pub(crate) const fn is_broken(self) -> bool {
        matches!(self, Self::Closed | Self::Reset | Self::Torn)
    }
}

/// A request that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) begin: Duration,
    pub(crate) end: Duration,
    pub(crate) fate: Fate,
    /// On a kept connection.
    pub(crate) kept: bool,
    /// The worker that answered, or that has this connection, if that is known.
    pub(crate) worker: Option<i32>,
}

impl Request {
    pub(crate) fn latency(&self) -> Duration {
        self.end.saturating_sub(self.begin)
    }
}

/// A whole answer.
pub(crate) struct Answer {
    pub(crate) fate: Fate,
    pub(crate) worker: Option<i32>,
    pub(crate) keep: bool,
}

/// Sends a request for `path` and reads the answer.
pub(crate) async fn ask(stream: &mut TcpStream, path: &str, keep: bool) -> Result<Answer, Fate> {
    let connection = if keep { "keep-alive" } else { "close" };
    let text =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n");
    let mut answer = Vec::with_capacity(2048);
    let broken = |error: &Error, got: usize| match error.kind() {
        _ if got > 0 => Fate::Torn,
        ErrorKind::UnexpectedEof => Fate::Closed,
        _ => Fate::Reset,
    };
    stream.write_all(text.as_bytes()).await.map_err(|error| broken(&error, 0))?;
    loop {
        match stream.read_buf(&mut answer).await {
            Ok(0) => return Err(broken(&ErrorKind::UnexpectedEof.into(), answer.len())),
            Ok(_) => {}
            Err(error) => return Err(broken(&error, answer.len())),
        }
        if let Some(parsed) = parse(&answer) {
            return Ok(parsed);
        }
    }
}

/// The answer, if it is whole.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let head_len = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..head_len]);
    let field = |wanted: &str| {
        head.lines().skip(1).find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
        })
    };
    let body: usize = field("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    if bytes.len() < head_len + 4 + body {
        return None;
    }
    let ok = head.starts_with("HTTP/1.1 200 ");
    Some(Answer {
        fate: if ok { Fate::Answered } else { Fate::Unable },
        worker: field("x-pid").and_then(|text| text.parse().ok()),
        keep: !field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")),
    })
}

#[cfg(test)]
mod tests {
    use super::{Fate, parse};

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let head =
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nX-Pid: 77\r\nConnection: close\r\n\r\n";
        assert!(parse(&head[..head.len() - 1]).is_none());
        assert!(parse(&[head, &b"x"[..]].concat()).is_none());
        let answer = parse(&[head, &b"xx"[..]].concat()).unwrap();
        assert_eq!((answer.fate, answer.worker, answer.keep), (Fate::Answered, Some(77), false));
        let answer = parse(b"HTTP/1.1 503 no\r\n\r\n").unwrap();
        assert_eq!((answer.fate, answer.worker, answer.keep), (Fate::Unable, None, true));
    }
}

//! What a message says. Pure; takes any bytes.
//!
//! | assignment | meaning |
//! |---|---|
//! | `READY=1` | it is ready |
//! | `STATUS=…` | how it is, for people |
//! | `WATCHDOG=1` | it is alive |
//! | `WATCHDOG=trigger` | it has found out that it hangs |
//! | `EXTEND_TIMEOUT_USEC=…` | it needs so much more time to start |
//!
//! Everything else is ignored: `MAINPID` and `STOPPING` would loosen a clock.

use std::time::Duration;

/// The longest message that counts.
pub(super) const LONGEST: usize = 4096;

/// One assignment of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Ready,
    Status(String),
    Beat,
    Hangs,
    MoreTime(Duration),
}

/// What `message` says, in its order.
pub(crate) fn parse(message: &[u8]) -> impl Iterator<Item = Said> + '_ {
    let message = if message.len() > LONGEST { &[] } else { message };
    message.split(|&byte| byte == b'\n').filter_map(assignment)
}

fn assignment(line: &[u8]) -> Option<Said> {
    match line {
        b"READY=1" => Some(Said::Ready),
        b"WATCHDOG=1" => Some(Said::Beat),
        b"WATCHDOG=trigger" => Some(Said::Hangs),
        _ => {
            if let Some(status) = line.strip_prefix(b"STATUS=") {
                return Some(Said::Status(String::from_utf8_lossy(status).into_owned()));
            }
            let micros = line.strip_prefix(b"EXTEND_TIMEOUT_USEC=")?;
            let micros = std::str::from_utf8(micros).ok()?.parse().ok()?;
            Some(Said::MoreTime(Duration::from_micros(micros)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_assignment_is_read_and_everything_else_ignored() {
        let said = |message: &[u8]| parse(message).collect::<Vec<_>>();
        let table: [(&[u8], &[Said]); 9] = [
            (b"READY=1", &[Said::Ready]),
            (b"READY=1\n", &[Said::Ready]),
            (b"READY=0", &[]),
            (b"WATCHDOG=1\nWATCHDOG=trigger", &[Said::Beat, Said::Hangs]),
            (b"EXTEND_TIMEOUT_USEC=1500", &[Said::MoreTime(Duration::from_micros(1500))]),
            (b"EXTEND_TIMEOUT_USEC=-1\nEXTEND_TIMEOUT_USEC=99999999999999999999", &[]),
            (b"MAINPID=1\nSTOPPING=1\nBARRIER=1\nFDSTORE=1", &[]),
            (b"", &[]),
            (b"\n\n=\nREADY\nready=1\n READY=1", &[]),
        ];
        for (message, expected) in table {
            assert_eq!(said(message), expected, "{}", String::from_utf8_lossy(message));
        }
        assert_eq!(said(b"STATUS=a=b"), [Said::Status("a=b".to_owned())]);
        assert_eq!(said(b"STATUS=\xff"), [Said::Status("\u{fffd}".to_owned())]);
        let long = |len: usize| [b"READY=1\n".as_slice(), &vec![b'x'; len - 8]].concat();
        assert_eq!(said(&long(LONGEST)), [Said::Ready]);
        assert_eq!(said(&long(LONGEST + 1)), []);
    }
}

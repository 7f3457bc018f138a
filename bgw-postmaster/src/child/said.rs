//! What a template says to the postmaster, as bytes. Pure: any bytes give a message or none.
//!
//! The first byte says what, a number of 4 bytes follows, then a text.

/// The longest message, in bytes.
pub(crate) const LIMIT: usize = 1100;
/// The longest text, in bytes.
const TEXT_LIMIT: usize = 1000;

/// What a template says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// It has loaded what it is to load.
    Loaded,
    /// It cannot, and ends.
    Failed(String),
    /// It has carried out an order.
    Forked,
    /// It could not, with this error number.
    Refused(i32),
    /// It does not fork, since it has so many threads.
    Threads(u32),
}

impl Said {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (kind, number, text) = match self {
            Self::Loaded => (1, 0, ""),
            Self::Failed(text) => (2, 0, text.as_str()),
            Self::Forked => (3, 0, ""),
            Self::Refused(errno) => (4, *errno, ""),
            Self::Threads(count) => (5, i32::try_from(*count).unwrap_or(i32::MAX), ""),
        };
        let end = (0..=text.len().min(TEXT_LIMIT)).rev().find(|&at| text.is_char_boundary(at));
        let mut bytes = vec![kind];
        bytes.extend(number.to_le_bytes());
        bytes.extend(text.as_bytes().get(..end.unwrap_or(0)).unwrap_or_default());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&kind, rest) = bytes.split_first()?;
        let (number, text) = rest.split_first_chunk()?;
        let number = i32::from_le_bytes(*number);
        match (kind, number, text) {
            (1, 0, []) => Some(Self::Loaded),
            (2, 0, text) if text.len() <= TEXT_LIMIT => {
                let shown = |c: char| if c.is_control() && c != '\n' { '?' } else { c };
                Some(Self::Failed(String::from_utf8_lossy(text).chars().map(shown).collect()))
            }
            (3, 0, []) => Some(Self::Forked),
            (4, 1.., []) => Some(Self::Refused(number)),
            (5, 2.., []) => Some(Self::Threads(number.unsigned_abs())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard_and_nothing_else_is() {
        let long = format!("{}ä", "x".repeat(TEXT_LIMIT - 1));
        for said in [
            Said::Loaded,
            Said::Failed(String::new()),
            Said::Failed("no ä\nat all".to_owned()),
            Said::Forked,
            Said::Refused(11),
            Said::Threads(2),
        ] {
            let bytes = said.encode();
            assert!(bytes.len() <= LIMIT);
            assert_eq!(Said::decode(&bytes), Some(said));
        }
        let cut = Said::decode(&Said::Failed(long).encode());
        assert_eq!(cut, Some(Said::Failed("x".repeat(TEXT_LIMIT - 1))));
        let shown = Said::decode(&Said::Failed("a\u{1b}[m".to_owned()).encode());
        assert_eq!(shown, Some(Said::Failed("a?[m".to_owned())));
    }

    #[test]
    fn a_message_that_makes_no_sense_is_none() {
        for bytes in [
            &[][..],
            &[1],
            &[1, 0, 0, 0],
            &[1, 1, 0, 0, 0],
            &[1, 0, 0, 0, 0, 0],
            &[0, 0, 0, 0, 0],
            &[6, 0, 0, 0, 0],
            &[3, 0, 0, 0, 0, b'x'],
            &[4, 0, 0, 0, 0],
            &[4, 0, 0, 0, 0x80],
            &[5, 1, 0, 0, 0],
        ] {
            assert_eq!(Said::decode(bytes), None, "{bytes:?}");
        }
        let mut long = vec![2, 0, 0, 0, 0];
        long.extend([b'x'; TEXT_LIMIT + 1]);
        assert_eq!(Said::decode(&long), None);
    }
}

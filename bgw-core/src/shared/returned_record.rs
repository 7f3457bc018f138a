//! What a worker gives back, as bytes.
//!
//! A *code* of 32 bits says what there is and how long it is; 0 stands for nothing. It lies in the
//! cell of the clean-up mark while the worker runs (`returned_cells.rs`), and in its exit report
//! afterwards. The bytes themselves lie in annexes of the slot.
//!
//! | bits of the code | |
//! |---|---|
//! | 0 to 7 | the length of the result, plus 1; 0 for no result |
//! | 8, 9 | what there is besides: nothing, last words of an error or of a panic, the value of a call |
//! | 10 to 20 | its length |
//!
//! Last words are texts with a NUL between two: those of an error the error's, then its causes';
//! those of a panic its place, then its message.
//!
//! Trust. Any code and any bytes give a value or an error. Lengths are checked against the limits,
//! texts are cleaned as those of a worker that keeps to the rules.

use super::corrupt::CorruptRecord;
use crate::returned::{LAST_WORDS_LIMIT, LastWords, PLACE_LIMIT, RESULT_LIMIT, Returned};

/// The largest number of bytes of last words.
pub(super) const WORDS_LEN: usize = PLACE_LIMIT + 1 + LAST_WORDS_LIMIT;

/// The cells of a result in a slot's own annex, which has two places for it.
pub(super) const RESULT_CELLS: usize = RESULT_LIMIT / 8;
/// The first cell of the last words there.
pub(super) const WORDS: usize = 2 * RESULT_CELLS;
/// How many cells an annex has.
pub(super) const ANNEX_CELLS: u32 = (WORDS + WORDS_LEN.div_ceil(8)) as u32;

const KIND: u32 = 8;
const LEN: u32 = 10;
const END: u32 = 21;

const ERROR: u32 = 1;
const PANIC: u32 = 2;
const VALUE: u32 = 3;

/// What a code says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Code {
    /// The length of the result.
    pub(super) result: Option<usize>,
    /// The kind and the length of what there is besides.
    pub(super) words: Option<(Kind, usize)>,
}

/// Whose last words; or a call's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Error,
    Panic,
    Value,
}

impl Code {
    /// # Errors
    /// Bits that no encoder would have written.
    pub(super) fn from_bits(bits: u32) -> Result<Self, CorruptRecord> {
        let wrong = CorruptRecord::Number { field: "returned", found: bits.into() };
        let result = (bits & 0xff) as usize;
        let words = ((bits >> LEN) & 0x7ff) as usize;
        let kind = match (bits >> KIND) & 3 {
            0 if words == 0 => None,
            ERROR => Some(Kind::Error),
            PANIC => Some(Kind::Panic),
            VALUE => Some(Kind::Value),
            _ => return Err(wrong),
        };
        if bits >> END != 0 || result > RESULT_LIMIT + 1 || words > WORDS_LEN {
            return Err(wrong);
        }
        Ok(Self { result: result.checked_sub(1), words: kind.map(|kind| (kind, words)) })
    }

    pub(super) const fn bits(self) -> u32 {
        // Both lengths are within their limits.
        let result = match self.result {
            None => 0,
            Some(len) => len as u32 + 1,
        };
        let words = match self.words {
            None => 0,
            Some((Kind::Error, len)) => ERROR << KIND | (len as u32) << LEN,
            Some((Kind::Panic, len)) => PANIC << KIND | (len as u32) << LEN,
            Some((Kind::Value, len)) => VALUE << KIND | (len as u32) << LEN,
        };
        result | words
    }

    /// How many bytes there are in all.
    pub(super) fn len(self) -> usize {
        self.result.unwrap_or(0) + self.words.map_or(0, |(_, len)| len)
    }
}

/// Last words as kind and bytes, within the limit.
pub(super) fn encode_words(words: &LastWords) -> (Kind, Vec<u8>) {
    // Those that a program has made itself may be of any length.
    let words = words.cut();
    let (kind, texts) = match &words {
        LastWords::Error { text, causes } => {
            let causes = causes.iter().map(String::as_str);
            (Kind::Error, std::iter::once(text.as_str()).chain(causes).collect::<Vec<_>>())
        }
        LastWords::Panic { message, place } => (Kind::Panic, vec![place.as_str(), message]),
    };
    (kind, texts.join("\0").into_bytes())
}

fn error_of(bytes: &[u8]) -> LastWords {
    let text = String::from_utf8_lossy(bytes);
    let mut texts = text.split('\0');
    LastWords::of_texts(texts.next().unwrap_or_default(), texts)
}

fn panic_of(bytes: &[u8]) -> LastWords {
    let text = String::from_utf8_lossy(bytes);
    let (place, message) = text.split_once('\0').unwrap_or((&text, ""));
    LastWords::of_panic(message, place)
}

/// The bits of the code, and the bytes: first the result, then the last words.
pub(super) fn encode(returned: &Returned) -> (u32, Vec<u8>) {
    let mut bytes = returned.result().unwrap_or_default().to_vec();
    bytes.truncate(RESULT_LIMIT);
    let result = returned.result().map(|_| bytes.len());
    let words = returned.last_words().map(encode_words);
    let value = || returned.value().map(|value| (Kind::Value, value.to_vec()));
    let words = words.or_else(value).map(|(kind, mut rest)| {
        rest.truncate(WORDS_LEN);
        bytes.extend(&rest);
        (kind, rest.len())
    });
    (Code { result, words }.bits(), bytes)
}

/// What code and bytes stand for.
///
/// # Errors
/// Fewer bytes than the code says.
pub(super) fn decode(code: Code, bytes: &[u8]) -> Result<Returned, CorruptRecord> {
    if code == Code::default() {
        return Ok(Returned::NOTHING);
    }
    let short = CorruptRecord::Number { field: "returned bytes", found: bytes.len() as i64 };
    let (result, rest) = bytes.split_at_checked(code.result.unwrap_or(0)).ok_or(short.clone())?;
    let result = code.result.map(|_| result.to_vec());
    let Some((kind, len)) = code.words else { return Ok(Returned::new(result, None)) };
    let rest = rest.get(..len).ok_or(short)?;
    Ok(match kind {
        Kind::Value => Returned::of_call(result, rest.to_vec()),
        Kind::Error => Returned::new(result, Some(error_of(rest))),
        Kind::Panic => Returned::new(result, Some(panic_of(rest))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::returned::VALUE_LIMIT;

    fn back(returned: &Returned) -> Result<Returned, CorruptRecord> {
        let (bits, bytes) = encode(returned);
        let code = Code::from_bits(bits)?;
        assert_eq!((code.bits(), code.len()), (bits, bytes.len()));
        decode(code, &bytes)
    }

    #[test]
    fn what_was_given_back_comes_out_as_it_went_in() {
        let error = |text: &str, causes: &[&str]| LastWords::Error {
            text: text.to_owned(),
            causes: causes.iter().map(|&cause| cause.to_owned()).collect(),
        };
        let results = [None, Some(vec![]), Some(vec![0]), Some(vec![0xff; RESULT_LIMIT])];
        let words = [
            None,
            Some(error("", &[])),
            Some(error("", &["", ""])),
            Some(error("no ä", &["since", "it\nis so"])),
            Some(error(&"x".repeat(LAST_WORDS_LIMIT), &[])),
            Some(LastWords::of_panic("", "")),
            Some(LastWords::of_panic(&"m".repeat(9999), &"p".repeat(9999))),
        ];
        for result in results {
            for words in &words {
                let returned = Returned::new(result.clone(), words.clone());
                assert_eq!(back(&returned), Ok(returned));
            }
        }
        assert_eq!(encode(&Returned::NOTHING), (0, vec![]));
        for value in [vec![], vec![0, 0xff], vec![7; VALUE_LIMIT]] {
            for result in [None, Some(vec![3; 128])] {
                let returned = Returned::of_call(result, value.clone());
                assert_eq!(back(&returned), Ok(returned));
            }
        }
    }

    #[test]
    fn any_code_gives_a_value_or_an_error_and_no_length_beyond_the_limits() {
        let mut meant = 0;
        for bits in (0..1 << 22).chain([u32::MAX, 1 << 31]) {
            let Ok(code) = Code::from_bits(bits) else { continue };
            meant += 1;
            assert_eq!(code.bits(), bits);
            assert!(code.len() <= RESULT_LIMIT + WORDS_LEN);
        }
        // Each result or none, with nothing else, or something of a kind and a length.
        assert_eq!(meant, (RESULT_LIMIT + 2) * (1 + 3 * (WORDS_LEN + 1)));
    }

    #[test]
    fn any_bytes_give_harmless_texts_and_too_few_are_refused() {
        let words = |kind| Code { result: Some(1), words: Some((kind, 6)) };
        let bytes = [7, b'a', 0xff, 0, 0x1b, 0, b'\n'];
        let returned = decode(words(Kind::Error), &bytes).unwrap();
        let text = "a\u{fffd}".to_owned();
        let causes = vec!["?".to_owned(), "\n".to_owned()];
        assert_eq!(returned.result(), Some(&[7][..]));
        assert_eq!(returned.last_words(), Some(&LastWords::Error { text, causes }));
        let returned = decode(words(Kind::Panic), &bytes).unwrap();
        let (message, place) = ("??\n".to_owned(), "a\u{fffd}".to_owned());
        assert_eq!(returned.last_words(), Some(&LastWords::Panic { message, place }));
        for len in 0..bytes.len() {
            assert!(decode(words(Kind::Error), &bytes[..len]).is_err(), "{len}");
        }
        for kind in [Kind::Error, Kind::Panic] {
            // Each bad byte becomes three.
            let code = Code { result: None, words: Some((kind, WORDS_LEN)) };
            let returned = decode(code, &[0xff; WORDS_LEN]).unwrap();
            assert_eq!(back(&returned), Ok(returned), "as short as any");
        }
    }
}

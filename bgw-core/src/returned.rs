//! What a worker gives back with its end: its result, and its last words.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// The longest result, in bytes.
pub const RESULT_LIMIT: usize = 128;

/// The longest last words, in bytes: an error with its causes, or the message of a panic. What is
/// longer is cut between two characters.
pub const LAST_WORDS_LIMIT: usize = 1024;

/// The longest value of a call that lies in a slot, in bytes.
pub const VALUE_LIMIT: usize = 1024;

/// The longest place of a panic, in bytes. The end of a longer one counts.
pub(crate) const PLACE_LIMIT: usize = 255;

/// An error whose source is itself has no last cause. As many as [`chain`](crate::chain) prints.
const MOST_CAUSES: usize = 64;

/// Why a worker ended, in its own words.
///
/// Line breaks and tabs stay; other control characters are `?`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LastWords {
    /// Its main returned this error.
    Error {
        /// What the error says.
        text: String,
        /// What each of its sources says, the nearest first.
        causes: Vec<String>,
    },
    /// It panicked.
    Panic {
        /// The message.
        message: String,
        /// File, line and column; empty if they are not known.
        place: String,
    },
}

impl LastWords {
    /// The message of an error and of its sources, cut to the length that a report holds.
    #[must_use]
    pub fn of_error(error: &(dyn Error + 'static)) -> Self {
        Self::of_texts(error, std::iter::successors(error.source(), |&cause| cause.source()))
    }

    /// The words of an error that says `text`, and whose causes say `causes`.
    pub(crate) fn of_texts(
        text: impl fmt::Display,
        causes: impl IntoIterator<Item = impl fmt::Display>,
    ) -> Self {
        let mut left = LAST_WORDS_LIMIT;
        let text = said(&text, &mut left);
        let mut causes = causes.into_iter().take(MOST_CAUSES);
        let mut said_of_causes = Vec::new();
        // One byte between two texts.
        while let Some(mut rest) = left.checked_sub(1) {
            let Some(cause) = causes.next() else { break };
            said_of_causes.push(said(&cause, &mut rest));
            left = rest;
        }
        Self::Error { text, causes: said_of_causes }
    }

    /// The same words, as short and as clean as those of a report.
    pub(crate) fn cut(&self) -> Self {
        match self {
            Self::Error { text, causes } => Self::of_texts(text, causes),
            Self::Panic { message, place } => Self::of_panic(message, place),
        }
    }

    /// The words of a panic, cut as in a report.
    #[must_use]
    pub fn of_panic(message: &str, place: &str) -> Self {
        let (mut left, mut left_of_place) = (LAST_WORDS_LIMIT, PLACE_LIMIT);
        let mut begin = place.len().saturating_sub(PLACE_LIMIT);
        while !place.is_char_boundary(begin) {
            begin += 1;
        }
        let place = place.get(begin..).unwrap_or_default();
        Self::Panic { message: said(&message, &mut left), place: said(&place, &mut left_of_place) }
    }
}

impl fmt::Display for LastWords {
    /// In one line, if the words have no line break.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error { text, causes } => {
                f.write_str(text)?;
                causes.iter().try_for_each(|cause| write!(f, ": {cause}"))
            }
            Self::Panic { message, place } if place.is_empty() => write!(f, "panicked: {message}"),
            Self::Panic { message, place } => write!(f, "panicked at {place}: {message}"),
        }
    }
}

/// What `value` says, cut at `left` bytes, which are fewer by as many then.
fn said(value: &dyn fmt::Display, left: &mut usize) -> String {
    let mut cut = Cut { text: String::new(), left: *left };
    // It fails where it is cut.
    let _ = fmt::write(&mut cut, format_args!("{value}"));
    *left = cut.left;
    cut.text
}

/// Takes text up to a limit. A text of any length costs no more memory than that.
struct Cut {
    text: String,
    left: usize,
}

impl fmt::Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            let Some(left) = self.left.checked_sub(c.len_utf8()) else {
                self.left = 0;
                return Err(fmt::Error);
            };
            self.text.push(if harmless(c) { c } else { '?' });
            self.left = left;
        }
        Ok(())
    }
}

fn harmless(c: char) -> bool {
    !c.is_control() || c == '\n' || c == '\t'
}

/// What one run of a worker has given back; most give back nothing, and cost nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Returned(Option<Arc<Parts>>);

/// `None` for what is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Parts {
    result: Option<Vec<u8>>,
    last_words: Option<LastWords>,
    value: Option<Vec<u8>>,
}

impl Returned {
    /// What a worker gives back that gives back nothing: no result, no value, no last words.
    pub const NOTHING: Self = Self(None);

    /// A result, last words, both or neither.
    #[must_use]
    pub fn new(result: Option<Vec<u8>>, last_words: Option<LastWords>) -> Self {
        if result.is_none() && last_words.is_none() {
            return Self::NOTHING;
        }
        Self(Some(Arc::new(Parts { result, last_words, value: None })))
    }

    /// A result or none, and the value of a call.
    #[must_use]
    pub(crate) fn of_call(result: Option<Vec<u8>>, value: Vec<u8>) -> Self {
        Self(Some(Arc::new(Parts { result, last_words: None, value: Some(value) })))
    }

    /// True if there is neither a result nor last words.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        self.0.is_none()
    }

    /// The result; `None` if the worker has set none.
    #[must_use]
    pub fn result(&self) -> Option<&[u8]> {
        self.0.as_ref()?.result.as_deref()
    }

    /// What a call was about to give back, encoded. It counts if the run ended well.
    #[doc(hidden)]
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        self.0.as_ref()?.value.as_deref()
    }

    /// The last words; `None` if there were none.
    #[must_use]
    pub fn last_words(&self) -> Option<&LastWords> {
        self.0.as_ref()?.last_words.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Layered(String, Option<Box<Layered>>);

    impl fmt::Display for Layered {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&self.0)
        }
    }

    impl Error for Layered {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|source| source as _)
        }
    }

    fn layered<const N: usize>(texts: [&str; N]) -> Layered {
        let layer = |source, text: &&str| Some(Box::new(Layered((*text).to_owned(), source)));
        *texts.iter().rev().fold(None, layer).unwrap()
    }

    fn words(text: &str, causes: &[&str]) -> LastWords {
        let causes = causes.iter().map(|&cause| cause.to_owned()).collect();
        LastWords::Error { text: text.to_owned(), causes }
    }

    #[test]
    fn an_error_gives_its_text_and_its_causes_and_reads_as_the_chain_does() {
        let error = layered(["resizing a.png failed", "no memory", "line 2\nof\tit\u{1b}[m\0"]);
        let said = LastWords::of_error(&error);
        let expected = words("resizing a.png failed", &["no memory", "line 2\nof\tit?[m?"]);
        assert_eq!(said, expected);
        let chain = crate::chain(&error).to_string();
        assert_eq!(said.to_string(), chain.replace(['\u{1b}', '\0'], "?"));
        assert_eq!(LastWords::of_error(&layered([""])), words("", &[]));
    }

    #[test]
    fn an_error_is_cut_at_its_limit_between_two_characters() {
        let long = "x".repeat(1023);
        for (error, expected) in [
            (layered([&long]), words(&long, &[])),
            (layered([&format!("{long}yz")]), words(&format!("{long}y"), &[])),
            (layered([&format!("{long}ä")]), words(&long, &[])),
            (layered([&long[..1000], "a cause of many more words"]), {
                words(&long[..1000], &["a cause of many more wo"])
            }),
            (layered([&format!("{long}y"), "more"]), words(&format!("{long}y"), &[])),
            (layered([&long, "more"]), words(&long, &[""])),
        ] {
            assert_eq!(LastWords::of_error(&error), expected);
        }
    }

    #[test]
    fn an_error_that_never_stops_talking_or_has_no_last_cause_is_cut() {
        #[derive(Debug)]
        struct Endless;
        impl fmt::Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    f.write_str("and so on ")?;
                }
            }
        }
        impl Error for Endless {}
        let LastWords::Error { text, .. } = LastWords::of_error(&Endless) else { panic!() };
        assert_eq!(text.len(), LAST_WORDS_LIMIT);

        #[derive(Debug)]
        struct Circle;
        impl fmt::Display for Circle {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                Ok(())
            }
        }
        impl Error for Circle {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(self)
            }
        }
        let LastWords::Error { causes, .. } = LastWords::of_error(&Circle) else { panic!() };
        assert_eq!(causes.len(), MOST_CAUSES);
    }

    #[test]
    fn of_a_panic_the_begin_of_the_message_and_the_end_of_the_place_count() {
        let place = format!("{}ä/src/main.rs:3:7", "d".repeat(300));
        let LastWords::Panic { message, place: cut } =
            LastWords::of_panic(&"m".repeat(2000), &place)
        else {
            panic!()
        };
        assert_eq!(message, "m".repeat(LAST_WORDS_LIMIT));
        assert!(place.ends_with(&cut) && cut.len() == PLACE_LIMIT, "{cut}");
        let said = LastWords::of_panic("no", "src/main.rs:3:7").to_string();
        assert_eq!(said, "panicked at src/main.rs:3:7: no");
        assert_eq!(LastWords::of_panic("no", "").to_string(), "panicked: no");
    }
}

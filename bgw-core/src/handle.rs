//! The name of one registration: which slot, which use of it, in which life of the slots.

use std::fmt;
use std::str::FromStr;

/// An opaque name of one registration of one worker. Plain data: it may be stored, printed, and
/// passed to other processes of the cluster.
///
/// ```
/// use bgw_core::WorkerHandle;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let handle = WorkerHandle::new(12, 345, 0x9f3a_21c4);
/// assert_eq!(handle.to_string(), "12.345@9f3a21c4");
/// assert_eq!("12.345@9f3a21c4".parse::<WorkerHandle>()?, handle);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[doc(alias = "BackgroundWorkerHandle")]
pub struct WorkerHandle {
    slot: u32,
    generation: u64,
    incarnation: u32,
}

impl WorkerHandle {
    /// For those who register or list workers.
    #[must_use]
    pub const fn new(slot: u32, generation: u64, incarnation: u32) -> Self {
        Self { slot, generation, incarnation }
    }

    /// Which slot.
    #[must_use]
    pub const fn slot(self) -> u32 {
        self.slot
    }

    /// Which use of the slot.
    #[must_use]
    pub const fn generation(self) -> u64 {
        self.generation
    }

    /// Which life of the slots: another one for each postmaster and after each crash reset.
    #[must_use]
    pub const fn incarnation(self) -> u32 {
        self.incarnation
    }
}

impl fmt::Display for WorkerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}@{:08x}", self.slot, self.generation, self.incarnation)
    }
}

/// A text that is not a handle.
#[derive(Clone, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is no worker handle: {part} is wrong; it should look like 12.345@9f3a21c4")]
pub struct ParseHandleError {
    /// The text, at most 80 characters of it. As it came: the message shows it escaped.
    pub text: String,
    /// Which part of it.
    pub part: &'static str,
}

shmem_slots::debug_as_chain!(ParseHandleError);

impl FromStr for WorkerHandle {
    type Err = ParseHandleError;

    fn from_str(text: &str) -> Result<Self, ParseHandleError> {
        let wrong = |part| ParseHandleError { text: text.chars().take(80).collect(), part };
        // `parse` alone would take a sign.
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let (slot, rest) = text.split_once('.').ok_or_else(|| wrong("the dot"))?;
        let (generation, incarnation) = rest.split_once('@').ok_or_else(|| wrong("the @"))?;
        let slot = Some(slot).filter(|part| digits(part)).and_then(|part| part.parse().ok());
        let generation = Some(generation)
            .filter(|part| digits(part))
            .and_then(|part| part.parse().ok())
            .filter(|&number| number <= shmem_slots::MAX_GENERATION);
        let hex = incarnation.len() == 8 && incarnation.bytes().all(|b| b.is_ascii_hexdigit());
        let incarnation = u32::from_str_radix(incarnation, 16).ok().filter(|_| hex);
        Ok(Self {
            slot: slot.ok_or_else(|| wrong("the slot"))?,
            generation: generation.ok_or_else(|| wrong("the generation"))?,
            incarnation: incarnation.ok_or_else(|| wrong("the incarnation"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_no_handle_says_which_part_is_wrong() {
        let table = [
            ("", "the dot"),
            ("12", "the dot"),
            ("12.345", "the @"),
            ("x.345@9f3a21c4", "the slot"),
            ("+1.345@9f3a21c4", "the slot"),
            ("4294967296.1@9f3a21c4", "the slot"),
            ("1.-1@9f3a21c4", "the generation"),
            ("1.68719476736@9f3a21c4", "the generation"),
            ("1.1@9f3a21c", "the incarnation"),
            ("1.1@+f3a21c4", "the incarnation"),
        ];
        for (text, part) in table {
            let error = text.parse::<WorkerHandle>().unwrap_err();
            assert_eq!(error.part, part, "{text}");
        }
    }
}

//! The name of a segment: memory that members of a cluster share, made at run time.

use std::fmt;
use std::str::FromStr;

/// An opaque name of one segment. Plain data: it may be stored, printed, put into the argument of a
/// worker or into shared memory, and sent to any other process of the cluster, which maps the
/// segment by it.
///
/// ```
/// use bgw_core::SegmentHandle;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let handle = SegmentHandle::from_bits(0x9f3a_21c4_0000_0007);
/// assert_eq!(handle.to_string(), "9f3a21c400000007");
/// assert_eq!("9f3a21c400000007".parse::<SegmentHandle>()?, handle);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[doc(alias = "dsm_handle")]
pub struct SegmentHandle(u64);

impl SegmentHandle {
    /// The handle with these bits, which came from [`SegmentHandle::to_bits`]. Any others name no
    /// segment.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// As a number, for a worker's argument for instance.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }
}

impl fmt::Display for SegmentHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A text that names no segment.
#[derive(Clone, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is no segment handle; it should look like 9f3a21c400000007")]
pub struct ParseSegmentError {
    /// The text, at most 80 characters of it. As it came: the message shows it escaped.
    pub text: String,
}

shmem_slots::debug_as_chain!(ParseSegmentError);

impl FromStr for SegmentHandle {
    type Err = ParseSegmentError;

    fn from_str(text: &str) -> Result<Self, ParseSegmentError> {
        // `from_str_radix` alone would take a sign, and any length.
        let is_hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bits = u64::from_str_radix(text, 16).ok().filter(|_| is_hex);
        bits.map(Self).ok_or_else(|| ParseSegmentError { text: text.chars().take(80).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_no_handle_is_refused() {
        for bits in [0, 7, u64::MAX] {
            let handle = SegmentHandle::from_bits(bits);
            assert_eq!(handle.to_string().parse(), Ok(handle));
        }
        let long = "0".repeat(17);
        for text in ["", "7", "+f3a21c400000007", "9f3a21c40000000g", &long] {
            let error = text.parse::<SegmentHandle>().unwrap_err();
            assert_eq!(error.text, text);
        }
    }
}

//! Values as bytes: a byte that says which version of the format, then the value.
//!
//! Version 1 is the wire format of `postcard`, version 1: little-endian variable-length integers,
//! lengths before sequences and texts, the number of a variant before its fields, no names.
//!
//! A value that does not fit into its place lies in a segment. Then the byte has its highest bit
//! set, and the segment's handle and the value's length follow.
//!
//! Trust. Any bytes give a value or an error. No length allocates more than what is there.

use bgw_core::SegmentHandle;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version that this crate writes, and the only one that it reads.
pub(crate) const VERSION: u8 = 1;

/// The bit of the first byte that says that the value lies in a segment.
const IN_SEGMENT: u8 = 0x80;

/// So many bytes are allocated for a value that is not known yet: most take no more.
const SMALL: usize = 64;

/// A value as it is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carried<'a> {
    /// Its bytes are here.
    Inline(&'a [u8]),
    /// At the beginning of a segment.
    InSegment { segment: SegmentHandle, len: u64 },
}

impl<'a> Carried<'a> {
    /// Any bytes that are no reference are a value.
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        let reference = bytes.strip_prefix(&[VERSION | IN_SEGMENT]).and_then(|rest| {
            let (segment, rest) = rest.split_first_chunk()?;
            let (len, rest) = rest.split_first_chunk()?;
            let segment = SegmentHandle::from_bits(u64::from_le_bytes(*segment));
            rest.is_empty().then_some(Self::InSegment { segment, len: u64::from_le_bytes(*len) })
        });
        reference.unwrap_or(Self::Inline(bytes))
    }
}

/// The reference to a value that lies in a segment.
pub(crate) fn reference(segment: SegmentHandle, len: u64) -> Vec<u8> {
    let bits = segment.to_bits().to_le_bytes();
    [&[VERSION | IN_SEGMENT][..], &bits, &len.to_le_bytes()].concat()
}

/// # Errors
/// The value says that it cannot be encoded, or has no length before it is read.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, postcard::Error> {
    encode_into(value, Vec::with_capacity(SMALL))
}

/// Like [`encode`], into the memory of `bytes`.
pub(crate) fn encode_into<T: Serialize>(
    value: &T,
    mut bytes: Vec<u8>,
) -> Result<Vec<u8>, postcard::Error> {
    bytes.clear();
    bytes.push(VERSION);
    postcard::to_extend(value, bytes)
}

/// # Errors
/// Bytes of another version, or that are no such value, or more than one.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, postcard::Error> {
    let Some((&VERSION, bytes)) = bytes.split_first() else {
        return Err(postcard::Error::DeserializeBadEncoding);
    };
    match postcard::take_from_bytes(bytes)? {
        (value, []) => Ok(value),
        _ => Err(postcard::Error::DeserializeBadEncoding),
    }
}

#[cfg(test)]
mod tests {
    use super::{Carried, decode, encode, reference};
    use bgw_core::SegmentHandle;

    #[test]
    fn a_reference_comes_back_and_any_other_bytes_are_a_value() {
        let segment = SegmentHandle::from_bits(0x0102_0304_0506_0708);
        let bytes = reference(segment, u64::MAX);
        assert_eq!(Carried::of(&bytes), Carried::InSegment { segment, len: u64::MAX });
        for end in 0..bytes.len() {
            assert_eq!(Carried::of(&bytes[..end]), Carried::Inline(&bytes[..end]));
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Carried::of(&longer), Carried::Inline(&longer));
        assert!(decode::<u64>(&bytes).is_err());
    }

    #[test]
    fn a_value_comes_back_and_what_is_none_is_an_error() {
        let value = (7_u32, "ä".to_owned(), vec![Some(1_i64), None], [1.5_f64; 2]);
        let bytes = encode(&value).unwrap();
        assert_eq!(bytes[..3], [1, 7, 2], "version 1, a small number in a byte, a length");
        assert_eq!(decode(&bytes), Ok(value.clone()));
        let mut other_version = bytes.clone();
        other_version[0] = 2;
        let longer = [&bytes[..], &[0]].concat();
        for wrong in [&other_version, &longer, &vec![]] {
            assert!(decode::<(u32, String, Vec<Option<i64>>, [f64; 2])>(wrong).is_err());
        }
        for end in 0..bytes.len() {
            let short = decode::<(u32, String, Vec<Option<i64>>, [f64; 2])>(&bytes[..end]);
            assert!(short.is_err(), "{end}");
        }
    }

    #[test]
    fn a_length_that_lies_allocates_nothing() {
        let bytes = [1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert!(decode::<Vec<[u64; 8]>>(&bytes).is_err());
        assert!(decode::<String>(&bytes).is_err());
    }
}

//! The descriptors that a worker is given, as a slot says it: how many, and their names behind
//! those of its relations. The descriptors travel by the control socket.
//!
//! Each is its number and 1, a byte that is 0 for any number, then its name and a NUL.

use super::corrupt::CorruptRecord;
use crate::worker::gift::Gift;
use bytemuck::{Pod, Zeroable};

/// The fixed-size part of the gifts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct GiftRecord {
    pub(super) count: u8,
    reserved: u8,
    /// How many bytes the names take.
    pub(super) names_len: u16,
}

impl GiftRecord {
    /// The numbers, and the names.
    pub(super) fn encode(gifts: &[Gift]) -> (Self, Vec<u8>) {
        let mut names = Vec::new();
        for gift in gifts {
            // A validated number is 63 at most.
            names.push(gift.number.map_or(0, |number| number.saturating_add(1)));
            names.extend(gift.name.bytes());
            names.push(0);
        }
        // Validated gifts are 16 at most, with 1024 bytes.
        (Self { count: gifts.len() as u8, reserved: 0, names_len: names.len() as u16 }, names)
    }

    /// Not validated yet. `rest` is the text behind the names of the relations.
    pub(super) fn draft(&self, rest: &[u8]) -> Result<Vec<Gift>, CorruptRecord> {
        let wrong = CorruptRecord::Number { field: "gifts_len", found: self.names_len.into() };
        let mut rest = rest.get(..usize::from(self.names_len)).ok_or_else(|| wrong.clone())?;
        let mut gifts = Vec::new();
        for _ in 0..self.count {
            let (&number, text) = rest.split_first().ok_or_else(|| wrong.clone())?;
            let end = text.iter().position(|&byte| byte == 0).ok_or_else(|| wrong.clone())?;
            let (name, behind) = text.split_at(end);
            let name = String::from_utf8(name.to_vec());
            let name = name.map_err(|_| CorruptRecord::Text { field: "give" })?;
            rest = behind.get(1..).unwrap_or_default();
            let number = number.checked_sub(1);
            gifts.push(Gift { name, number, descriptor: None });
        }
        if rest.is_empty() { Ok(gifts) } else { Err(wrong) }
    }
}

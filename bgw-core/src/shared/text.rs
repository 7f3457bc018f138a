//! Texts in a slot: bytes of fixed size, ended by a NUL.

use super::corrupt::CorruptRecord;

pub(super) fn put(field: &mut [u8], text: &str) {
    for (to, from) in field.iter_mut().zip(text.bytes()) {
        *to = from;
    }
}

pub(super) fn get(name: &'static str, field: &[u8]) -> Result<String, CorruptRecord> {
    // The last byte never counts, so a field without a NUL is cut there.
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len().saturating_sub(1));
    let text = field.get(..end).unwrap_or_default();
    String::from_utf8(text.to_vec()).map_err(|_| CorruptRecord::Text { field: name })
}

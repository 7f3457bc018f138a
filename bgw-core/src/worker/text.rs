//! What a text of a description may hold. Pure.

use super::invalid::InvalidWorker;

pub(super) fn not_empty(field: &'static str, text: &str) -> Result<(), InvalidWorker> {
    if text.is_empty() { Err(InvalidWorker::Empty { field }) } else { Ok(()) }
}

fn not_too_long(field: &'static str, text: &str, limit: usize) -> Result<(), InvalidWorker> {
    let len = text.len();
    if len > limit { Err(InvalidWorker::TooLong { field, len, limit }) } else { Ok(()) }
}

/// A text that logs and titles show.
pub(super) fn shown_text(
    field: &'static str,
    text: &str,
    limit: usize,
) -> Result<(), InvalidWorker> {
    not_too_long(field, text, limit)?;
    // Above ASCII, too: terminals take U+009B for the start of an escape sequence.
    let control = text.char_indices().find(|(_, character)| character.is_control());
    let Some((at, character)) = control else { return Ok(()) };
    // A NUL byte is a control character, too, and is reported first.
    system_text(field, text, limit)?;
    Err(InvalidWorker::ControlCharacter { field, at, code: character.into() })
}

/// A text that goes to the system.
pub(super) fn system_text(
    field: &'static str,
    text: &str,
    limit: usize,
) -> Result<(), InvalidWorker> {
    not_too_long(field, text, limit)?;
    match text.bytes().position(|byte| byte == 0) {
        Some(at) => Err(InvalidWorker::NulByte { field, at }),
        None => Ok(()),
    }
}

//! What a command finds when it starts, as bytes for the control socket: parts that end with a NUL,
//! each with a byte in front that says what it is.

use super::corrupt::CorruptRecord;
use crate::worker::surroundings::{Input, Surroundings, check_surroundings};

const CLEAR: u8 = b'c';
const SET: u8 = b's';
const REMOVE: u8 = b'r';
const FOLDER: u8 = b'd';
const NO_INPUT: u8 = b'n';
const INPUT: u8 = b'i';

impl Surroundings {
    /// Encodes them as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut put = |kind: u8, text: &str| {
            bytes.push(kind);
            bytes.extend(text.bytes());
            bytes.push(0);
        };
        if self.clear {
            put(CLEAR, "");
        }
        for (name, value) in &self.variables {
            match value {
                Some(value) => put(SET, &format!("{name}={value}")),
                None => put(REMOVE, name),
            }
        }
        if let Some(folder) = &self.folder {
            put(FOLDER, folder);
        }
        match &self.input {
            Input::Inherit => {}
            Input::Null => put(NO_INPUT, ""),
            Input::File(path) => put(INPUT, path),
        }
        bytes
    }

    /// From bytes, checked. The last part of a kind counts, or of a name.
    ///
    /// # Errors
    /// [`CorruptRecord`], for bytes that no builder and encoder would have written.
    pub fn decode(bytes: &[u8]) -> Result<Self, CorruptRecord> {
        let mut surroundings = Self::default();
        let whole = bytes.strip_suffix(&[0]).unwrap_or(bytes);
        let parts = whole.split(|&byte| byte == 0);
        for part in parts.filter(|_| !bytes.is_empty()) {
            let (&kind, text) = part.split_first().unwrap_or((&0, &[]));
            let text = std::str::from_utf8(text)
                .map_err(|_| CorruptRecord::Text { field: "env, current_dir or stdin" })?;
            let owned = || text.to_owned();
            match kind {
                CLEAR => surroundings.clear = true,
                SET => {
                    let (name, value) = text.split_once('=').unwrap_or((text, ""));
                    surroundings.variables.insert(name.to_owned(), Some(value.to_owned()));
                }
                REMOVE => drop(surroundings.variables.insert(owned(), None)),
                FOLDER => surroundings.folder = Some(owned()),
                NO_INPUT => surroundings.input = Input::Null,
                INPUT => surroundings.input = Input::File(owned()),
                other => {
                    let (field, found) = ("kind of env", other.into());
                    return Err(CorruptRecord::Number { field, found });
                }
            }
        }
        check_surroundings(&surroundings)?;
        Ok(surroundings)
    }
}

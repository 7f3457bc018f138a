//! What a description says about other workers, as it lies in a slot: numbers in a record of fixed
//! size, names behind the text of the entry point.
//!
//! The names are the group's, the class's and the template's, if it has them, then the targets',
//! each with the code of what it waits for before it. A NUL follows each.

use super::corrupt::CorruptRecord;
use crate::worker::relations::{After, Relations};
use bytemuck::{Pod, Zeroable};

const UNIQUE: u8 = 1;
const IN_GROUP: u8 = 2;
const OF_CLASS: u8 = 4;
const FROM_TEMPLATE: u8 = 8;

/// The fixed-size part of the relations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct RelationsRecord {
    pub(super) bits: u8,
    /// How many targets there are.
    pub(super) after: u8,
    /// How many bytes the names take.
    pub(super) names_len: u16,
}

impl RelationsRecord {
    /// The numbers, and the names.
    pub(super) fn encode(relations: &Relations) -> (Self, Vec<u8>) {
        let mut record = Self::zeroed();
        let mut names = Vec::new();
        record.bits = if relations.unique { UNIQUE } else { 0 };
        let own = [
            (IN_GROUP, &relations.group),
            (OF_CLASS, &relations.class),
            (FROM_TEMPLATE, &relations.template),
        ];
        for (bit, name) in own {
            if let Some(name) = name {
                record.bits |= bit;
                names.extend(name.bytes());
                names.push(0);
            }
        }
        for (name, after) in &relations.after {
            names.push(after.code());
            names.extend(name.bytes());
            names.push(0);
        }
        // Validated relations have 8 targets and 1024 bytes at most.
        record.after = relations.after.len() as u8;
        record.names_len = names.len() as u16;
        (record, names)
    }

    pub(super) const fn is_unique(self) -> bool {
        self.bits & UNIQUE != 0
    }

    /// Not validated yet. `rest` is the text behind that of the entry point.
    pub(super) fn draft(&self, rest: &[u8]) -> Result<Relations, CorruptRecord> {
        let number = |field, found: i64| CorruptRecord::Number { field, found };
        if self.bits & !(UNIQUE | IN_GROUP | OF_CLASS | FROM_TEMPLATE) != 0 {
            return Err(number("relation bits", self.bits.into()));
        }
        let wrong_len = number("names_len", self.names_len.into());
        let names = rest.get(..usize::from(self.names_len)).ok_or(wrong_len.clone())?;
        let mut names = names.split_inclusive(|&byte| byte == 0);
        let mut next = |field| match names.next().and_then(|name| name.split_last()) {
            Some((&0, name)) => Ok(name),
            Some(_) | None => Err(CorruptRecord::Text { field }),
        };
        let text = |field, bytes: &[u8]| {
            String::from_utf8(bytes.to_vec()).map_err(|_| CorruptRecord::Text { field })
        };
        let mut own = |bit, field| match self.bits & bit {
            0 => Ok(None),
            _ => text(field, next(field)?).map(Some),
        };
        let group = own(IN_GROUP, "group")?;
        let class = own(OF_CLASS, "class")?;
        let template = own(FROM_TEMPLATE, "template")?;
        let mut after = Vec::new();
        for _ in 0..self.after {
            let (code, name) = match next("after")?.split_first() {
                Some((&code, name)) => (code, name),
                None => return Err(number("after", 0)),
            };
            let condition = After::from_code(code).ok_or_else(|| number("after", code.into()))?;
            after.push((text("after", name)?, condition));
        }
        match names.next() {
            Some(_) => Err(wrong_len),
            None => {
                let unique = self.is_unique();
                Ok(Relations { unique, after, group, class, template })
            }
        }
    }
}

//! Where a worker's output goes, as it lies in a slot.

use super::corrupt::CorruptRecord;
use super::text::{get, put};
use crate::worker::BackgroundWorker;
use crate::worker::output::{OUTPUT_NAME_LIMIT, Output, OutputDescriptor, OutputFile};
use bytemuck::{Pod, Zeroable};

const INHERIT: u8 = 0;
const NULL: u8 = 1;
const FILE: u8 = 2;
const ROTATED_FILE: u8 = 3;
const DESCRIPTOR: u8 = 4;

/// Where the output goes, as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct OutputRecord {
    size: u64,
    name: [u8; OUTPUT_NAME_LIMIT + 1],
    pub(super) kind: u8,
    keep: u8,
    last_lines: u8,
    /// 1: the standard error goes into a file of its own.
    pub(super) errors_apart: u8,
    /// 1: lines are dropped that the reader of a descriptor has no room for.
    pub(super) drops_when_full: u8,
    reserved: [u8; 3],
}

impl OutputRecord {
    pub(super) fn encode(worker: &BackgroundWorker) -> Self {
        let mut record = Self::zeroed();
        // A validated number is 100 at most.
        record.last_lines = worker.last_lines() as u8;
        match worker.output() {
            Output::Inherit => {}
            Output::Null => record.kind = NULL,
            Output::Descriptor(to) => {
                put(&mut record.name, to.name());
                record.kind = DESCRIPTOR;
                record.drops_when_full = to.drops_when_full().into();
            }
            Output::File(file) => {
                put(&mut record.name, file.name());
                record.kind = FILE;
                record.errors_apart = u8::from(file.error_name().is_some());
                if let Some((size, keep)) = file.rotation() {
                    (record.kind, record.size, record.keep) = (ROTATED_FILE, size, keep);
                }
            }
        }
        record
    }

    /// How many lines are remembered.
    pub(super) const fn last_lines(&self) -> u32 {
        self.last_lines as u32
    }

    /// Not validated yet.
    pub(super) fn output(&self) -> Result<Output, CorruptRecord> {
        let file = || {
            let file = OutputFile::new(get("output", &self.name)?);
            match self.errors_apart {
                0 => Ok(file),
                1 => Ok(file.errors_apart()),
                other => Err(CorruptRecord::Number { field: "errors_apart", found: other.into() }),
            }
        };
        Ok(match self.kind {
            INHERIT => Output::Inherit,
            NULL => Output::Null,
            FILE => file()?.into(),
            ROTATED_FILE => file()?.rotate(self.size, self.keep).into(),
            DESCRIPTOR => {
                let to = OutputDescriptor::new(get("output", &self.name)?);
                match self.drops_when_full {
                    0 => to.into(),
                    1 => to.drop_when_full().into(),
                    other => {
                        let (field, found) = ("drops_when_full", other.into());
                        return Err(CorruptRecord::Number { field, found });
                    }
                }
            }
            other => {
                return Err(CorruptRecord::Number { field: "output", found: other.into() });
            }
        })
    }
}

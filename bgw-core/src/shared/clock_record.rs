//! What a description says about clocks, as it lies in a slot.

use super::corrupt::CorruptRecord;
use crate::worker::clocks::{ClockDraft, Clocks, NotifyFrom};
use bytemuck::{Pod, Zeroable};
use std::time::Duration;

const FROM_GROUP: u32 = 1;

/// The bytes. Times are milliseconds; 0 is none but for `abort_grace`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct ClockRecord {
    start_timeout: u32,
    heartbeat: u32,
    /// 0 if there is no heartbeat, too.
    abort_grace: u32,
    bits: u32,
}

impl ClockRecord {
    pub(super) fn encode(clocks: &Clocks) -> Self {
        Self {
            start_timeout: clocks.start_timeout.unwrap_or(0),
            heartbeat: clocks.heartbeat.unwrap_or(0),
            abort_grace: clocks.abort_grace,
            bits: match clocks.notify_from {
                NotifyFrom::Leader => 0,
                NotifyFrom::ProcessGroup => FROM_GROUP,
            },
        }
    }

    /// Not validated yet.
    pub(super) fn draft(&self) -> Result<ClockDraft, CorruptRecord> {
        let notify_from = match self.bits {
            0 => NotifyFrom::Leader,
            FROM_GROUP => NotifyFrom::ProcessGroup,
            other => {
                return Err(CorruptRecord::Number { field: "clock bits", found: other.into() });
            }
        };
        let time = |millis: u32| Duration::from_millis(millis.into());
        let said = |millis: u32| (millis != 0).then(|| time(millis));
        let is_said = self.heartbeat != 0 || self.abort_grace != 0;
        Ok(ClockDraft {
            start_timeout: said(self.start_timeout),
            heartbeat: said(self.heartbeat),
            abort_grace: is_said.then(|| time(self.abort_grace)),
            notify_from,
        })
    }
}

//! What a description says about restarts, as it lies in a slot.
//!
//! A worker that is never restarted has zeros but for what it says about its start.

use super::corrupt::CorruptRecord;
use crate::worker::policy::{Ready, RestartOn, RestartPolicy};
use crate::worker::restarts::{Delays, ExitCodes, Restarts, THOUSANDTHS, millis};
use crate::worker::validate_restart::RestartDraft;
use bytemuck::{Pod, Zeroable};

const NEVER: u8 = 0;
const FIXED: u8 = 1;
pub(super) const BACKOFF: u8 = 2;

pub(super) const UNBRAKED: u8 = 1;
pub(super) const READY_CALL: u8 = 2;
const READY_NOTIFY: u8 = 4;
pub(super) const READY_NEWLINE: u8 = 8;

/// The bytes. Times are milliseconds, shares thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct RestartRecord {
    pub(super) final_codes: [u64; 4],
    /// The interval, or the first delay.
    pub(super) min: u32,
    /// The longest delay; 0 for an interval.
    pub(super) max: u32,
    pub(super) reset_after: u32,
    pub(super) give_up_within: u32,
    pub(super) factor: u16,
    pub(super) jitter: u16,
    pub(super) kind: u8,
    /// 0: not said.
    pub(super) on: u8,
    /// 0: none, if `give_up_within` is 0, too.
    pub(super) give_up: u8,
    /// 0: none.
    pub(super) start_attempts: u8,
    pub(super) bits: u8,
    /// The descriptor of `READY_NEWLINE`; else 0.
    pub(super) ready_on: u8,
    reserved: [u8; 6],
}

impl RestartRecord {
    pub(super) fn encode(restarts: &Restarts) -> Self {
        let mut record = Self::zeroed();
        match restarts.delays {
            None => {}
            Some(Delays::Fixed(interval)) => (record.kind, record.min) = (FIXED, interval),
            Some(Delays::Backoff { min, max, factor }) => {
                (record.kind, record.min, record.max) = (BACKOFF, min, max);
                record.factor = factor;
            }
        }
        if restarts.delays.is_some() {
            record.on = restarts.on.code();
        }
        record.final_codes = restarts.final_codes.0;
        record.jitter = restarts.jitter;
        record.reset_after = restarts.reset_after;
        if let Some(limit) = restarts.give_up {
            (record.give_up, record.give_up_within) = (limit.restarts, limit.within);
        }
        record.start_attempts = restarts.start_attempts.unwrap_or(0);
        record.bits = match restarts.ready {
            Some(Ready::Call) => READY_CALL,
            Some(Ready::Notify) => READY_NOTIFY,
            Some(Ready::Newline(descriptor)) => {
                record.ready_on = descriptor;
                READY_NEWLINE
            }
            None => 0,
        };
        record.bits |= if restarts.unbraked { UNBRAKED } else { 0 };
        record
    }

    /// Not validated yet.
    pub(super) fn draft(&self) -> Result<RestartDraft, CorruptRecord> {
        let number = |field, found: u8| CorruptRecord::Number { field, found: found.into() };
        let policy = match self.kind {
            NEVER => RestartPolicy::Never,
            FIXED => RestartPolicy::Fixed(millis(self.min)),
            BACKOFF => RestartPolicy::Backoff {
                min: millis(self.min),
                max: millis(self.max),
                factor: share(self.factor),
            },
            other => return Err(number("restart", other)),
        };
        let ready = match self.bits & !UNBRAKED {
            0 => None,
            READY_CALL => Some(Ready::Call),
            READY_NOTIFY => Some(Ready::Notify),
            READY_NEWLINE => Some(Ready::Newline(self.ready_on)),
            _ => return Err(number("restart bits", self.bits)),
        };
        let said = policy != RestartPolicy::Never;
        let on = match self.on {
            0 => None,
            code => Some(RestartOn::from_code(code).ok_or_else(|| number("restart_on", code))?),
        };
        let give_up = (self.give_up, self.give_up_within);
        Ok(RestartDraft {
            policy,
            on,
            final_codes: ExitCodes(self.final_codes),
            jitter: (said || self.jitter != 0).then(|| share(self.jitter)),
            reset_after: (said || self.reset_after != 0).then(|| millis(self.reset_after)),
            give_up: (give_up != (0, 0)).then(|| (give_up.0.into(), millis(give_up.1))),
            start_attempts: (self.start_attempts != 0).then(|| self.start_attempts.into()),
            unbraked: self.bits & UNBRAKED != 0,
            ready,
        })
    }
}

fn share(thousandths: u16) -> f64 {
    f64::from(thousandths) / f64::from(THOUSANDTHS)
}

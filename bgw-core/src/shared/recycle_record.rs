//! What a description says about recycling, as it lies in a slot.

use crate::worker::recycle::{Limits, Recycle};
use crate::worker::restarts::millis;
use bytemuck::{Pod, Zeroable};

/// The bytes; a limit of 0 is none. A slot cannot hold such a limit: what is not there is no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct RecycleRecord {
    pub(super) rss: u64,
    pub(super) jobs: u32,
    pub(super) lifetime_millis: u32,
    /// Thousandths.
    pub(super) jitter: u16,
    /// 0: none.
    pub(super) overlap: u16,
    reserved: [u16; 2],
}

impl RecycleRecord {
    pub(super) fn encode(limits: &Limits) -> Self {
        Self {
            rss: limits.rss.unwrap_or(0),
            jobs: limits.jobs.unwrap_or(0),
            lifetime_millis: limits.lifetime.unwrap_or(0),
            jitter: limits.jitter,
            overlap: u16::from(limits.overlap),
            reserved: [0; 2],
        }
    }

    /// Not validated yet.
    pub(super) fn draft(&self) -> Option<Recycle> {
        let mut recycle = Recycle::new().jitter(f64::from(self.jitter) / 1_000.0);
        recycle.overlap = self.overlap != 0;
        recycle.rss = (self.rss != 0).then_some(self.rss);
        recycle.jobs = (self.jobs != 0).then_some(self.jobs);
        recycle.lifetime = (self.lifetime_millis != 0).then(|| millis(self.lifetime_millis));
        (*self != Self::zeroed()).then_some(recycle)
    }
}

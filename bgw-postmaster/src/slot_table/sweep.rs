//! Gives back the slots that a process had when it ended: those that it had claimed and not
//! published, and those that were kept until it had read how its worker ended.

use super::table::SlotTable;
use bgw_core::Pid;

impl SlotTable {
    /// Sweeps after process `gone`. What it published without ringing is found by the next
    /// [`SlotTable::take_in_changes`].
    pub(crate) fn sweep(&self, gone: Pid) {
        let swept = self.slots.sweep(|owner| owner == gone.get());
        if swept > 0 {
            tracing::debug!("swept {swept} slots that process {gone} had claimed or kept");
        }
    }
}

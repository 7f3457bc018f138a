//! Gives back the slots that a process had claimed and not published when it ended.

use super::table::SlotTable;
use bgw_core::Pid;

impl SlotTable {
    /// Sweeps after process `gone`. What it published without ringing is found by the next
    /// [`SlotTable::take_in_changes`].
    pub(crate) fn sweep(&self, gone: Pid) {
        let swept = self.slots.sweep(|owner| owner == gone.get());
        if swept > 0 {
            tracing::debug!("swept {swept} slots that process {gone} had claimed");
        }
    }
}

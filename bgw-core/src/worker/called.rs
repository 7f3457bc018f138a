//! How a description calls its function.

use super::builder::BackgroundWorkerBuilder;
use super::call::CallInput;
use super::job::Orphaned;

#[doc(hidden)]
impl BackgroundWorkerBuilder {
    /// [`job`](Self::job), unless it is one already.
    pub const fn job_by_default(mut self, orphaned: Orphaned) -> Self {
        if self.draft.job.is_none() {
            self.draft.job = Some(orphaned);
        }
        self
    }

    /// Calls the function with `input`, encoded for the type of `tag`. The input lies in the slot:
    /// at most 1,024 bytes, less what the names in [`after`](Self::after), [`group`](Self::group)
    /// and [`give`](Self::give) take.
    pub fn call(mut self, tag: u64, input: Vec<u8>) -> Self {
        self.draft.call = Some(CallInput { tag, input });
        self
    }
}

//! How many runs may begin beside those that they replace.

use super::PostmasterBuilder;

impl PostmasterBuilder {
    /// How many workers may have a next run beside their present one at a time, while they are
    /// [recycled](bgw_core::Recycle::overlap) or rolled (default 1). Others wait their turn. Each
    /// takes the memory of one more process while it lasts. With 0, a worker that would be recycled
    /// in this way is refused, and a roll must use `Roll::stop_first`.
    pub const fn overlap(mut self, runs: u32) -> Self {
        self.policy.overlap = runs;
        self
    }
}

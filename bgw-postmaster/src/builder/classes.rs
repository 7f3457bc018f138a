//! Slots that are reserved for classes of workers.

use super::PostmasterBuilder;

impl PostmasterBuilder {
    /// Reserves some of [`max_workers`](Self::max_workers) for workers of this
    /// [class](bgw_core::BackgroundWorkerBuilder::class), for 8 classes at most. Others are
    /// refused, or wait, when only reserved slots are free.
    ///
    /// ```
    /// # use {bgw_core::BackgroundWorker, bgw_postmaster::Postmaster};
    /// let builder = Postmaster::builder().function("f", |_| Ok(())).max_workers(2);
    /// let mut postmaster = builder.reserve("urgent", 1).build()?;
    /// let any = || BackgroundWorker::builder("w").function("f");
    /// postmaster.register(any().build()?)?;
    /// assert!(postmaster.register(any().build()?).is_err());
    /// postmaster.register(any().class("urgent").build()?)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reserve(mut self, class: impl Into<String>, slots: u32) -> Self {
        self.reserved.push((class.into(), slots));
        self
    }
}

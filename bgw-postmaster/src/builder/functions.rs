//! The functions that workers may name.

use super::PostmasterBuilder;
use crate::reuse::Reuse;
use bgw_core::internals::CallType;
use bgw_core::{CallEntry, EntryFn, WorkerProcess, WorkerResult};

impl PostmasterBuilder {
    /// Adds a function that workers may name as their entry point.
    #[doc(alias = "InternalBGWorkers")]
    pub fn function(
        mut self,
        name: impl Into<String>,
        function: impl Fn(&'static WorkerProcess) -> WorkerResult + 'static,
    ) -> Self {
        self.add_function(name.into(), Box::new(function), None, None);
        self
    }

    /// Adds a function whose process serves one worker after another. When it has returned `Ok`,
    /// its worker ends as any worker, with handle, report and times of its own, and the process
    /// sleeps as a spare until there is another worker of a reusable function. So short workers
    /// cost neither a fork nor an exit. It needs [`PostmasterBuilder::warm_spares`]: a worker that
    /// starts in one may come back to them. Up to as many sleep beside those that have not served.
    ///
    /// Between two workers the process is put back into the state of a new spare: signal mask, the
    /// handlers of the signals that workers know, pending signals, interrupts, latch, notify,
    /// interval timers, umask, working folder, title, nice value, environment variables and locale.
    /// What its main owned has been dropped: its database connection, say. Nothing that was meant
    /// for a worker that has ended reaches the next one: no signal, no terminate, no kill, no
    /// latch.
    ///
    /// **What stays: the heap, statics, thread-locals, the program's own handlers.** So does
    /// everything that is not named above: resource limits, scheduling, memory maps. Declare a
    /// function reusable only if it may find what reusable functions before it have left there.
    ///
    /// The process ends with its worker after an error, a panic or any other end than `Ok`; when it
    /// has more or fewer threads or descriptors than at its first sleep, other files as descriptors
    /// 0 to 2, a child, another user, or a restriction (seccomp, no new privileges) that it did not
    /// have; at a limit of `reuse`; and in a crash reset. While such a worker runs, its process
    /// adopts the orphans of its children.
    ///
    /// ```
    /// use bgw_postmaster::{Postmaster, Reuse};
    ///
    /// let builder = Postmaster::builder().warm_spares(4).reusable_function(
    ///     "resize",
    ///     Reuse::new().lives(10_000),
    ///     |me| {
    ///         println!("image {}", me.worker.main_arg());
    ///         Ok(())
    ///     },
    /// );
    /// # let _ = builder;
    /// ```
    pub fn reusable_function(
        mut self,
        name: impl Into<String>,
        reuse: Reuse,
        function: impl Fn(&'static WorkerProcess) -> WorkerResult + 'static,
    ) -> Self {
        self.add_function(name.into(), Box::new(function), Some(reuse), None);
        self
    }

    /// Adds a function that is called with a value and gives one back, as
    /// [`bgw_backend::call`](https://docs.rs/bgw-backend) makes it. Only calls of the same types
    /// run it: any other registration that names it is refused, and says which type it has.
    pub fn call(mut self, name: impl Into<String>, function: CallEntry) -> Self {
        self.add_function(name.into(), function.main, None, Some(function.call));
        self
    }

    /// The same, and its process serves one call after another, as that of a
    /// [`reusable_function`](Self::reusable_function) does.
    pub fn reusable_call(
        mut self,
        name: impl Into<String>,
        reuse: Reuse,
        function: CallEntry,
    ) -> Self {
        self.add_function(name.into(), function.main, Some(reuse), Some(function.call));
        self
    }

    fn add_function(
        &mut self,
        name: String,
        main: Box<EntryFn>,
        reuse: Option<Reuse>,
        call: Option<CallType>,
    ) {
        if !self.functions.insert(name.clone(), main, reuse, call) {
            self.duplicate_function.get_or_insert(name);
        }
    }
}

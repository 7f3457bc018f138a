//! Children forked ahead, and who may wake them.

use super::PostmasterBuilder;

impl PostmasterBuilder {
    /// How many children are forked ahead, asleep until there is a worker for them (default 0).
    /// While one is left, a start costs a wake-up instead of a fork; when none is left, workers are
    /// forked as usual. For functions and libraries, not for commands.
    ///
    /// Each costs about 90 KiB of private memory. Like any worker, it does not see what the program
    /// changes after the launch.
    pub const fn warm_spares(mut self, count: usize) -> Self {
        self.warm_spares = count;
        self
    }

    /// Whether a registration may go straight to a sleeping spare (default `false`). The process
    /// that registers wakes the spare itself, and the postmaster takes the run on when it next has
    /// cause to look, within some 30 milliseconds: one wake-up of another process instead of two.
    ///
    /// It is for functions that are not jobs, without a template, a notify target, a class, gifts,
    /// an output, clocks, limits or relations, registered by programs and by functions while a
    /// spare of the first 64 sleeps, the last start phase is reached, and no shutdown or reset is
    /// under way. Every other registration goes through the postmaster, as
    /// without this setting. One difference can be seen: the events of such a registration come
    /// after whoever waits for its start is woken, by at most about that long. A worker with
    /// `SHMEM_ACCESS` that crashes before the postmaster has looked resets the cluster all the
    /// same: the run is taken on first, then its end is judged.
    ///
    /// Off by default, since not everybody gains: a start is reported in about half of the time,
    /// but the outcome of an empty worker whose process serves again came a sixth to a fifth later
    /// in one of two runs, because the postmaster registers the run only when it ends. The words
    /// that decide are checked by loom models, and by kills and stops of each process between any
    /// two of their steps. Registrations, spares and postmaster together are covered by a checked
    /// model of a slot's life, and by tests and chaos runs that kill and stop each of them.
    pub const fn direct_starts(mut self, direct: bool) -> Self {
        self.direct_starts = direct;
        self
    }
}

//! What a registrant does. Each scenario is short, and passes through as many steps of one kind as
//! it can: a start, an end, a restart, a reset, a shutdown.

use super::calls;
use super::output::says_lines;
use super::registrant::{COMMAND, CRASHES, Gone, LONG, Registrant};
use crate::invariants::GUARDIAN;
use crate::job::{Job, QUICK, Restart, UNTIL_TOLD, Way};
use crate::journal::Journal;
use crate::{pool, worker};
use bgw_backend::{BackgroundWorker, Handle, ShutdownMode};
use bgw_postmaster::{PostmasterBuilder, Template};
use nix::sys::signal::Signal;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

/// A scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// A worker ends by itself, and notifies.
    EndsByItself,
    /// A worker is terminated.
    Terminated,
    /// A worker fails and is started again, and is terminated then.
    Restarted,
    /// A worker that shares memory crashes; another one is started again.
    Reset,
    /// Commands, one that ends and one that is terminated.
    Commands,
    /// Warm spares: more workers than there are spares.
    Spares,
    /// All slots are taken; handles are dropped unread.
    Full,
    /// A worker registers another one; both are of different classes.
    Nested,
    /// A fast shutdown with workers that run.
    Shutdown,
    /// The registrant is killed while one of its workers runs, and one has ended unread.
    RegistrantDies,
    /// The registrant is killed in the middle of a claim: the postmaster sweeps it.
    ClaimLeft,
    /// A worker is terminated while the cluster is being reset.
    TerminatedInReset,
    /// All slots are taken; workers wait for one, in vain and not.
    Queue,
    /// Commands whose output is collected.
    Output,
    /// Workers whose process serves one after the other.
    Reused,
    /// Warm spares that the registrant wakes itself.
    Direct,
    /// Workers of a template that loads when it is needed.
    Template,
    /// Workers of a template that forks ahead and is loaded anew.
    TemplateSpares,
    /// Jobs of a pool.
    Pool,
    /// Typed calls.
    Calls,
    /// Workers whose next run starts beside the present one.
    Rolled,
}

/// How many slots there are in each class.
pub(crate) const SLOTS: u32 = 4;

const FAILS: Job = Job { way: Way::Fail, after: Some(1), restart: Restart::AtOnce, ..QUICK };
const SHARES: Job = Job { shares: true, restart: Restart::AtOnce, ..UNTIL_TOLD };

impl Scenario {
    pub(crate) const ALL: [Self; 21] = [
        Self::EndsByItself,
        Self::Terminated,
        Self::Restarted,
        Self::Reset,
        Self::Commands,
        Self::Spares,
        Self::Full,
        Self::Nested,
        Self::Shutdown,
        Self::RegistrantDies,
        Self::ClaimLeft,
        Self::TerminatedInReset,
        Self::Queue,
        Self::Output,
        Self::Reused,
        Self::Direct,
        Self::Template,
        Self::TemplateSpares,
        Self::Pool,
        Self::Calls,
        Self::Rolled,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::EndsByItself => "ends by itself",
            Self::Terminated => "terminated",
            Self::Restarted => "restarted",
            Self::Reset => "crash and reset",
            Self::Commands => "commands",
            Self::Spares => "warm spares",
            Self::Full => "all slots taken",
            Self::Nested => "nested",
            Self::Shutdown => "shutdown",
            Self::RegistrantDies => "registrant dies",
            Self::ClaimLeft => "claim left behind",
            Self::TerminatedInReset => "terminated in a reset",
            Self::Queue => "waiting for a slot",
            Self::Output => "output",
            Self::Reused => "reused",
            Self::Direct => "woken directly",
            Self::Template => "of a template",
            Self::TemplateSpares => "of a template, forked ahead",
            Self::Pool => "jobs of a pool",
            Self::Calls => "calls",
            Self::Rolled => "rolled",
        }
    }

    pub(crate) const fn spares(self) -> usize {
        match self {
            Self::Spares | Self::Direct => 2,
            Self::Reused => 1,
            _ => 0,
        }
    }

    /// The template of the cluster.
    pub(crate) const fn template(self) -> Option<Template> {
        match self {
            Self::Template => Some(Template::new().on_first_use()),
            Self::TemplateSpares => Some(Template::new().spares(1)),
            _ => None,
        }
    }

    /// How many children the postmaster has that are no workers: spares, its guardian, an output
    /// collector, a template and what that has forked ahead.
    pub(crate) const fn companions(self) -> RangeInclusive<usize> {
        let others = match self {
            Self::Output | Self::Template => 1,
            Self::TemplateSpares => 2,
            _ => 0,
        };
        let least = self.spares() + GUARDIAN + others;
        least..=least + self.resting()
    }

    /// How many processes may rest that have served a worker and are to serve another one.
    pub(crate) const fn resting(self) -> usize {
        if matches!(self, Self::Reused) { self.spares() } else { 0 }
    }

    /// `outputs` is a folder for the output of workers.
    pub(crate) fn configure(
        self,
        builder: PostmasterBuilder,
        journal: Journal,
        outputs: &Path,
    ) -> PostmasterBuilder {
        let builder = builder.warm_spares(self.spares()).direct_starts(self == Self::Direct);
        let builder = if self == Self::Output { builder.output_dir(outputs) } else { builder };
        let builder = match self {
            Self::Pool => pool::functions(builder, journal),
            Self::Calls => calls::functions(builder),
            _ => builder,
        };
        match self.template() {
            Some(settings) => worker::template(builder, settings),
            None => builder,
        }
    }

    /// The fault that the registrant meets in any case.
    pub(crate) const fn own_fault(self) -> Option<&'static str> {
        match self {
            Self::ClaimLeft => Some("claim:after_swap=kill"),
            _ => None,
        }
    }

    /// True when the registrant does not outlive the scenario.
    pub(crate) const fn kills_registrant(self) -> bool {
        matches!(self, Self::RegistrantDies | Self::ClaimLeft)
    }

    /// A static worker of the cluster.
    pub(crate) fn static_worker(self) -> Option<BackgroundWorker> {
        match self {
            Self::Nested => Job { restart: Restart::Soon, ..UNTIL_TOLD }.describe(None).ok(),
            // So that there is a collector, whatever becomes of the registrant.
            Self::Output => says_lines().ok(),
            _ => None,
        }
    }

    /// What the registrant does. Ends when all that it waits for has come.
    pub(crate) fn act(self, registrant: &Registrant) -> Result<(), Gone> {
        let me = registrant;
        match self {
            Self::EndsByItself => {
                let handle = me.register(QUICK, true)?;
                me.wait_for_start(&handle)?;
                me.wait_for_end(&handle)?;
                me.see(&handle);
            }
            Self::Terminated => {
                let handle = me.register(UNTIL_TOLD, true)?;
                me.wait_for_start(&handle)?;
                me.terminate(&handle)?;
                me.wait_for_end(&handle)?;
                // One that may not have been started yet.
                let handle = me.register(UNTIL_TOLD, false)?;
                me.terminate(&handle)?;
                me.wait_for_end(&handle)?;
            }
            Self::Restarted => {
                let handle = me.register(FAILS, true)?;
                me.wait_for_restart(&handle)?;
                me.terminate(&handle)?;
                me.wait_for_end(&handle)?;
            }
            Self::Reset => {
                let bystander = me.register(SHARES, false)?;
                me.wait_for_start(&bystander)?;
                let crashing = me.register(CRASHES, true)?;
                me.wait_for_end(&crashing)?;
                me.wait_for_end(&bystander)?;
                me.end_all()?;
            }
            Self::Commands => {
                let brief = me.register(COMMAND, true)?;
                let long = me.register(Job { after: None, ..COMMAND }, false)?;
                me.wait_for_start(&long)?;
                me.terminate(&long)?;
                me.wait_for_end(&brief)?;
                me.wait_for_end(&long)?;
            }
            Self::Spares => {
                let brief = (0..3).map(|_| me.register(QUICK, true));
                let brief: Vec<Handle> = brief.collect::<Result<_, _>>()?;
                let told = me.register(UNTIL_TOLD, false)?;
                me.terminate(&told)?;
                for handle in brief.iter().chain([&told]) {
                    me.wait_for_end(handle)?;
                }
            }
            Self::Full => {
                let all = (0..SLOTS).map(|_| me.register(UNTIL_TOLD, false));
                let all: Vec<Handle> = all.collect::<Result<_, _>>()?;
                me.is_full()?;
                for handle in &all {
                    me.terminate(handle)?;
                }
                drop(all);
                let handle = me.register(QUICK, false)?;
                me.wait_for_end(&handle)?;
            }
            Self::Nested => {
                let nests = me.register(Job { nests: true, ..QUICK }, false)?;
                let parallel = me.register(Job { parallel: true, ..QUICK }, false)?;
                me.wait_for_end(&nests)?;
                me.wait_for_end(&parallel)?;
                me.end_all()?;
            }
            Self::Shutdown => {
                let all = [me.register(SHARES, false)?, me.register(UNTIL_TOLD, true)?];
                me.wait_for_start(&all[0])?;
                if let Err(error) = me.backend.shutdown(ShutdownMode::Fast) {
                    me.excuse(&format!("asking for a shutdown failed: {error}"))?;
                }
                for handle in &all {
                    me.wait_for_end(handle)?;
                }
            }
            Self::ClaimLeft => {
                let _ = me.register(QUICK, false)?;
            }
            Self::TerminatedInReset => {
                let bystander = me.register(SHARES, false)?;
                // It quits as late as this program likes, so the reset waits for it.
                let late = me.register(UNTIL_TOLD, false)?;
                me.wait_for_start(&bystander)?;
                me.wait_for_start(&late)?;
                let stopped = me.signal(&late, Signal::SIGSTOP);
                let terminated = me.terminate_after_crash(&bystander);
                terminated.as_ref().map_err(|_| Gone)?;
                stopped.map(|pid| nix::sys::signal::kill(pid, Signal::SIGCONT));
                terminated?;
                me.wait_for_end(&bystander)?;
                me.wait_for_end(&late)?;
                me.end_all()?;
            }
            Self::Queue => {
                let brief = Job { after: Some(20), ..QUICK };
                let all = (1..SLOTS).map(|_| me.register(UNTIL_TOLD, false));
                let all: Vec<Handle> = all.collect::<Result<_, _>>()?;
                me.batch_is_too_large()?;
                // Ends while others wait.
                let ends = me.register(brief, false)?;
                let queued = me.queue(brief, LONG)?;
                let in_vain = me.queue(QUICK, Duration::from_millis(2))?;
                for handle in [&ends].into_iter().chain(&queued).chain(&in_vain) {
                    me.wait_for_end(handle)?;
                }
                for handle in &all {
                    me.terminate(handle)?;
                    me.wait_for_end(handle)?;
                }
                // There is a slot.
                if let Some(handle) = me.queue(QUICK, LONG)? {
                    me.wait_for_end(&handle)?;
                }
            }
            Self::Output => me.read_lines()?,
            Self::Reused => {
                for job in [QUICK, UNTIL_TOLD, FAILS, QUICK] {
                    let handle = me.register(job, true)?;
                    me.wait_for_start(&handle)?;
                    if !job.ends_by_itself() {
                        me.terminate(&handle)?;
                    }
                    me.wait_for_end(&handle)?;
                }
            }
            Self::Direct => {
                for job in [QUICK, UNTIL_TOLD, FAILS, QUICK, UNTIL_TOLD] {
                    // By now a spare sleeps, most often.
                    std::thread::sleep(Duration::from_millis(5));
                    let handle = me.register(job, false)?;
                    match job.restart {
                        Restart::Never if job.ends_by_itself() => {}
                        Restart::Never => {
                            me.wait_for_start(&handle)?;
                            me.terminate(&handle)?;
                        }
                        _ => {
                            me.wait_for_restart(&handle)?;
                            me.terminate(&handle)?;
                        }
                    }
                    me.wait_for_end(&handle)?;
                }
                // Its spare may not have been there yet.
                let handle = me.register(UNTIL_TOLD, false)?;
                me.terminate(&handle)?;
                me.wait_for_end(&handle)?;
            }
            Self::Template | Self::TemplateSpares => {
                for job in [QUICK, UNTIL_TOLD, FAILS, QUICK] {
                    let handle = me.register(Job { template: true, ..job }, true)?;
                    match job.restart {
                        Restart::Never if job.ends_by_itself() => {}
                        Restart::Never => {
                            me.wait_for_start(&handle)?;
                            me.terminate(&handle)?;
                        }
                        _ => {
                            me.wait_for_restart(&handle)?;
                            me.terminate(&handle)?;
                        }
                    }
                    me.wait_for_end(&handle)?;
                    if job == UNTIL_TOLD {
                        me.refork()?;
                    }
                }
                // One that may not have been started yet.
                let handle = me.register(Job { template: true, ..UNTIL_TOLD }, false)?;
                me.terminate(&handle)?;
                me.wait_for_end(&handle)?;
            }
            Self::Pool => me.use_pool()?,
            Self::Calls => me.call()?,
            Self::Rolled => me.roll()?,
            Self::RegistrantDies => {
                let ended = me.register(QUICK, true)?;
                let _running = me.register(UNTIL_TOLD, true)?;
                // Not by the handle that reads how it has ended: nobody does.
                me.wait_for_end(&me.backend.handle(ended.id()))?;
                let _ = nix::sys::signal::raise(Signal::SIGKILL);
            }
        }
        Ok(())
    }
}

//! What a registrant does. Each scenario is short, and passes through as many steps of one kind as it
//! can: a start, an end, a restart, a reset, a shutdown.

use super::registrant::{CRASHES, Gone, Registrant};
use crate::job::{Job, QUICK, Restart, Terminate, UNTIL_TOLD, Way};
use crate::kept;
use bgw_backend::{BackgroundWorker, Handle, ShutdownMode};
use bgw_postmaster::PostmasterBuilder;
use nix::sys::signal::Signal;

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
    /// The registrant is killed when it has registered.
    RegistrantDies,
    /// The registrant is killed in the middle of a claim: the postmaster sweeps it.
    ClaimLeft,
    /// A worker is terminated while the cluster is being reset.
    TerminatedInReset,
}

/// How many slots there are in each class.
pub(crate) const SLOTS: u32 = 4;

const FAILS: Job = Job { way: Way::Fail, after: Some(1), restart: Restart::AtOnce, ..QUICK };
const SHARES: Job = Job { shares: true, restart: Restart::AtOnce, ..UNTIL_TOLD };
const COMMAND: Job = Job { command: true, terminate: Terminate::Default, ..QUICK };

impl Scenario {
    pub(crate) const ALL: [Self; 12] = [
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
        }
    }

    pub(crate) const fn spares(self) -> usize {
        if matches!(self, Self::Spares) { 2 } else { 0 }
    }

    pub(crate) fn configure(self, builder: PostmasterBuilder) -> PostmasterBuilder {
        builder.warm_spares(self.spares())
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
        let job = Job { restart: Restart::Soon, ..UNTIL_TOLD };
        (self == Self::Nested).then(|| job.describe(None).ok()).flatten()
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
                if kept::STOPPED_WORKERS_END {
                    terminated.as_ref().map_err(|_| Gone)?;
                }
                stopped.map(|pid| nix::sys::signal::kill(pid, Signal::SIGCONT));
                terminated?;
                me.wait_for_end(&bystander)?;
                me.wait_for_end(&late)?;
                me.end_all()?;
            }
            Self::RegistrantDies => {
                let _ = me.register(QUICK, true)?;
                let _ = me.register(UNTIL_TOLD, true)?;
                let _ = nix::sys::signal::raise(Signal::SIGKILL);
            }
        }
        Ok(())
    }
}

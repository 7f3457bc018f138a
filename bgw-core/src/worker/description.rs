//! A valid description of a worker.

use super::call::CallInput;
use super::clocks::{Clocks, NotifyFrom};
use super::gift::{Gift, ready_on};
use super::job::Orphaned;
use super::limits::EXTRA_LEN;
use super::output::Output;
use super::policy::{EntryPoint, Ready, RestartOn, RestartPolicy, StartTime, WorkerFlags};
use super::recycle::{Limits, Recycle};
use super::relations::{After, Relations};
use super::restarts::{Delays, Restarts, THOUSANDTHS, millis};
use super::stop::{Grace, StopSignal};
use super::surroundings::Surroundings;
use crate::pid::Pid;
use std::sync::Arc;
use std::time::Duration;

/// A valid description of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackgroundWorker {
    pub(super) name: String,
    /// Empty when it is the name.
    pub(super) worker_type: String,
    pub(super) flags: WorkerFlags,
    pub(super) start_time: StartTime,
    pub(super) restarts: Restarts,
    pub(super) recycle: Limits,
    pub(super) clocks: Clocks,
    pub(super) stop: StopSignal,
    pub(super) grace: Grace,
    pub(super) relations: Relations,
    pub(super) gifts: Vec<Gift>,
    pub(super) entry: EntryPoint,
    pub(super) main_arg: u64,
    pub(super) extra: [u8; EXTRA_LEN],
    pub(super) notify: Option<Pid>,
    pub(super) tag: String,
    pub(super) output: Output,
    pub(super) last_lines: u8,
    pub(super) attached: bool,
    /// `None` if they are the default.
    pub(super) surroundings: Option<Arc<Surroundings>>,
    pub(super) job: Option<Orphaned>,
    pub(super) call: Option<CallInput>,
}

impl BackgroundWorker {
    /// Its name.
    #[doc(alias = "bgw_name")]
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its type: the same for all workers of a kind. Its name if none was given.
    #[doc(alias = "bgw_type")]
    #[must_use]
    pub fn worker_type(&self) -> &str {
        if self.worker_type.is_empty() { &self.name } else { &self.worker_type }
    }

    /// What it may touch, and how it is treated.
    #[doc(alias = "bgw_flags")]
    #[must_use]
    pub const fn flags(&self) -> WorkerFlags {
        self.flags
    }

    /// True if it belongs to the parallel class.
    #[must_use]
    pub const fn is_parallel(&self) -> bool {
        self.flags.contains(WorkerFlags::CLASS_PARALLEL)
    }

    /// The earliest phase in which it may run.
    #[doc(alias = "bgw_start_time")]
    #[must_use]
    pub const fn start_time(&self) -> StartTime {
        self.start_time
    }

    /// Whether it is restarted, and after how long.
    #[doc(alias = "bgw_restart_time")]
    #[must_use]
    pub fn restart(&self) -> RestartPolicy {
        self.restarts.delays.map_or(RestartPolicy::Never, Delays::policy)
    }

    /// Which of its ends are followed by a restart.
    #[must_use]
    pub const fn restart_on(&self) -> RestartOn {
        self.restarts.on
    }

    /// The exit codes, besides 0, after which it is not restarted; in ascending order.
    pub fn final_codes(&self) -> impl Iterator<Item = u8> + '_ {
        self.restarts.final_codes.iter()
    }

    /// The largest share of a delay that is added to it at random: 0 to 0.5.
    #[must_use]
    pub fn jitter(&self) -> f64 {
        f64::from(self.restarts.jitter) / f64::from(THOUSANDTHS)
    }

    /// The shortest run that ends a streak of failures; `None` if it is never restarted.
    #[must_use]
    pub fn reset_after(&self) -> Option<Duration> {
        self.restarts.delays.map(|_| millis(self.restarts.reset_after))
    }

    /// It is given up at a failure that follows this many restarts in this time.
    #[must_use]
    pub fn give_up(&self) -> Option<(u32, Duration)> {
        self.restarts.give_up.map(|limit| (limit.restarts.into(), millis(limit.within)))
    }

    /// It is given up at this many failures before it was ever ready.
    #[must_use]
    pub fn start_attempts(&self) -> Option<u32> {
        self.restarts.start_attempts.map(u32::from)
    }

    /// True if it is restarted after an interval below a second however often it fails.
    #[must_use]
    pub const fn is_unbraked(&self) -> bool {
        self.restarts.unbraked
    }

    pub(crate) const fn restarts(&self) -> &Restarts {
        &self.restarts
    }

    /// How it says that it is ready; `None` if it does not promise to.
    #[must_use]
    pub const fn ready(&self) -> Option<Ready> {
        self.restarts.ready
    }

    /// When it is replaced by its next run; `None` if it never is.
    #[must_use]
    pub fn recycle(&self) -> Option<Recycle> {
        (self.recycle != Limits::default()).then(|| self.recycle.recycle())
    }

    pub(crate) const fn recycle_limits(&self) -> &Limits {
        &self.recycle
    }

    pub(crate) const fn clocks(&self) -> &Clocks {
        &self.clocks
    }

    /// How long each run may take to say that it is ready.
    #[must_use]
    pub fn start_timeout(&self) -> Option<Duration> {
        self.clocks.start_timeout()
    }

    /// How often each run says at least that it is alive.
    #[must_use]
    pub fn heartbeat(&self) -> Option<Duration> {
        self.clocks.heartbeat()
    }

    /// From which of its processes messages to its `NOTIFY_SOCKET` count.
    #[must_use]
    pub const fn notify_from(&self) -> NotifyFrom {
        self.clocks.notify_from
    }

    /// How long it may take to end after SIGABRT, once it has been silent; `None` without a
    /// heartbeat.
    #[must_use]
    pub fn abort_grace(&self) -> Option<Duration> {
        self.clocks.abort_grace()
    }

    /// The signal that asks it to end.
    #[must_use]
    pub const fn stop(&self) -> StopSignal {
        self.stop
    }

    /// How long it may take to end after that.
    #[must_use]
    pub const fn grace(&self) -> Grace {
        self.grace
    }

    /// True if no other worker with a unique name has its name.
    #[must_use]
    pub const fn is_unique(&self) -> bool {
        self.relations.unique
    }

    /// The unique workers that it starts after, and what has to be true of each.
    pub fn after(&self) -> impl Iterator<Item = (&str, After)> {
        self.relations.after.iter().map(|(name, after)| (name.as_str(), *after))
    }

    /// The name of its group.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        self.relations.group.as_deref()
    }

    /// The names of the descriptors that it is given.
    #[doc(alias = "SCM_RIGHTS")]
    pub fn given(&self) -> impl Iterator<Item = &str> {
        self.gifts.iter().map(|gift| gift.name.as_str())
    }

    /// The class that it belongs to, for which slots may be reserved.
    #[must_use]
    pub fn class(&self) -> Option<&str> {
        self.relations.class.as_deref()
    }

    /// The template that it is forked from.
    #[must_use]
    pub fn template(&self) -> Option<&str> {
        self.relations.template.as_deref()
    }

    pub(crate) const fn relations(&self) -> &Relations {
        &self.relations
    }

    /// What it runs.
    #[doc(alias = "bgw_function_name")]
    #[must_use]
    pub const fn entry(&self) -> &EntryPoint {
        &self.entry
    }

    /// Its argument.
    #[doc(alias = "bgw_main_arg")]
    #[must_use]
    pub const fn main_arg(&self) -> u64 {
        self.main_arg
    }

    /// Its extra bytes.
    #[doc(alias = "bgw_extra")]
    #[must_use]
    pub const fn extra(&self) -> &[u8; EXTRA_LEN] {
        &self.extra
    }

    /// The process that gets SIGUSR1 when it starts and ends.
    #[doc(alias = "bgw_notify_pid")]
    #[must_use]
    pub const fn notify(&self) -> Option<Pid> {
        self.notify
    }

    /// The name of the resource that it uses; empty for none.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Where its standard output and error go.
    #[must_use]
    pub const fn output(&self) -> &Output {
        &self.output
    }

    /// What becomes of it when its submitter has ended; `None` if it is not a job.
    #[must_use]
    pub const fn job(&self) -> Option<Orphaned> {
        self.job
    }

    /// How many of its last lines are remembered.
    #[must_use]
    pub fn last_lines(&self) -> u32 {
        self.last_lines.into()
    }
}

#[doc(hidden)]
impl BackgroundWorker {
    /// What it is called with.
    #[must_use]
    pub const fn call(&self) -> Option<&CallInput> {
        self.call.as_ref()
    }

    /// The descriptors that it is given.
    #[must_use]
    pub fn gifts(&self) -> &[Gift] {
        &self.gifts
    }

    /// Which of them its output goes to, if it goes to one of them.
    #[must_use]
    pub fn output_gift(&self) -> Option<usize> {
        let Output::Descriptor(to) = &self.output else { return None };
        self.gifts.iter().position(|gift| gift.name == to.name())
    }

    /// Those that the worker itself has: all but the one that its output goes to.
    pub fn own_gifts(&self) -> impl Iterator<Item = &Gift> + Clone {
        let output = self.output_gift();
        let all = self.gifts.iter().enumerate();
        all.filter(move |&(at, _)| Some(at) != output).map(|(_, gift)| gift)
    }

    /// The number of each that it has for a command.
    #[must_use]
    pub fn gift_numbers(&self) -> Vec<u8> {
        Gift::numbers(self.own_gifts(), ready_on(self.ready()))
    }

    /// How many jobs one run does.
    pub(crate) fn drawn_jobs(&self, random: u32) -> Option<u64> {
        self.recycle.jobs.map(|jobs| self.recycle.drawn(jobs.into(), random))
    }

    /// How long one run lasts.
    #[must_use]
    pub fn drawn_lifetime(&self, random: u32) -> Option<Duration> {
        let millis = self.recycle.drawn(self.recycle.lifetime?.into(), random);
        Some(Duration::from_millis(millis))
    }

    /// How many bytes one run may use.
    #[must_use]
    pub fn drawn_rss(&self, random: u32) -> Option<u64> {
        self.recycle.rss.map(|rss| self.recycle.drawn(rss, random))
    }
}

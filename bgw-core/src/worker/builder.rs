//! Builds a description. Nothing is checked before [`BackgroundWorkerBuilder::build`].

use super::clocks::NotifyFrom;
use super::description::BackgroundWorker;
use super::invalid::InvalidWorker;
use super::job::Orphaned;
use super::limits::EXTRA_LEN;
use super::output::Output;
use super::policy::{EntryPoint, Ready, RestartOn, RestartPolicy, StartTime, WorkerFlags};
use super::recycle::Recycle;
use super::relations::After;
use super::restarts::ExitCodes;
use super::stop::{Grace, StopSignal};
use super::validate::{Draft, validate};
use crate::pid::Pid;
use std::time::Duration;

/// A description that is not complete yet.
#[derive(Clone, Debug)]
#[must_use = "a description does nothing until it is built and registered"]
pub struct BackgroundWorkerBuilder {
    pub(super) draft: Draft,
}

impl BackgroundWorker {
    /// Begins a description with the worker's name, which logs and process titles show.
    pub fn builder(name: impl Into<String>) -> BackgroundWorkerBuilder {
        let draft = Draft { name: name.into(), ..Draft::default() };
        BackgroundWorkerBuilder { draft }
    }
}

impl BackgroundWorkerBuilder {
    /// The worker's type, at most 95 bytes. Default: its name.
    #[doc(alias = "bgw_type")]
    pub fn worker_type(mut self, worker_type: impl Into<String>) -> Self {
        self.draft.worker_type = worker_type.into();
        self
    }

    /// What the worker may touch. Default: nothing, so that it is isolated.
    #[doc(alias = "bgw_flags")]
    pub const fn flags(mut self, flags: WorkerFlags) -> Self {
        self.draft.flags = flags;
        self
    }

    /// The earliest phase in which it may run. Default: `RecoveryFinished`.
    #[doc(alias = "bgw_start_time")]
    pub const fn start_time(mut self, start_time: StartTime) -> Self {
        self.draft.start_time = start_time;
        self
    }

    /// Whether it is restarted after a failure, and after how long. Default: never.
    #[doc(alias = "bgw_restart_time")]
    pub const fn restart(mut self, restart: RestartPolicy) -> Self {
        self.draft.restart.policy = restart;
        self
    }

    /// Which ends lead to a restart. Default: failures, as in PostgreSQL. Refused for a worker that
    /// is never restarted.
    pub const fn restart_on(mut self, on: RestartOn) -> Self {
        self.draft.restart.on = Some(on);
        self
    }

    /// Exit codes, 1 to 255, after which it is not restarted: it has done what it can, or another
    /// run would not help. Default: none. Refused for a worker that is never restarted; codes from
    /// 2 on are refused with `SHMEM_ACCESS`, because they are crashes there.
    pub fn final_codes(mut self, codes: impl IntoIterator<Item = u8>) -> Self {
        self.draft.restart.final_codes = ExitCodes::default();
        codes.into_iter().for_each(|code| self.draft.restart.final_codes.add(code));
        self
    }

    /// Lengthens each pause by a random share of its delay, up to this one: 0 to 0.5, in
    /// thousandths. So workers that failed together do not restart together. Default: 0.1 with
    /// `Backoff`, otherwise 0. Refused for a worker that is never restarted.
    pub const fn jitter(mut self, share: f64) -> Self {
        self.draft.restart.jitter = Some(share);
        self
    }

    /// A good run lasts at least this long: 1 ms to a day. A failure after a good run counts as the
    /// first in a row. A run is measured from when the worker reports that it is ready, if it
    /// [declares](Self::ready) that it does, otherwise from its start. Default: 1 s with `Fixed`;
    /// `max` with `Backoff`, but at least 1 s. Refused for a worker that is never restarted.
    pub const fn reset_after(mut self, time: Duration) -> Self {
        self.draft.restart.reset_after = Some(time);
        self
    }

    /// Gives the worker up at a failure that follows `restarts` (1 to 100) restarts after failures
    /// within `time` (1 ms to a day): its registration ends, and its report says why. Default: it
    /// is never given up. Refused if the delays of that many restarts add up to `time` or more,
    /// since the limit could never be reached; and for a worker that is never restarted.
    pub const fn give_up(mut self, restarts: u32, time: Duration) -> Self {
        self.draft.restart.give_up = Some((restarts, time));
        self
    }

    /// Gives the worker up after `attempts` failures (1 to 100) if none of its runs was ever ready.
    /// Default: no such limit. Refused for a worker that does not [declare](Self::ready) that it
    /// reports when it is ready.
    pub const fn start_attempts(mut self, attempts: u32) -> Self {
        self.draft.restart.start_attempts = Some(attempts);
        self
    }

    /// Takes the brake off a [`Fixed`](RestartPolicy::Fixed) interval below a second: the worker is
    /// restarted after this interval, however often it fails, as in PostgreSQL. Refused for any
    /// other policy.
    pub const fn unbraked(mut self) -> Self {
        self.draft.restart.unbraked = true;
        self
    }

    /// Declares that each run reports when it is ready. Default: it does not. A worker may report
    /// it without this; the declaration lets the postmaster rely on it.
    pub const fn ready(mut self, how: Ready) -> Self {
        self.draft.restart.ready = Some(how);
        self
    }

    /// Replaces the worker by its next run after a number of jobs, after some time, or when it uses
    /// much memory. Default: never. Refused for a worker that is never restarted.
    pub const fn recycle(mut self, recycle: Recycle) -> Self {
        self.draft.recycle = Some(recycle);
        self
    }

    /// How long each run may take to become ready, from the start of its process: 1 ms to a day, in
    /// whole milliseconds. A late worker gets its stop signal, and SIGKILL after its
    /// [grace](Self::grace); its end is [`StartTimedOut`](crate::ExitCause::StartTimedOut), a
    /// failure however it exits. While it starts, a worker may ask for more time, up to ten times
    /// this. Default: no limit, but 60 s for a run that starts
    /// [beside](crate::Recycle::overlap) the present one. Refused for a worker that does not
    /// [declare](Self::ready) that it reports when it is ready.
    ///
    /// ```
    /// use bgw_core::{BackgroundWorker, Ready, RestartPolicy};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cache = BackgroundWorker::builder("cache")
    ///     .function("cache")
    ///     .ready(Ready::Call)
    ///     .start_timeout(Duration::from_secs(30))
    ///     .restart(RestartPolicy::backoff(Duration::from_secs(1), Duration::from_secs(60)))
    ///     .start_attempts(5)
    ///     .build()?;
    /// assert_eq!(cache.start_timeout(), Some(Duration::from_secs(30)));
    ///
    /// let undeclared = BackgroundWorker::builder("cache").function("cache");
    /// let refused = undeclared.start_timeout(Duration::from_secs(30)).build().unwrap_err();
    /// assert_eq!(refused.field(), "start_timeout");
    /// # Ok(())
    /// # }
    /// ```
    pub const fn start_timeout(mut self, time: Duration) -> Self {
        self.draft.clocks.start_timeout = Some(time);
        self
    }

    /// Declares that each run calls `Worker::beat` at least this often: 100 ms to a day. Time is
    /// measured from when the worker is ready, if it [declares](Self::ready) that it reports this,
    /// otherwise from its start, until it is told to end. A worker that is silent for 1 to 1.5
    /// times as long gets SIGABRT, and its whole process group gets SIGKILL after its
    /// [`abort_grace`](Self::abort_grace); its end is [`Hung`](crate::ExitCause::Hung), a failure.
    /// A worker under a debugger is spared until it is detached; one that was stopped by SIGSTOP is
    /// not. Time in which the machine or the postmaster was stopped does not count. Default: no
    /// heartbeat, and nobody checks on the worker. Refused for a command that does not declare
    /// [`Ready::Notify`].
    ///
    /// ```
    /// use bgw_core::BackgroundWorker;
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = BackgroundWorker::builder("server").function("serve");
    /// let server = server.heartbeat(Duration::from_secs(10)).build()?;
    /// assert_eq!(server.abort_grace(), Some(Duration::from_secs(5)));
    ///
    /// let frantic = BackgroundWorker::builder("frantic").function("f");
    /// let refused = frantic.heartbeat(Duration::from_millis(99)).build().unwrap_err();
    /// assert_eq!(refused.to_string(), "heartbeat is 99ms, the limit is 100ms to a day");
    /// # Ok(())
    /// # }
    /// ```
    pub const fn heartbeat(mut self, every: Duration) -> Self {
        self.draft.clocks.heartbeat = Some(every);
        self
    }

    /// Which of its processes are heard on its `NOTIFY_SOCKET`. Default: the one that the
    /// postmaster has started. Refused for a worker that does not declare [`Ready::Notify`].
    pub const fn notify_from(mut self, from: NotifyFrom) -> Self {
        self.draft.clocks.notify_from = from;
        self
    }

    /// How long a worker that has fallen silent may take after SIGABRT, to write a core dump for
    /// example: 0 to 60 s. Default: 5 s. Refused without a [`heartbeat`](Self::heartbeat).
    pub const fn abort_grace(mut self, grace: Duration) -> Self {
        self.draft.clocks.abort_grace = Some(grace);
        self
    }

    /// The signal that asks the worker to end. Default: SIGTERM.
    pub const fn stop(mut self, signal: StopSignal) -> Self {
        self.draft.stop = signal.number();
        self
    }

    /// How long the worker may take to end after its stop signal, before it is killed: at most a
    /// day. Default: what the postmaster was built with.
    pub const fn grace(mut self, grace: Grace) -> Self {
        self.draft.grace = grace;
        self
    }

    /// Claims the name for this worker alone: a second unique worker with this name is
    /// [refused](crate::RelationError::NameTaken). If two processes register one at the same time,
    /// the later registration ends with [`NotStarted::NameTaken`](crate::NotStarted::NameTaken).
    /// The name is free again at the worker's end: once its registration is over and no process of
    /// it is left. Default: any number of workers may have one name.
    ///
    /// Workers whose name is not unique do not count: they may have the name, too.
    pub const fn unique(mut self) -> Self {
        self.draft.relations.unique = true;
        self
    }

    /// Starts the worker only while `condition` holds for the [unique](Self::unique) worker `name`.
    /// May be called up to 8 times; all conditions must be true at once. They are checked before
    /// each start, including restarts; a running worker is left alone, whatever becomes of the
    /// other. While the other pauses before its restart, this one waits; once the other's
    /// registration has ended, this one's ends with
    /// [`NotStarted::Dependency`](crate::NotStarted::Dependency).
    ///
    /// The other one must be registered before. A registration is refused with a name that no
    /// unique worker has, with the worker's own name, in a circle, and with [`After::Ready`] if the
    /// other does not [declare](Self::ready) that it reports when it is ready.
    pub fn after(mut self, name: impl Into<String>, condition: After) -> Self {
        self.draft.relations.after.push((name.into(), condition));
        self
    }

    /// Makes the worker a member of this group, at most 31 bytes, which the postmaster's builder
    /// names: a registration with any other name ends with
    /// [`NotStarted::Refused`](crate::NotStarted::Refused), and its last words say why. Default:
    /// none. Refused for workers of the parallel class, and together with
    /// [`give_up`](Self::give_up) and [`start_attempts`](Self::start_attempts): a group has a limit
    /// for all its members.
    pub fn group(mut self, name: impl Into<String>) -> Self {
        self.draft.relations.group = Some(name.into());
        self
    }

    /// Makes the worker one of this class, at most 31 bytes, for which the postmaster's builder has
    /// reserved slots (`PostmasterBuilder::reserve`). It gets one of those or, if they are taken,
    /// one that is open to all. Default: none. Refused for a class without reserved slots, and for
    /// workers of the parallel class, which has slots of its own.
    pub fn class(mut self, name: impl Into<String>) -> Self {
        self.draft.relations.class = Some(name.into());
        self
    }

    /// Forks the worker from this template, at most 31 bytes, which the postmaster's builder names
    /// (`PostmasterBuilder::template`): it begins with what the template has loaded. It waits while
    /// the template loads; if that fails it ends with
    /// [`NotStarted::TemplateFailed`](crate::NotStarted::TemplateFailed), which counts as a failed
    /// fork. A registration that names a template which the postmaster does not have ends with
    /// [`NotStarted::Refused`](crate::NotStarted::Refused), and its last words say why. Default:
    /// none, the worker is forked from the postmaster. Refused for commands and libraries.
    ///
    /// ```
    /// use bgw_core::BackgroundWorker;
    ///
    /// let worker = BackgroundWorker::builder("answer").function("answer").template("models");
    /// assert_eq!(worker.build()?.template(), Some("models"));
    ///
    /// let command = BackgroundWorker::builder("date").command("date", [""; 0]).template("models");
    /// assert_eq!(command.build().unwrap_err().field(), "template");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "zygote")]
    pub fn template(mut self, name: impl Into<String>) -> Self {
        self.draft.relations.template = Some(name.into());
        self
    }

    /// Runs the function that the postmaster knows under this name, at most 95 bytes.
    #[doc(alias = "bgw_function_name")]
    pub fn function(mut self, name: impl Into<String>) -> Self {
        self.draft.entry = Some(EntryPoint::Function(name.into()));
        self
    }

    /// Runs a function of a library: a path of at most 1023 bytes, a name of at most 95. A library
    /// in Rust exports one by `bgw_backend::export_worker!`; one in C includes `src/ffi/library.h`
    /// of this crate and defines a `bgw_main`.
    #[doc(alias = "bgw_library_name")]
    pub fn library(mut self, path: impl Into<String>, function: impl Into<String>) -> Self {
        let (path, function) = (path.into(), function.into());
        self.draft.entry = Some(EntryPoint::Library { path, function });
        self
    }

    /// Runs a program. The program and its arguments have at most 1023 bytes together, counting one
    /// byte between each two; with the names of [`after`](Self::after) and [`group`](Self::group),
    /// at most 1024.
    pub fn command<A: Into<String>>(
        mut self,
        program: impl Into<String>,
        args: impl IntoIterator<Item = A>,
    ) -> Self {
        let args = args.into_iter().map(Into::into).collect();
        self.draft.entry = Some(EntryPoint::Command { program: program.into(), args });
        self
    }

    /// The worker's argument. Default: 0.
    #[doc(alias = "bgw_main_arg")]
    pub const fn main_arg(mut self, main_arg: u64) -> Self {
        self.draft.main_arg = main_arg;
        self
    }

    /// Up to 128 bytes that the worker reads as its extra data; the rest is zero.
    #[doc(alias = "bgw_extra")]
    pub fn extra(mut self, extra: &[u8]) -> Self {
        self.draft.extra_len = extra.len();
        self.draft.extra = [0; EXTRA_LEN];
        for (to, from) in self.draft.extra.iter_mut().zip(extra) {
            *to = *from;
        }
        self
    }

    /// Sends SIGUSR1 to `process` when the worker starts and when it ends. It must be the process
    /// that registers the worker.
    #[doc(alias = "bgw_notify_pid")]
    pub const fn notify(mut self, process: Pid) -> Self {
        self.draft.notify = Some(process);
        self
    }

    /// The name of the resource that the worker uses, at most 31 bytes. For `INTERRUPTIBLE`
    /// workers.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.draft.tag = tag.into();
        self
    }

    /// Where its standard output and error go: an [`Output`], or an
    /// [`OutputFile`](super::output::OutputFile). Default: where those of the postmaster go.
    ///
    /// With any other output the worker is forked, even if there are spares.
    pub fn output(mut self, output: impl Into<Output>) -> Self {
        self.draft.output = output.into();
        self
    }

    /// Remembers the last lines of its output, for `Handle::last_lines`: 0 to 100 of them, at most
    /// 4,000 bytes in all. Default: 0. Refused for a worker that writes to the postmaster's output.
    pub const fn last_lines(mut self, lines: u32) -> Self {
        self.draft.last_lines = lines;
        self
    }

    /// Makes the worker a job: somebody waits for its outcome. Default: it is not one.
    ///
    /// - Its end is kept until whoever registered it has looked, has dropped its handles, or has
    ///   ended. While it is kept, nobody else gets its slot, even when no other slot is left.
    /// - When the process that registered it has ended, or has closed its last connection, the
    ///   job is terminated, or goes on, as `orphaned` says.
    /// - A crash reset ends it, whatever its restart policy: no later run could answer.
    pub const fn job(mut self, orphaned: Orphaned) -> Self {
        self.draft.job = Some(orphaned);
        self
    }

    /// Validates the description.
    ///
    /// # Errors
    /// [`InvalidWorker`]: the first field that is wrong, with its value and the limit.
    #[doc(alias = "SanityCheckBackgroundWorker")]
    pub fn build(mut self) -> Result<BackgroundWorker, InvalidWorker> {
        validate(&mut self.draft)
    }
}

//! Builds a description. Nothing is checked before [`BackgroundWorkerBuilder::build`].

use super::description::BackgroundWorker;
use super::limits::EXTRA_LEN;
use super::policy::{EntryPoint, RestartPolicy, StartTime, WorkerFlags};
use super::validate::{Draft, InvalidWorker, validate};
use crate::pid::Pid;

/// A description that is not complete yet.
#[derive(Clone, Debug)]
#[must_use = "a description does nothing until it is built and registered"]
pub struct BackgroundWorkerBuilder {
    draft: Draft,
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

    /// What it may touch. Default: nothing, it is isolated.
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

    /// Whether it is restarted after a failure. Default: never.
    #[doc(alias = "bgw_restart_time")]
    pub const fn restart(mut self, restart: RestartPolicy) -> Self {
        self.draft.restart = restart;
        self
    }

    /// Runs the function that the postmaster knows under this name, at most 95 bytes.
    #[doc(alias = "bgw_function_name")]
    pub fn function(mut self, name: impl Into<String>) -> Self {
        self.draft.entry = Some(EntryPoint::Function(name.into()));
        self
    }

    /// Runs a function of a library: a path of at most 1023 bytes, a name of at most 95.
    #[doc(alias = "bgw_library_name")]
    pub fn library(mut self, path: impl Into<String>, function: impl Into<String>) -> Self {
        let (path, function) = (path.into(), function.into());
        self.draft.entry = Some(EntryPoint::Library { path, function });
        self
    }

    /// Runs a program. It and its arguments are at most 1023 bytes, with one between two of them.
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

    /// Up to 128 bytes for the worker; the rest is zero.
    #[doc(alias = "bgw_extra")]
    pub fn extra(mut self, extra: &[u8]) -> Self {
        self.draft.extra_len = extra.len();
        self.draft.extra = [0; EXTRA_LEN];
        for (to, from) in self.draft.extra.iter_mut().zip(extra) {
            *to = *from;
        }
        self
    }

    /// Sends SIGUSR1 to `process` when the worker starts and when it ends. It must be the process that
    /// registers the worker.
    #[doc(alias = "bgw_notify_pid")]
    pub const fn notify(mut self, process: Pid) -> Self {
        self.draft.notify = Some(process);
        self
    }

    /// The name of the resource that it uses, at most 31 bytes. For `INTERRUPTIBLE` workers.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.draft.tag = tag.into();
        self
    }

    /// Validates the description.
    ///
    /// # Errors
    /// [`InvalidWorker`]: the first field that is wrong, with its value and the limit.
    #[doc(alias = "SanityCheckBackgroundWorker")]
    pub fn build(self) -> Result<BackgroundWorker, InvalidWorker> {
        validate(self.draft)
    }
}

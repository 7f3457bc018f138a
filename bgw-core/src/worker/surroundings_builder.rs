//! What a command finds when it starts, in a builder and in a description.

use super::builder::BackgroundWorkerBuilder;
use super::description::BackgroundWorker;
use super::gift::{Others, check_gifts};
use super::invalid::InvalidWorker;
use super::surroundings::{Input, Surroundings, check_fit};
use std::sync::Arc;

/// What a command finds when it starts. All of it may have 16 KiB, and goes to the postmaster by
/// the control socket: nobody finds it in shared memory, so [`Self::env`] may hold a secret as far
/// as the environment of a process may. A worker that registers such a command must have connected
/// by itself, and `Backend::register_all` refuses it.
impl BackgroundWorkerBuilder {
    /// Sets a variable in the environment of the command, which is the postmaster's but for this.
    /// May be called for each variable; the last call for a name counts. Refused for what
    /// the postmaster sets itself: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`, `BGW_HANDLE`,
    /// `BGW_RUNTIME_DIR` and `BGW_ATTACH`.
    ///
    /// ```
    /// use bgw_core::{BackgroundWorker, Input};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let backup = BackgroundWorker::builder("backup")
    ///     .command("./backup.sh", ["--all"])
    ///     .env_clear()
    ///     .env("PATH", "/usr/bin:/bin")
    ///     .env("LANG", "C.UTF-8")
    ///     .current_dir("/srv/backup")
    ///     .stdin(Input::Null)
    ///     .build()?;
    /// assert_eq!(backup.current_dir(), Some("/srv/backup"));
    ///
    /// let function = BackgroundWorker::builder("f").function("f").env("A", "b");
    /// let refused = function.build().unwrap_err();
    /// assert_eq!(refused.to_string(), "env is A, which needs a command");
    /// # Ok(())
    /// # }
    /// ```
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.surroundings().variables.insert(name.into(), Some(value.into()));
        self
    }

    /// Removes a variable from the environment of the command.
    pub fn env_remove(mut self, name: impl Into<String>) -> Self {
        self.surroundings().variables.insert(name.into(), None);
        self
    }

    /// Gives the command an empty environment, but for what [`env`](Self::env) sets, before this
    /// call or after it, and for what the postmaster tells the run. A program without a slash in
    /// its name is looked for in the `PATH` that the command has; without any, in `/bin` and
    /// `/usr/bin`.
    pub fn env_clear(mut self) -> Self {
        self.surroundings().clear = true;
        self
    }

    /// The working folder of the command: an absolute path, at most 1,023 bytes. Default: the
    /// postmaster's. A program and arguments that are relative paths are meant from there. A run
    /// that cannot change to it ends as one whose program cannot be executed.
    pub fn current_dir(mut self, folder: impl Into<String>) -> Self {
        self.surroundings().folder = Some(folder.into());
        self
    }

    /// Gives the command the means to attach to the cluster as its worker: one descriptor, and the
    /// variable `BGW_ATTACH` with its number. A program in Rust calls `Worker::from_env` of
    /// `bgw-backend` and has then what a function has: latch, stop request, readiness, beats, jobs,
    /// its own handle, and the cluster. So an attached command may declare
    /// [`Ready::Call`](crate::Ready::Call), a [`heartbeat`](Self::heartbeat) and
    /// [`jobs`](crate::Recycle::jobs). Default: a command has no part in the cluster. Refused for
    /// functions, which are attached in any case.
    ///
    /// It can then write to the shared memory of the cluster, as every worker that is a function.
    ///
    /// Every command finds its own handle in `BGW_HANDLE`, and the postmaster's runtime folder, if
    /// there is one, in `BGW_RUNTIME_DIR`.
    ///
    /// ```
    /// use bgw_core::{BackgroundWorker, Ready};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let index = BackgroundWorker::builder("index")
    ///     .command("/usr/lib/app/index", ["--all"])
    ///     .attach()
    ///     .ready(Ready::Call)
    ///     .heartbeat(Duration::from_secs(10))
    ///     .build()?;
    /// assert!(index.is_attached());
    /// # Ok(())
    /// # }
    /// ```
    pub const fn attach(mut self) -> Self {
        self.draft.attached = true;
        self
    }

    /// What the command reads from its standard input. Default: what the postmaster would. A
    /// descriptor of the registrant's own is [given](Self::give_at) at number 0.
    pub fn stdin(mut self, input: Input) -> Self {
        self.surroundings().input = input;
        self
    }

    fn surroundings(&mut self) -> &mut Surroundings {
        self.draft.surroundings.get_or_insert_default()
    }
}

impl BackgroundWorker {
    /// The variables that are set in the environment of the command, and those that are removed
    /// (`None`), by name. Empty in a description that comes from shared memory.
    pub fn env(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let all = self.surroundings.as_deref().map(|surroundings| &surroundings.variables);
        all.into_iter().flatten().map(|(name, value)| (name.as_str(), value.as_deref()))
    }

    /// True if the environment of the command begins empty.
    #[must_use]
    pub fn clears_env(&self) -> bool {
        self.surroundings.as_deref().is_some_and(|surroundings| surroundings.clear)
    }

    /// The working folder of the command; `None`: the postmaster's.
    #[must_use]
    pub fn current_dir(&self) -> Option<&str> {
        self.surroundings.as_deref()?.folder.as_deref()
    }

    /// True for a command that gets its worker.
    #[must_use]
    pub const fn is_attached(&self) -> bool {
        self.attached
    }

    /// What the command reads from its standard input.
    #[must_use]
    pub fn stdin(&self) -> &Input {
        self.surroundings.as_deref().map_or(&Input::Inherit, |surroundings| &surroundings.input)
    }

    /// Gives a command what it finds when it starts.
    ///
    /// # Errors
    /// [`InvalidWorker`]: they are not valid, or this is not a command.
    #[doc(hidden)]
    pub fn set_surroundings(&mut self, surroundings: Surroundings) -> Result<(), InvalidWorker> {
        check_fit(&surroundings, &self.entry)?;
        let (ready, input, output) = (self.ready(), &surroundings.input, self.output());
        check_gifts(self.gifts(), &self.entry, Others { ready, input, output })?;
        self.surroundings = Some(Arc::new(surroundings));
        Ok(())
    }

    /// The first field that is kept beside the slot, if there is one.
    #[doc(hidden)]
    #[must_use]
    pub fn beside_its_slot(&self) -> Option<&'static str> {
        if !self.gifts().is_empty() {
            return Some("give");
        }
        let surroundings = self.surroundings()?;
        Some(surroundings.said().map_or("env", |(field, _)| field))
    }

    /// The surroundings of a command that has any of its own.
    #[doc(hidden)]
    #[must_use]
    pub fn surroundings(&self) -> Option<&Surroundings> {
        self.surroundings.as_deref()
    }
}

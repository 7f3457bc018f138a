//! Views of all registered workers, and what is done to several at once.

use crate::backend::Backend;
use crate::error::TerminateError;
use crate::handle::Handle;
use bgw_core::internals::{RunState, flag, pidfd, run_state};
use bgw_core::{BackgroundWorker, Pid, WorkerFlags, WorkerHandle, WorkerStatus};
use nix::errno::Errno;
use shmem_slots::{Key, Snapshot, State};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// One entry of [`Backend::workers`].
#[derive(Clone, Debug)]
pub struct WorkerInfo {
    /// Its handle.
    pub handle: WorkerHandle,
    /// Its description. A notify target that has ended is left out, since nobody is signalled then.
    pub worker: BackgroundWorker,
    /// Its status at the time of the call.
    pub status: WorkerStatus,
    /// It has reported that it is ready.
    pub ready: bool,
    /// Its termination was requested.
    pub terminating: bool,
    /// When its process started, by the wall clock; `None` if no process runs.
    pub started_at: Option<SystemTime>,
    /// What it waits for, by the name that it gave; `None` if it does not wait or gave no name.
    pub wait_event: Option<String>,
    /// Its state in its own words; `None` if no process runs, or it says nothing.
    pub status_text: Option<String>,
}

/// The result of [`Backend::terminate_by_tag`].
#[derive(Clone, Debug)]
pub struct TagRelease {
    /// Workers whose termination was requested. Once they have ended, no interruptible worker uses
    /// the resource.
    pub asked: Vec<Handle>,
    /// Workers that use the resource and are not interruptible. They run on.
    pub holding: Vec<Handle>,
}

impl Backend {
    /// All registered workers in slot order, each as it was when its slot was read. Reads every
    /// slot; omits slots that change meanwhile or hold invalid bytes.
    ///
    /// The status of a worker that had not stopped is `PostmasterDied` once the postmaster has
    /// died.
    #[doc(alias = "pg_stat_activity")]
    #[must_use]
    pub fn workers(&self) -> Vec<WorkerInfo> {
        let slots = self.attachment.slots();
        let published = slots.occupied().filter(|(_, word)| word.state() == State::Published);
        published.filter_map(|(index, word)| self.info(index, word)).collect()
    }

    fn info(&self, index: u32, word: Snapshot) -> Option<WorkerInfo> {
        let cells = self.attachment.cells();
        let key = Key { index, generation: word.generation() };
        let mut record = self.attachment.slots().read(key).ok()?;
        if record.notify().is_some_and(|target| self.has_ended(target)) {
            record.forget_notify();
        }
        let worker = record.decode().ok()?;
        // Read after the word, as in `register`.
        let id = WorkerHandle::new(index, word.generation(), cells.incarnation());
        let status = match Handle::new(Arc::clone(&self.attachment), id).status() {
            WorkerStatus::Started(_) | WorkerStatus::NotYetStarted
                if !self.postmaster_is_alive() =>
            {
                WorkerStatus::PostmasterDied
            }
            status => status,
        };
        let running = matches!(status, WorkerStatus::Started(_));
        let berth = cells.berth_of(index);
        Some(WorkerInfo {
            handle: id,
            worker,
            status,
            ready: word.flags() & flag::READY != 0,
            terminating: word.flags() & flag::TERMINATE != 0,
            started_at: running.then(|| cells.started_at(berth)).flatten(),
            wait_event: running.then(|| cells.wait_event(berth)).flatten(),
            status_text: running.then(|| cells.status_text(berth)).flatten(),
        })
    }

    /// True if `process`, a pid in the postmaster's pid namespace, has ended. False if this process
    /// cannot tell.
    fn has_ended(&self, process: Pid) -> bool {
        if self.pid() != Pid::this() {
            return false;
        }
        match pidfd::open(process) {
            Ok(process) => pidfd::wait_for_end(process, Some(Instant::now())).unwrap_or(false),
            Err(error) => error.raw_os_error() == Some(Errno::ESRCH as i32),
        }
    }

    /// The handles of all registered workers called `name`: that of the
    /// [unique](bgw_core::BackgroundWorkerBuilder::unique) one first, then those of the others in
    /// slot order. After a crash reset this finds the successor of a worker. Reads every slot.
    ///
    /// The end of a unique worker frees its name: once a [`wait_for_end`](Handle::wait_for_end) has
    /// returned, it is found no more, and the next one can be registered.
    #[must_use]
    pub fn find(&self, name: &str) -> Vec<Handle> {
        let named = self.workers().into_iter().filter(|info| info.worker.name() == name);
        let mut named: Vec<WorkerInfo> = named.collect();
        named.sort_by_key(|info| !info.worker.is_unique());
        named.into_iter().map(|info| self.handle(info.handle)).collect()
    }

    /// The handles of all registered workers that are members of the
    /// [group](bgw_core::BackgroundWorkerBuilder::group) `name`, in slot order. Reads every slot.
    #[must_use]
    pub fn find_group(&self, name: &str) -> Vec<Handle> {
        let members = self.workers().into_iter().filter(|info| info.worker.group() == Some(name));
        members.map(|info| self.handle(info.handle)).collect()
    }

    /// The type of the running worker with process `pid`, or `None`. Reads every slot.
    #[doc(alias = "GetBackgroundWorkerTypeByPid")]
    #[must_use]
    pub fn worker_type_by_pid(&self, pid: Pid) -> Option<String> {
        let slots = self.attachment.slots();
        let (index, word) =
            slots.occupied().find(|&(_, word)| run_state(word) == RunState::Started(pid))?;
        let record = slots.read(Key { index, generation: word.generation() }).ok()?;
        Some(record.decode().ok()?.worker_type().to_owned())
    }

    /// Requests the termination of every interruptible worker that uses the resource `tag`, so that
    /// the resource can be dropped. Returns those, and the others that use it.
    ///
    /// # Errors
    /// As [`Handle::terminate`].
    #[doc(alias = "TerminateBackgroundWorkersForDatabase")]
    pub fn terminate_by_tag(&self, tag: &str) -> Result<TagRelease, TerminateError> {
        let mut release = TagRelease { asked: Vec::new(), holding: Vec::new() };
        for info in self.workers() {
            if tag.is_empty() || info.worker.tag() != tag {
                continue;
            }
            let handle = self.handle(info.handle);
            if info.worker.flags().contains(WorkerFlags::INTERRUPTIBLE) {
                handle.terminate()?;
                release.asked.push(handle);
            } else {
                release.holding.push(handle);
            }
        }
        Ok(release)
    }
}

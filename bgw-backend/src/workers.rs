//! Views of all registered workers, and what is done to several at once.

use crate::backend::Backend;
use crate::error::TerminateError;
use crate::handle::Handle;
use bgw_core::internals::{RunState, flag, run_state};
use bgw_core::{BackgroundWorker, Pid, WorkerFlags, WorkerHandle, WorkerStatus};
use shmem_slots::{Key, Snapshot, State};
use std::time::SystemTime;

/// One entry of [`Backend::workers`].
#[derive(Clone, Debug)]
pub struct WorkerInfo {
    /// Its handle.
    pub handle: WorkerHandle,
    /// Its description.
    pub worker: BackgroundWorker,
    /// Its status at the time of the look.
    pub status: WorkerStatus,
    /// It has reported that it is ready.
    pub ready: bool,
    /// Its termination was requested.
    pub terminating: bool,
    /// When its process started, by the wall clock; `None` if none runs.
    pub started_at: Option<SystemTime>,
    /// What it waits for, by the name that it gave; `None` if it does not wait or gave no name.
    pub wait_event: Option<String>,
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
    /// The status of a worker that had not stopped is `PostmasterDied` once the postmaster has died.
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
        let worker = self.attachment.slots().read(key).ok()?.decode().ok()?;
        // Read after the word, as in `register`.
        let id = WorkerHandle::new(index, word.generation(), cells.incarnation());
        let status = match self.handle(id).status() {
            WorkerStatus::Started(_) | WorkerStatus::NotYetStarted
                if !self.postmaster_is_alive() =>
            {
                WorkerStatus::PostmasterDied
            }
            status => status,
        };
        let running = matches!(status, WorkerStatus::Started(_));
        Some(WorkerInfo {
            handle: id,
            worker,
            status,
            ready: word.flags() & flag::READY != 0,
            terminating: word.flags() & flag::TERMINATE != 0,
            started_at: running.then(|| cells.started_at(index)).flatten(),
            wait_event: running.then(|| cells.wait_event(index)).flatten(),
        })
    }

    /// The handles of all registered workers called `name`, in slot order. Several workers may have
    /// one name; after a crash reset this finds the successor of a worker. Reads every slot.
    #[must_use]
    pub fn find(&self, name: &str) -> Vec<Handle> {
        let named = self.workers().into_iter().filter(|info| info.worker.name() == name);
        named.map(|info| self.handle(info.handle)).collect()
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

//! The owner of the ring of events: what the postmaster has done, for any reader in the cluster.
//!
//! An event is appended once its fact is published, and before those who wait for that fact are
//! woken. Readers of events are woken once for each pass of the loop, if it has appended any.
//!
//! It remembers the worker of each slot from `Registered` to `Unregistered`, so the events of a
//! handle are complete and in the order of its life. A worker that is not on the list has no
//! events, and no process ends twice.

use crate::sys::clock;
use crate::sys::private_table::PrivateTable;
use bgw_core::internals::{EVENTS_TAG, EventName, EventRecord, EventRing};
use bgw_core::{Event, EventKind, ExitCause, Pid, WorkerHandle};
use shmem_slots::ring::{Ring, RingOptions};
use shmem_slots::{CreateError, Key};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A worker that is on the list.
#[derive(Clone, Debug)]
struct Life {
    key: Key,
    handle: WorkerHandle,
    name: EventName,
    /// Its process.
    pid: Option<Pid>,
    ready: bool,
}

/// What else an event says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Details {
    pub(crate) pid: Option<Pid>,
    pub(crate) cause: Option<ExitCause>,
    pub(crate) delay: Option<Duration>,
    pub(crate) count: u32,
}

/// The events.
#[derive(Debug)]
pub(crate) struct Events {
    /// `None`: the postmaster keeps none.
    ring: Option<Arc<EventRing>>,
    lives: PrivateTable<Life>,
    /// The name of the worker whose crash the next reset follows: it may be off the list by then.
    culprit: EventName,
    /// Readers must be woken.
    appended: bool,
}

impl Events {
    /// Events that keep the last `entries`; none if that is 0. Only this process can write them.
    pub(crate) fn new(entries: u32) -> Result<Self, CreateError> {
        let options = RingOptions { entries, tag: EVENTS_TAG };
        let ring = (entries > 0).then(|| Ring::create(&options).map(Arc::new)).transpose()?;
        Ok(Self { ring, lives: PrivateTable::default(), culprit: EventName::NONE, appended: false })
    }

    /// The ring, to pass on.
    pub(crate) const fn ring(&self) -> Option<&Arc<EventRing>> {
        self.ring.as_ref()
    }

    /// A worker has been registered.
    pub(crate) fn registered(&mut self, key: Key, handle: WorkerHandle, name: &str) {
        if self.ring.is_some() {
            let life = Life { key, handle, name: EventName::of(name), pid: None, ready: false };
            self.lives.put(key.index as usize, life);
            self.tell(key, EventKind::Registered, Details::default());
        }
    }

    /// Something happened to the worker of `key`.
    pub(crate) fn tell(&mut self, key: Key, kind: EventKind, details: Details) {
        let life = self.lives.get_mut(key.index as usize).filter(|life| life.key == key);
        let Some(life) = life else { return };
        let pid = details.pid.or(life.pid);
        match kind {
            EventKind::Started => (life.pid, life.ready) = (pid, false),
            EventKind::Ready if life.ready || life.pid.is_none() => return,
            EventKind::Ready => life.ready = true,
            EventKind::Exited if life.pid.is_none() => return,
            EventKind::Exited => life.pid = None,
            _ => {}
        }
        let (handle, name) = (life.handle, life.name);
        self.append(kind, pid, Some(handle), name, details);
        if kind == EventKind::Unregistered {
            self.lives.clear(key.index as usize);
        }
    }

    /// Something happened to a second process of the worker of `key`, which the details name.
    pub(crate) fn tell_beside(&mut self, key: Key, kind: EventKind, details: Details) {
        let life = self.lives.get(key.index as usize).filter(|life| life.key == key);
        let Some((handle, name)) = life.map(|life| (life.handle, life.name)) else { return };
        self.append(kind, details.pid, Some(handle), name, details);
    }

    /// The second process of the worker of `key` is its process from now on.
    pub(crate) fn handed_over(&mut self, key: Key, pid: Pid, ready: bool) {
        if let Some(life) = self.lives.get_mut(key.index as usize).filter(|life| life.key == key) {
            (life.pid, life.ready) = (Some(pid), false);
        }
        self.tell(key, EventKind::HandedOver, Details::default());
        if ready {
            self.tell(key, EventKind::Ready, Details::default());
        }
    }

    /// The process that had started for the worker of `key` died before it took the worker.
    /// Another one follows, with its own event.
    pub(crate) fn start_lost(&mut self, key: Key) {
        if let Some(life) = self.lives.get_mut(key.index as usize).filter(|life| life.key == key) {
            life.pid = None;
        }
    }

    /// Something happened to the whole cluster.
    pub(crate) fn tell_of_cluster(&mut self, kind: EventKind) {
        self.append(kind, None, None, EventName::NONE, Details::default());
    }

    /// A worker of this name has crashed; a reset follows.
    pub(crate) fn crashed(&mut self, name: &str) {
        self.culprit = EventName::of(name);
    }

    /// The slots are new: every handle of before is over, the worker `culprit` of before crashed.
    pub(crate) fn reset(&mut self, culprit: WorkerHandle, pid: Pid, cause: ExitCause) {
        let ended: Vec<Key> = self.lives.iter().map(|life| life.key).collect();
        let why = ExitCause::NotStarted(bgw_core::NotStarted::ClusterReset);
        for key in ended {
            let details = Details { cause: Some(why), ..Details::default() };
            self.tell(key, EventKind::Unregistered, details);
        }
        let details = Details { cause: Some(cause), ..Details::default() };
        let name = std::mem::replace(&mut self.culprit, EventName::NONE);
        self.append(EventKind::Reset, Some(pid), Some(culprit), name, details);
    }

    /// Wakes the readers, if there is something for them. At most one system call.
    pub(crate) fn wake(&mut self) {
        if let Some(ring) = self.ring.as_ref().filter(|_| self.appended) {
            ring.wake();
        }
        self.appended = false;
    }

    fn append(
        &mut self,
        kind: EventKind,
        pid: Option<Pid>,
        handle: Option<WorkerHandle>,
        name: EventName,
        details: Details,
    ) {
        let Some(ring) = &self.ring else { return };
        let mut event = Event::new(kind, SystemTime::now(), clock::monotonic());
        (event.handle, event.pid) = (handle, pid);
        (event.cause, event.delay, event.count) = (details.cause, details.delay, details.count);
        // It fails for a ring that was attached alone; this one was created.
        self.appended |= ring.append(&EventRecord::with_name(&event, name)).is_ok();
    }
}

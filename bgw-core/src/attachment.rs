//! What a process of the cluster holds: the slots, the doorbell, and the postmaster's pidfd.
//!
//! A worker inherits it over the fork. Another program asks for it on the control socket: it sends
//! `Hello`, the postmaster checks its credentials and answers `Welcome` with the descriptors. The
//! attachment lasts as long as the connection: when it closes, the postmaster sweeps whatever the
//! program had half done, and sends it no more signals.

use crate::attach_error::{AttachError, cannot_connect};
use crate::control::client::{AskError, ask_functions, exchange};
use crate::control::message::{Reply, Request};
use crate::control::session::{Posted, Session};
use crate::control::transport::ControlSocket;
use crate::control::{CONTROL_SOCKET, PROTOCOL};
use crate::function::Function;
use crate::line::Line;
use crate::pid::Pid;
use crate::shared::{ClusterCells, EVENTS_TAG, EventRing, LAYOUT_TAG, WorkerSlots};
use crate::sys::role::is_postmaster;
use crate::sys::{eventfd, pidfd};
use crate::tied::Tied;
use shmem_slots::Access;
use shmem_slots::futex::Watch;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long the kernel may take, at most, from the first liveness word that it marks to the end of
/// the process.
const EXIT_TIME: Duration = Duration::from_secs(1);

/// A process's attachment to the cluster of one postmaster.
///
/// Cheap to share by reference; all methods take `&self`. It belongs to the process that attached:
/// a forked child must attach anew (see [`Attachment::is_mine`]).
#[derive(Debug)]
pub struct Attachment {
    slots: Arc<WorkerSlots>,
    doorbell: Option<Arc<OwnedFd>>,
    /// Without it every registration rings.
    pub(crate) alarm: Option<Arc<OwnedFd>>,
    postmaster: Pid,
    postmaster_pidfd: Arc<OwnedFd>,
    owner: Owner,
    liveness: u32,
    functions: Arc<[Function]>,
    descriptors: Vec<(String, OwnedFd)>,
    pub(crate) events: Option<Arc<EventRing>>,
    session: Option<Arc<Session>>,
    line: Option<Line>,
    tied: Tied,
}

/// Whose attachment it is.
#[derive(Clone, Copy, Debug)]
struct Owner {
    /// Its pid in the postmaster's pid namespace.
    seen: Pid,
    /// Its pid in its own namespace.
    process: Pid,
    /// Where a worker that inherits the attachment has its pid, which counts if it is not 0.
    worker: Option<&'static AtomicU32>,
}

impl Owner {
    const fn new(seen: Pid, process: Pid) -> Self {
        Self { seen, process, worker: None }
    }

    fn worker(&self) -> Option<Pid> {
        Pid::new(self.worker?.load(Ordering::Relaxed))
    }
}

impl Attachment {
    /// What a worker inherits. The worker makes it, or the postmaster ahead of the fork, to be
    /// taken over when the worker enters. `descriptors` are those that the program passes to its
    /// workers, by name; `functions` those that workers may run, sorted by name.
    #[must_use]
    pub fn inherit(
        slots: Arc<WorkerSlots>,
        doorbell: Arc<OwnedFd>,
        postmaster: Pid,
        postmaster_pidfd: Arc<OwnedFd>,
        functions: Arc<[Function]>,
        descriptors: Vec<(String, OwnedFd)>,
    ) -> Self {
        let me = Pid::this();
        Self {
            slots,
            doorbell: Some(doorbell),
            alarm: None,
            postmaster,
            postmaster_pidfd,
            owner: Owner::new(me, me),
            liveness: 0,
            functions,
            descriptors,
            events: None,
            session: None,
            line: None,
            tied: Tied::default(),
        }
    }

    /// The same with the postmaster's ring of events. A worker has no mapping of it, only its
    /// descriptor, and never drops it: the postmaster's own share is in its memory for ever.
    #[must_use]
    pub fn with_events(mut self, events: Option<Arc<EventRing>>) -> Self {
        self.events = events;
        self
    }

    /// The same for a child that becomes a worker later, and writes its pid to `cell` then; until
    /// then that is 0. The attachment belongs to the process of that pid.
    #[must_use]
    pub const fn for_workers(mut self, cell: &'static AtomicU32) -> Self {
        self.owner.worker = Some(cell);
        self
    }

    /// The same with a way to the control socket.
    #[must_use]
    pub fn with_line(mut self, door: Option<Arc<OwnedFd>>) -> Self {
        self.line = door.map(Line::new);
        self
    }

    /// Attaches to the postmaster of the runtime folder `path`, or of the control socket `path`.
    ///
    /// # Errors
    /// [`AttachError`].
    pub fn connect(
        path: &Path,
        read_only: bool,
        deadline: Option<Instant>,
    ) -> Result<Self, AttachError> {
        let path = match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => path.join(CONTROL_SOCKET),
            Ok(_) => PathBuf::from(path),
            Err(error) => return Err(cannot_connect(path, error)),
        };
        let socket = ControlSocket::connect(&path, deadline);
        Self::attach(socket.map_err(|error| cannot_connect(&path, error))?, read_only, deadline)
    }

    /// Attaches to the cluster over `socket`, which is connected to the postmaster.
    ///
    /// # Errors
    /// [`AttachError`].
    pub fn attach(
        mut socket: ControlSocket,
        read_only: bool,
        deadline: Option<Instant>,
    ) -> Result<Self, AttachError> {
        if is_postmaster() {
            return Err(AttachError::Postmaster);
        }
        shmem_slots::futex::check_kernel()?;
        let hello = Request::Hello { protocol: PROTOCOL, layout_tag: LAYOUT_TAG, read_only };
        let (reply, fds) = exchange(&mut socket, &hello, deadline)?;
        let Reply::Welcome { postmaster, owner, liveness, read_only, .. } = reply else {
            return Err(AskError::unexpected(&reply).into());
        };
        let mut fds = fds.into_iter();
        let missing =
            |what: &str| AskError::Unexpected { found: format!("a welcome without {what}") };
        let region = fds.next().ok_or_else(|| missing("the region"))?;
        let postmaster_pidfd = fds.next().ok_or_else(|| missing("the postmaster's pidfd"))?;
        let doorbell = if read_only { None } else { fds.next() };
        let alarm = if read_only { None } else { fds.next() };
        if alarm.is_none() && !read_only {
            return Err(missing("the doorbell and the alarm").into());
        }
        let access = if read_only { Access::ReadOnly } else { Access::ReadWrite };
        let slots = WorkerSlots::attach(region, LAYOUT_TAG, access).map_err(AttachError::Region)?;
        let events = fds.next().map(|file| EventRing::attach(file, EVENTS_TAG)).transpose();
        let events = events.map_err(AttachError::Region)?;
        let functions = Function::from_lines(&ask_functions(&mut socket, deadline)?).into();
        Ok(Self {
            slots: Arc::new(slots),
            doorbell: doorbell.map(Arc::new),
            alarm: alarm.map(Arc::new),
            postmaster,
            postmaster_pidfd: Arc::new(postmaster_pidfd),
            owner: Owner::new(owner, Pid::this()),
            liveness,
            functions,
            descriptors: Vec::new(),
            events: events.map(Arc::new),
            session: Some(Arc::new(Session::new(socket))),
            line: None,
            tied: Tied::default(),
        })
    }

    /// The slots of the cluster.
    #[inline]
    #[must_use]
    pub const fn slots(&self) -> &Arc<WorkerSlots> {
        &self.slots
    }

    /// The cells beside the slots.
    #[must_use]
    pub fn cells(&self) -> ClusterCells<'_> {
        ClusterCells::new(&self.slots)
    }

    /// The postmaster's pid in its own pid namespace, for messages.
    #[must_use]
    pub const fn postmaster(&self) -> Pid {
        self.postmaster
    }

    /// The postmaster's pidfd: readable once it has ended.
    pub(crate) fn postmaster_pidfd(&self) -> BorrowedFd<'_> {
        self.postmaster_pidfd.as_fd()
    }

    /// The doorbell; `None` for a read-only attachment.
    pub(crate) fn doorbell(&self) -> Option<BorrowedFd<'_>> {
        self.doorbell.as_ref().map(|doorbell| doorbell.as_fd())
    }

    /// The functions that workers may run, sorted by name. They do not change while the
    /// postmaster lives.
    #[must_use]
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// The descriptors that the embedding program passes to its workers, by name. Empty in any
    /// process but a worker.
    #[must_use]
    pub fn descriptors(&self) -> &[(String, OwnedFd)] {
        &self.descriptors
    }

    /// The events, mapped anew to be read; `None` if the postmaster keeps none, or in a worker in a
    /// shared library. Takes a descriptor and a mapping.
    ///
    /// # Errors
    /// A failing system call; a ring that does not fit this build.
    pub fn open_events(&self) -> Result<Option<EventRing>, shmem_slots::AttachError> {
        let Some(events) = &self.events else { return Ok(None) };
        let file = events.region().as_fd().try_clone_to_owned();
        let file =
            file.map_err(|source| shmem_slots::AttachError::System { call: "dup", source })?;
        EventRing::attach(file, EVENTS_TAG).map(Some)
    }

    /// This process's pid in the postmaster's pid namespace. Slots are claimed in its name.
    #[must_use]
    pub fn owner(&self) -> Pid {
        self.owner.worker().unwrap_or(self.owner.seen)
    }

    /// True for an attachment that can look and not change anything.
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        self.doorbell.is_none()
    }

    /// True in the process that attached, false in a forked child of it. One system call.
    #[must_use]
    pub fn is_mine(&self) -> bool {
        self.owner.worker().unwrap_or(self.owner.process) == Pid::this()
    }

    /// The liveness word that this process waits on.
    #[must_use]
    pub const fn liveness(&self) -> u32 {
        self.liveness
    }

    /// What the layer above ties to this attachment.
    #[must_use]
    pub const fn tied(&self) -> &Tied {
        &self.tied
    }

    /// True until the postmaster dies. One load.
    #[must_use]
    pub fn postmaster_is_alive(&self) -> bool {
        self.cells().watch_postmaster(self.liveness).is_some()
    }

    /// A watch that ends a wait when the postmaster dies, or `None` if it has died.
    #[must_use]
    pub fn watch_postmaster(&self) -> Option<Watch<'_>> {
        let watch = self.cells().watch_postmaster(self.liveness);
        if watch.is_none() {
            self.pass_on_postmaster_death();
        }
        watch
    }

    /// Wakes everyone who waits for the postmaster's death, on any liveness word. The kernel wakes
    /// only one waiter of each word, which may be any process that has mapped the region.
    pub fn pass_on_postmaster_death(&self) {
        // A woken waiter looks for the mark. The kernel may not have marked every word yet; it has
        // once the process has ended. If the process lives, something else wrote the mark seen
        // here, and a woken waiter sleeps again.
        if !self.cells().postmaster_is_dead_to_all() {
            let end = Instant::now() + EXIT_TIME;
            let _ = pidfd::wait_for_end(&self.postmaster_pidfd, Some(end));
        }
        self.cells().wake_liveness_waiters();
    }

    /// Rings the doorbell: the postmaster looks for what has changed. One system call; never
    /// blocks.
    ///
    /// # Errors
    /// `PermissionDenied` for a read-only attachment, else the error of `write`.
    pub fn ring(&self) -> io::Result<()> {
        match &self.doorbell {
            Some(doorbell) => eventfd::ring(doorbell),
            None => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }

    /// Asks the postmaster something on the control socket and waits for its answer.
    ///
    /// # Errors
    /// [`AskError`].
    pub fn ask(&self, request: &Request, deadline: Option<Instant>) -> Result<Reply, AskError> {
        Ok(self.ask_for(request, deadline)?.0)
    }

    /// Like [`Attachment::ask`], for an answer that comes with descriptors.
    ///
    /// # Errors
    /// [`AskError`].
    pub fn ask_for(
        &self,
        request: &Request,
        deadline: Option<Instant>,
    ) -> Result<(Reply, Vec<OwnedFd>), AskError> {
        if !self.is_mine() {
            return Err(AskError::ForkedChild { owner: self.owner() });
        }
        match (&self.session, &self.line) {
            (Some(session), _) => session.ask(request, deadline),
            (None, Some(line)) => line.ask(request, deadline),
            (None, None) => Err(AskError::NoControlSocket),
        }
    }

    /// Posts a request, for a future to come back for its reply. Never blocks: a worker that has no
    /// connection yet says hello on a new one, and does not wait for the welcome.
    ///
    /// # Errors
    /// [`AskError`].
    pub fn post(&self, request: &Request) -> Result<Posted, AskError> {
        if !self.is_mine() {
            return Err(AskError::ForkedChild { owner: self.owner() });
        }
        match (&self.session, &self.line) {
            (Some(session), _) => Ok(session.post(request)),
            (None, Some(line)) => line.post(request),
            (None, None) => Err(AskError::NoControlSocket),
        }
    }

    /// Tells the postmaster something that it does not answer. What cannot be sent until `deadline`
    /// is not said.
    pub fn tell(&self, request: &Request, deadline: Option<Instant>) {
        match (&self.session, &self.line) {
            _ if !self.is_mine() => {}
            (Some(session), _) => session.tell(request, deadline),
            (None, Some(line)) => line.tell(request, deadline),
            (None, None) => {}
        }
    }

    /// By which a worker connects to the control socket.
    pub(crate) fn door(&self) -> Option<BorrowedFd<'_>> {
        self.line.as_ref().map(Line::door)
    }

    /// In a worker whose process is to serve another one: ends its connection.
    pub fn hang_up(&self) {
        if let Some(line) = &self.line {
            line.hang_up();
        }
    }
}

/// The attachment is over, so its connection ends, although a fork of this process may hold it.
impl Drop for Attachment {
    fn drop(&mut self) {
        if let Some(session) = self.session.as_ref().filter(|_| self.is_mine()) {
            session.end();
        }
    }
}

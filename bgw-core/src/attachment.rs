//! What a process of the cluster holds: the slots, the doorbell, and the postmaster's pidfd.
//!
//! A worker inherits it over the fork. Another program asks for it on the control socket: it sends
//! `Hello`, the postmaster checks its credentials and answers `Welcome` with the descriptors. The
//! attachment lasts as long as the connection: when it closes, the postmaster sweeps whatever the
//! program had half done, and sends it no more signals.

use crate::control::client::{AskError, Session, ask_functions, exchange};
use crate::control::message::{Reply, Request};
use crate::control::transport::ControlSocket;
use crate::control::{CONTROL_SOCKET, PROTOCOL};
use crate::pid::Pid;
use crate::shared::{ClusterCells, LAYOUT_TAG, WorkerSlots};
use crate::sys::role::is_postmaster;
use crate::sys::{eventfd, pidfd};
use shmem_slots::Access;
use shmem_slots::futex::Watch;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Why a process could not attach to a cluster.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// Nobody listens at the control socket.
    #[error("no postmaster is running at {path}; start one, or name its runtime folder")]
    NotRunning {
        /// The path of the socket.
        path: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// This user may not use the control socket.
    #[error(
        "this user may not use the control socket {path}; connect as the user of the postmaster, or have its folder opened to this user"
    )]
    NotPermitted {
        /// The path of the socket.
        path: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Connecting to the control socket failed for another reason.
    #[error("connecting to the control socket {path} failed")]
    Connect {
        /// The path of the socket.
        path: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// This process is a postmaster.
    #[error("this process is a postmaster and cannot attach to one; let another process do it")]
    Postmaster,
    /// The postmaster refused, or did not answer.
    #[error("the postmaster did not let this process attach")]
    Ask(#[from] AskError),
    /// The region does not fit this build.
    #[error(
        "the cluster's shared region does not fit; build both programs with one version of bgw-core"
    )]
    Region(#[source] shmem_slots::AttachError),
    /// The kernel lacks a system call.
    #[error(transparent)]
    Kernel(#[from] shmem_slots::futex::Unsupported),
}

shmem_slots::debug_as_chain!(AttachError);

/// How long the kernel may take, at most, from the first liveness word that it marks to the end of the
/// process.
const EXIT_TIME: Duration = Duration::from_secs(1);

/// A process's attachment to the cluster of one postmaster.
///
/// Cheap to share by reference; all methods take `&self`. It belongs to the process that attached: a
/// forked child must attach anew (see [`Attachment::is_mine`]).
#[derive(Debug)]
pub struct Attachment {
    slots: Arc<WorkerSlots>,
    doorbell: Option<Arc<OwnedFd>>,
    postmaster: Pid,
    postmaster_pidfd: Arc<OwnedFd>,
    owner: Owner,
    liveness: u32,
    functions: Arc<[String]>,
    descriptors: Vec<(String, OwnedFd)>,
    session: Option<Session>,
}

/// Whose attachment it is. A forked worker takes over the one that the postmaster made for it.
#[derive(Debug)]
struct Owner {
    /// Its pid in the postmaster's pid namespace.
    seen: AtomicU32,
    /// Its pid in its own namespace.
    process: AtomicU32,
}

impl Owner {
    const fn new(seen: Pid, process: Pid) -> Self {
        Self { seen: AtomicU32::new(seen.get()), process: AtomicU32::new(process.get()) }
    }
}

impl Attachment {
    /// What a worker inherits. The worker makes it, or the postmaster ahead of the fork, to be taken
    /// over when the worker enters. `descriptors` are those that the program passes to its workers,
    /// by name; `functions` the sorted names of the functions that workers may run.
    #[must_use]
    pub fn inherit(
        slots: Arc<WorkerSlots>,
        doorbell: Arc<OwnedFd>,
        postmaster: Pid,
        postmaster_pidfd: Arc<OwnedFd>,
        functions: Arc<[String]>,
        descriptors: Vec<(String, OwnedFd)>,
    ) -> Self {
        let me = Pid::this();
        Self {
            slots,
            doorbell: Some(doorbell),
            postmaster,
            postmaster_pidfd,
            owner: Owner::new(me, me),
            liveness: 0,
            functions,
            descriptors,
            session: None,
        }
    }

    /// Makes the calling process, a forked worker, the owner. Allocates nothing.
    pub(crate) fn adopt(&self) {
        let me = Pid::this().get();
        self.owner.seen.store(me, Ordering::Relaxed);
        self.owner.process.store(me, Ordering::Relaxed);
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
        let doorbell = fds.next();
        if doorbell.is_none() && !read_only {
            return Err(missing("the doorbell").into());
        }
        let access = if read_only { Access::ReadOnly } else { Access::ReadWrite };
        let slots = WorkerSlots::attach(region, LAYOUT_TAG, access).map_err(AttachError::Region)?;
        let functions = ask_functions(&mut socket, deadline)?.into();
        Ok(Self {
            slots: Arc::new(slots),
            doorbell: doorbell.map(Arc::new),
            postmaster,
            postmaster_pidfd: Arc::new(postmaster_pidfd),
            owner: Owner::new(owner, Pid::this()),
            liveness,
            functions,
            descriptors: Vec::new(),
            session: Some(Session::new(socket)),
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

    /// The sorted names of the functions that workers may run. They do not change while the postmaster
    /// lives.
    #[must_use]
    pub fn functions(&self) -> &[String] {
        &self.functions
    }

    /// The descriptors that the embedding program passes to its workers, by name. Empty in any process
    /// but a worker.
    #[must_use]
    pub fn descriptors(&self) -> &[(String, OwnedFd)] {
        &self.descriptors
    }

    /// This process's pid in the postmaster's pid namespace. It claims slots in this name.
    #[must_use]
    pub fn owner(&self) -> Pid {
        // It was stored as a `Pid`.
        Pid::new(self.owner.seen.load(Ordering::Relaxed)).unwrap_or_else(Pid::this)
    }

    /// True for an attachment that can look and not change anything.
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        self.doorbell.is_none()
    }

    /// True in the process that attached, false in a forked child of it. One system call.
    #[must_use]
    pub fn is_mine(&self) -> bool {
        Pid::this().get() == self.owner.process.load(Ordering::Relaxed)
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

    /// Wakes everybody who waits for the postmaster's death, on whichever liveness word. The kernel wakes
    /// one waiter of each word, and that one may be anybody who has mapped the region.
    pub(crate) fn pass_on_postmaster_death(&self) {
        // Whoever is woken looks for the mark. The kernel may still be about to set those of some words;
        // it has set them all once the process has ended. If the process lives, something else wrote the
        // mark that this process has seen, and whoever is woken sleeps again.
        if !self.cells().postmaster_is_dead_to_all() {
            let end = Instant::now() + EXIT_TIME;
            let _ = pidfd::wait_for_end(&self.postmaster_pidfd, Some(end));
        }
        self.cells().wake_liveness_waiters();
    }

    /// Rings the doorbell: the postmaster looks for what has changed. One system call; never blocks.
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
        if !self.is_mine() {
            return Err(AskError::ForkedChild { owner: self.owner() });
        }
        let session = self.session.as_ref().ok_or(AskError::NoControlSocket)?;
        session.ask(request, deadline)
    }
}

fn cannot_connect(path: &Path, source: io::Error) -> AttachError {
    let path = path.display().to_string();
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            AttachError::NotRunning { path, source }
        }
        io::ErrorKind::PermissionDenied => AttachError::NotPermitted { path, source },
        io::ErrorKind::TimedOut => AskError::TimedOut.into(),
        _ => AttachError::Connect { path, source },
    }
}

//! What a process of the cluster holds: the slots, the doorbell, and the postmaster's pidfd.
//!
//! A worker inherits it over the fork. Another program asks for it on the control socket: it sends
//! `Hello`, the postmaster checks its credentials and answers `Welcome` with the descriptors. While
//! the connection stays open the peer belongs to the cluster; when it closes, whatever the peer had
//! half done is swept, and it gets no more signals.

use crate::control::{ControlSocket, PROTOCOL, Received, RecvError, Reply, Request, SendError};
use crate::pid::Pid;
use crate::shared::cluster_cells::{CLUSTER_CELLS, ClusterCells};
use crate::shared::{LAYOUT_TAG, RunState, WorkerSlots, run_state};
use crate::sys::{eventfd, pidfd};
use shmem_slots::futex::Watch;
use shmem_slots::{Access, Options};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Why a process could not attach to the cluster.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// Nobody listens there, or the socket may not be used.
    #[error(
        "connecting to the postmaster's control socket {path} failed; is a postmaster running there?"
    )]
    Connect {
        /// The path that was tried.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// This process is a postmaster, which answers and does not ask.
    #[error("this process is a postmaster and cannot attach to one")]
    Postmaster,
    /// The postmaster said no.
    #[error("the postmaster refused: {reason} ({detail})")]
    Refused {
        /// Which rule.
        reason: crate::control::Refusal,
        /// Its words.
        detail: String,
    },
    /// The postmaster did not answer in time.
    #[error("the postmaster did not answer within the deadline")]
    TimedOut,
    /// The connection ended before the answer.
    #[error("the postmaster closed the connection")]
    Closed,
    /// The request could not be sent.
    #[error("sending to the postmaster failed")]
    Send(#[from] SendError),
    /// The answer could not be read.
    #[error("reading the postmaster's answer failed")]
    Receive(#[from] RecvError),
    /// The answer was none of those that fit.
    #[error("the postmaster answered out of turn: {found}")]
    OutOfTurn {
        /// What came.
        found: String,
    },
    /// The region does not fit this build.
    #[error("the shared region does not fit")]
    Region(#[source] shmem_slots::AttachError),
    /// The kernel lacks a call.
    #[error("this kernel will not do")]
    Kernel(#[from] shmem_slots::futex::Unsupported),
}

shmem_slots::debug_as_chain!(AttachError);

/// A process's attachment to the cluster of one postmaster.
///
/// Cheap to share by reference; all methods take `&self`. It belongs to the process that attached:
/// a forked child must attach anew (see [`Attachment::is_mine`]).
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
    session: Option<Mutex<ControlSocket>>,
}

/// Whose membership it is. A forked worker takes over what was made for it before the fork.
#[derive(Debug)]
struct Owner {
    /// As the postmaster sees it.
    seen: AtomicU32,
    /// As it sees itself.
    process: AtomicU32,
}

impl Owner {
    const fn new(seen: Pid, process: Pid) -> Self {
        Self { seen: AtomicU32::new(seen.get()), process: AtomicU32::new(process.get()) }
    }
}

/// The descriptors and facts of which an [`Attachment`] is made; for the postmaster's own use when
/// it hands the cluster on to a forked worker.
#[derive(Debug)]
pub struct Inherited {
    /// The slots, mapped before the fork.
    pub slots: Arc<WorkerSlots>,
    /// The doorbell.
    pub doorbell: Arc<OwnedFd>,
    /// The postmaster.
    pub postmaster: Pid,
    /// The postmaster's pidfd.
    pub postmaster_pidfd: Arc<OwnedFd>,
    /// The names of the functions that workers may run, sorted.
    pub functions: Arc<[String]>,
    /// Descriptors that the embedding program passes to its workers, by name.
    pub descriptors: Vec<(String, OwnedFd)>,
}

impl Attachment {
    /// The cluster's options for a new region with `capacity` slots.
    #[must_use]
    pub fn region_options(capacity: u32) -> Options {
        Options { capacity, tag: LAYOUT_TAG, shared_cells: CLUSTER_CELLS, first_generation: 0 }
    }

    /// What a worker has by inheritance: made by the worker, or by the postmaster ahead of the fork, to
    /// be taken over by [`Attachment::adopt`]. Liveness word 0 is the workers'.
    #[must_use]
    pub fn inherit(parts: Inherited) -> Self {
        let me = Pid::this();
        Self {
            slots: parts.slots,
            doorbell: Some(parts.doorbell),
            postmaster: parts.postmaster,
            postmaster_pidfd: parts.postmaster_pidfd,
            owner: Owner::new(me, me),
            liveness: 0,
            functions: parts.functions,
            descriptors: parts.descriptors,
            session: None,
        }
    }

    /// In a forked worker: what the postmaster made is this process's from now on. Allocates nothing.
    pub fn adopt(&self) {
        let me = Pid::this().get();
        self.owner.seen.store(me, Ordering::Relaxed);
        self.owner.process.store(me, Ordering::Relaxed);
    }

    /// Attaches to the cluster over `socket`, which is connected to the postmaster.
    ///
    /// # Errors
    /// Refused, not answered before `deadline`, or a region that does not fit this build.
    pub fn attach(
        mut socket: ControlSocket,
        read_only: bool,
        deadline: Option<Instant>,
    ) -> Result<Self, AttachError> {
        shmem_slots::futex::check_kernel()?;
        let hello = Request::Hello { protocol: PROTOCOL, layout_tag: LAYOUT_TAG, read_only };
        socket.send_request(&hello)?;
        let (reply, fds) = receive(&mut socket, deadline)?;
        let (postmaster, owner, liveness, read_only) = match reply {
            Reply::Welcome { postmaster, owner, liveness, read_only, .. } => {
                (postmaster, owner, liveness, read_only)
            }
            Reply::Refused { reason, detail } => {
                return Err(AttachError::Refused { reason, detail });
            }
            other => return Err(AttachError::OutOfTurn { found: format!("{other:?}") }),
        };
        let mut fds = fds.into_iter();
        let missing =
            |what: &str| AttachError::OutOfTurn { found: format!("a welcome without {what}") };
        let region = fds.next().ok_or_else(|| missing("the region"))?;
        let postmaster_pidfd = fds.next().ok_or_else(|| missing("the postmaster's pidfd"))?;
        let doorbell = fds.next();
        if doorbell.is_none() && !read_only {
            return Err(missing("the doorbell"));
        }
        let access = if read_only { Access::ReadOnly } else { Access::ReadWrite };
        let slots = WorkerSlots::attach(region, LAYOUT_TAG, access).map_err(AttachError::Region)?;
        let owner = Owner::new(owner, Pid::this());
        let functions = ask_functions(&mut socket, deadline)?.into();
        let session = Some(Mutex::new(socket));
        Ok(Self {
            slots: Arc::new(slots),
            doorbell: doorbell.map(Arc::new),
            postmaster,
            postmaster_pidfd: Arc::new(postmaster_pidfd),
            owner,
            liveness,
            functions,
            descriptors: Vec::new(),
            session,
        })
    }

    /// The slots of the cluster.
    #[inline]
    #[must_use]
    pub fn slots(&self) -> &WorkerSlots {
        &self.slots
    }

    /// The slots, to be held beside the attachment: one step less to a slot's word.
    #[must_use]
    pub fn shared_slots(&self) -> Arc<WorkerSlots> {
        Arc::clone(&self.slots)
    }

    /// The cells beside the slots.
    #[must_use]
    pub fn cells(&self) -> ClusterCells<'_> {
        ClusterCells::new(&self.slots)
    }

    /// The postmaster's pid, for messages.
    #[must_use]
    pub const fn postmaster(&self) -> Pid {
        self.postmaster
    }

    /// The postmaster's pidfd: readable once it has ended.
    #[must_use]
    pub fn postmaster_pidfd(&self) -> BorrowedFd<'_> {
        self.postmaster_pidfd.as_fd()
    }

    /// The doorbell; `None` for a read-only attachment.
    pub(crate) fn doorbell(&self) -> Option<BorrowedFd<'_>> {
        self.doorbell.as_ref().map(|doorbell| doorbell.as_fd())
    }

    /// The names of the functions that workers may run, sorted. They are fixed when the postmaster
    /// starts.
    #[must_use]
    pub fn functions(&self) -> &[String] {
        &self.functions
    }

    /// True when the postmaster has a function called `name`.
    #[must_use]
    pub fn has_function(&self, name: &str) -> bool {
        self.functions.binary_search_by(|known| known.as_str().cmp(name)).is_ok()
    }

    /// This process as the postmaster sees it (its pid in the postmaster's pid namespace). Slots
    /// are claimed in this name.
    #[must_use]
    pub fn owner(&self) -> Pid {
        // Was made out of a `Pid`, so it is one.
        Pid::new(self.owner.seen.load(Ordering::Relaxed)).unwrap_or_else(Pid::this)
    }

    /// True for an attachment that may look but not touch.
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        self.doorbell.is_none()
    }

    /// True in the process that attached, false in a forked child of it. One system call.
    #[must_use]
    pub fn is_mine(&self) -> bool {
        Pid::this().get() == self.owner.process.load(Ordering::Relaxed)
    }

    /// A descriptor that the embedding program passes to its workers under `name`; none outside of a
    /// worker.
    #[must_use]
    pub fn descriptor(&self, name: &str) -> Option<BorrowedFd<'_>> {
        self.descriptors().iter().find(|(other, _)| other == name).map(|(_, fd)| fd.as_fd())
    }

    /// All of them, by name.
    #[must_use]
    pub fn descriptors(&self) -> &[(String, OwnedFd)] {
        &self.descriptors
    }

    /// True until the postmaster dies. One load.
    #[must_use]
    pub fn postmaster_is_alive(&self) -> bool {
        self.watch_postmaster().is_some()
    }

    /// A watch that ends a wait when the postmaster dies, or `None` when it is dead already.
    #[must_use]
    pub fn watch_postmaster(&self) -> Option<Watch<'_>> {
        self.cells().watch_postmaster(self.liveness)
    }

    /// To be called by whoever learned of the postmaster's death from its watch.
    pub fn pass_on_postmaster_death(&self) {
        self.cells().pass_on_postmaster_death(self.liveness);
    }

    /// Tells the postmaster that something has changed. One system call; never blocks.
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
    /// As for [`Attachment::attach`]; `Closed` inside a worker, which has no control socket.
    pub fn ask(&self, request: &Request, deadline: Option<Instant>) -> Result<Reply, AttachError> {
        let Some(session) = &self.session else { return Err(AttachError::Closed) };
        // A thread that panicked while it held the socket leaves it usable: each exchange is whole.
        let mut socket = session.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        socket.send_request(request)?;
        match receive(&mut socket, deadline)?.0 {
            Reply::Refused { reason, detail } => Err(AttachError::Refused { reason, detail }),
            reply => Ok(reply),
        }
    }

    /// Wakes the worker of a slot out of `ppoll` after its latch was set, if and only if the slot
    /// still says that this very process is its worker once a pidfd of it is open. True when the
    /// signal was sent. It is SIGURG, which every process that has no handler for it ignores.
    ///
    /// # Errors
    /// The error of `pidfd_send_signal`, for instance `EPERM`.
    pub fn wake_polling_worker(&self, index: u32, generation: u64) -> io::Result<bool> {
        let key = shmem_slots::Key { index, generation };
        let running = || self.slots.look(key).map(run_state);
        let Some(RunState::Started(pid)) = running() else { return Ok(false) };
        let Ok(process) = pidfd::open(pid) else { return Ok(false) };
        // The postmaster takes the pid out of the slot before it reaps the process, so a slot that
        // is unchanged after the pidfd was opened proves that the number had not been reused.
        if running() != Some(RunState::Started(pid)) {
            return Ok(false);
        }
        pidfd::send(&process, rustix::process::Signal::URG).map(|()| true)
    }
}

fn receive(
    socket: &mut ControlSocket,
    deadline: Option<Instant>,
) -> Result<(Reply, Vec<OwnedFd>), AttachError> {
    match socket.recv_reply(deadline)? {
        Received::Message { message, fds } => Ok((message, fds)),
        Received::WouldBlock => Err(AttachError::TimedOut),
        Received::Closed => Err(AttachError::Closed),
    }
}

/// All names, some in each packet. A postmaster that never comes to an end is cut off.
fn ask_functions(
    socket: &mut ControlSocket,
    deadline: Option<Instant>,
) -> Result<Vec<String>, AttachError> {
    const MOST: usize = 1 << 16;
    let mut names: Vec<String> = Vec::new();
    while names.len() < MOST {
        let from = u32::try_from(names.len()).unwrap_or(u32::MAX);
        socket.send_request(&Request::Functions { from })?;
        match receive(socket, deadline)?.0 {
            Reply::Functions(more) if more.is_empty() => break,
            Reply::Functions(more) => names.extend(more),
            other => return Err(AttachError::OutOfTurn { found: format!("{other:?}") }),
        }
    }
    names.sort_unstable();
    Ok(names)
}

//! The running postmaster: its state, and how it begins.
//!
//! What it does from then on stands in `event_loop.rs`.

use crate::child::{Functions, Mailbox, log_panics_of_workers};
use crate::error::RunError;
use crate::event_loop::Token;
use crate::fault;
use crate::postmaster::Postmaster;
use crate::rules::{Action, Cluster, Event};
use crate::sessions::Sessions;
use crate::spares::Spares;
use crate::sys::descriptors::DescriptorFloor;
use crate::sys::exec::Commands;
use crate::sys::fork::{Forker, ThreadCounter};
use crate::sys::private_table::PrivateTable;
use crate::sys::signals;
use crate::sys::title::Title;
use bgw_core::attachment::Inherited;
use bgw_core::control::ControlSocket;
use bgw_core::shared::ClusterCells;
use bgw_core::shared::{WorkerRecord, WorkerSlots};
use bgw_core::sys::{pidfd, robust};
use bgw_core::{Attachment, BackgroundWorker, Pid};
use nix::sys::epoll::{Epoll, EpollCreateFlags};
use nix::sys::signalfd::SignalFd;
use shmem_slots::Key;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

/// For how many events, and workers, there is room from the start: side by side on few pages, each of
/// which the kernel copies after each fork.
const ROOM: usize = 8;

/// A running worker process.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) key: Key,
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    pub(crate) started: Instant,
    /// The mailbox of one that was a spare.
    pub(crate) mailbox: Option<Mailbox>,
}

/// The running postmaster.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) slots: Arc<WorkerSlots>,
    /// What each child takes over.
    pub(crate) for_children: Arc<Attachment>,
    /// How many slots are not for the parallel class; our own number, not the region's.
    pub(crate) general_slots: u32,
    pub(crate) doorbell: Arc<OwnedFd>,
    pub(crate) pidfd: Arc<OwnedFd>,
    pub(crate) pid: Pid,
    pub(crate) functions: Functions,
    /// Their names, sorted.
    pub(crate) function_names: Arc<[String]>,
    pub(crate) folder: Option<crate::runtime_dir::RuntimeDir>,
    pub(crate) cluster: Cluster,
    pub(crate) sessions: Sessions,
    pub(crate) spares: Spares,
    pub(crate) children: PrivateTable<Child>,
    pub(crate) by_pid: HashMap<Pid, Key>,
    pub(crate) threads: ThreadCounter,
    pub(crate) floor: DescriptorFloor,
    pub(crate) forker: Forker,
    /// `None`: programs are forked as functions are.
    pub(crate) commands: Option<Commands>,
    /// A descriptor to give up when there is none left for a connection.
    pub(crate) reserve: Option<OwnedFd>,
    pub(crate) title: Title,
    pub(crate) epoll: Epoll,
    pub(crate) pending: VecDeque<Event>,
    /// Room for what follows from an event: allocated once.
    pub(crate) actions: Vec<Action>,
    pub(crate) signals: SignalFd,
    pub(crate) region_read_only: OwnedFd,
    pub(crate) launcher: Option<u64>,
    pub(crate) corrupt_slots_seen: u64,
    pub(crate) said_that_counts_differ: bool,
}

impl Server {
    /// Makes this process the postmaster. All signals are blocked.
    pub(crate) fn start(
        postmaster: Postmaster,
        launcher: Option<ControlSocket>,
    ) -> Result<Self, RunError> {
        fault::arm();
        let threads = ThreadCounter::new().map_err(RunError::system("opening /proc/self/task"))?;
        threads
            .prove()
            .map_err(RunError::system("counting the threads"))?
            .map_err(|threads| RunError::Threads { threads })?;
        signals::keep_ended_children().map_err(RunError::system("resetting SIGCHLD"))?;
        let pid = Pid::this();
        // The children's, too: it stays below the floor.
        let pidfd = pidfd::open(pid).map_err(RunError::system("pidfd_open"))?;
        let floor =
            DescriptorFloor::above_all_open().map_err(RunError::system("reading /proc/self/fd"))?;
        let threads = threads.moved_above(floor).map_err(RunError::system("fcntl"))?;
        let folder = postmaster.folder.map(|folder| folder.moved_above(floor)).transpose();
        let folder = folder.map_err(RunError::system("fcntl"))?;
        let signals = signals::listen(floor).map_err(RunError::system("signalfd"))?;
        let epoll = new_epoll(floor).map_err(RunError::system("epoll_create1"))?;
        let region_read_only = reopen_read_only(&postmaster.slots, floor)
            .map_err(RunError::system("opening the region read-only"))?;
        // Its number below the floor, if it had one, is free from here on and is taken with the others.
        let launcher = launcher.map(|socket| floor.move_above(socket).map(ControlSocket::from));
        let launcher = launcher.transpose().map_err(RunError::system("fcntl"))?;
        let floor = floor.fill_gaps().map_err(RunError::system("opening /dev/null"))?;
        let forker = Forker::new(postmaster.run_atfork_handlers);
        let commands = (!postmaster.run_atfork_handlers).then(Commands::new).flatten();
        fault::point("begin:before_liveness");
        hold_liveness(&postmaster.slots).map_err(RunError::system("set_robust_list"))?;
        log_panics_of_workers();
        let (pidfd, names) = (Arc::new(pidfd), postmaster.functions.names());
        let function_names: Arc<[String]> = names.into_iter().map(str::to_owned).collect();
        let for_children = Attachment::inherit(Inherited {
            slots: Arc::clone(&postmaster.slots),
            doorbell: Arc::clone(&postmaster.doorbell),
            postmaster: pid,
            postmaster_pidfd: Arc::clone(&pidfd),
            functions: Arc::clone(&function_names),
            descriptors: postmaster.descriptors,
        });
        let mut server = Self {
            slots: postmaster.slots,
            general_slots: postmaster.general_slots,
            doorbell: postmaster.doorbell,
            pidfd,
            pid,
            for_children: Arc::new(for_children),
            function_names,
            functions: postmaster.functions,
            folder,
            floor,
            forker,
            commands,
            reserve: floor.reserve().ok(),
            cluster: Cluster::new(postmaster.policy),
            sessions: Sessions::new(postmaster.max_sessions),
            spares: Spares::new(postmaster.warm_spares),
            children: PrivateTable::default(),
            by_pid: HashMap::with_capacity(ROOM),
            threads,
            title: Title::new(),
            epoll,
            pending: VecDeque::with_capacity(ROOM),
            actions: Vec::with_capacity(ROOM),
            signals,
            region_read_only,
            launcher: None,
            corrupt_slots_seen: 0,
            said_that_counts_differ: false,
        };
        if launcher.is_some() {
            server.show_title();
        }
        fault::point("begin:before_publish");
        server.publish_ourselves();
        fault::point("begin:before_listen");
        server.listen_to_all().map_err(RunError::system("epoll_ctl"))?;
        for worker in postmaster.static_workers {
            fault::point("begin:before_static");
            server.register_static(worker);
        }
        if let Some(socket) = launcher {
            let session = server.open_session(socket);
            let session = session.map_err(RunError::system("taking the launcher's connection"))?;
            server.launcher = session.filter(|_| postmaster.stop_with_launcher);
        }
        fault::point("begin:done");
        Ok(server)
    }

    /// The slots of a worker's class, by our own numbers.
    pub(crate) fn slots_of(&self, worker: &BackgroundWorker) -> Range<u32> {
        if worker.is_parallel() {
            self.general_slots..self.slots.capacity()
        } else {
            0..self.general_slots
        }
    }

    /// A forked postmaster shows what it is. One that a program became keeps the program's title.
    fn show_title(&mut self) {
        let folder = self.folder.as_ref().map(|folder| folder.path().to_string_lossy());
        match folder {
            Some(folder) => self.title.show(&["bgw postmaster ", &folder]),
            None => self.title.show(&["bgw postmaster"]),
        }
    }

    fn publish_ourselves(&self) {
        let cells = ClusterCells::new(&self.slots);
        cells.set_postmaster_pid(self.pid.get());
        cells.set_phase(self.cluster.phase());
        cells.set_incarnation(first_incarnation(self.pid));
        if let Some(folder) = &self.folder {
            if let Err(error) = folder.write_pid() {
                tracing::warn!("writing the pid file failed: {error}");
            }
        }
    }

    fn listen_to_all(&self) -> io::Result<()> {
        self.listen_to(self.signals.as_fd(), Token::Signals)?;
        self.listen_to(self.doorbell.as_fd(), Token::Doorbell)?;
        if let Some(folder) = &self.folder {
            self.listen_to(folder.listener.as_fd(), Token::Listener)?;
        }
        Ok(())
    }

    fn register_static(&mut self, worker: BackgroundWorker) {
        let name = worker.name().to_owned();
        let record = WorkerRecord::encode(&worker, self.pid);
        let class = self.slots_of(&worker);
        let published =
            self.slots.claim_in(class, self.pid.get()).map_err(|error| error.to_string()).and_then(
                |mut claim| {
                    claim.write(&record).map_err(|error| error.to_string())?;
                    claim.publish(0).map_err(|error| error.to_string())
                },
            );
        match published {
            Ok(key) => {
                let worker = Box::new(worker);
                self.step(Event::Registered { key, worker, notify: None, terminate: false });
            }
            Err(error) => tracing::error!("registering static worker \"{name}\" failed: {error}"),
        }
    }
}

fn new_epoll(floor: DescriptorFloor) -> io::Result<Epoll> {
    Ok(Epoll(floor.move_above(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?.0)?))
}

fn reopen_read_only(slots: &WorkerSlots, floor: DescriptorFloor) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", slots.region().as_fd().as_raw_fd());
    floor.move_above(std::fs::File::open(path)?)
}

fn hold_liveness(slots: &Arc<WorkerSlots>) -> io::Result<()> {
    // The kernel looks at the words when this process ends: the region stays mapped until then.
    let slots: &'static Arc<WorkerSlots> = Box::leak(Box::new(Arc::clone(slots)));
    robust::hold(ClusterCells::new(slots).liveness_words())
}

/// Differs between postmasters (and is never 0), so that a handle kept from another one is stale.
fn first_incarnation(pid: Pid) -> u32 {
    let mut bytes = [0u8; 4];
    let random = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::NONBLOCK);
    let seed = if random == Ok(4) { u32::from_ne_bytes(bytes) } else { pid.get() };
    seed | 1
}

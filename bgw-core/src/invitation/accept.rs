//! The program's side: accepts the invitation that it has inherited, and becomes the worker.

use super::ATTACH_VARIABLE;
use super::packet::{HEADER_LEN, Header, MAGIC, Misfit, decode_names};
use crate::attachment::Attachment;
use crate::function::Function;
use crate::gifts::Gifts;
use crate::pid::Pid;
use crate::process::{self, WorkerProcess};
use crate::shared::{CorruptRecord, EVENTS_TAG, EventRing, LAYOUT_TAG, WorkerSlots};
use crate::sys::{inherited_socket, scm, signals};
use crate::worker::BackgroundWorker;
use shmem_slots::Access;
use std::fs::File;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The largest number of bytes of names.
const MOST_NAMES: u64 = 1 << 26;

/// Why this process could not become the worker that it was started as.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum FromEnvError {
    /// This process was not started with an invitation.
    #[error(
        "{ATTACH_VARIABLE} is not set: this process was not started by a postmaster, or by a description without attach()"
    )]
    NotStartedSo,
    /// The variable does not name a descriptor.
    #[error("{ATTACH_VARIABLE} is \"{value}\", which is no descriptor")]
    NoDescriptor {
        /// Its value.
        value: String,
    },
    /// What the variable names is not the invitation of this process.
    #[error(
        "descriptor {number}, which {ATTACH_VARIABLE} names, is no invitation; a process that the worker has started does not inherit it, nor one that begins after it was accepted"
    )]
    NoInvitation {
        /// The descriptor.
        number: RawFd,
        /// The system's error, if it gave one.
        #[source]
        source: Option<io::Error>,
    },
    /// This process is another one than the postmaster has started, or the postmaster has died.
    #[error(
        "this process is a child of process {parent} and not of postmaster {postmaster}, which has died, or has started another process as its worker; a script runs the program by exec"
    )]
    NotTheLeader {
        /// The postmaster.
        postmaster: Pid,
        /// The parent of this process.
        parent: i32,
    },
    /// The postmaster was built with another version of these crates.
    #[error("the postmaster has another version; build both programs with one version of bgw-core")]
    Version,
    /// The invitation cannot be read.
    #[error("the invitation cannot be read: {what}")]
    Unreadable {
        /// What is wrong.
        what: String,
    },
    /// The region does not fit this build.
    #[error(
        "the cluster's shared region does not fit; build both programs with one version of bgw-core"
    )]
    Region(#[source] shmem_slots::AttachError),
    /// The kernel lacks a system call.
    #[error(transparent)]
    Kernel(#[from] shmem_slots::futex::Unsupported),
    /// This process is a worker already.
    #[error("this process is a worker already")]
    AlreadyWorker,
    /// The handlers of a worker could not be installed.
    #[error("becoming the worker failed")]
    Enter(#[source] io::Error),
}

shmem_slots::debug_as_chain!(FromEnvError);

fn unreadable(what: impl ToString) -> FromEnvError {
    FromEnvError::Unreadable { what: what.to_string() }
}

/// Makes this process, which a postmaster has started as a command, its worker.
///
/// # Errors
/// [`FromEnvError`]. The invitation stays where it is if it is another process's or another
/// version's.
pub fn enter_from_env() -> Result<&'static WorkerProcess, FromEnvError> {
    static ACCEPTING: AtomicBool = AtomicBool::new(false);
    if process::current().is_some() || ACCEPTING.swap(true, Ordering::Acquire) {
        return Err(FromEnvError::AlreadyWorker);
    }
    let accepted = accept();
    ACCEPTING.store(false, Ordering::Release);
    accepted
}

fn accept() -> Result<&'static WorkerProcess, FromEnvError> {
    shmem_slots::futex::check_kernel()?;
    let value = std::env::var_os(ATTACH_VARIABLE).ok_or(FromEnvError::NotStartedSo)?;
    let value = value.to_string_lossy().into_owned();
    let number: RawFd = match value.parse() {
        Ok(number) if number >= 0 => number,
        _ => return Err(FromEnvError::NoDescriptor { value }),
    };
    let no_invitation = |source| FromEnvError::NoInvitation { number, source };
    let mut bytes = vec![0; HEADER_LEN + 1];
    let peeked = inherited_socket::peek(number, &mut bytes);
    bytes.truncate(peeked.map_err(|error| no_invitation(Some(error)))?);
    if !bytes.starts_with(&MAGIC) {
        return Err(no_invitation(None));
    }
    let header = Header::decode(&bytes).map_err(|misfit| match misfit {
        Misfit::Version => FromEnvError::Version,
        Misfit::Length => unreadable("it has another length"),
        Misfit::Postmaster => unreadable("it names no postmaster"),
    })?;
    // The worker is the process that the postmaster has started, which the slot names.
    let (parent, postmaster) = (nix::unistd::getppid().as_raw(), header.postmaster);
    if parent != postmaster.as_raw() {
        return Err(FromEnvError::NotTheLeader { postmaster, parent });
    }
    let worker = header.record.decode().map_err(|error: CorruptRecord| unreadable(error))?;
    signals::ignore_reload(worker.stop().signal()).map_err(FromEnvError::Enter)?;
    let socket = inherited_socket::take_over(number, &MAGIC);
    let socket = socket.map_err(|error| no_invitation(Some(error)))?;
    let packet = scm::receive(&socket, 1).map_err(unreadable)?;
    become_worker(&socket, header, worker, packet.fds)
}

fn become_worker(
    socket: &OwnedFd,
    header: Header,
    worker: BackgroundWorker,
    descriptors: Vec<OwnedFd>,
) -> Result<&'static WorkerProcess, FromEnvError> {
    let Header { handle, berth, restarts, postmaster, has_events, has_door, .. } = header;
    let mut descriptors = descriptors.into_iter();
    let mut next = |what| descriptors.next().ok_or_else(|| unreadable(format!("it lacks {what}")));
    let (region, postmaster_pidfd) = (next("the region")?, next("the postmaster's pidfd")?);
    let (doorbell, names) = (next("the doorbell")?, next("the names")?);
    let events = if has_events { Some(next("the events")?) } else { None };
    let door = if has_door { Some(next("the way to the control socket")?) } else { None };
    let [functions, named] = read_names(names)?;
    let mut own = Vec::new();
    while own.len() < named.len() {
        let packet = scm::receive(socket, 1).map_err(unreadable)?;
        if packet.fds.is_empty() {
            return Err(unreadable("it lacks descriptors of the program"));
        }
        own.extend(packet.fds);
    }
    let slots = WorkerSlots::attach(region, LAYOUT_TAG, Access::ReadWrite);
    let slots = slots.map_err(FromEnvError::Region)?;
    let events = events.map(|file| EventRing::attach(file, EVENTS_TAG)).transpose();
    let events = events.map_err(FromEnvError::Region)?;
    let attachment = Attachment::inherit(
        Arc::new(slots),
        Arc::new(doorbell),
        postmaster,
        Arc::new(postmaster_pidfd),
        Function::from_lines(&functions).into(),
        named.into_iter().zip(own).collect(),
    );
    let attachment = attachment.with_events(events.map(Arc::new)).with_line(door.map(Arc::new));
    let attachment = Arc::new(attachment);
    let (worker, gifts) = (Arc::new(worker), Gifts::default());
    let stop = worker.stop();
    let me = process::enter(WorkerProcess { worker, handle, berth, restarts, attachment, gifts });
    let me = me.map_err(FromEnvError::Enter)?;
    signals::install_stop_of_command(stop.signal()).map_err(FromEnvError::Enter)?;
    Ok(me)
}

/// All commands of a postmaster share the file, and its position.
fn read_names(file: OwnedFd) -> Result<[Vec<String>; 2], FromEnvError> {
    let file = File::from(file);
    let len = file.metadata().map_err(unreadable)?.len();
    // An address space has room for it, if the file has.
    let mut bytes = vec![0; usize::try_from(len.min(MOST_NAMES)).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0).map_err(unreadable)?;
    decode_names(&bytes).ok_or_else(|| unreadable("its names mean nothing"))
}

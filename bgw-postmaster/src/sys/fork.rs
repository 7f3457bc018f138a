//! `fork`, for a process with one thread only.
//!
//! A fork copies only the calling thread. A lock that another thread held at that moment (the
//! allocator's, say) stays locked in the child for ever. So every fork takes a [`SingleThreaded`]
//! proof, which comes from counting the threads.
//!
//! There are four forks:
//!
//! | | creates | descriptors | C library's `pthread_atfork` handlers |
//! |---|---|---|---|
//! | [`fork`] | the postmaster itself | copied | run |
//! | [`Forker::fork`] | a worker, a guardian | shared until the child closes those above the floor | do not run, unless requested |
//! | [`Forker::fork_apart`] | a template | copied | the same |
//! | [`Forker::fork_sibling`] | a worker, in a template | copied | do not run |
//!
//! Why not the first alone: the C library's fork copies the descriptor table. The postmaster has a
//! descriptor for each child, so the copy, and closing the copies in the child, would cost more
//! with each live worker: with 2,000 of them, several times the rest of the start. [`Forker`] calls
//! the kernel's `clone3` with the flags that the C library would pass, plus `CLONE_FILES`. The
//! library keeps the thread's id in the thread's own memory; the kernel knows the address
//! (`PR_GET_TID_ADDRESS`) and writes the child's id there. Where that is not available (another C
//! library, a sandbox without `clone3`), the C library's fork is used.

use super::descriptors::DescriptorFloor;
use super::roster::{Place, Roster};
use bgw_core::Pid;
use bgw_core::internals::pidfd;
use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::linux::fs::MetadataExt;
use std::sync::atomic::AtomicU64;

/// Counts the threads of this process with one `fstat`.
#[derive(Debug)]
pub(crate) struct ThreadCounter {
    task_folder: File,
    pid: Pid,
}

/// Proof that the process had one thread a moment ago. Only another thread could have started a
/// second one since, and there was none.
#[derive(Debug)]
pub(crate) struct SingleThreaded(());

impl ThreadCounter {
    /// A counter for the calling process.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { task_folder: File::open("/proc/self/task")?, pid: Pid::this() })
    }

    /// The same, with its descriptor above the floor.
    pub(crate) fn moved_above(self, floor: DescriptorFloor) -> io::Result<Self> {
        Ok(Self { task_folder: floor.move_above(self.task_folder)?.into(), ..self })
    }

    /// The number of threads. The kernel counts them as links of `/proc/self/task`.
    pub(crate) fn count(&self) -> io::Result<u64> {
        debug_assert_eq!(self.pid, Pid::this(), "a counter does not survive a fork");
        Ok(self.task_folder.metadata()?.st_nlink().saturating_sub(2))
    }

    /// The proof, or the number of threads.
    pub(crate) fn prove(&self) -> io::Result<Result<SingleThreaded, u64>> {
        Ok(match self.count()? {
            1 => Ok(SingleThreaded(())),
            more => Err(more),
        })
    }
}

/// A new child of this process.
#[derive(Debug)]
pub(crate) struct NewChild {
    pub(crate) pid: Pid,
    /// The kernel creates it together with the child: without a free descriptor there is no child.
    /// An error only where the C library forks, and only if the whole system is short of something.
    pub(crate) pidfd: io::Result<OwnedFd>,
}

/// The two sides of a fork.
#[derive(Debug)]
pub(crate) enum Forked {
    /// The parent, with its new child.
    Parent(NewChild),
    /// The child.
    Child,
}

/// Forks through the C library.
pub(crate) fn fork(_proof: &SingleThreaded) -> io::Result<Forked> {
    // The pidfd will have this number: no other thread can take it.
    let reserved = File::open("/dev/null")?;
    // SAFETY: the process has one thread (`SingleThreaded`), so no lock is held by a thread that
    // the child does not have, and the child may do everything that the parent may.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Child => Ok(Forked::Child),
        nix::unistd::ForkResult::Parent { child } => {
            drop(reserved);
            let pid = pid_of(child.as_raw())?;
            Ok(Forked::Parent(NewChild { pid, pidfd: pidfd::open(pid) }))
        }
    }
}

fn pid_of(pid: libc::pid_t) -> io::Result<Pid> {
    let pid = u32::try_from(pid).ok().and_then(Pid::new);
    pid.ok_or_else(|| io::Error::other("fork returned no usable pid"))
}

/// The parent's side of a clone with CLONE_PIDFD.
pub(super) fn parent(pid: libc::pid_t, pidfd: RawFd) -> io::Result<NewChild> {
    // SAFETY: the kernel has just created this descriptor for this process; nothing else owns it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(NewChild { pid: pid_of(pid)?, pidfd: Ok(pidfd) })
}

/// Forks workers. Created in the postmaster, before it replaces its robust list.
#[derive(Debug)]
pub(crate) struct Forker {
    /// Where the C library keeps the id of the only thread; 0: use the C library's fork.
    tid_address: usize,
    /// The C library's robust list: address and length of its head.
    robust_list: (usize, usize),
}

impl Forker {
    /// With `run_atfork_handlers`, the C library's fork is used.
    pub(crate) fn new(run_atfork_handlers: bool) -> Self {
        let own = !run_atfork_handlers && cfg!(all(target_os = "linux", target_env = "gnu"));
        match own.then(|| (tid_address(), robust_list())) {
            Some((Some(tid_address), Some(robust_list))) => Self { tid_address, robust_list },
            _ => Self { tid_address: 0, robust_list: (0, 0) },
        }
    }

    /// Forks, and lists the child in its place of the roster, if it has one. The child must call
    /// [`DescriptorFloor::close_above`] before it opens or closes any descriptor: until then it
    /// shares the postmaster's table.
    pub(crate) fn fork(
        &mut self,
        proof: &SingleThreaded,
        listing: Option<(&Roster, Place)>,
    ) -> io::Result<Forked> {
        self.fork_with(proof, libc::CLONE_FILES, listing)
    }

    /// Forks a child that has descriptors of its own from the first moment: what this process
    /// closes from now on, it keeps. Lists it in its place of the roster, if it has one.
    pub(crate) fn fork_apart(
        &mut self,
        proof: &SingleThreaded,
        listing: Option<(&Roster, Place)>,
    ) -> io::Result<Forked> {
        self.fork_with(proof, 0, listing)
    }

    /// In a child of the postmaster: forks another child *of the postmaster*. True in the child.
    /// The kernel writes its pid to the first half of `pid` before it runs, so whoever shares
    /// `pid` finds every such child, even if this process is killed meanwhile.
    pub(crate) fn fork_sibling(
        &self,
        _proof: &SingleThreaded,
        pid: &AtomicU64,
    ) -> io::Result<bool> {
        if self.tid_address == 0 {
            // The C library cannot do it.
            return Err(io::Error::from_raw_os_error(libc::ENOSYS));
        }
        // SAFETY: all-zero bytes are a valid `clone_args`: plain integers.
        let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
        let thread_id = libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID;
        args.flags = (libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID | thread_id) as u64;
        args.parent_tid = pid.as_ptr().expose_provenance() as u64;
        args.child_tid = self.tid_address as u64;
        // SAFETY: as in `clone`. The kernel writes the pid, 4 bytes, to the borrowed cell.
        let pid = unsafe {
            libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>())
        };
        match pid {
            0 => self.restore_robust_list(),
            -1 => return Err(io::Error::last_os_error()),
            _ => {}
        }
        Ok(pid == 0)
    }

    fn fork_with(
        &mut self,
        proof: &SingleThreaded,
        files: libc::c_int,
        listing: Option<(&Roster, Place)>,
    ) -> io::Result<Forked> {
        let forked = if self.tid_address == 0 { fork(proof) } else { self.clone(files, listing) };
        let forked = match forked {
            // A sandbox that does not allow the call.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                self.tid_address = 0;
                fork(proof)
            }
            other => other,
        };
        if let (Ok(Forked::Parent(child)), Some((roster, place))) = (&forked, listing) {
            roster.confirm(place, child.pid);
        }
        forked
    }

    fn clone(&self, files: libc::c_int, listing: Option<(&Roster, Place)>) -> io::Result<Forked> {
        // SAFETY: all-zero bytes are a valid `clone_args`: plain integers.
        let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
        let thread_id = libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID;
        args.flags = (files | libc::CLONE_PIDFD | thread_id) as u64;
        if let Some((roster, place)) = listing {
            args.flags |= libc::CLONE_PARENT_SETTID as u64;
            args.parent_tid = roster.pid_cell(place).expose_provenance() as u64;
        }
        let mut pidfd: RawFd = -1;
        args.pidfd = (&raw mut pidfd).expose_provenance() as u64;
        args.child_tid = self.tid_address as u64;
        // Its pidfd tells of its end. SIGCHLD is for orphans, which the postmaster did not start.
        args.exit_signal = 0;
        // SAFETY: without CLONE_VM this is a fork: the child has memory of its own and returns here
        // on its copy of the stack. There is one thread, as for `fork`. `child_tid` is where the C
        // library keeps the thread's id (it registered the address with the kernel), so the child's
        // copy of the library is in the state that its own fork leaves. The kernel writes the
        // pidfd's number to `pidfd`, and the pid to the child's place in the roster, before it
        // returns; the roster is borrowed. No stack is passed; none is needed.
        let pid = unsafe {
            libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>())
        };
        match pid {
            0 => {
                self.restore_robust_list();
                Ok(Forked::Child)
            }
            -1 => Err(io::Error::last_os_error()),
            pid => parent(pid as libc::pid_t, pidfd).map(Forked::Parent),
        }
    }

    /// A child starts without a robust list; the C library's fork would register the library's
    /// again.
    fn restore_robust_list(&self) {
        let (head, len) = self.robust_list;
        // SAFETY: head and length as the C library had registered them; the child has a copy. It
        // cannot fail: the length is the one the kernel reported.
        let _ = unsafe { libc::syscall(libc::SYS_set_robust_list, head, len) };
    }
}

fn tid_address() -> Option<usize> {
    let mut address: usize = 0;
    // SAFETY: the kernel writes one pointer to `address`.
    let done = unsafe { libc::prctl(libc::PR_GET_TID_ADDRESS, &raw mut address) };
    // The kernel will write there: it must be the C library's cell, which holds our thread's id.
    (done == 0 && address != 0 && holds_own_tid(address)).then_some(address)
}

fn holds_own_tid(address: usize) -> bool {
    let own = rustix::thread::gettid().as_raw_nonzero().get();
    let cell = std::ptr::with_exposed_provenance::<libc::pid_t>(address);
    // SAFETY: an address that the C library registered for the life of this thread.
    unsafe { cell.read_volatile() == own }
}

fn robust_list() -> Option<(usize, usize)> {
    let (mut head, mut len) = (0usize, 0usize);
    // SAFETY: the kernel writes a pointer and a size to the two.
    let done = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut len) };
    (done == 0 && len != 0).then_some((head, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_thread_is_counted_and_refused() {
        let counter = ThreadCounter::new().unwrap();
        let before = counter.count().unwrap();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || wait.recv());
        assert!(counter.count().unwrap() > before || before > 1);
        assert!(counter.prove().unwrap().is_err());
        drop(go);
        assert!(thread.join().unwrap().is_err());
    }
}

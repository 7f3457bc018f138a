//! `fork`, for a process with one thread only.
//!
//! A fork copies the calling thread alone. A lock that another thread held at that moment, the
//! allocator's for one, stays locked in the child for ever. So a [`SingleThreaded`] proof is needed,
//! and it comes from counting.

use super::close::Fence;
use bgw_core::Pid;
use std::fs::File;
use std::io;
use std::os::linux::fs::MetadataExt;

/// Counts the threads of this process with one `fstat`.
#[derive(Debug)]
pub(crate) struct ThreadCounter {
    task_folder: File,
    pid: Pid,
}

/// Proof that the process had one thread a moment ago. Only another thread could have made a second
/// one since, and there was none.
#[derive(Debug)]
pub(crate) struct SingleThreaded(());

impl ThreadCounter {
    /// For the calling process.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { task_folder: File::open("/proc/self/task")?, pid: Pid::this() })
    }

    /// The same, with its descriptor above the fence.
    pub(crate) fn raised(self, fence: Fence) -> io::Result<Self> {
        Ok(Self { task_folder: fence.raise(self.task_folder)?.into(), ..self })
    }

    /// How many threads there are. The kernel counts them as links of `/proc/self/task`.
    pub(crate) fn count(&self) -> io::Result<u64> {
        debug_assert_eq!(self.pid, Pid::this(), "a counter does not survive a fork");
        Ok(self.task_folder.metadata()?.st_nlink().saturating_sub(2))
    }

    /// The proof, or how many threads there are.
    pub(crate) fn prove(&self) -> io::Result<Result<SingleThreaded, u64>> {
        Ok(match self.count()? {
            1 => Ok(SingleThreaded(())),
            more => Err(more),
        })
    }
}

/// Which side of a fork this is.
#[derive(Debug)]
pub(crate) enum Forked {
    /// The parent, and its new child.
    Parent(Pid),
    /// The child.
    Child,
}

/// Forks.
pub(crate) fn fork(_proof: &SingleThreaded) -> io::Result<Forked> {
    // SAFETY: the process has one thread (`SingleThreaded`), so no lock is held by a thread that
    // the child would miss, and the child may do all that the parent may.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Child => Ok(Forked::Child),
        nix::unistd::ForkResult::Parent { child } => {
            let pid = u32::try_from(child.as_raw()).ok().and_then(Pid::new);
            pid.map(Forked::Parent).ok_or_else(|| io::Error::other("fork gave no usable pid"))
        }
    }
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

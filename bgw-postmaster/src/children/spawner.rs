//! Starts processes: forks of the postmaster, and programs.
//!
//! It has everything that a new child needs, ready before the fork: the attachment, the table of
//! functions, the descriptor floor, the title. It refuses to fork while the postmaster has a second
//! thread.

use crate::child::{ChildContext, Functions, Launch, Mailbox, run_spare, run_worker};
use crate::fault;
use crate::rules::Entry;
use crate::sys::descriptors::DescriptorFloor;
use crate::sys::exec::{Commands, ExecFailure};
use crate::sys::fork::{Forked, Forker, NewChild, SingleThreaded, ThreadCounter};
use crate::sys::roster::{Place, Roster};
use crate::sys::shared_page::SharedPage;
use crate::sys::title::Title;
use bgw_core::internals::exit::{UnwindBarrier, exit_now};
use bgw_core::{Attachment, EntryPoint, Pid, WorkerHandle};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a spawner is made of.
#[derive(Debug)]
pub(crate) struct SpawnerSettings {
    pub(crate) attachment: Attachment,
    pub(crate) functions: Functions,
    pub(crate) threads: ThreadCounter,
    pub(crate) floor: DescriptorFloor,
    pub(crate) forker: Forker,
    /// `None`: programs are forked as functions are.
    pub(crate) commands: Option<Commands>,
    pub(crate) roster: Arc<Roster>,
}

/// Starts processes.
#[derive(Debug)]
pub(crate) struct Spawner {
    /// What each child inherits.
    attachment: Arc<Attachment>,
    functions: Functions,
    threads: ThreadCounter,
    floor: DescriptorFloor,
    forker: Forker,
    commands: Option<Commands>,
    /// Programs that were forked as functions are: where each leaves the `errno` of its `execve`.
    forked_commands: HashMap<Pid, SharedPage>,
    title: Title,
    /// Lists every process that is started here, but the guardian.
    roster: Arc<Roster>,
}

impl Spawner {
    pub(crate) fn new(settings: SpawnerSettings) -> Self {
        Self {
            attachment: Arc::new(settings.attachment),
            functions: settings.functions,
            threads: settings.threads,
            floor: settings.floor,
            forker: settings.forker,
            commands: settings.commands,
            forked_commands: HashMap::new(),
            title: Title::new(),
            roster: settings.roster,
        }
    }

    /// Shows the concatenated parts as this process's title.
    pub(crate) fn show_title(&mut self, parts: &[&str]) {
        self.title.show(parts);
    }

    /// The index of a worker's function, for a spare.
    pub(crate) fn main_of(&self, entry: &Entry) -> Option<usize> {
        self.functions.index_of(&entry.worker)
    }

    /// Starts a process for a worker, and lists it. In the child it does not return.
    pub(crate) fn start(
        &mut self,
        entry: &Entry,
        handle: WorkerHandle,
    ) -> io::Result<(NewChild, Place)> {
        let place = self.roster.take()?;
        let started = self.start_listed(place, entry, handle);
        let child = started.inspect_err(|_| self.roster.release(place))?;
        Ok((self.moved_above(child), place))
    }

    fn start_listed(
        &mut self,
        place: Place,
        entry: &Entry,
        handle: WorkerHandle,
    ) -> io::Result<NewChild> {
        let main = self.main_of(entry);
        // A copy: the child does not have the registry.
        let (worker, restarts) = (Arc::new(entry.worker.clone()), entry.next_restarts());
        let proof = self.prove_single_threaded()?;
        fault::step("start:before_fork")?;
        if let (EntryPoint::Command { program, args }, Some(commands)) =
            (entry.worker.entry(), &mut self.commands)
        {
            let listing = (Arc::clone(&self.roster), place);
            let name = entry.worker.name();
            return commands.start(&proof, self.floor, listing, name, (program, args));
        }
        let is_command = matches!(entry.worker.entry(), EntryPoint::Command { .. });
        let exec_errno = is_command.then(SharedPage::new).transpose()?;
        match self.forker.fork(&proof, Some((&self.roster, place)))? {
            Forked::Child => {
                run_worker(self.context(), Launch { worker, main, handle, restarts, exec_errno })
            }
            Forked::Parent(child) => {
                if let Some(page) = exec_errno {
                    // Later children that have the page, too, do no harm. There is a child now, so
                    // this is no failed start.
                    let _ = page.hide_from_later_children();
                    self.forked_commands.insert(child.pid, page);
                }
                Ok(child)
            }
        }
    }

    /// Forks a spare, and lists it. In the child it does not return.
    pub(crate) fn start_spare(&mut self) -> io::Result<(NewChild, Place, Mailbox)> {
        let mailbox = Mailbox::new()?;
        let proof = self.prove_single_threaded()?;
        let place = self.roster.take()?;
        let forked = self.forker.fork(&proof, Some((&self.roster, place)));
        let child = match forked.inspect_err(|_| self.roster.release(place))? {
            Forked::Child => run_spare(self.context(), mailbox),
            Forked::Parent(child) => self.moved_above(child),
        };
        touch_stack();
        Ok((child, place, mailbox))
    }

    /// Forks a guardian, which is not listed. The child ends with what `keep` returns.
    pub(crate) fn start_guardian(
        &mut self,
        keep: impl FnOnce(&mut Title) -> i32,
    ) -> io::Result<NewChild> {
        let proof = self.prove_single_threaded()?;
        match self.forker.fork(&proof, None)? {
            Forked::Child => {
                let _barrier = UnwindBarrier;
                exit_now(keep(&mut self.title))
            }
            Forked::Parent(child) => Ok(self.moved_above(child)),
        }
    }

    /// A process that was started here has ended, and is about to be reaped.
    pub(crate) fn release(&self, place: Place) {
        self.roster.release(place);
    }

    fn moved_above(&self, child: NewChild) -> NewChild {
        let pidfd = child.pidfd.and_then(|pidfd| self.floor.move_above(pidfd));
        NewChild { pidfd, ..child }
    }

    /// Why the child `pid`, which has ended, did not become its program, if so.
    pub(crate) fn exec_failure(&mut self, pid: Pid) -> Option<ExecFailure> {
        match &mut self.commands {
            Some(commands) => commands.failure_of(pid),
            None => {
                let errno = self.forked_commands.remove(&pid)?.cells()[0].load(Ordering::Acquire);
                let errno = i32::try_from(errno).ok().filter(|&errno| errno != 0)?;
                Some(ExecFailure { text: None, errno })
            }
        }
    }

    fn prove_single_threaded(&self) -> io::Result<SingleThreaded> {
        self.threads.prove()?.map_err(|threads| {
            tracing::error!("the postmaster has {threads} threads and does not fork");
            io::Error::from_raw_os_error(libc::EBUSY)
        })
    }

    const fn context(&mut self) -> ChildContext<'_> {
        ChildContext {
            attachment: &self.attachment,
            floor: self.floor,
            functions: &self.functions,
            title: &mut self.title,
        }
    }
}

/// Makes the kernel copy, now that no start waits, the stack pages that the fork has left shared with
/// the child and that the next start will write to. Out of line, to keep its frame out of the others.
#[inline(never)]
fn touch_stack() {
    let mut stack = [0u8; 16 << 10];
    std::hint::black_box(&mut stack).fill(1);
}

//! Starts processes: forks of the postmaster, and programs.
//!
//! It has everything that a new child needs, ready before the fork: the attachment, the table of
//! functions, the descriptor floor, the title. It refuses to fork while the postmaster has a second
//! thread.
//!
//! Most of what a start costs is the kernel's: it copies the page tables, then each page that
//! either side writes to (2 to 4 µs each on a virtual machine), and it serves a fault for each page
//! of code that the child has not mapped yet. So the postmaster and the child write little, and
//! what they write lies close together:
//!
//! - The child allocates nothing before its main: function, attachment, signal handlers and panic
//!   hook are prepared before the fork. It takes shares that were made for it, so it writes to no
//!   count, and makes its system calls by number: what it needs of the C library is two pages of
//!   code.
//! - What a process knows of itself lies on one page (`bgw-core/src/process.rs`).
//! - What grows with the number of workers, and the rest of the postmaster's state, lies in memory
//!   that a fork leaves out (`sys/private_table.rs`, `sys/private_box.rs`). What a child uses lies
//!   behind a pointer, on the heap.
//! - The postmaster's stack is written to again after each fork. So its frames are small: what is
//!   rare is out of line, and what is large is built where it stays.
//! - The table of descriptors is shared, not copied, until the child takes what lies below the
//!   floor (`sys/descriptors.rs`).
//! - A command's child runs in the postmaster's memory until `execve` (`sys/exec.rs`).
//! - A spare has all of that behind it, and has mapped the slots. Two wake-ups are left.

use super::invitations::Invitations;
use crate::child::{
    ChildContext, Functions, Launch, Mailbox, RunSetup, TakerNumber, run_spare, run_worker,
};
use crate::fault;
use crate::gifts::Envelope;
use crate::outputs::Given;
use crate::quick_map::QuickMap;
use crate::rules::Entry;
use crate::sys::descriptors::DescriptorFloor;
use crate::sys::exec::{Commands, ExecFailure, Program};
use crate::sys::fork::{Forked, Forker, NewChild, SingleThreaded, ThreadCounter};
use crate::sys::roster::{Place, Roster};
use crate::sys::shared_page::SharedPage;
use crate::sys::title::Title;
use crate::sys::unwind_barrier::UnwindBarrier;
use bgw_core::internals::{exit_now, process};
use bgw_core::{Attachment, BackgroundWorker, Berth, EntryPoint, Output, Pid, WorkerHandle};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a spawner is made of.
#[derive(Debug)]
pub(crate) struct SpawnerSettings {
    pub(crate) attachment: Attachment,
    pub(crate) functions: Rc<Functions>,
    pub(crate) threads: ThreadCounter,
    pub(crate) floor: DescriptorFloor,
    pub(crate) forker: Forker,
    /// `None`: programs are forked as functions are.
    pub(crate) commands: Option<Commands>,
    pub(crate) roster: Arc<Roster>,
    /// The runtime folder, as an absolute path.
    pub(crate) runtime_dir: Option<String>,
}

/// Starts processes.
#[derive(Debug)]
pub(crate) struct Spawner {
    /// What each child inherits.
    attachment: Arc<Attachment>,
    functions: Rc<Functions>,
    threads: ThreadCounter,
    floor: DescriptorFloor,
    forker: Forker,
    commands: Option<Commands>,
    /// Programs that were forked as functions are: where each leaves the `errno` of its `execve`.
    forked_commands: QuickMap<Pid, SharedPage>,
    title: Title,
    /// Lists every process that is started here, but the guardian.
    roster: Arc<Roster>,
    invitations: Invitations,
}

impl Spawner {
    pub(crate) fn new(settings: SpawnerSettings) -> Self {
        let attachment = Arc::new(settings.attachment);
        process::hand_down(&attachment);
        Self {
            invitations: Invitations::new(settings.floor, settings.runtime_dir),
            attachment,
            functions: settings.functions,
            threads: settings.threads,
            floor: settings.floor,
            forker: settings.forker,
            commands: settings.commands,
            forked_commands: QuickMap::default(),
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

    /// True if the process of the function at index `main` may serve again.
    pub(crate) fn is_reusable(&self, main: Option<usize>) -> bool {
        main.is_some_and(|main| self.functions.reuse(main).is_some())
    }

    /// Puts what a command is told of itself into `setup`. Returns its invitation, which is to stay
    /// open until the command has ended.
    pub(crate) fn tell_command(
        &mut self,
        entry: &Entry,
        of: (WorkerHandle, Berth),
        setup: &mut RunSetup,
    ) -> io::Result<Option<OwnedFd>> {
        let restarts = entry.next_restarts();
        self.invitations.tell(&self.attachment, &entry.worker, of, restarts, setup)
    }

    /// Starts a process for a worker, and lists it. In the child it does not return.
    pub(crate) fn start(
        &mut self,
        entry: &Entry,
        of: (WorkerHandle, Berth),
        setup: RunSetup,
    ) -> io::Result<(NewChild, Place)> {
        let place = self.roster.take()?;
        let started = self.start_listed(place, entry, of, setup);
        let child = started.inspect_err(|_| self.roster.release(place))?;
        Ok((self.moved_above(child), place))
    }

    fn start_listed(
        &mut self,
        place: Place,
        entry: &Entry,
        (handle, berth): (WorkerHandle, Berth),
        setup: RunSetup,
    ) -> io::Result<NewChild> {
        let main = self.main_of(entry);
        let (worker, restarts) = (copied(&entry.worker), entry.next_restarts());
        let proof = self.prove_single_threaded()?;
        fault::step("start:before_fork")?;
        if let (EntryPoint::Command { program, args }, Some(commands)) =
            (entry.worker.entry(), self.commands.as_mut().filter(|_| setup.envelopes.is_empty()))
        {
            let listing = (Arc::clone(&self.roster), place);
            let program = Program {
                worker: entry.worker.name(),
                program,
                args,
                surroundings: entry.worker.surroundings(),
                placements: &setup.placements,
                environment: &setup.environment,
            };
            return commands.start(&proof, self.floor, listing, program);
        }
        let share = Some(Arc::clone(&worker));
        let is_command = matches!(entry.worker.entry(), EntryPoint::Command { .. });
        let exec_errno = is_command.then(SharedPage::new).transpose()?;
        match self.forker.fork(&proof, Some((&self.roster, place)))? {
            Forked::Child => {
                let launch =
                    Launch { worker, share, main, handle, berth, restarts, setup, exec_errno };
                run_worker(self.context(), launch)
            }
            Forked::Parent(child) => {
                if let Some(page) = exec_errno {
                    // Later children that have the page, too, do no harm. There is a child now, so
                    // this is not a failed start.
                    let _ = page.hide_from_later_children();
                    self.forked_commands.insert(child.pid, page);
                }
                Ok(child)
            }
        }
    }

    /// Forks a spare, and lists it. In the child it does not return.
    pub(crate) fn start_spare(
        &mut self,
        taker: Option<TakerNumber>,
    ) -> io::Result<(NewChild, Place, Mailbox)> {
        let mailbox = Mailbox::new(taker)?;
        let proof = self.prove_single_threaded()?;
        let place = self.roster.take()?;
        let forked = self.forker.fork(&proof, Some((&self.roster, place)));
        let child = match forked.inspect_err(|_| self.roster.release(place))? {
            Forked::Child => run_spare(self.context(), &mailbox),
            Forked::Parent(child) => self.moved_above(child),
        };
        touch_stack();
        touch_heap();
        Ok((child, place, mailbox))
    }

    /// Forks a process that is not a worker, and is not listed. The child ends with what `keep`
    /// returns.
    pub(crate) fn start_companion(
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

    /// Like [`Spawner::start_companion`], but for a child that has descriptors of its own from the
    /// first moment.
    pub(crate) fn start_apart(
        &mut self,
        keep: impl FnOnce(&mut Title) -> i32,
    ) -> io::Result<NewChild> {
        let proof = self.prove_single_threaded()?;
        match self.forker.fork_apart(&proof, None)? {
            Forked::Child => {
                let _barrier = UnwindBarrier;
                exit_now(keep(&mut self.title))
            }
            Forked::Parent(child) => Ok(self.moved_above(child)),
        }
    }

    /// Forks a template, with descriptors of its own from the first moment, and lists it. The child
    /// calls `live`.
    pub(crate) fn start_template(
        &mut self,
        live: impl FnOnce(ChildContext<'_>, &Forker),
    ) -> io::Result<(NewChild, Place)> {
        let proof = self.prove_single_threaded()?;
        let place = self.roster.take()?;
        let forked = self.forker.fork_apart(&proof, Some((&self.roster, place)));
        match forked.inspect_err(|_| self.roster.release(place))? {
            Forked::Child => {
                let _barrier = UnwindBarrier;
                let context = ChildContext {
                    attachment: &self.attachment,
                    floor: self.floor,
                    functions: &self.functions,
                    title: &mut self.title,
                };
                live(context, &self.forker);
                exit_now(0)
            }
            Forked::Parent(child) => Ok((self.moved_above(child), place)),
        }
    }

    /// A child that another process has forked for this one is there: lists it.
    pub(crate) fn confirm(&self, place: Place, pid: Pid) {
        self.roster.confirm(place, pid);
    }

    /// The descriptor that the output of `worker` goes to, if it goes to one: that in `envelope`,
    /// or one of the launcher's.
    pub(crate) fn output_of(
        &self,
        worker: &BackgroundWorker,
        envelope: Option<Rc<Envelope>>,
    ) -> io::Result<Option<Given>> {
        let Output::Descriptor(to) = worker.output() else { return Ok(None) };
        if let Some(envelope) = envelope {
            return Ok(Some(Given::Envelope(envelope)));
        }
        let mut all = self.attachment.descriptors().iter();
        let Some((_, found)) = all.find(|(name, _)| name == to.name()) else { return Ok(None) };
        Ok(Some(Given::Descriptor(self.floor.move_above(found.try_clone()?)?)))
    }

    /// Moves a descriptor above the floor.
    pub(crate) fn above_floor(&self, descriptor: OwnedFd) -> io::Result<OwnedFd> {
        self.floor.move_above(descriptor)
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

    fn context(&mut self) -> ChildContext<'_> {
        ChildContext {
            attachment: &self.attachment,
            floor: self.floor,
            functions: &self.functions,
            title: &mut self.title,
        }
    }
}

/// A copy for the child, which does not have the registry.
#[inline(never)]
fn copied(worker: &BackgroundWorker) -> Arc<BackgroundWorker> {
    Arc::new(worker.clone())
}

/// Makes the kernel copy, now that no start waits, the stack pages that the fork has left shared
/// with the child and that the next start will write to. Out of line, to keep its frame out of the
/// others.
#[inline(never)]
fn touch_stack() {
    let mut stack = [0u8; 16 << 10];
    std::hint::black_box(&mut stack).fill(1);
}

/// The same for what the allocator writes to when it hands out and takes back a queue of events.
#[inline(never)]
fn touch_heap() {
    for bytes in [24, 40, 72] {
        drop(std::hint::black_box(Vec::<u8>::with_capacity(bytes)));
    }
}

//! What the child of a command does until `execve`, in the postmaster's memory.
//!
//! It reads its [`ExecPlan`], writes the plan's `failure`, and makes its system calls through
//! `raw_syscall.rs`: the C library's wrappers write `errno`, which is the postmaster's. It
//! allocates nothing and takes no lock. All signals stay blocked until no handler of the postmaster
//! is left, so no handler runs in this memory.

use super::descriptors::DescriptorFloor;
use super::environment::{environment, folder_of, input_of, search_path};
use super::placements::{Placements, Steps};
use super::program_path::{Search, after, candidates};
use super::raw_syscall::call;
use super::roster::{Place, Roster};
use super::stack::Stack;
use crate::fault;
use bgw_core::Pid;
use bgw_core::internals::Surroundings;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Runs a script without a `#!` line.
const SHELL: &CStr = c"/bin/sh";

const SETTLE: u64 = 1;
const ORPHANED: u64 = 2;
const RUN: u64 = 3;
const FOLDER: u64 = 4;
const INPUT: u64 = 5;

/// Why a child did not become its program.
#[derive(Debug)]
pub(crate) struct ExecFailure {
    /// For the log. `None` if the child has logged it itself.
    pub(crate) text: Option<String>,
    pub(crate) errno: i32,
}

/// What is to be started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program<'a> {
    /// The worker's name.
    pub(crate) worker: &'a str,
    pub(crate) program: &'a str,
    pub(crate) args: &'a [String],
    pub(crate) surroundings: Option<&'a Surroundings>,
    pub(crate) placements: &'a Placements,
    /// What the run's own variables say.
    pub(crate) environment: &'a [(&'static str, String)],
}

/// What one child does.
#[derive(Debug)]
pub(crate) struct ExecPlan {
    stack: Stack,
    floor: DescriptorFloor,
    /// What it gets under other numbers.
    placements: Option<Steps>,
    postmaster: Pid,
    /// The child's place in the roster.
    listing: (Arc<Roster>, Place),
    /// Signals that the postmaster handles or ignores.
    changed: Vec<c_int>,
    /// Paths to try, in this order.
    candidates: Vec<CString>,
    /// The program as the registration names it, and its arguments.
    texts: Vec<CString>,
    /// Pointers to `texts`, null-terminated.
    argv: Vec<*const c_char>,
    /// For scripts, one for each candidate: shell, script, arguments, null.
    shell_argvs: Vec<Vec<*const c_char>>,
    /// `NAME=value` each.
    _variables: Vec<CString>,
    /// Pointers to them, null-terminated.
    environment: Vec<*const c_char>,
    /// The working folder, if it is another one.
    folder: Option<CString>,
    /// What to read as standard input, if it is something else.
    input: Option<CString>,
    /// The worker's name, for fault points.
    worker: String,
    /// The failed step in the high half, `errno` in the low half; 0: none.
    failure: AtomicU64,
    /// Not 0 while the child may use this memory. The kernel clears it.
    busy: AtomicU32,
}

impl ExecPlan {
    pub(crate) fn new(
        stack: Stack,
        floor: DescriptorFloor,
        listing: (Arc<Roster>, Place),
        changed: &[c_int],
        start: Program<'_>,
    ) -> io::Result<Self> {
        let Program { worker, program, args, surroundings, placements, environment: own } = start;
        let mut texts = vec![CString::new(program)?];
        for arg in args {
            texts.push(CString::new(arg.as_str())?);
        }
        let variables = environment(surroundings, own)?;
        let candidates = candidates(program, search_path(surroundings).as_deref())?;
        let ended = |texts: &mut dyn Iterator<Item = &CStr>| -> Vec<*const c_char> {
            texts.map(CStr::as_ptr).chain([std::ptr::null()]).collect()
        };
        // Moving a CString does not move its bytes.
        let argv = ended(&mut texts.iter().map(CString::as_c_str));
        let arguments = || texts.iter().skip(1).map(CString::as_c_str);
        let shell_argvs = candidates
            .iter()
            .map(|script| ended(&mut [SHELL, script.as_c_str()].into_iter().chain(arguments())))
            .collect();
        Ok(Self {
            stack,
            floor,
            placements: placements.steps(floor.lowest()),
            postmaster: Pid::this(),
            listing,
            changed: changed.to_vec(),
            candidates,
            texts,
            argv,
            shell_argvs,
            environment: ended(&mut variables.iter().map(CString::as_c_str)),
            _variables: variables,
            folder: folder_of(surroundings)?,
            input: input_of(surroundings)?,
            worker: worker.to_owned(),
            failure: AtomicU64::new(0),
            busy: AtomicU32::new(1),
        })
    }

    /// The upper end of the child's stack.
    pub(crate) fn stack_top(&self) -> *mut c_void {
        self.stack.top()
    }

    /// The stack, for another child.
    pub(crate) fn into_stack(self) -> Stack {
        self.stack
    }

    /// The child's place in the roster.
    pub(crate) const fn listing(&self) -> &(Arc<Roster>, Place) {
        &self.listing
    }

    /// The word that the kernel clears.
    pub(crate) const fn busy(&self) -> *mut u32 {
        self.busy.as_ptr()
    }

    /// True once the child runs its program and no longer uses this memory.
    pub(crate) fn is_done(&self) -> bool {
        self.busy.load(Ordering::Acquire) == 0 && self.failure.load(Ordering::Acquire) == 0
    }

    /// Why the child did not become its program, if so.
    pub(crate) fn failure(&self) -> Option<ExecFailure> {
        let failure = self.failure.load(Ordering::Acquire);
        let errno = failure as u32 as i32;
        let error = io::Error::from_raw_os_error(errno);
        let program = self.texts.first().map(|text| text.to_string_lossy()).unwrap_or_default();
        let text = match failure >> 32 {
            0 => return None,
            ORPHANED => "the postmaster died during the start".to_owned(),
            RUN => format!("running \"{program}\" failed: {error}"),
            FOLDER => format!("changing to folder {} failed: {error}", shown(&self.folder)),
            INPUT => format!("opening {} as standard input failed: {error}", shown(&self.input)),
            _ => format!("preparing the process of \"{program}\" failed: {error}"),
        };
        Some(ExecFailure { text: Some(text), errno })
    }

    /// In the child, before anything else. The postmaster does the same, but may be killed before.
    fn list(&self) {
        // SAFETY: the call takes no pointers.
        let pid = unsafe { call(libc::SYS_getpid, [0; 4]) };
        if let Some(pid) = pid.ok().and_then(|pid| u32::try_from(pid).ok()).and_then(Pid::new) {
            let (roster, place) = &self.listing;
            roster.list(*place, pid);
        }
    }

    /// Returns only on failure.
    fn follow(&self) -> u64 {
        self.list();
        match self.settle() {
            Ok(true) => {}
            Ok(false) => return failed(ORPHANED, &io::Error::from_raw_os_error(0)),
            Err(error) => return failed(SETTLE, &error),
        }
        match fault::step_of(&self.worker, "child:before_exec").and_then(|()| self.reset_signals())
        {
            Ok(()) => {}
            Err(error) => return failed(RUN, &error),
        }
        // Whatever hangs here ends on a signal.
        if let Err(error) = self.change_folder() {
            return failed(FOLDER, &error);
        }
        match self.open_input() {
            Ok(()) => failed(RUN, &self.run()),
            Err(error) => failed(INPUT, &error),
        }
    }

    fn change_folder(&self) -> io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        // SAFETY: a terminated text of the plan's.
        unsafe { call(libc::SYS_chdir, [folder.as_ptr() as usize, 0, 0, 0]) }.map(drop)
    }

    fn open_input(&self) -> io::Result<()> {
        let Some(path) = &self.input else { return Ok(()) };
        let flags = (libc::O_RDONLY | libc::O_NOCTTY) as usize;
        let open = [libc::AT_FDCWD as usize, path.as_ptr() as usize, flags, 0];
        // SAFETY: a terminated text of the plan's.
        let input = unsafe { call(libc::SYS_openat, open) }?;
        if input != 0 {
            place_descriptor(input, 0)?;
            // SAFETY: no pointers; the child has just opened this number in a table of its own.
            unsafe { call(libc::SYS_close, [input, 0, 0, 0]) }?;
        }
        Ok(())
    }

    /// False if the postmaster has died.
    fn settle(&self) -> io::Result<bool> {
        // The placeholders below the floor are close-on-exec.
        match &self.placements {
            None => unshare_above(self.floor.lowest() - 1)?,
            Some(Steps { unshare_above: highest, place, close }) => {
                unshare_above(*highest)?;
                for &(from, to) in place {
                    place_descriptor(from as usize, to as usize)?;
                }
                for &(first, last) in close {
                    // SAFETY: no pointers; the numbers are those of the child's own table.
                    unsafe { call(libc::SYS_close_range, [first as usize, last as usize, 0, 0]) }?;
                }
            }
        }
        if let Some(limit) = self.floor.raw_limit() {
            let at = (&raw const limit) as usize;
            let number = libc::RLIMIT_NOFILE as usize;
            // SAFETY: `limit` has the size of the kernel's structure and is only read.
            unsafe { call(libc::SYS_prlimit64, [0, number, at, 0]) }?;
        }
        // SAFETY: the call takes no pointers.
        unsafe { call(libc::SYS_setsid, [0; 4]) }?;
        let death = [libc::PR_SET_PDEATHSIG as usize, libc::SIGTERM as usize, 0, 0];
        // SAFETY: the call takes no pointers.
        unsafe { call(libc::SYS_prctl, death) }?;
        // SAFETY: the call takes no pointers.
        let parent = unsafe { call(libc::SYS_getppid, [0; 4]) }?;
        Ok(parent == self.postmaster.get() as usize)
    }

    /// Default dispositions, none blocked.
    fn reset_signals(&self) -> io::Result<()> {
        // The kernel's `sigaction`, all zero: default, no flags, an empty mask.
        let default = [0u64; 4];
        let set = size_of::<u64>();
        for &signal in &self.changed {
            let at = (&raw const default) as usize;
            // SAFETY: `default` has the size of the kernel's structure and is only read; the
            // dispositions are the child's own, because it was created without CLONE_SIGHAND.
            unsafe { call(libc::SYS_rt_sigaction, [signal as usize, at, 0, set]) }?;
        }
        let none = 0u64;
        let mask = [libc::SIG_SETMASK as usize, (&raw const none) as usize, 0, set];
        // SAFETY: `none` is only read. No handler is left that could run.
        unsafe { call(libc::SYS_rt_sigprocmask, mask) }.map(drop)
    }

    /// Returns only if no candidate can be run, by the rules of `execvp`.
    fn run(&self) -> io::Error {
        let mut last = io::Error::from_raw_os_error(libc::ENOENT);
        for (path, shell_argv) in self.candidates.iter().zip(&self.shell_argvs) {
            let mut error = self.exec(path, &self.argv);
            if error.raw_os_error() == Some(libc::ENOEXEC) {
                error = self.exec(SHELL, shell_argv);
            }
            match after(error.raw_os_error().unwrap_or(libc::EIO)) {
                Search::Next => {}
                Search::NextButKnown => last = error,
                Search::Over => return error,
            }
        }
        last
    }

    fn exec(&self, path: &CStr, argv: &[*const c_char]) -> io::Error {
        let (path, argv) = (path.as_ptr() as usize, argv.as_ptr() as usize);
        // SAFETY: strings and lists are terminated and belong to the plan.
        let done =
            unsafe { call(libc::SYS_execve, [path, argv, self.environment.as_ptr() as usize, 0]) };
        done.err().unwrap_or_else(|| io::Error::from_raw_os_error(libc::EIO))
    }
}

/// Gives the child a table of its own, without the numbers above `highest`.
fn unshare_above(highest: RawFd) -> io::Result<()> {
    let (first, all) = (highest as usize + 1, libc::c_uint::MAX as usize);
    let unshare = libc::CLOSE_RANGE_UNSHARE as usize;
    // SAFETY: this call first unshares the table, so it closes numbers in the child's own; the
    // owners of the descriptors live in the postmaster, whose table is not affected.
    unsafe { call(libc::SYS_close_range, [first, all, unshare, 0]) }.map(drop)
}

fn place_descriptor(from: usize, to: usize) -> io::Result<()> {
    let placed = if from == to {
        // Not close-on-exec.
        // SAFETY: no pointers; the number is one of the child's own table.
        unsafe { call(libc::SYS_fcntl, [from, libc::F_SETFD as usize, 0, 0]) }
    } else {
        // SAFETY: no pointers; the numbers are those of the child's own table.
        unsafe { call(libc::SYS_dup3, [from, to, 0, 0]) }
    };
    placed.map(drop)
}

fn shown(path: &Option<CString>) -> String {
    path.as_ref().map(|path| format!("{path:?}")).unwrap_or_default()
}

fn failed(step: u64, error: &io::Error) -> u64 {
    step << 32 | u64::from(error.raw_os_error().unwrap_or(libc::EIO).unsigned_abs())
}

/// The life of the child until it is a program.
pub(crate) extern "C" fn run_plan(plan: *mut c_void) -> c_int {
    // SAFETY: `Commands::start` passes a plan that stays until `busy` is cleared, which the kernel
    // does after this process has left the memory. Both sides have shared references only.
    let plan = unsafe { &*plan.cast_const().cast::<ExecPlan>() };
    plan.failure.store(plan.follow(), Ordering::Release);
    loop {
        // SAFETY: ends this process alone (no CLONE_THREAD), without the C library.
        let _ = unsafe { call(libc::SYS_exit_group, [1, 0, 0, 0]) };
    }
}

//! Starts programs without copying the postmaster.
//!
//! A fork copies the page tables, and every page written afterwards, only for `execve` to throw all
//! of it away. So the child runs in the postmaster's memory until then, on a stack of its own, as
//! with `vfork`. Unlike there, the postmaster does not wait for it: a program on a file system that
//! hangs delays nothing but its own start.
//!
//! ```text
//!  postmaster: plan written ── clone(CLONE_VM) ──▶ child: close descriptors, setsid, parent-death
//!      │ continues at once                                signal, default signals, execve
//!      ▼                                                      │
//!  busy == 0: plan and stack are free  ◀── cleared by the kernel when the child leaves the memory
//! ```
//!
//! `exec_plan.rs` says what the child may do. Its plan, which owns its stack, is not freed while
//! `busy` is set, not even when the postmaster's state is dropped.

use super::descriptors::DescriptorFloor;
pub(crate) use super::exec_plan::{ExecFailure, Program};
use super::exec_plan::{ExecPlan, run_plan};
use super::fork::{NewChild, SingleThreaded, parent};
use super::raw_syscall;
use super::roster::{Place, Roster};
use super::stack::Stack;
use bgw_core::Pid;
use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::Arc;

/// How many stacks are kept for later starts.
const SPARE_STACKS: usize = 4;

/// Starts programs.
#[derive(Debug)]
pub(crate) struct Commands {
    /// Signals that are handled or ignored here.
    changed: Vec<c_int>,
    leaving: Vec<Leaving>,
    stacks: Vec<Stack>,
}

/// A child that may still run in our memory, or has failed to leave it by `execve`.
#[derive(Debug)]
struct Leaving {
    pid: Pid,
    plan: LentPlan,
}

impl Commands {
    /// Created by the postmaster once its signal handlers are installed. `None` where programs are
    /// started by a fork.
    pub(crate) fn new() -> Option<Self> {
        let changed = changed_signals();
        raw_syscall::AVAILABLE.then(|| Self { changed, leaving: Vec::new(), stacks: Vec::new() })
    }

    /// Starts a program, and lists it in the roster. It has the descriptors below the floor, a
    /// session of its own, default signals, none blocked, and gets SIGTERM when the postmaster
    /// dies.
    ///
    /// `Ok` means that a process was created. If it cannot become the program, it ends with exit
    /// code 1, and [`Commands::failure_of`] returns why.
    pub(crate) fn start(
        &mut self,
        _proof: &SingleThreaded,
        floor: DescriptorFloor,
        listing: (Arc<Roster>, Place),
        program: Program<'_>,
    ) -> io::Result<NewChild> {
        self.take_back_idle();
        let stack = self.stacks.pop().map_or_else(Stack::new, Ok)?;
        let plan = ExecPlan::new(stack, floor, listing, &self.changed, program)?;
        let plan = LentPlan::new(plan);
        let mut pidfd: RawFd = -1;
        let flags = libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_PIDFD;
        let flags = flags | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;
        // SAFETY: a stack that nothing else uses. Plan and stack stay in place until the kernel has
        // cleared `busy` or the child has ended (`LentPlan`). The child keeps to the rules of
        // `exec_plan.rs`. There is one thread, so nothing else changes what the child reads. The
        // kernel writes the pidfd's number to `pidfd` before it returns.
        let pid = unsafe {
            libc::clone(
                run_plan,
                plan.get().stack_top(),
                flags,
                plan.pointer(),
                &raw mut pidfd,
                std::ptr::null_mut::<c_void>(),
                plan.get().busy(),
            )
        };
        if pid == -1 {
            let error = io::Error::last_os_error();
            self.stacks.push(plan.take_back().into_stack());
            return Err(error);
        }
        let child = parent(pid, pidfd)?;
        let (roster, place) = plan.get().listing();
        roster.confirm(*place, child.pid);
        self.leaving.push(Leaving { pid: child.pid, plan });
        Ok(child)
    }

    /// Why the child `pid`, which has ended, did not become its program, if so.
    pub(crate) fn failure_of(&mut self, pid: Pid) -> Option<ExecFailure> {
        let place = self.leaving.iter().position(|leaving| leaving.pid == pid)?;
        // It has ended, so it no longer uses the plan.
        let plan = self.leaving.swap_remove(place).plan.take_back();
        let failure = plan.failure();
        self.stacks.push(plan.into_stack());
        failure
    }

    /// Takes back the plans of children that have become programs. Those of failed children stay
    /// until [`Commands::failure_of`].
    fn take_back_idle(&mut self) {
        let mut at = 0;
        while let Some(leaving) = self.leaving.get(at) {
            if leaving.plan.get().is_done() {
                self.stacks.push(self.leaving.swap_remove(at).plan.take_back().into_stack());
            } else {
                at += 1;
            }
        }
        self.stacks.truncate(SPARE_STACKS);
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        self.take_back_idle();
    }
}

/// A plan that a child may be using. Dropping it leaks the plan.
#[derive(Debug)]
struct LentPlan(NonNull<ExecPlan>);

impl LentPlan {
    fn new(plan: ExecPlan) -> Self {
        Self(NonNull::from(Box::leak(Box::new(plan))))
    }

    const fn pointer(&self) -> *mut c_void {
        self.0.as_ptr().cast()
    }

    const fn get(&self) -> &ExecPlan {
        // SAFETY: created by `new`, and freed only by `take_back`, which consumes `self`. The child
        // has shared references only, too, and writes only to atomics.
        unsafe { self.0.as_ref() }
    }

    /// The plan itself. The child must no longer use it.
    fn take_back(self) -> ExecPlan {
        // SAFETY: created by `new` from a Box; this consumes `self`.
        *unsafe { Box::from_raw(self.0.as_ptr()) }
    }
}

/// The signals whose disposition is not the default.
fn changed_signals() -> Vec<c_int> {
    let is_changed = |&signal: &c_int| {
        // SAFETY: all-zero bytes are a valid `sigaction`: an empty mask and null pointers.
        let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: a query; `now` is valid for the call. Unused numbers fail.
        let done = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut now) };
        done == 0 && now.sa_sigaction != libc::SIG_DFL
    };
    (1..=libc::SIGRTMAX()).filter(is_changed).collect()
}

//! Starts programs without copying the postmaster.
//!
//! A fork copies the page tables, and whatever is written afterwards, only to throw all of it away at
//! `execve`. So the child runs in the postmaster's own memory until then, on a stack of its own, as with
//! `vfork`. Other than there the postmaster does not wait for it: a program on a file system that hangs
//! must hang itself, and nobody else.
//!
//! ```text
//!  postmaster: orders written ── clone(CLONE_VM) ──▶ child: descriptors closed, own session, parent-death
//!      │ goes on at once                                    signal, default signals, execve
//!      ▼                                                        │
//!  busy == 0: orders and stack are free ◀── cleared by the kernel as the child leaves the memory
//! ```
//!
//! What the child may do stands in `orders.rs`. Its orders, which hold its stack, are not given up while
//! `busy` is set, not even when the postmaster's state is dropped.

use super::close::Fence;
use super::fork::{Forked, SingleThreaded, parent};
use super::orders::{Orders, child};
use super::raw;
use super::stack::Stack;
use bgw_core::Pid;
use std::ffi::{c_int, c_void};
use std::io;
use std::ptr::NonNull;

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

/// A child that may not have left our memory yet, or has failed to.
#[derive(Debug)]
struct Leaving {
    pid: Pid,
    orders: Lent,
}

impl Commands {
    /// For the postmaster, once its handlers stand; `None` where programs are started by a fork.
    pub(crate) fn new() -> Option<Self> {
        let changed = changed_signals();
        raw::AVAILABLE.then(|| Self { changed, leaving: Vec::new(), stacks: Vec::new() })
    }

    /// Starts `program` for `worker`. It has the descriptors below the fence, a session of its own,
    /// default signals, none blocked, and gets SIGTERM when the postmaster dies.
    ///
    /// `Ok` says that a process was made; if that cannot become the program, it ends with exit code 1,
    /// and [`Commands::failure_of`] says why.
    pub(crate) fn start(
        &mut self,
        _proof: &SingleThreaded,
        fence: Fence,
        worker: &str,
        (program, args): (&str, &[String]),
    ) -> io::Result<Pid> {
        self.take_back();
        let stack = self.stacks.pop().map_or_else(Stack::new, Ok)?;
        let orders = Lent::new(Orders::new(stack, fence, &self.changed, worker, program, args)?);
        let flags = libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;
        // SAFETY: a stack that nobody else uses; orders and stack stay where they are until the kernel
        // has cleared `busy` or the child has ended (`Lent`). The child does what `orders.rs` says. There
        // is one thread, so nobody else changes what the child reads.
        let pid = unsafe {
            libc::clone(
                child,
                orders.get().stack_top(),
                flags,
                orders.pointer(),
                std::ptr::null_mut::<c_int>(),
                std::ptr::null_mut::<c_void>(),
                orders.get().busy(),
            )
        };
        if pid == -1 {
            let error = io::Error::last_os_error();
            self.stacks.push(orders.take_back().into_stack());
            return Err(error);
        }
        match parent(pid) {
            Ok(Forked::Parent(pid)) => {
                self.leaving.push(Leaving { pid, orders });
                Ok(pid)
            }
            // Cannot be; if it is, the child keeps what it has for ever.
            Ok(Forked::Child) | Err(_) => Err(io::Error::other("clone gave no usable pid")),
        }
    }

    /// To be asked once the child `pid` has ended: why it did not become its program, if so.
    pub(crate) fn failure_of(&mut self, pid: Pid) -> Option<String> {
        let place = self.leaving.iter().position(|leaving| leaving.pid == pid)?;
        // It has ended, so it uses them no more.
        let orders = self.leaving.swap_remove(place).orders.take_back();
        let failure = orders.failure();
        self.stacks.push(orders.into_stack());
        failure
    }

    /// What the children that have become programs do not need any more. Those that have failed keep it
    /// until they are asked for.
    fn take_back(&mut self) {
        let mut at = 0;
        while let Some(leaving) = self.leaving.get(at) {
            if leaving.orders.get().is_done() {
                self.stacks.push(self.leaving.swap_remove(at).orders.take_back().into_stack());
            } else {
                at += 1;
            }
        }
        self.stacks.truncate(SPARE_STACKS);
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        self.take_back();
    }
}

/// Orders that a child may be using. Dropped, they stay for ever.
#[derive(Debug)]
struct Lent(NonNull<Orders>);

impl Lent {
    fn new(orders: Orders) -> Self {
        // Of a Box: never null.
        Self(NonNull::from(Box::leak(Box::new(orders))))
    }

    const fn pointer(&self) -> *mut c_void {
        self.0.as_ptr().cast()
    }

    const fn get(&self) -> &Orders {
        // SAFETY: made by `new`, and freed by `take_back` alone, which takes `self`. The child, too, has
        // shared references only, and what it writes to is atomic.
        unsafe { self.0.as_ref() }
    }

    /// The child must not use them any more.
    fn take_back(self) -> Orders {
        // SAFETY: made by `new` out of a Box; `self` is gone with this.
        *unsafe { Box::from_raw(self.0.as_ptr()) }
    }
}

/// What is not as a new process has it.
fn changed_signals() -> Vec<c_int> {
    let is_changed = |&signal: &c_int| {
        // SAFETY: all-zero bytes are a valid `sigaction`: an empty mask and null pointers.
        let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: asks only; `now` is valid for the call. Numbers that are none fail.
        let done = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut now) };
        done == 0 && now.sa_sigaction != libc::SIG_DFL
    };
    (1..=libc::SIGRTMAX()).filter(is_changed).collect()
}

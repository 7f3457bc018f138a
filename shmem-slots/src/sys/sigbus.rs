//! A file that is truncated under our feet gives an error, not SIGBUS.
//!
//! A memfd is sealed against shrinking; a named file cannot be. So for mappings of named files, and
//! only for those, one handler for SIGBUS is installed in the process. If the fault lies in a guarded
//! mapping, it puts zeroed private pages in the place of the whole mapping and marks it as damaged:
//! the access that faulted goes on and reads zeros (a free slot of generation 0), and the next
//! operation that looks for damage reports it. Any other fault goes to the handler that was there
//! before, of either form, as if this one were not there.
//!
//! The table is read in the handler, so it is fixed in size and made of atomics.

use crate::primitive::private::{AtomicBool, AtomicUsize, Ordering};
use nix::errno::Errno;
use std::io;
use std::sync::Once;

const GUARDS: usize = 64;

struct Entry {
    taken: AtomicBool,
    start: AtomicUsize,
    end: AtomicUsize,
    damaged: AtomicBool,
}

static TABLE: [Entry; GUARDS] = [const {
    Entry {
        taken: AtomicBool::new(false),
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        damaged: AtomicBool::new(false),
    }
}; GUARDS];

/// The handler from before, to hand other faults on to: the address of its function, or SIG_DFL.
static BEFORE: AtomicUsize = AtomicUsize::new(libc::SIG_DFL);
/// Whether that function takes three arguments (SA_SIGINFO) or one.
static BEFORE_TAKES_INFO: AtomicBool = AtomicBool::new(false);
static INSTALL: Once = Once::new();

/// A guarded range; not guarded any more when dropped.
#[derive(Debug)]
pub(crate) struct Guard {
    entry: &'static Entry,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("damaged", &self.damaged).finish_non_exhaustive()
    }
}

impl Guard {
    /// Guards the addresses from `start` to `end`, which are a mapping of the caller's.
    pub(crate) fn new((start, end): (usize, usize)) -> io::Result<Self> {
        let entry =
            TABLE.iter().find(|entry| !entry.taken.swap(true, Ordering::AcqRel)).ok_or_else(
                || io::Error::other("more than 64 regions in named files in one process"),
            )?;
        entry.damaged.store(false, Ordering::Relaxed);
        entry.start.store(start, Ordering::Release);
        entry.end.store(end, Ordering::Release);
        INSTALL.call_once(install);
        Ok(Self { entry })
    }

    /// True once the file was found to be shorter than it was.
    pub(crate) fn damaged(&self) -> bool {
        self.entry.damaged.load(Ordering::Acquire)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.entry.end.store(0, Ordering::Release);
        self.entry.start.store(0, Ordering::Release);
        self.entry.taken.store(false, Ordering::Release);
    }
}

fn install() {
    // SAFETY: all-zero bytes are a valid `sigaction`: an empty mask and null pointers.
    let mut new: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut old: libc::sigaction = unsafe { std::mem::zeroed() };
    new.sa_sigaction = on_fault as *const () as usize;
    // On the alternative stack where there is one: the handler before may need it.
    new.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER | libc::SA_ONSTACK;
    // SAFETY: asks only; `old` is a valid place for the answer.
    unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), &raw mut old) };
    // Before ours is there, since it may run at once.
    BEFORE_TAKES_INFO.store(old.sa_flags & libc::SA_SIGINFO != 0, Ordering::Release);
    BEFORE.store(old.sa_sigaction, Ordering::Release);
    // SAFETY: `on_fault` does nothing but atomics and system calls, and keeps errno.
    unsafe { libc::sigaction(libc::SIGBUS, &raw const new, std::ptr::null_mut()) };
}

extern "C" fn on_fault(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel passes a valid `siginfo_t` to a handler installed with SA_SIGINFO.
    let info_ref = unsafe { &*info };
    // SAFETY: for SIGBUS that `siginfo_t` holds the address.
    let address = unsafe { info_ref.si_addr() }.addr();
    for entry in &TABLE {
        let (start, end) = (entry.start.load(Ordering::Acquire), entry.end.load(Ordering::Acquire));
        if (start..end).contains(&address) {
            entry.damaged.store(true, Ordering::Release);
            let errno = Errno::last_raw();
            // SAFETY: the range is a mapping that a live `Guard` stands for; what replaces it has the
            // same length and may be read and written, so I1 holds on, with zeros for contents.
            let zeros = unsafe {
                libc::mmap(
                    start as *mut libc::c_void,
                    end - start,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                )
            };
            Errno::set_raw(errno);
            if zeros != libc::MAP_FAILED {
                return;
            }
        }
    }
    let before = BEFORE.load(Ordering::Acquire);
    if before == libc::SIG_DFL || before == libc::SIG_IGN {
        // SAFETY: back to the default: the access faults once more and ends the process as it would
        // have without us.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    }
    if BEFORE_TAKES_INFO.load(Ordering::Acquire) {
        // SAFETY: `BEFORE` is the address of a handler that was installed with SA_SIGINFO, so it
        // has this signature.
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
            unsafe { std::mem::transmute(before) };
        handler(signal, info, context);
    } else {
        // SAFETY: as above, but installed without SA_SIGINFO.
        let handler: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(before) };
        handler(signal);
    }
}

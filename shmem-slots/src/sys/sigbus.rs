//! A file that is truncated while it is mapped gives an error, not SIGBUS.
//!
//! A memfd is sealed against shrinking; a named file cannot be. So for mappings of named files, and
//! only for those, this process gets one handler for SIGBUS. If the fault is an access beyond the
//! end of a guarded mapping's file, the handler puts zeroed private pages in the place of the whole
//! mapping and marks it as damaged. The access then reads zeros (a free slot of generation 0), and
//! the next operation that checks for damage reports it. Any other SIGBUS goes to the handler that
//! was installed before, of either form, as if this one did not exist.
//!
//! The handler believes the address of a signal only if the kernel says that an access caused it
//! (`si_code`): any process may send a SIGBUS with an address of its own choice.
//!
//! The handler reads the table, so the table has a fixed size and consists of atomics. A guarded
//! range is one word, so that the handler never sees the start of one range and the end of another.

use super::map::replace_by_zeros;
use crate::primitive::private::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use nix::errno::Errno;
use std::io;
use std::ops::Range;
use std::sync::Once;

const GUARDS: usize = 64;

/// Pages of the range are counted in the low bits, the page that it begins on in the bits above.
const COUNT_BITS: u32 = 29;
/// A page, for the packing of ranges: the smallest that Linux has.
const PAGE: usize = 4096;
/// No range.
const VACANT: u64 = 0;
/// Taken, and without a range yet: a range of no pages.
const TAKEN: u64 = 1 << COUNT_BITS;

struct Entry {
    range: AtomicU64,
    damaged: AtomicBool,
}

static TABLE: [Entry; GUARDS] =
    [const { Entry { range: AtomicU64::new(VACANT), damaged: AtomicBool::new(false) } }; GUARDS];

/// The handler from before, to which other faults are passed: the address of its function, or
/// SIG_DFL.
static BEFORE: AtomicUsize = AtomicUsize::new(libc::SIG_DFL);
/// Whether that function takes three arguments (SA_SIGINFO) or one.
static BEFORE_TAKES_INFO: AtomicBool = AtomicBool::new(false);
static INSTALL: Once = Once::new();

/// Packs a range. `None` when it does not begin on a page or does not fit.
fn pack(start: usize, end: usize) -> Option<u64> {
    let count = u64::try_from(end.checked_sub(start)?.div_ceil(PAGE)).ok()?;
    let first = u64::try_from(start / PAGE).ok()?;
    let fits = start % PAGE == 0 && count < 1 << COUNT_BITS && first < 1 << (64 - COUNT_BITS);
    fits.then_some(first << COUNT_BITS | count)
}

fn unpack(range: u64) -> Range<usize> {
    let start = (range >> COUNT_BITS) as usize * PAGE;
    start..start + (range & ((1 << COUNT_BITS) - 1)) as usize * PAGE
}

/// A guarded range. Dropping it ends the guard.
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
    ///
    /// # Errors
    /// 64 mappings are guarded already, or this one is too large.
    pub(crate) fn new((start, end): (usize, usize)) -> io::Result<Self> {
        let range = pack(start, end)
            .ok_or_else(|| io::Error::other("a mapping of 2 TiB or more cannot be guarded"))?;
        let entry = TABLE.iter().find(|entry| entry.take()).ok_or_else(|| {
            io::Error::other("more than 64 regions in named files are open in this process")
        })?;
        entry.damaged.store(false, Ordering::Relaxed);
        entry.range.store(range, Ordering::Release);
        INSTALL.call_once(install);
        Ok(Self { entry })
    }

    /// True once the file was found to be shorter than the mapping.
    pub(crate) fn damaged(&self) -> bool {
        self.entry.damaged.load(Ordering::Acquire)
    }
}

impl Entry {
    fn take(&self) -> bool {
        let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
        self.range.compare_exchange(VACANT, TAKEN, acquire, relaxed).is_ok()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.entry.range.store(VACANT, Ordering::Release);
    }
}

fn install() {
    // SAFETY: all-zero bytes are a valid `sigaction`: an empty mask and null pointers.
    let mut new: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut old: libc::sigaction = unsafe { std::mem::zeroed() };
    new.sa_sigaction = on_fault as *const () as usize;
    // On the alternative stack where there is one: the previous handler may need it.
    new.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER | libc::SA_ONSTACK;
    // SAFETY: only asks; `old` is a valid place for the answer.
    unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), &raw mut old) };
    // Before the new handler is installed, since it may run at once.
    BEFORE_TAKES_INFO.store(old.sa_flags & libc::SA_SIGINFO != 0, Ordering::Release);
    BEFORE.store(old.sa_sigaction, Ordering::Release);
    // SAFETY: `on_fault` only uses atomics and system calls, and keeps errno.
    unsafe { libc::sigaction(libc::SIGBUS, &raw const new, std::ptr::null_mut()) };
}

/// Replaces the guarded mapping around `address`. True if there was one.
fn replace_guarded(address: usize) -> bool {
    for entry in &TABLE {
        let range = unpack(entry.range.load(Ordering::Acquire));
        if range.contains(&address) {
            entry.damaged.store(true, Ordering::Release);
            // SAFETY: an access to the range faulted just now, so it is mapped, and the guard that
            // stands for it is dropped only after the last access.
            return unsafe { replace_by_zeros(range.start, range.len()) };
        }
    }
    false
}

extern "C" fn on_fault(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel passes a valid `siginfo_t` to a handler installed with SA_SIGINFO.
    let info_ref = unsafe { &*info };
    // Positive codes are the kernel's own: an access of this thread faulted.
    let faulted = info_ref.si_code > 0;
    if info_ref.si_code == libc::BUS_ADRERR {
        // SAFETY: for this code the `siginfo_t` holds the address of the access.
        let address = unsafe { info_ref.si_addr() }.addr();
        let errno = Errno::last_raw();
        let replaced = replace_guarded(address);
        Errno::set_raw(errno);
        if replaced {
            return;
        }
    }
    let before = BEFORE.load(Ordering::Acquire);
    if before == libc::SIG_IGN && !faulted {
        return;
    }
    if before == libc::SIG_DFL || before == libc::SIG_IGN {
        // SAFETY: back to the default action. A faulting access faults again and ends the process,
        // as it would have without this handler.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        if !faulted {
            // SAFETY: a plain system call. The signal is not blocked (SA_NODEFER) and ends the
            // process.
            unsafe { libc::raise(signal) };
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_comes_back_from_its_word_rounded_up_to_pages() {
        let top = 1 << 47;
        for (start, end) in [(PAGE, PAGE + 1), (PAGE * 7, PAGE * 9), (top - PAGE * 3, top)] {
            let range = unpack(pack(start, end).unwrap());
            assert_eq!((range.start, range.end), (start, end.next_multiple_of(PAGE)));
        }
    }

    #[test]
    fn ranges_that_do_not_fit_are_refused_and_no_word_of_none_contains_an_address() {
        assert_eq!((pack(8, PAGE), pack(PAGE * 2, PAGE)), (None, None));
        assert_eq!(
            (pack(0, PAGE << COUNT_BITS), pack(usize::MAX - PAGE + 1, usize::MAX)),
            (None, None)
        );
        assert!(unpack(VACANT).is_empty() && unpack(TAKEN).is_empty());
    }
}

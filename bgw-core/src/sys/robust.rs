//! The liveness words: 32-bit words in shared memory that the kernel marks when the postmaster
//! dies.
//!
//! The kernel walks a thread's *robust list* when the thread ends, however it ends. Each entry
//! names a word; if the word still holds the thread's id, the kernel sets `FUTEX_OWNER_DIED` in it
//! and, where `FUTEX_WAITERS` is set, wakes **one** waiter. So each waiter should have a word of
//! its own: a waiter that shares one would hang if the other, woken in its stead, were killed
//! before it passed the wake-up on. Each session has one, as long as there are enough
//! (`shared/layout.rs`).
//!
//! The entries lie in the postmaster's private memory, and only the words are shared: entry `i` and
//! word `i` are the same number of bytes apart for each `i`, which is all that the kernel asks for.
//! No pointer lies in shared memory. `FUTEX_WAITERS` is set in the words from the start, so a
//! waiter need not write, and may map the region read-only.
//!
//! The C library has a robust list of its own for each thread, for robust mutexes: it is replaced
//! for the postmaster's only thread. A forked child starts without one.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Set by the kernel in a liveness word when the postmaster has ended.
pub(crate) const OWNER_DIED: u32 = libc::FUTEX_OWNER_DIED;
/// Always set in a liveness word: somebody may be waiting.
pub(crate) const WAITERS: u32 = libc::FUTEX_WAITERS;

#[repr(C)]
struct Entry {
    next: *const Entry,
}

#[repr(C)]
struct Head {
    list: Entry,
    futex_offset: libc::c_long,
    pending: *const Entry,
}

/// Marks the `words` of `owner` as held by the calling thread, and has the kernel mark them when it
/// ends. They stay where they are as long as the result lives.
///
/// To be called once by the postmaster, in its only thread, after the last fork that makes it what
/// it is (a child does not inherit the list). The small private list stays allocated for ever.
/// Dropping the result marks the words as the kernel does: the postmaster is one no longer.
///
/// # Errors
/// The error of `set_robust_list`.
pub(crate) fn hold<T: fmt::Debug + 'static>(
    owner: Arc<T>,
    words: impl FnOnce(&T) -> &[AtomicU64],
) -> io::Result<HeldLiveness> {
    let words = std::ptr::from_ref(words(&owner));
    let tid = rustix::thread::gettid().as_raw_nonzero().get() as u32;
    let held = HeldLiveness { words, tid, former: robust_list()?, _owner: owner };
    let words = held.words();
    let Some(first) = words.first() else { return Ok(held) };
    held.restore();
    let mut entries: Vec<Entry> =
        (0..words.len()).map(|_| Entry { next: std::ptr::null() }).collect();
    let head = Box::leak(Box::new(Head {
        list: Entry { next: std::ptr::null() },
        futex_offset: 0,
        pending: std::ptr::null(),
    }));
    let list: *const Entry = &raw const head.list;
    let addresses: Vec<*const Entry> = entries.iter().map(std::ptr::from_ref).collect();
    let followers = addresses.iter().skip(1).copied().chain(std::iter::once(list));
    for (entry, next) in entries.iter_mut().zip(followers) {
        entry.next = next;
    }
    let entries = Vec::leak(entries);
    let first_entry: *const Entry = entries.as_ptr();
    head.list.next = first_entry;
    // The low half of a cell is its first four bytes on a little-endian machine.
    let low = if cfg!(target_endian = "big") { 4 } else { 0 };
    let word_address = std::ptr::from_ref(first).addr().wrapping_add(low);
    head.futex_offset = word_address.wrapping_sub(first_entry.addr()) as libc::c_long;
    // SAFETY: `head` and all entries are leaked, so they outlive the thread; the list is circular
    // through `head.list`; entries and cells have the same stride of eight bytes, so `futex_offset`
    // leads from each entry to its word. The kernel reads the list only when this thread ends, and
    // writes only to words that hold this thread's id. `held` has the words, and takes the list
    // away before it lets go of them.
    let done = unsafe {
        libc::syscall(libc::SYS_set_robust_list, std::ptr::from_ref(head), size_of::<Head>())
    };
    if done == 0 { Ok(held) } else { Err(io::Error::last_os_error()) }
}

/// The liveness words of a running postmaster. A forked child never drops it.
#[derive(Debug)]
#[must_use = "dropping it says that the postmaster is gone"]
pub struct HeldLiveness {
    /// Of the owner.
    words: *const [AtomicU64],
    /// The thread that holds them.
    tid: u32,
    /// The C library's robust list: address and length of its head.
    former: (usize, usize),
    _owner: Arc<dyn fmt::Debug>,
}

impl HeldLiveness {
    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the slice was borrowed from the owner, which has been neither moved nor written
        // to since, because it is shared.
        unsafe { &*self.words }
    }

    /// Writes again the words that another process has overwritten: the kernel marks only those
    /// that name the thread. For the thread that holds them.
    pub fn restore(&self) {
        self.words().iter().for_each(|word| self.restore_word(word));
    }

    /// The same for word number `number` alone.
    pub fn restore_one(&self, number: u32) {
        if let Some(word) = self.words().get(number as usize) {
            self.restore_word(word);
        }
    }

    fn restore_word(&self, word: &AtomicU64) {
        let held = u64::from(self.tid | WAITERS);
        if word.load(Ordering::Relaxed) != held {
            word.store(held, Ordering::Release);
        }
    }
}

impl Drop for HeldLiveness {
    fn drop(&mut self) {
        let (head, len) = self.former;
        // SAFETY: head and length as the C library had registered them for this thread. It cannot
        // fail: the length is the one the kernel reported.
        let _ = unsafe { libc::syscall(libc::SYS_set_robust_list, head, len) };
        // All of them before the first wake-up: who wakes tells the waiters of the other words.
        for word in self.words() {
            word.fetch_or(u64::from(OWNER_DIED), Ordering::AcqRel);
        }
        self.words().iter().for_each(shmem_slots::futex::wake_all);
    }
}

fn robust_list() -> io::Result<(usize, usize)> {
    let (mut head, mut len) = (0usize, 0usize);
    // SAFETY: the kernel writes a pointer and a size to the two.
    let done = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut len) };
    if done == 0 { Ok((head, len)) } else { Err(io::Error::last_os_error()) }
}

const _: () = assert!(size_of::<Entry>() == size_of::<AtomicU64>());

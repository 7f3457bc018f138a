//! Code that workers run first, mapped ahead of time in a process that must be quick later.
//!
//! A fork leaves files unmapped in the child, a program's code among them: the first call into
//! each stretch of it waits for the kernel to enter that in the page table, for longer than most
//! calls of a worker's start take.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How many functions are remembered. Later ones are mapped when they are called.
const MOST: usize = 16;

/// Where they lie; 0: none.
static EARLY: [AtomicUsize; MOST] = [const { AtomicUsize::new(0) }; MOST];

/// A worker soon calls the function at this address. Processes forked from now on know it.
pub fn called_early(function: *const ()) {
    let address = function as usize;
    for place in &EARLY {
        match place.compare_exchange(0, address, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return,
            Err(known) if known == address => return,
            Err(_) => {}
        }
    }
}

/// Has the kernel map what is [called early](called_early), as far as it can: before Linux 5.14 it
/// does nothing.
pub fn map_early_code() {
    for place in &EARLY {
        match place.load(Ordering::Relaxed) {
            0 => return,
            address => map(address),
        }
    }
}

/// Maps the page of `address`, with those around it that the kernel takes along.
fn map(address: usize) {
    // Every page begins at a multiple of this, whatever the size of pages is.
    let page = std::ptr::without_provenance_mut::<libc::c_void>(address & !0xffff);
    let within = (address & 0xffff) + 1;
    // SAFETY: populating for reading changes no byte of any mapping; where nothing is mapped it
    // fails, which leaves that to the first call.
    unsafe { libc::madvise(page, within, libc::MADV_POPULATE_READ) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    /// Whether the page of `address` is in this process's page table.
    fn is_mapped(address: usize) -> bool {
        let pages = File::open("/proc/self/pagemap").unwrap();
        let mut entry = [0; 8];
        pages.read_exact_at(&mut entry, address as u64 / 4096 * 8).unwrap();
        u64::from_ne_bytes(entry) >> 63 == 1
    }

    #[test]
    fn a_function_is_mapped_before_it_is_called() {
        let program = File::open("/proc/self/exe").unwrap();
        let size = program.metadata().unwrap().len() as usize;
        let length = size.try_into().unwrap();
        // SAFETY: a new mapping that nobody writes to.
        let start = unsafe {
            mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE, &program, 0).unwrap()
        };
        let address = start.as_ptr() as usize + size / 2;
        called_early(std::ptr::without_provenance(address));
        called_early(std::ptr::without_provenance(address));
        assert!(!is_mapped(address));
        map_early_code();
        assert!(is_mapped(address));
        let known = EARLY.iter().filter(|place| place.load(Ordering::Relaxed) == address);
        assert_eq!(known.count(), 1);
        // SAFETY: nothing refers to it.
        unsafe { munmap(start, size).unwrap() };
    }
}

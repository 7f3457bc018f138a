//! A table that is the postmaster's alone: children do not get its memory.
//!
//! A fork copies the page tables of all memory that the parent has written to, the child's end frees
//! them, and the first write to each page afterwards copies the page. What grows with the number of live
//! workers would so make each start dearer. It lies here, in mappings that a fork leaves out.
//!
//! In a child the table must not be touched: its memory is not there. A child leaves by `_exit`, so it
//! never drops one.

use std::alloc::{Layout, handle_alloc_error};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Places, some of them taken.
pub(crate) struct Private<T> {
    /// A mapping of `capacity` places, the first `len` of which hold a value (`None` included). Dangling
    /// while `capacity` is 0.
    start: NonNull<Option<T>>,
    capacity: usize,
    len: usize,
    owned: PhantomData<Option<T>>,
}

impl<T> Default for Private<T> {
    fn default() -> Self {
        Self { start: NonNull::dangling(), capacity: 0, len: 0, owned: PhantomData }
    }
}

impl<T> Private<T> {
    const PLACE: usize = size_of::<Option<T>>();
    /// How much the first mapping holds.
    const FIRST: usize = 64 << 10;

    /// What lies at `place`.
    pub(crate) fn get(&self, place: usize) -> Option<&T> {
        self.all().get(place)?.as_ref()
    }

    /// The same, to be changed.
    pub(crate) fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        self.all_mut().get_mut(place)?.as_mut()
    }

    /// Puts `value` at `place` and returns what was there. Aborts when there is no memory, as a vector
    /// does.
    pub(crate) fn put(&mut self, place: usize, value: T) -> Option<T> {
        while self.capacity <= place {
            self.grow();
        }
        while self.len <= place {
            // SAFETY: `len` is below `capacity`, so the place lies in the mapping.
            let next = unsafe { self.start.add(self.len) };
            // SAFETY: mapped, and nothing is there yet.
            unsafe { next.write(None) };
            self.len += 1;
        }
        self.all_mut().get_mut(place)?.replace(value)
    }

    /// Takes out what lies at `place`.
    pub(crate) fn take(&mut self, place: usize) -> Option<T> {
        self.all_mut().get_mut(place)?.take()
    }

    /// What there is, in the order of places. Looks at each place that was ever used.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.all().iter().flatten()
    }

    fn all(&self) -> &[Option<T>] {
        // SAFETY: the first `len` places hold values; they are ours while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    fn all_mut(&mut self) -> &mut [Option<T>] {
        // SAFETY: as above, exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    fn grow(&mut self) {
        let capacity = (self.capacity * 2).max((Self::FIRST / Self::PLACE).max(1));
        let Ok(start) = map(capacity * Self::PLACE) else {
            handle_alloc_error(Layout::array::<Option<T>>(capacity).unwrap_or(Layout::new::<T>()))
        };
        let start: NonNull<Option<T>> = start.cast();
        // SAFETY: both mappings hold `len` places and are different ones; what is moved is not used at
        // the old place any more.
        unsafe { start.copy_from_nonoverlapping(self.start, self.len) };
        self.unmap();
        (self.start, self.capacity) = (start, capacity);
    }

    fn unmap(&self) {
        if self.capacity > 0 {
            let start = self.start.as_ptr().cast();
            // SAFETY: our own mapping, whose values were moved or dropped. Cannot fail for a whole one.
            let _ = unsafe { libc::munmap(start, self.capacity * Self::PLACE) };
        }
    }
}

fn map(bytes: usize) -> io::Result<NonNull<libc::c_void>> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new anonymous mapping, nowhere in particular. Aligned to a page, which is more than any
    // value here wants.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // A kernel that will not makes forks slower, nothing else.
    // SAFETY: the mapping made above; the advice changes nothing in this process.
    let _ = unsafe { libc::madvise(start, bytes, libc::MADV_DONTFORK) };
    NonNull::new(start).ok_or_else(|| io::Error::other("a mapping at address 0"))
}

impl<T> Drop for Private<T> {
    fn drop(&mut self) {
        while self.len > 0 {
            self.len -= 1;
            // SAFETY: a place in the mapping.
            let last = unsafe { self.start.add(self.len) };
            // SAFETY: it holds a value, and is not looked at again.
            unsafe { last.drop_in_place() };
        }
        self.unmap();
    }
}

impl<T: fmt::Debug> fmt::Debug for Private<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    /// Breaks if a value is lost, doubled or not dropped when the table grows or goes.
    #[test]
    fn values_stay_where_they_were_put_and_are_dropped_once() {
        let witness = Rc::new(());
        let mut table: Private<(usize, Rc<()>)> = Private::default();
        assert!(table.get(0).is_none() && table.take(7).is_none() && table.iter().next().is_none());
        for place in (0..20_000).step_by(3) {
            assert!(table.put(place, (place, Rc::clone(&witness))).is_none());
        }
        assert_eq!(table.get(6).unwrap().0, 6);
        assert!(table.get(7).is_none() && table.get(1 << 40).is_none());
        table.get_mut(9).unwrap().0 = 90;
        assert_eq!(table.put(9, (1, Rc::clone(&witness))).unwrap().0, 90);
        assert_eq!(table.take(9).unwrap().0, 1);
        assert_eq!(table.iter().count(), 20_000usize.div_ceil(3) - 1);
        assert_eq!(Rc::strong_count(&witness), 20_000usize.div_ceil(3));
        drop(table);
        assert_eq!(Rc::strong_count(&witness), 1);
    }
}

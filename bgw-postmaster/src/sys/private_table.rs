//! A table that only the postmaster has: children do not get its memory.
//!
//! A fork copies the page tables of all memory that the parent has written to, the child's exit
//! frees them, and the parent's next write to each page copies the page. Memory that grows with the
//! number of live workers would so make each start more expensive. This table lies in mappings that
//! a fork leaves out.
//!
//! A child must not touch the table: its memory is not mapped there. A child leaves by `_exit`, so
//! it never drops one.

use super::anon_map::{AnonMap, Sharing};
use std::alloc::{Layout, handle_alloc_error};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Numbered places, some of them taken.
pub(crate) struct PrivateTable<T> {
    /// Room for `capacity` places; `None` while that is 0.
    map: Option<AnonMap>,
    capacity: usize,
    /// The first `len` places hold a value (`None` included).
    len: usize,
    owned: PhantomData<Option<T>>,
}

impl<T> Default for PrivateTable<T> {
    fn default() -> Self {
        Self { map: None, capacity: 0, len: 0, owned: PhantomData }
    }
}

impl<T> PrivateTable<T> {
    const PLACE: usize = size_of::<Option<T>>();
    /// Bytes of the first mapping.
    const FIRST: usize = 64 << 10;

    /// The value at `place`.
    pub(crate) fn get(&self, place: usize) -> Option<&T> {
        self.all().get(place)?.as_ref()
    }

    /// The value at `place`, mutably.
    pub(crate) fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        self.all_mut().get_mut(place)?.as_mut()
    }

    /// Puts `value` at `place`, and drops the value that was there. Aborts when memory runs out, as
    /// a vector does.
    pub(crate) fn put(&mut self, place: usize, value: T) {
        while self.capacity <= place {
            self.grow();
        }
        while self.len <= place {
            // SAFETY: `len` is below `capacity`, so the place is in the mapping.
            let next = unsafe { self.start().add(self.len) };
            // SAFETY: mapped, and it holds no value yet.
            unsafe { next.write(None) };
            self.len += 1;
        }
        self.clear(place);
        if let Some(place) = self.all_mut().get_mut(place) {
            // SAFETY: a reference is valid for writing. It holds `None`, which has nothing to drop;
            // an assignment would build the new value on the stack before it drops the old one.
            unsafe { std::ptr::from_mut(place).write(Some(value)) };
        }
    }

    /// Takes the value out of `place`.
    pub(crate) fn take(&mut self, place: usize) -> Option<T> {
        self.all_mut().get_mut(place)?.take()
    }

    /// Drops the value at `place`, where it lies. A value that is taken out is copied through the
    /// stack.
    pub(crate) fn clear(&mut self, place: usize) {
        if let Some(place) = self.all_mut().get_mut(place) {
            *place = None;
        }
    }

    /// All values, in the order of places. Looks at each place that was ever used.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.all().iter().flatten()
    }

    /// The first place; dangling while there is none.
    fn start(&self) -> NonNull<Option<T>> {
        self.map.as_ref().map_or(NonNull::dangling(), |map| map.start().cast())
    }

    fn all(&self) -> &[Option<T>] {
        // SAFETY: the first `len` places hold values, and are ours while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.start().as_ptr(), self.len) }
    }

    fn all_mut(&mut self) -> &mut [Option<T>] {
        // SAFETY: as above, exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start().as_ptr(), self.len) }
    }

    fn grow(&mut self) {
        let capacity = (self.capacity * 2).max((Self::FIRST / Self::PLACE).max(1));
        let Ok(map) = hidden_map(capacity * Self::PLACE) else {
            handle_alloc_error(Layout::array::<Option<T>>(capacity).unwrap_or(Layout::new::<T>()))
        };
        let start: NonNull<Option<T>> = map.start().cast();
        // SAFETY: two different mappings that hold `len` places each; the old places are never read
        // again.
        unsafe { start.copy_from_nonoverlapping(self.start(), self.len) };
        self.map = Some(map);
        self.capacity = capacity;
    }
}

/// Page-aligned, which is more than any value here needs.
fn hidden_map(bytes: usize) -> io::Result<AnonMap> {
    let map = AnonMap::new(bytes, Sharing::Private)?;
    // Without it forks are slower, nothing else.
    let _ = map.hide_from_later_children();
    Ok(map)
}

impl<T> Drop for PrivateTable<T> {
    fn drop(&mut self) {
        while self.len > 0 {
            self.len -= 1;
            // SAFETY: a place in the mapping.
            let last = unsafe { self.start().add(self.len) };
            // SAFETY: it holds a value, which is never read again.
            unsafe { last.drop_in_place() };
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for PrivateTable<T> {
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
        let mut table: PrivateTable<(usize, Rc<()>)> = PrivateTable::default();
        assert!(table.get(0).is_none() && table.take(7).is_none() && table.iter().next().is_none());
        for place in (0..20_000).step_by(3) {
            table.put(place, (place, Rc::clone(&witness)));
        }
        assert_eq!(table.get(6).unwrap().0, 6);
        assert!(table.get(7).is_none() && table.get(1 << 40).is_none());
        table.get_mut(9).unwrap().0 = 90;
        assert_eq!(table.get(9).unwrap().0, 90);
        table.put(9, (1, Rc::clone(&witness)));
        assert_eq!(table.take(9).unwrap().0, 1);
        assert_eq!(table.iter().count(), 20_000usize.div_ceil(3) - 1);
        table.clear(6);
        table.clear(6);
        table.clear(1 << 40);
        assert!(table.get(6).is_none());
        assert_eq!(Rc::strong_count(&witness), 20_000usize.div_ceil(3) - 1);
        drop(table);
        assert_eq!(Rc::strong_count(&witness), 1);
    }
}

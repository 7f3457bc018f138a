//! One value that only the postmaster has: children do not get its memory.
//!
//! What `private_table.rs` says of many values holds for one: a fork does not copy its pages, and
//! the parent's next write to them needs no copy either. A child must not touch the value, not even
//! to read it; it leaves by `_exit`, so it never drops one.

use super::anon_map::{AnonMap, Sharing};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// A value in a mapping of its own that a fork leaves out.
pub(crate) struct PrivateBox<T> {
    map: AnonMap,
    owned: PhantomData<T>,
}

impl<T> PrivateBox<T> {
    /// Moves `value` into memory that children forked from now on do not have.
    pub(crate) fn new(value: T) -> io::Result<Self> {
        // Page-aligned, which is more than any value here needs.
        let map = AnonMap::new(size_of::<T>(), Sharing::Private)?;
        // Without it forks are slower, nothing else.
        let _ = map.hide_from_later_children();
        // SAFETY: a new mapping that is large enough, and that nothing else uses.
        unsafe { map.start().cast::<T>().write(value) };
        Ok(Self { map, owned: PhantomData })
    }

    const fn value(&self) -> NonNull<T> {
        self.map.start().cast()
    }
}

impl<T> Deref for PrivateBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `new` has put a value there, which is ours while `self` is borrowed.
        unsafe { self.value().as_ref() }
    }
}

impl<T> DerefMut for PrivateBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, exclusively.
        unsafe { self.value().as_mut() }
    }
}

impl<T> Drop for PrivateBox<T> {
    fn drop(&mut self) {
        // SAFETY: the value of `new`, which is never used again.
        unsafe { self.value().drop_in_place() };
    }
}

impl<T: fmt::Debug> fmt::Debug for PrivateBox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn a_private_value_is_used_in_place_and_dropped_once() {
        let witness = Rc::new(());
        let mut value = PrivateBox::new((7, Rc::clone(&witness))).unwrap();
        value.0 += 1;
        assert_eq!((value.0, Rc::strong_count(&witness)), (8, 2));
        drop(value);
        assert_eq!(Rc::strong_count(&witness), 1);
    }

    /// Breaks if a child gets the memory: then a fork copies it.
    #[test]
    fn the_kernel_leaves_a_private_value_out_of_forks() {
        let value = PrivateBox::new([1u64; 512]).unwrap();
        let address = value.value().addr().get();
        let all = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let ours = all.lines().skip_while(|line| {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            let parsed = range
                .map(|(from, to)| (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16)));
            !matches!(parsed, Some((Ok(from), Ok(to))) if (from..to).contains(&address))
        });
        let flags = { ours }.find(|line| line.starts_with("VmFlags:")).unwrap();
        assert!(flags.split(' ').any(|flag| flag == "dc"), "{flags}");
        assert_eq!(value[511], 1);
    }
}

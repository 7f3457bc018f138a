//! Boxes for large values, which take less of the stack: the memory is there before the value.

/// What `make` makes, in a box.
///
/// Rust 1.87 has `Box::write` for that.
pub(crate) fn boxed<T, E>(make: impl FnOnce() -> Result<T, E>) -> Result<Box<T>, E> {
    let mut place = Box::new_uninit();
    place.write(make()?);
    // SAFETY: it was written to just now.
    Ok(unsafe { place.assume_init() })
}

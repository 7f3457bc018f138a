//! An error as one line of text, its sources included.
//!
//! `main() -> Result<(), Box<dyn Error>>` prints the `Debug` form of the error that it returns. So
//! `Debug` of each error type of this workspace writes the same line as [`chain`]:
//! [`debug_as_chain!`](crate::debug_as_chain) implements it.

use std::error::Error;
use std::fmt;

/// The message of `error`, then that of each source, separated by `: `. At most 64 sources.
///
/// ```
/// # use shmem_slots::{AttachError, chain};
/// let source = std::io::Error::from_raw_os_error(24);
/// let error = AttachError::System { call: "mmap", source };
/// let line = "mmap failed while attaching the region: Too many open files (os error 24)";
/// assert_eq!(chain(&error).to_string(), line);
/// assert_eq!(format!("{error:?}"), line);
/// ```
#[must_use]
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl fmt::Display + use<'a> {
    Chain(error)
}

/// Where the chain is cut: an error that is its own source would have no last one.
const MOST_SOURCES: usize = 64;

struct Chain<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        for _ in 0..MOST_SOURCES {
            let Some(cause) = source else { return Ok(()) };
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        f.write_str(": …")
    }
}

/// Implements `Debug` for error types as their message and the messages of their sources.
///
/// ```
/// #[derive(thiserror::Error)]
/// #[error("all {capacity} slots are taken; wait for one to be freed")]
/// struct Full {
///     capacity: u32,
/// }
/// shmem_slots::debug_as_chain!(Full);
///
/// let text = format!("{:?}", Full { capacity: 8 });
/// assert_eq!(text, "all 8 slots are taken; wait for one to be freed");
/// ```
#[macro_export]
macro_rules! debug_as_chain {
    ($($error:ty),+ $(,)?) => {$(
        impl ::std::fmt::Debug for $error {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Display::fmt(&$crate::chain(self), f)
            }
        }
    )+};
}

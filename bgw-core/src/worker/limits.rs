//! Limits of a description, in bytes.

use std::time::Duration;

/// A worker's name.
#[doc(alias = "BGW_MAXLEN")]
pub(crate) const NAME_LIMIT: usize = 95;
/// A worker's type.
pub(crate) const TYPE_LIMIT: usize = 95;
/// The name of a function.
pub const FUNCTION_LIMIT: usize = 95;
/// The path of a library.
#[doc(alias = "MAXPGPATH")]
pub(crate) const LIBRARY_LIMIT: usize = 1023;
/// A command: its program and arguments, one byte between two of them.
pub(crate) const COMMAND_LIMIT: usize = 1023;
/// The extra bytes.
#[doc(alias = "BGW_EXTRALEN")]
pub(crate) const EXTRA_LEN: usize = 128;
/// A resource tag.
pub(crate) const TAG_LIMIT: usize = 31;
/// The longest restart interval: a day.
#[doc(alias = "USECS_PER_DAY")]
pub(crate) const MAX_RESTART: Duration = Duration::from_secs(86_400);

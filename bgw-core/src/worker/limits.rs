//! Limits of a description, in bytes.

use std::ops::RangeInclusive;
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
/// The name of a group.
pub const GROUP_LIMIT: usize = 31;
/// The name of a class.
pub(crate) const CLASS_LIMIT: usize = 31;
/// The name of a template.
pub const TEMPLATE_LIMIT: usize = 31;
/// How many workers a worker may start after.
pub(crate) const AFTER_LIMIT: usize = 8;
/// The text of an entry point together with the names of a group and of other workers.
pub(crate) const TEXT_LIMIT: usize = 1024;
/// The numbers that a command can have a descriptor at: one of its own, or the one to which it
/// writes that it is ready.
pub(crate) const COMMAND_DESCRIPTORS: RangeInclusive<u8> = 3..=63;
/// The longest grace: a day.
pub(crate) const MAX_GRACE: Duration = Duration::from_secs(86_400);
/// The longest time that a clock of a running worker may have: a day.
pub(crate) const MAX_CLOCK: Duration = Duration::from_secs(86_400);
/// The longest restart interval: a day.
#[doc(alias = "USECS_PER_DAY")]
pub(crate) const MAX_RESTART: Duration = Duration::from_secs(86_400);

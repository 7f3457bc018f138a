//! System calls of the postmaster, each behind a safe face. Everything `unsafe` of this crate lies
//! below this module.

pub(crate) mod close;
pub(crate) mod command;
pub(crate) mod end;
pub(crate) mod fork;
#[cfg(feature = "dylib")]
pub(crate) mod library;
mod orders;
pub(crate) mod page;
pub(crate) mod private;
mod raw;
pub(crate) mod signals;
mod stack;
pub(crate) mod title;

//! System calls of the postmaster, each behind a safe face. Everything `unsafe` of this crate lies
//! below this module.

pub(crate) mod close;
pub(crate) mod end;
pub(crate) mod fork;
#[cfg(feature = "dylib")]
pub(crate) mod library;
pub(crate) mod page;
pub(crate) mod signals;
pub(crate) mod title;

//! Everything `unsafe` of this crate lies below this module.

#[cfg(feature = "postgres")]
pub(crate) mod kicks;
pub mod library;

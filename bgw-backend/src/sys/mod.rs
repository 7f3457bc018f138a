//! Everything `unsafe` of this crate lies below this module.

pub mod library;
